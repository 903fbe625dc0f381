"""DICOM: order and orientation of series, what is left out, names without tags, detection; fuzzed files."""

import io
import itertools
import pickle
import random
import sys
import warnings
import zipfile

import dicoms
import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, JPEGLosslessSV1, RLELossless

from stylegan2_pipeline.conversion.convert import convert
from stylegan2_pipeline.conversion.options import Conversion
from stylegan2_pipeline.decode import BrokenImage
from stylegan2_pipeline.sources import dicom_headers
from stylegan2_pipeline.sources.base import Reading
from stylegan2_pipeline.sources.dicom import DicomFiles, claims
from stylegan2_pipeline.sources.folder import FolderTree
from stylegan2_pipeline.sources.registry import open_source
from torch_utils.errors import UserError

PIXELS = dicoms.cut(dicoms.AXIAL, (-80, -90, 0), (10, 10), (18, 16))
SIDE = 17  # pixels of 10 mm, around the middle of the head


def opened(folder, **reading):
    return DicomFiles(FolderTree(folder), Reading(**reading))


def picture(source, index=0):
    return source.decode(index).pixels[:, :, 0]


def usual(view, offset):
    """What a radiologist sees, from the anatomy itself: offset mm to the left, back or top of the middle."""
    first, second = {"axial": (0, 1), "coronal": (0, 2), "sagittal": (1, 2)}[view]
    step = (np.arange(SIDE) - SIDE // 2) * 10.0
    points = np.full((SIDE, SIDE, 3), float(offset))
    points[:, :, first] = step
    points[:, :, second] = (step if view == "axial" else -step)[:, None]
    return dicoms.anatomy(points)


VIEWS = {"axial": (0, 1), "coronal": (0, 2), "sagittal": (1, 2)}
STORED = [(view, axes, signs) for view, plane in VIEWS.items() for axes in itertools.permutations(plane)
          for signs in itertools.product((1, -1), repeat=2)]


@pytest.mark.parametrize(("view", "axes", "signs"), STORED)
def test_pictures_are_upright_however_they_are_stored(view, axes, signs, tmp_path):
    turns = np.zeros(6)
    turns[axes[0]], turns[3 + axes[1]] = signs
    dicoms.write_series(tmp_path, tuple(turns), count=3, shape=(SIDE, SIDE), spacing=(10, 10), gap=13.0)
    source = opened(tmp_path)
    assert [(picture(source, k) == usual(view, offset)).all() for k, offset in enumerate((-13, 0, 13))] == [True] * 3
    stored_so = (axes == VIEWS[view]) and signs == ((1, 1) if view == "axial" else (1, -1))
    assert bool(source.decode(0).remarks) != stored_so
    assert f"Directions: 3 {view}." in source.notes()
    assert "the patient's left is on the right" in " ".join(source.notes())


def test_a_tilted_stack_is_sorted_along_its_normal(tmp_path):
    """Oblique by 40 degrees, stored in an order that neither names nor instance numbers tell."""
    turns = (1, 0, 0, 0, np.cos(0.7), np.sin(0.7))
    places = dicoms.write_series(tmp_path, turns, count=5, order=[3, 0, 4, 1, 2])
    source = opened(tmp_path)
    assert source.names == ["001.dcm", "003.dcm", "004.dcm", "000.dcm", "002.dcm"]
    assert source.notes()[1] == "Directions: 5 oblique."
    assert all((picture(source, k) == dicoms.cut(turns, place, (8, 8), (24, 20))).all()
               for k, place in enumerate(places))


def test_series_keep_apart_and_patients_are_known(tmp_path):
    dicoms.write_series(tmp_path / "b", count=3, SeriesInstanceUID="1.9", PatientID="P2")
    dicoms.write_series(tmp_path / "a", dicoms.CORONAL, count=2, SeriesInstanceUID="1.5", PatientID="ANONYMOUS",
                        PatientName="Roe^Richard")
    dicoms.write_series(tmp_path / "c", count=2, SeriesInstanceUID=None, PatientID="", PatientName=None)
    source = opened(tmp_path)
    assert [name[0] for name in source.names] == list("aabbbcc")
    volumes = [source.volume(k) for k in range(7)]
    assert volumes[0] == volumes[1] != volumes[2] == volumes[4] != volumes[5] == volumes[6]
    assert [source.subject(k) for k in (0, 2, 5)] == ["Roe^Richard", "P2", "1.2.3"]
    counts, views, *_ = source.notes()
    assert counts == "7 DICOM images in 3 series of 3 patients."
    assert views.startswith("Directions: 5 axial, 2 coronal. A network learns best from one direction")


@pytest.mark.parametrize(("tags", "subject"), [
    (dict(PatientID="ANON001"), "ANON001"), (dict(PatientID=" Anonymized ", PatientName="Roe"), "Roe"),
    (dict(PatientID="0000", PatientName="xxx"), "1.2.3"), (dict(PatientID="unknown", PatientName="ANON"), "1.2.3"),
    (dict(PatientID=None, PatientName=None, StudyInstanceUID=None), None),
])
def test_subjects_are_not_what_anonymizers_write_for_everybody(tags, subject, tmp_path):
    dicoms.save(tmp_path / "a.dcm", dicoms.dataset(PIXELS, **tags))
    assert opened(tmp_path).subject(0) == subject


def test_ties_go_by_number_then_by_name(tmp_path):
    """A series over time has several pictures in one place; and one without places goes by its numbers."""
    for name, number in (("a", 3), ("b", 1), ("c", 2), ("d", 1)):
        dicoms.save(tmp_path / f"{name}.dcm", dicoms.dataset(PIXELS, InstanceNumber=number))
    source = opened(tmp_path)
    assert source.names == ["b.dcm", "d.dcm", "c.dcm", "a.dcm"]
    assert source.notes() == ["4 DICOM images in 1 series of 1 patient.",
                              "4 images of no known direction in the patient: left as stored."]


def test_slices_and_every_count_in_each_series(tmp_path):
    dicoms.write_series(tmp_path / "a", count=10, SeriesInstanceUID="1.5")
    dicoms.write_series(tmp_path / "b", count=4, SeriesInstanceUID="1.6")
    names = opened(tmp_path, slices=(0.25, 0.75), every=2).names
    assert names == ["a/002.dcm", "a/004.dcm", "a/006.dcm", "b/001.dcm"]


def enhanced(count=4):
    """One file of axial frames, from the top down, each with its own slope."""
    ds = dicoms.dataset(np.stack([PIXELS + k for k in range(count)]), NumberOfFrames=count,
                        SOPClassUID="1.2.840.10008.5.1.4.1.1.4.1")
    shared, frames = Dataset(), []
    shared.PlaneOrientationSequence = [Dataset()]
    shared.PlaneOrientationSequence[0].ImageOrientationPatient = list(dicoms.AXIAL)
    shared.PixelMeasuresSequence = [Dataset()]
    shared.PixelMeasuresSequence[0].PixelSpacing = [2, 1]
    for k in range(count):
        item = Dataset()
        item.PlanePositionSequence = [Dataset()]
        item.PlanePositionSequence[0].ImagePositionPatient = [0, 0, -5 * k]
        item.PixelValueTransformationSequence = [Dataset()]
        item.PixelValueTransformationSequence[0].RescaleSlope = k + 1
        item.PixelValueTransformationSequence[0].RescaleIntercept = -10
        item.FrameVOILUTSequence = [Dataset()]
        item.FrameVOILUTSequence[0].WindowCenter, item.FrameVOILUTSequence[0].WindowWidth = 1e6, 10 * k + 1
        frames.append(item)
    ds.SharedFunctionalGroupsSequence, ds.PerFrameFunctionalGroupsSequence = [shared], frames
    return ds


def test_frames_of_one_file(tmp_path):
    dicoms.save(tmp_path / "all.dcm", enhanced())
    dicoms.save(tmp_path / "one.dcm", dicoms.dataset(PIXELS, SeriesInstanceUID="1.8"))
    source = opened(tmp_path)
    assert source.names == [f"all.dcm#{k:04d}" for k in (3, 2, 1, 0)] + ["one.dcm"]
    assert [source.run(k) for k in range(5)] == [0, 0, 0, 0, 1] and len({source.volume(k) for k in range(4)}) == 1
    decoded = [source.decode(k) for k in range(4)]
    assert all(image.pixels.shape == (36, 16, 1) and image.remarks == ("Of pixels that are not square, resampled",)
               for image in decoded)
    for k, image in enumerate(decoded):
        number = 3 - k  # rows lie at a quarter and three quarters between the middles of the stored ones
        stored = (PIXELS + number) * (number + 1.0) - 10
        assert np.allclose(image.pixels[1:-1:2, :, 0], 0.75 * stored[:-1] + 0.25 * stored[1:])
    assert source.names == pickle.loads(pickle.dumps(source)).names
    header = opened(tmp_path, window="header")
    assert all(header.decode(k).pixels.dtype == np.uint8 and header.decode(k).pixels.max() == 0 for k in range(4))


def test_headers_longer_than_the_first_read(tmp_path, monkeypatch):
    ds = enhanced()
    ds.add_new(0x00210010, "LO", "PRIVATE")
    ds.add_new(0x00211001, "OB", bytes(300_000))
    dicoms.save(tmp_path / "long.dcm", ds)
    for first in (200, 2 ** 16, 2 ** 20):
        monkeypatch.setattr(dicom_headers, "FIRST_READ", first)
        assert opened(tmp_path).names == [f"long.dcm#{k:04d}" for k in (3, 2, 1, 0)]


LEFT_OUT = [
    (dict(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]), dicom_headers.LOCALIZER),
    (dict(SeriesDescription="AAHead_Scout_64ch"), dicom_headers.LOCALIZER),
    (dict(ProtocolName="3-plane loc"), dicom_headers.LOCALIZER),
    (dict(SOPClassUID=dicoms.SC), dicom_headers.CAPTURE),
    (dict(SOPClassUID=dicoms.SC + ".2"), dicom_headers.CAPTURE),
    (dict(ImageType=["DERIVED", "SECONDARY", "SCREEN SAVE"]), dicom_headers.CAPTURE),
    (dict(ImageType=["ORIGINAL", "PRIMARY", "M", "MOSAIC"]), dicom_headers.MOSAIC),
    (dict(SOPClassUID="1.2.840.10008.5.1.4.1.1.11.1"), "a presentation state"),
    (dict(SOPClassUID="1.2.840.10008.5.1.4.1.1.481.2"), "data of radiotherapy"),
    (dict(SOPClassUID="1.2.840.10008.5.1.4.1.1.88.11", PixelData=None, Rows=None), "a report"),
    (dict(SOPClassUID="1.2.840.10008.5.1.4.1.1.66.4"), "a segmentation, registration or raw data"),
    (dict(SOPClassUID="1.2.840.10008.1.3.10"), "a directory of files (DICOMDIR)"),
]


