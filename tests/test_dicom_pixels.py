"""DICOM pixels: every way of storing them, units, display windows, padding, colours, and what cannot be read."""

import io

import dicoms
import numpy as np
import pydicom.pixels.decoders.base as decoders
import pytest
from PIL import Image
from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate

from stylegan2_pipeline.decode import BrokenImage
from stylegan2_pipeline.sources import dicom_headers
from stylegan2_pipeline.sources.base import Reading
from stylegan2_pipeline.sources.dicom_codes import coded_size
from stylegan2_pipeline.sources.dicom_headers import parse
from stylegan2_pipeline.sources.dicom_pixels import decode_frame

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 4096, (10, 12)).astype(np.uint16)
SMOOTH = np.add.outer(np.arange(16), np.arange(16)).astype(np.uint8) * 8


def decode(ds, frame=0, **reading):
    """Through the bytes of a file."""
    file = io.BytesIO()
    ds.save_as(file, enforce_file_format=True)
    return decode_frame(parse(file.getvalue(), pixels=True)[0], frame, Reading(**reading))


def values(ds, **reading):
    return decode(ds, **reading).pixels[:, :, 0]


def encoded(pixels, name, **options):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, name, **options)
    return file.getvalue()


def compressed(syntax):
    ds = dicoms.dataset(PIXELS)
    ds.compress(syntax, generate_instance_uid=False)
    return ds


STORED = {
    "explicit": lambda: dicoms.dataset(PIXELS),
    "implicit": lambda: dicoms.dataset(PIXELS, uid.ImplicitVRLittleEndian),
    "big": lambda: dicoms.dataset(PIXELS, uid.ExplicitVRBigEndian, PixelData=PIXELS.astype(">u2").tobytes()),
    "deflated": lambda: dicoms.dataset(PIXELS, uid.DeflatedExplicitVRLittleEndian),
    "RLE": lambda: compressed(uid.RLELossless),
    "JPEG-LS": lambda: compressed(uid.JPEGLSLossless),
    "JPEG lossless": lambda: dicoms.coded([dicoms.jpeg_lossless(PIXELS)], uid.JPEGLosslessSV1, PIXELS),
    "JPEG 2000": lambda: dicoms.coded([encoded(PIXELS, "JPEG2000", no_jp2=True)], uid.JPEG2000Lossless, PIXELS),
}


@pytest.mark.parametrize("name", STORED)
def test_every_way_of_storing_gives_the_same_pixels(name):
    image = decode(STORED[name]())
    assert image.deep and image.format == "DICOM" and image.mode == "MONOCHROME2, 16 bits" and image.empty is None
    assert (image.pixels[:, :, 0] == PIXELS).all() and image.remarks == ()


def test_jpeg_of_8_bits_is_taken_as_it_is():
    image = decode(dicoms.coded([encoded(SMOOTH, "JPEG", quality=95)], uid.JPEGBaseline8Bit, SMOOTH))
    assert not image.deep and abs(image.pixels[:, :, 0].astype(int) - SMOOTH).max() <= 4


def test_units_of_the_scanner():
    signed = (PIXELS.astype(np.int16) - 2000)
    assert (values(dicoms.dataset(signed, RescaleSlope="2", RescaleIntercept="-1024")) == signed * 2.0 - 1024).all()
    unused = PIXELS | np.uint16(0xF000)  # an overlay in bits that the pixels do not use
    assert (values(dicoms.dataset(unused, BitsStored=12, HighBit=11)) == PIXELS).all()
    short = dicoms.dataset(PIXELS.astype(np.uint8), RescaleSlope=1, RescaleIntercept=-5)
    assert decode(short).deep and decode(short).pixels.min() == PIXELS.astype(np.uint8).min() - 5.0
    table = Dataset()
    table.LUTDescriptor, table.LUTData = [3, 1, 16], np.array([7, 500, 9000], np.uint16).tobytes()
    looked_up = dicoms.dataset(np.array([[0, 1], [2, 3], [4, 60]], np.uint16), ModalityLUTSequence=[table])
    assert values(looked_up).tolist() == [[7, 7], [500, 9000], [9000, 9000]]


