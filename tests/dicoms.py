"""DICOM files for tests: a head that differs left from right, front from back and top from bottom, cut any way."""

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

MR, CT, US, SC = ("1.2.840.10008.5.1.4.1.1." + end for end in ("4", "2", "6.1", "7"))
AXIAL = (1, 0, 0, 0, 1, 0)
CORONAL = (1, 0, 0, 0, 0, -1)
SAGITTAL = (0, 1, 0, 0, 0, -1)


def anatomy(points):
    """[...,3] mm to the patient's left, back and top -> uint16: a head with spots at its left, nose and crown."""
    x, y, z = np.moveaxis(np.asarray(points, float), -1, 0)
    head = 900 * (np.sqrt((x / 70) ** 2 + (y / 88) ** 2 + (z / 80) ** 2) < 1)
    spots = [1500 * (np.sqrt((x - a) ** 2 + (y - b) ** 2 + (z - c) ** 2) < r)
             for a, b, c, r in ((40, 0, 0, 15), (0, -80, 0, 18), (0, 0, 60, 15))]
    return (head + sum(spots) + 100 + 0.2 * (x + y + z)).clip(0).astype(np.uint16)


def cut(turns, place, spacing, shape):
    """uint16 [H,W] of anatomy: turns, place and spacing (between rows, between columns) as their DICOM tags have it."""
    right, down = np.array(turns[:3], float), np.array(turns[3:], float)
    rows, columns = np.mgrid[:shape[0], :shape[1]].astype(float)
    across, along = columns[..., None] * spacing[1] * right, rows[..., None] * spacing[0] * down
    return anatomy(np.array(place, float) + across + along)


def dataset(pixels, syntax=ExplicitVRLittleEndian, **tags):
    """A file's content: pixels [H,W], [F,H,W] (with NumberOfFrames) or [H,W,3], uint8 or uint16 or int16."""
    pixels = np.asarray(pixels)
    colour = pixels.ndim > 2 and "NumberOfFrames" not in tags
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = syntax
    bits = pixels.dtype.itemsize * 8
    made = dict(
        SOPClassUID=MR, SOPInstanceUID=generate_uid(), Modality="MR", PatientID="P1", PatientName="Doe^Jane",
        StudyInstanceUID="1.2.3", SeriesInstanceUID="1.2.3.4", InstanceNumber=1, ImageType=["ORIGINAL", "PRIMARY", "M"],
        Rows=pixels.shape[-2 - colour], Columns=pixels.shape[-1 - colour], SamplesPerPixel=3 if colour else 1,
        PhotometricInterpretation="RGB" if colour else "MONOCHROME2", BitsAllocated=bits, BitsStored=bits,
        HighBit=bits - 1, PixelRepresentation=int(pixels.dtype.kind == "i"), PixelData=pixels.tobytes())
    if colour:
        made.update(PlanarConfiguration=0, SOPClassUID=US, Modality="US")
    for keyword, value in {**made, **tags}.items():
        if value is not None:
            setattr(ds, keyword, value)
    ds.file_meta.MediaStorageSOPClassUID = ds.get("SOPClassUID", MR)
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    return ds


def save(path, ds):
    path.parent.mkdir(parents=True, exist_ok=True)
    ds.save_as(path, enforce_file_format=True)
    return path


def coded(codes, syntax, pixels, **tags):
    """A file of frames that are compressed already."""
    ds = dataset(pixels, syntax, **tags)
    ds.PixelData = encapsulate(codes)
    ds["PixelData"].VR = "OB"
    return ds


def write_series(folder, turns=AXIAL, count=5, shape=(24, 20), spacing=(8.0, 8.0), gap=12.0, order=None, **tags):
    """Files of parallel slices along the normal, the middle one through the middle of the head; gives their places."""
    right, down = np.array(turns[:3], float), np.array(turns[3:], float)
    corner = -right * spacing[1] * (shape[1] - 1) / 2 - down * spacing[0] * (shape[0] - 1) / 2
    places = [corner + np.cross(right, down) * gap * (k - count // 2) for k in range(count)]
    for name, k in enumerate(order or range(count)):
        pixels = cut(turns, places[k], spacing, shape)
        made = dict(ImageOrientationPatient=list(turns), ImagePositionPatient=places[k].tolist(),
                    PixelSpacing=list(spacing), InstanceNumber=name + 1)
        save(folder / f"{name:03d}.dcm", dataset(pixels, **{**made, **tags}))
    return places


def jpeg_lossless(pixels):
    """uint16 [H,W] -> JPEG of the lossless process with the first predictor (ITU-T T.81, annex H), 16 bits."""
    values = pixels.astype(np.int64)
    predicted = np.empty_like(values)
    predicted[:, 1:], predicted[1:, 0], predicted[0, 0] = values[:, :-1], values[:-1, 0], 1 << 15
    bits = "".join(_lossless_bits((difference + 32767) % 65536 - 32767) for difference in (values - predicted).flat)
    bits += "1" * (-len(bits) % 8)
    body = int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xFF", b"\xFF\x00")
    height, width = (side.to_bytes(2, "big") for side in pixels.shape)
    table = b"\0" + bytes([0, 0, 0, 0, 17, *[0] * 11]) + bytes(range(17))  # all categories have codes of 5 bits
    return (b"\xFF\xD8" + b"\xFF\xC3\0\x0B\x10" + height + width + b"\x01\x01\x11\0"
            + b"\xFF\xC4" + (2 + len(table)).to_bytes(2, "big") + table
            + b"\xFF\xDA\0\x08\x01\x01\0\x01\0\0" + body + b"\xFF\xD9")


def _lossless_bits(difference):
    category = 16 if difference == 32768 else int(abs(difference)).bit_length()
    extra = difference if difference > 0 else difference + (1 << category) - 1
    return f"{category:05b}" + (f"{extra:0{category}b}" if 0 < category < 16 else "")