def test_what_is_no_picture_to_train_on_is_left_out(tmp_path):
    for number, (tags, _) in enumerate(LEFT_OUT):
        dicoms.save(tmp_path / f"{number:02d}.dcm", dicoms.dataset(PIXELS, **tags))
    dicoms.save(tmp_path / "colour.dcm", dicoms.dataset(np.zeros((8, 8, 3), np.uint8), Modality="MR"))
    for name, kind in (("photo", "1.2.840.10008.5.1.4.1.1.77.1.4"), ("good", dicoms.MR)):
        made = dicoms.dataset(PIXELS, SOPClassUID=kind, ImageType=["DERIVED", "PRIMARY"])
        dicoms.save(tmp_path / f"{name}.dcm", made)
    source = opened(tmp_path)
    assert source.names == ["good.dcm", "photo.dcm"]
    assert source.left_out() == [(f"{k:02d}.dcm", reason) for k, (_, reason) in enumerate(LEFT_OUT)] + [
        ("colour.dcm", dicom_headers.COLOURED)]
    assert any("--keep-localizers keeps them" in line for line in source.notes())
    kept = opened(tmp_path, keep_localizers=True)
    assert kept.names == [*(f"{k:02d}.dcm" for k in range(7)), "colour.dcm", "good.dcm", "photo.dcm"]
    assert kept.decode(0).remarks == ("A localiser",) and not any("--keep" in line for line in kept.notes())