def test_monochrome1_is_turned_round():
    deep = dicoms.dataset(PIXELS, PhotometricInterpretation="MONOCHROME1", BitsStored=12, HighBit=11, RescaleSlope=2)
    assert (values(deep) == 2 * (4095.0 - PIXELS)).all()
    flat = dicoms.dataset(SMOOTH, PhotometricInterpretation="MONOCHROME1")
    assert (values(flat) == 255 - SMOOTH).all()
    few = dicoms.dataset(SMOOTH // 16, BitsStored=4, HighBit=3)
    assert (values(few) == SMOOTH // 16 * 17).all()


@pytest.mark.parametrize(("fill", "tags", "blank"), [
    (5000, dict(PixelPaddingValue=5000), -1.0),
    (5000, dict(PixelPaddingValue=5100, PixelPaddingRangeLimit=4900), -1.0),
    (-9000, dict(PixelPaddingValue=-9000, RescaleIntercept=-1000, RescaleSlope=1), -33769.0),
    (5000, dict(PixelPaddingValue=5000, PhotometricInterpretation="MONOCHROME1"), -1.0),
])
def test_padding_is_empty_and_below_everything(fill, tags, blank):
    pixels = PIXELS.astype(np.int16 if fill < 0 else np.uint16)
    pixels[2, 3:6] = fill
    hidden = pixels == fill
    image = decode(dicoms.dataset(pixels, **tags))
    assert image.empty == blank and ((image.pixels[:, :, 0] == blank) == hidden).all()
    assert image.pixels[~hidden].min() > blank
    window = decode(dicoms.dataset(pixels, **tags, WindowCenter=0, WindowWidth=20), window="header")
    assert window.empty is None and (window.pixels[hidden] == 0).all()


def linear(x, center, width):
    """DICOM PS3.3, C.11.2.1.2.1, term by term."""
    if x <= center - 0.5 - (width - 1) / 2:
        return 0
    if x > center - 0.5 + (width - 1) / 2:
        return 255
    return ((x - (center - 0.5)) / (width - 1) + 0.5) * 255


WINDOWS = {
    None: linear,
    "LINEAR": linear,
    "LINEAR_EXACT": lambda x, c, w: min(max((x - c) / w + 0.5, 0), 1) * 255,
    "SIGMOID": lambda x, c, w: 255 / (1 + np.exp(-4 * (x - c) / w)),
}


@pytest.mark.parametrize("function", WINDOWS)
@pytest.mark.parametrize("kind", ["MONOCHROME1", "MONOCHROME2"])
def test_the_display_window_of_the_header(function, kind):
    ds = dicoms.dataset(PIXELS, RescaleSlope=2, RescaleIntercept=-1000, WindowCenter=[1500, 3], WindowWidth=[2500, 5],
                        VOILUTFunction=function, PhotometricInterpretation=kind)
    expected = np.vectorize(WINDOWS[function], otypes=[float])(PIXELS * 2.0 - 1000, 1500, 2500)
    shown = values(ds, window="header")
    assert shown.dtype == np.uint8
    assert abs(shown - (255 - expected if kind == "MONOCHROME1" else expected)).max() <= 0.5 + 1e-9


def test_other_display_windows():
    step = dicoms.dataset(PIXELS, WindowCenter=2000, WindowWidth=1)
    assert (values(step, window="header") == np.where(PIXELS > 1999.5, 255, 0)).all()
    table = Dataset()
    table.LUTDescriptor, table.LUTData = [4, 10, 12], np.array([0, 1000, 3000, 4095], np.uint16).tobytes()
    looked_up = dicoms.dataset(np.array([[9, 10], [11, 12], [13, 99]], np.uint16), VOILUTSequence=[table])
    assert values(looked_up, window="header").tolist() == [[0, 0], [62, 187], [255, 255]]
    for tags in ({}, dict(WindowCenter=5, WindowWidth=0), dict(WindowWidth=5)):
        without = decode(dicoms.dataset(PIXELS, **tags), window="header")
        assert without.deep and "Without a display window" in without.remarks[0]


def palette(bits):
    """Numbers from 10 to 13: red, green, a dark blue, black."""
    entries = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 40], [0, 0, 0]])
    entries = (entries * 257).astype(np.uint16) if bits == 16 else entries.astype(np.uint8)
    tables = {}
    for index, name in enumerate(("Red", "Green", "Blue")):
        tables[f"{name}PaletteColorLookupTableDescriptor"] = [4, 10, bits]
        tables[f"{name}PaletteColorLookupTableData"] = entries[:, index].tobytes()
    return dicoms.dataset(np.array([[10, 11, 12], [12, 11, 3]], np.uint8), PhotometricInterpretation="PALETTE COLOR",
                          SOPClassUID=dicoms.US, Modality="US", **tables)


@pytest.mark.parametrize("bits", [8, 16])
def test_palettes(bits):
    image = decode(palette(bits))
    red, green, blue = [255, 0, 0], [0, 255, 0], [0, 0, 40]
    assert image.pixels.tolist() == [[red, green, blue], [blue, green, red]] and image.mode == "PALETTE COLOR, 8 bits"


def test_colours():
    rgb = RNG.integers(0, 256, (6, 8, 3)).astype(np.uint8)
    assert (decode(dicoms.dataset(rgb)).pixels == rgb).all()
    planes = dicoms.dataset(rgb, PlanarConfiguration=1, PixelData=rgb.transpose(2, 0, 1).tobytes())
    assert (decode(planes).pixels == rgb).all()
    ybr = np.asarray(Image.fromarray(rgb).convert("YCbCr"))
    luma = decode(dicoms.dataset(ybr, PhotometricInterpretation="YBR_FULL")).pixels
    assert abs(luma.astype(int) - rgb).max() <= 3
    wide = decode(dicoms.dataset(rgb.astype(np.uint16) * 16 + 5, BitsStored=12, HighBit=11))
    assert (wide.pixels == rgb).all() and wide.remarks == ("More than 8 bits a colour, reduced to 8",)
    smooth = np.stack([SMOOTH, SMOOTH.T, 255 - SMOOTH], axis=2)
    jpeg = dicoms.coded([encoded(smooth, "JPEG", quality=95)], uid.JPEGBaseline8Bit, smooth,
                        PhotometricInterpretation="YBR_FULL_422")
    assert abs(decode(jpeg).pixels.astype(int) - smooth).max() <= 20


def test_numbers_with_a_fraction():
    numbers = RNG.normal(size=(4, 5)).astype(np.float32)
    numbers[1, 2] = np.nan
    ds = dicoms.dataset(np.zeros((4, 5), np.uint32), FloatPixelData=numbers.tobytes(), PixelData=None, BitsStored=None,
                        HighBit=None, PixelRepresentation=None)
    image = decode(ds)
    known = np.isfinite(numbers)
    assert (image.pixels[:, :, 0][known] == numbers[known]).all() and "not finite" in image.remarks[0]
    assert image.empty == image.pixels[1, 2, 0] < numbers[known].min()


@pytest.mark.parametrize("tags", [dict(PixelSpacing=[3, 1.5]), dict(ImagerPixelSpacing=[2, 1]),
                                  dict(PixelAspectRatio=[4, 2])])
def test_pixels_become_square_and_padding_does_not_bleed(tags):
    ramp = np.tile(np.arange(100, 180, 10, dtype=np.uint16)[:, None], (1, 6))
    ramp[:, 0] = 60000
    image = decode(dicoms.dataset(ramp, PixelPaddingValue=60000, **tags))
    column = np.clip((np.arange(16) + 0.5) / 2 - 0.5, 0, 7) * 10 + 100  # between the middles of the stored rows
    assert image.pixels.shape == (16, 6, 1) and np.allclose(image.pixels[:, 1:, 0], column[:, None])
    assert (image.pixels[:, 0] == image.empty).all() and image.remarks == ("Of pixels that are not square, resampled",)


def test_what_is_announced_in_the_header():
    assert decode(dicoms.dataset(PIXELS, BurnedInAnnotation="YES")).remarks == ("Burned-in text is announced",)
    assert decode(dicoms.dataset(PIXELS, BurnedInAnnotation="NO")).remarks == ()


def test_all_padding():
    image = decode(dicoms.dataset(np.full((4, 6), 9, np.uint16), PixelPaddingValue=9, PixelSpacing=[2, 1]))
    assert (image.pixels == image.empty).all() and image.pixels.shape == (8, 6, 1)


def wrong_size():
    return dicoms.coded([dicoms.jpeg_lossless(PIXELS)], uid.JPEGLosslessSV1, np.zeros((64, 64), np.uint16))


def short_palette(blue=b"\0\0"):
    ds = palette(16)
    ds.BluePaletteColorLookupTableData = blue
    return ds