def test_nothing_of_a_header_gets_out(tmp_path):
    """Names, notes, reasons and remarks hold no tag, of good files and of damaged ones."""
    secret = dict.fromkeys(("PatientName", "PatientID", "AccessionNumber", "StudyDescription", "ReferringPhysicianName",
                            "InstitutionName", "PatientComments", "StudyID"), "SECRET")
    secret |= dict.fromkeys(("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"), "1.2.77777")
    secret |= dict.fromkeys(("SeriesDescription", "ProtocolName"), "SECRET scout")
    good = dicoms.dataset(PIXELS, **secret | dict(SeriesDescription="SECRET", ProtocolName="SECRET"),
                          BurnedInAnnotation="YES", BodyPartExamined="HEAD")
    dicoms.save(tmp_path / "good.dcm", good)
    dicoms.save(tmp_path / "scout.dcm", dicoms.dataset(PIXELS, **secret))
    plain = secret | dict.fromkeys(("SeriesDescription", "ProtocolName"), "")
    dicoms.save(tmp_path / "odd.dcm", dicoms.dataset(PIXELS, **plain, PhotometricInterpretation="SECRET"))
    data = (tmp_path / "good.dcm").read_bytes()
    for number in range(40):
        place = random.Random(number).randrange(132, len(data) - PIXELS.nbytes)
        (tmp_path / f"x{number}.dcm").write_bytes(data[:place] + b"\xFF\0S" + data[place + 3:])
    source = opened(tmp_path)
    words = [*source.names, *source.notes(), *itertools.chain(*source.left_out()), source.state()]
    for k in range(len(source.names)):
        try:
            image = source.decode(k)
            words += [*image.remarks, image.mode, image.format]
        except BrokenImage as error:
            words.append(str(error))
    assert "Burned-in text is announced" in words and any("face" in line for line in source.notes())
    assert not [line for line in words if "SECRET" in line or "77777" in line]


def test_files_are_known_by_their_names_or_their_first_bytes(tmp_path):
    for name in ("IM0001", "1.2.840.77.5", "a.DCM", "b.ima", "sub/MR.17"):
        dicoms.save(tmp_path / name, dicoms.dataset(PIXELS))
    (tmp_path / "LICENSE").write_text("words " * 50)
    (tmp_path / "notes.txt").write_text("words")
    assert claims(FolderTree(tmp_path)) >= 5
    source = open_source(tmp_path)
    assert isinstance(source, DicomFiles) and len(source.names) == 5
    assert source.notes()[0] == "Passed over, because they are no DICOM files: 1 .txt, 1 without ending."


def test_a_zip_and_a_single_file_are_read_alike(tmp_path):
    dicoms.write_series(tmp_path / "s", count=3)
    with zipfile.ZipFile(tmp_path / "s.zip", "w", zipfile.ZIP_DEFLATED) as packed:
        for path in sorted((tmp_path / "s").iterdir()):
            packed.write(path, path.name)
    folder, packed, single = (open_source(tmp_path / name) for name in ("s", "s.zip", "s/001.dcm"))
    assert folder.names == packed.names and single.names == ["001.dcm"]
    assert all((picture(folder, k) == picture(packed, k)).all() for k in range(3))
    assert (picture(single) == picture(folder, 1)).all()


class ManyFiles(FolderTree):
    """A tree that counts how often it is read."""

    def __init__(self, path):
        super().__init__(path)
        self.reads = 0

    def read_bytes(self, name, most=-1):
        self.reads += 1
        return super().read_bytes(name, most)


def test_recognition_opens_few_of_many_files(tmp_path):
    for number in range(300):
        (tmp_path / f"{number}").write_bytes(bytes(128) + (b"DICM" if number % 2 else b"none"))
    tree = ManyFiles(tmp_path)
    assert 100 <= claims(tree) <= 200 and tree.reads <= 40
    for path in tmp_path.iterdir():
        path.rename(path.with_suffix(".png"))
    tree = ManyFiles(tmp_path)
    assert claims(tree) == 0 and tree.reads == 0


def test_the_package_is_asked_for_by_its_install_line(tmp_path, monkeypatch):
    dicoms.write_series(tmp_path, count=1)
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(UserError, match=r"--source: DICOM files need the package pydicom.*pip install '\.\[dicom\]'"):
        open_source(tmp_path)


def test_options_that_mean_nothing_here_are_refused(tmp_path):
    dicoms.write_series(tmp_path, count=1)
    with pytest.raises(UserError, match="--axis"):
        open_source(tmp_path, reading=Reading(axis="coronal"))


def test_the_state_follows_files_and_options(tmp_path):
    dicoms.write_series(tmp_path, count=2)
    before = opened(tmp_path).state()
    assert before == opened(tmp_path).state() != opened(tmp_path, every=2).state()
    dicoms.save(tmp_path / "more.dcm", dicoms.dataset(PIXELS))
    assert before != opened(tmp_path).state()


BROKEN = {
    "page.dcm": (lambda: b"<html>404</html>" * 20, "not a DICOM file"),
    "zero.dcm": (lambda: bytes(500), "all bytes are zero"),
    "mark.dcm": (lambda: bytes(128) + b"DICM", "holds no picture"),
    "junk.dcm": (lambda: bytes(128) + b"DICM" + b"\xFF" * 300, "holds no picture|damaged"),
    "half.dcm": (lambda: as_bytes(dicoms.dataset(PIXELS))[:-100], "less than expected"),
    "many.dcm": (lambda: as_bytes(dicoms.dataset(PIXELS, NumberOfFrames=2_000_000)), "claims 2000000 frames"),
    "more.dcm": (lambda: as_bytes(dicoms.dataset(PIXELS, NumberOfFrames=9)), "claims 9 frames"),
    "coded.dcm": (lambda: as_bytes(dicoms.coded([b"x" * 500], RLELossless, PIXELS, NumberOfFrames=99)), "claims 99"),
}