REFUSED = {
    "RescaleSlope is 0": lambda: dicoms.dataset(PIXELS, RescaleSlope=0, RescaleIntercept=0),
    "too large: 12x10 is more than 0 megapixels": lambda: dicoms.dataset(PIXELS),
    "compressed picture is 12x10, and its header says 64x64": wrong_size,
    "a video": lambda: dicoms.coded([b"\0\0"], uid.MPEG2MPML, PIXELS),
    "cannot be read here [(]JPIP": lambda: dicoms.coded([b"\0\0"], uid.UID("1.2.840.10008.1.2.4.94"), PIXELS),
    "cannot be decoded": lambda: dicoms.coded([dicoms.jpeg_lossless(PIXELS)[:60]], uid.JPEGLSLossless, PIXELS),
    "a box of no length": lambda: dicoms.coded([b"\0\0\0\x0CjP  \r\n\x87\n" + bytes(90)], uid.JPEG2000, PIXELS),
    "its size is missing": lambda: dicoms.coded([b"\xFF\xD8\xFF\xD9"], uid.JPEGLosslessSV1, PIXELS),
    "table of colours is damaged": short_palette,
    "table of colours is": lambda: short_palette(b""),
    "table of gray values is damaged": lambda: dicoms.dataset(PIXELS, ModalityLUTSequence=[Dataset()]),
    "colours are stored in a way": lambda: dicoms.dataset(PIXELS, PhotometricInterpretation="HSV"),
    "holds no picture": lambda: dicoms.dataset(PIXELS, PixelData=None),
    "no Rows": lambda: dicoms.dataset(PIXELS, Rows=0),
    "times as long as wide": lambda: dicoms.dataset(PIXELS, PixelSpacing=[1000, 1]),
    "not finite": lambda: dicoms.dataset(PIXELS, RescaleSlope=1e300, RescaleIntercept=0),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_what_cannot_be_read_says_why(reason):
    with pytest.raises(BrokenImage, match=reason):
        decode(REFUSED[reason](), max_pixels=100 if "too large" in reason else 10_000)


@pytest.mark.parametrize(("syntax", "decoder", "line"), [
    (uid.JPEGLosslessSV1, "JPEGLosslessSV1Decoder", r"pip install '\.\[dicom\]'"),
    (uid.HTJ2KLossless, "HTJ2KLosslessDecoder", "pip install pylibjpeg-openjpeg"),
])
def test_a_missing_decoder_is_named(syntax, decoder, line, monkeypatch):
    monkeypatch.setattr(getattr(decoders, decoder), "_available", {})
    with pytest.raises(BrokenImage, match=f"no decoder is here: {line}"):
        decode(dicoms.coded([b"\0\0"], syntax, PIXELS))


def test_decoders_are_tried_in_turn_and_some_only_where_there_is_no_other(monkeypatch):
    """GDCM ends the process over damaged data."""
    calls = []

    def decoder(name):
        def run(source, runner):
            calls.append(name)
            if name == "second":
                return PIXELS.tobytes()
            raise ValueError(name)
        return run

    ds = dicoms.coded([dicoms.jpeg_lossless(PIXELS)], uid.JPEGLosslessSV1, PIXELS)
    for names, expected in ((("gdcm", "first", "second"), ["first", "second"]), (("gdcm", "first"), ["first"]),
                            (("gdcm",), ["gdcm"]), (("gdcm", "pyjpegls"), ["pyjpegls"])):
        monkeypatch.setattr(decoders.JPEGLosslessSV1Decoder, "_available", {name: decoder(name) for name in names})
        calls.clear()
        if "second" in names:
            assert (values(ds) == PIXELS).all()
        else:
            with pytest.raises(BrokenImage, match=expected[-1]):
                decode(ds)
        assert calls == expected


@pytest.mark.parametrize("words", ["invalid literal for int() with base 10: 'SECRET'", 'A (0028,0004) "SECRET" is odd',
                                   "it's b'SECRET SECRET', don't", "cut: 'SECRET"])
def test_what_decoders_quote_is_not_said(words, monkeypatch):
    def fail(source, runner):
        raise ValueError(words)

    monkeypatch.setattr(decoders.JPEGLosslessSV1Decoder, "_available", {"some": fail})
    with pytest.raises(BrokenImage, match=r"cannot be decoded: some: .*…") as raised:
        decode(dicoms.coded([dicoms.jpeg_lossless(PIXELS)], uid.JPEGLosslessSV1, PIXELS))
    assert "SECRET" not in str(raised.value)


def test_a_deflated_file_cannot_fill_the_memory(monkeypatch):
    monkeypatch.setattr(dicom_headers, "MAX_INFLATED", 2 ** 20)
    ds = dicoms.dataset(np.zeros((1000, 1000), np.uint16), uid.DeflatedExplicitVRLittleEndian)
    with pytest.raises(BrokenImage, match="too large: more than 1 MiB unpacked"):
        decode(ds)


@pytest.mark.parametrize(("code", "size"), [
    (dicoms.jpeg_lossless(PIXELS), (12, 10)), (encoded(SMOOTH[:9], "JPEG"), (16, 9)),
    (encoded(SMOOTH[:9], "JPEG2000", no_jp2=True), (16, 9)), (encoded(SMOOTH[:9], "JPEG2000"), (16, 9)),
    (b"\xFF\xD8\xFF\xFF\xE0\0\x04ab\xFF\xC0\0\x0B\x08\0\x07\0\x05", (5, 7)),
    (b"", None), (b"\xFF\xD8" + b"\xFF" * 9, None),
    (b"\xFF\x4F\xFF\x51", (0, 0)), (encapsulate([b"\0" * 64]), None),
])
def test_sizes_in_compressed_data(code, size):
    assert coded_size(code) == size