def as_bytes(ds):
    file = io.BytesIO()
    ds.save_as(file, enforce_file_format=True)
    return file.getvalue()


def test_broken_files_are_images_with_a_reason(tmp_path):
    for name, (make, _) in BROKEN.items():
        (tmp_path / name).write_bytes(make())
    source = opened(tmp_path, slices=(0.4, 0.6))
    assert sorted(source.names) == sorted(BROKEN)
    for index, name in enumerate(source.names):
        with pytest.raises(BrokenImage, match=BROKEN[name][1]):
            source.decode(index)
    assert source.state() and source.notes()


def variants():
    """Whole files of several kinds, small."""
    small = PIXELS[:9, :8].copy()
    rle, deflated = dicoms.dataset(small), dicoms.dataset(small, DeflatedExplicitVRLittleEndian)
    rle.compress(RLELossless, generate_instance_uid=False)
    colours = np.arange(9 * 8 * 3, dtype=np.uint8).reshape(9, 8, 3)
    lossless = dicoms.coded([dicoms.jpeg_lossless(small)], JPEGLosslessSV1, small)
    windowed = dicoms.dataset(small, WindowCenter=[600, 50], WindowWidth=[900, 70], PixelPaddingValue=100,
                              PixelSpacing=[2, 1])
    return [as_bytes(ds) for ds in (enhanced(2), rle, deflated, dicoms.dataset(colours), lossless, windowed)]


VARIANTS = variants()


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kind=st.integers(0, len(VARIANTS) - 1), cut=st.floats(0, 1), flips=st.lists(
    st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255)), max_size=6), header=st.booleans())
def test_any_bytes_are_an_image_or_have_a_reason(tmp_path, kind, cut, flips, header):
    data = bytearray(VARIANTS[kind])
    for place, flip in flips:
        data[132 + int(place * (len(data) - 132))] ^= flip
    if cut < 0.4:
        del data[132 + int(cut * 2.5 * (len(data) - 132)):]
    (tmp_path / "x.dcm").write_bytes(data)
    source = opened(tmp_path, window="header" if header else "auto", max_pixels=10_000)
    source.notes()
    for index in range(min(len(source.names), 3)):
        try:
            image = source.decode(index)
        except BrokenImage:
            continue
        height, width, channels = image.pixels.shape
        assert height * width <= 10_000 and channels in (1, 3)
        assert image.pixels.dtype == np.uint8 or np.isfinite(image.pixels).all()


def test_warnings_of_the_package_are_not_shown(tmp_path):
    """They quote values; and values are converted when they are asked for, long after reading."""
    made = dicoms.dataset(PIXELS, PatientID="", PatientName="Roe")
    data = as_bytes(made).replace(b"Roe ", b"\xFF\x1BRo")
    (tmp_path / "a.dcm").write_bytes(data)
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        dicom_headers.quiet_pydicom.cache_clear()
        source = opened(tmp_path)
        source.decode(0)
        pydicom.dcmread(tmp_path / "a.dcm").PatientName.family_name  # noqa: B018 - which warns
    assert source.subject(0) and not shown


def test_an_archive_has_one_scale_a_series(tmp_path):
    """Two patients, whose scanners count in different units, look alike; slices of one keep their relation."""
    for number, (name, slope) in enumerate((("a", 1), ("b", 5))):
        dicoms.write_series(tmp_path / "in" / name, count=5, shape=(32, 32), spacing=(7, 7), PatientID=name,
                            SeriesInstanceUID=f"1.{number}", RescaleSlope=slope, RescaleIntercept=-20)
    convert(Conversion(tmp_path / "in", tmp_path / "out.zip", duplicates="keep", workers=1), say=lambda line: None)
    with zipfile.ZipFile(tmp_path / "out.zip") as made:
        pictures = [np.asarray(Image.open(made.open(name))) for name in made.namelist() if name.endswith(".png")]
    source = opened(tmp_path / "in")
    for first in (0, 5):
        stack = np.stack([picture(source, first + k) for k in range(5)]).astype(float)
        low, high = np.percentile(stack, (0.5, 99.5), method="inverted_cdf")
        assert (np.rint(np.clip((stack - low) / (high - low), 0, 1) * 255) == pictures[first:first + 5]).all()
    assert (np.array(pictures[:5]) == pictures[5:]).all() and pictures[0].mean() < 0.8 * pictures[2].mean()
