"""What collections of images really hold: each kind of trouble in a folder, and the archive that comes of it."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms, features

from stylegan2_pipeline.archive import Archive
from stylegan2_pipeline.conversion.convert import convert
from stylegan2_pipeline.conversion.options import Conversion

pytestmark = [pytest.mark.filterwarnings("ignore::UserWarning"),  # of Pillow, as in stylegan2_pipeline.decode
              pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")]
SIDE = 16
WHITE = (255, 255, 255)
RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (SIDE, SIDE, 3), np.uint8)
GRAY = RNG.integers(0, 256, (SIDE, SIDE), np.uint8)


def encoded(image, kind="PNG", **options):
    stream = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(stream, kind, **options)
    return stream.getvalue()


@pytest.fixture
def make(tmp_path):
    """make({name: bytes or array}, **options) -> (images of the archive [C,H,W] by the order of names, the report)."""
    def make(files, **options):
        folder = tmp_path / "source"
        folder.mkdir()
        for name, data in files.items():
            (folder / name).write_bytes(data if isinstance(data, bytes) else encoded(data))
        lines = []
        convert(Conversion(folder, tmp_path / "set.zip", **{"workers": 1, **options}), lines.append)
        with Archive(tmp_path / "set.zip") as archive:
            return [archive.read(index) for index in range(len(archive))], "\n".join(lines)
    return make


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_twelve_bits_in_sixteen_keep_their_shades(make, kind):
    values = np.arange(SIDE * SIDE, dtype=np.uint16).reshape(SIDE, SIDE) * 16  # 0 to 4080
    plain = np.asarray(Image.open(io.BytesIO(encoded(values, kind))).convert("L"))
    assert len(np.unique(plain)) < 20  # the trouble: Pillow cuts off at 255
    (image,), report = make({f"a.{kind.lower()}": encoded(values, kind)})
    assert image.shape == (1, SIDE, SIDE) and len(np.unique(image)) > 240
    low, high = np.quantile(values, (0.005, 0.995))
    expected = np.clip((values - low) / (high - low), 0, 1) * 255
    assert abs(image[0] - expected).max() <= 2
    assert "More than 8 bits" in report


@pytest.mark.parametrize("mode", ["I", "F"])
def test_wide_numbers_share_one_window(make, mode):
    kind = {"I": np.int32, "F": np.float32}[mode]
    ramp = np.arange(256).reshape(16, 16) * 100
    dark, bright = (encoded((ramp + start).astype(kind), "TIFF") for start in (-9, 25600))
    images, _ = make({"a.tif": dark, "b.tif": bright})
    assert images[0].max() < 129 and images[1].min() > 126 and images[1].max() == 255 and images[0].min() == 0


def test_sixteen_bit_colour_is_reduced_and_told(make):
    rows = b"".join(b"\0" + (row.astype(">u2") * 257).tobytes() for row in RGB)

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">2I5B", SIDE, SIDE, 16, 2, 0, 0, 0)) + \
        chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    (image,), report = make({"a.png": data})
    np.testing.assert_array_equal(image, RGB.transpose(2, 0, 1))
    assert "More than 8 bits a colour, read as 8" in report


def test_palettes_are_colours(make):
    palette = Image.new("P", (SIDE, SIDE))
    palette.putpalette(RNG.integers(0, 256, 48, np.uint8).tolist())
    palette.putdata((np.arange(SIDE * SIDE) % 16).tolist())
    (image,), _ = make({"a.png": encoded(palette)})
    np.testing.assert_array_equal(image, np.asarray(palette.convert("RGB")).transpose(2, 0, 1))


def test_one_bit(make):
    (image,), _ = make({"a.png": encoded(Image.fromarray(GRAY > 127))})
    np.testing.assert_array_equal(image[0], np.where(GRAY > 127, 255, 0))


def test_colours_hidden_under_transparency_do_not_come_out(make):
    hidden = np.dstack([RGB, np.zeros((SIDE, SIDE), np.uint8)])
    hidden[4:8, 4:8, 3] = 255
    opaque = [np.roll(RGB, shift, 0) for shift in (1, 2, 3)]
    images, report = make({"a.png": hidden} | {f"{number}.png": pixels for number, pixels in enumerate(opaque)})
    image = images[-1].transpose(1, 2, 0)
    np.testing.assert_array_equal(image[4:8, 4:8], RGB[4:8, 4:8])
    assert (image[0] == WHITE).all() and "Transparent" in report and "white" in report


def test_gray_with_transparency(make):
    hidden = np.dstack([GRAY, np.where(np.arange(SIDE) < 8, 255, 0).astype(np.uint8)[None].repeat(SIDE, 0)])
    images, _ = make({"z.png": encoded(hidden)} | {f"{n}.png": np.roll(GRAY, n + 1, 0) for n in range(3)})
    np.testing.assert_array_equal(images[-1][0, :, :8], GRAY[:, :8])
    assert (images[-1][0, :, 8:] == 255).all()


def test_inks_are_colours(make):
    inks = np.zeros((SIDE, SIDE, 4), np.uint8)
    inks[:, :, 0] = 255  # cyan
    (image,), _ = make({"a.jpg": encoded(Image.fromarray(inks, "CMYK"), "JPEG", quality=100)})
    assert abs(image[:, 8, 8].astype(int) - (0, 255, 255)).max() <= 4


def test_cameras_held_on_their_side(make):
    stored = np.zeros((32, 64), np.uint8)
    stored[:, :32] = 200
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise: what was left comes up
    (image,), report = make({"a.jpg": encoded(stored, "JPEG", exif=exif, quality=100)}, transform="pad", width=64,
                            height=64)
    assert image.shape == (1, 64, 64)
    assert abs(image[0, :28, 20:44].astype(int) - 200).max() <= 4 and image[0, 36:, 20:44].max() <= 4
    assert image[0, :, :16].max() == 0 and "Turned upright" in report


def test_gray_stored_as_colour_becomes_one_channel(make):
    colour = GRAY[:, :, None].repeat(3, 2)
    smooth = np.linspace(0, 255, 256).astype(np.uint8).reshape(16, 16)[:, :, None].repeat(3, 2)
    images, report = make({"a.png": colour, "b.jpg": encoded(smooth, "JPEG", quality=75)})
    assert images[0].shape == (1, SIDE, SIDE) and "gray" in report
    np.testing.assert_array_equal(images[0][0], GRAY)


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "AVIF"])
def test_animations(make, kind):
    if kind == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    frames = [Image.new("RGB", (SIDE, SIDE), color) for color in ("red", "lime", "blue")]
    options = {"WEBP": {"lossless": True}, "AVIF": {"quality": 100}}.get(kind, {})
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    (image,), report = make({f"a.{kind.lower()}": data}, duplicates="keep")
    assert abs(image[:, 5, 5].astype(int) - (255, 0, 0)).max() <= 4 and "Several frames" in report


@pytest.mark.parametrize(("frames", "greens"), [("all", [0, 255, 0]), ("1", [255])])
def test_frames_asked_for(make, frames, greens):
    pages = [Image.new("RGB", (SIDE, SIDE), color) for color in ("red", "lime", "blue")]
    images, _ = make({"a.tif": encoded(pages[0], "TIFF", save_all=True, append_images=pages[1:])}, frames=frames)
    assert [int(image[1, 5, 5]) for image in images] == greens


def test_files_that_are_broken_are_left_out_and_named(make, capsys):
    huge = bytearray(encoded(GRAY))
    huge[16:24] = struct.pack(">2I", 14000, 14400)  # 201.6 megapixels
    huge[29:33] = struct.pack(">I", zlib.crc32(huge[12:29]))
    make({
        "good.png": GRAY, "half.jpg": encoded(RGB.repeat(8, 0).repeat(8, 1), "JPEG")[:-700], "empty.png": b"",
        "page.jpg": b"<!DOCTYPE html><html><head><title>404 Not Found</title></head></html>",
        "huge.png": bytes(huge), "zeros.jpg": bytes(4000), "movie.gif": b"\0\0\0\x18ftypisom" + bytes(100),
    })
    told = capsys.readouterr().err
    for words in ("half.jpg: cannot be decoded: image file is truncated", "empty.png: an empty file",
                  "page.jpg: not an image but a web page", "huge.png: too large: 14000x14400",
                  "zeros.jpg: not an image: all bytes are zero", "movie.gif: not an image but a video"):
        assert words in told
    assert "good.png" not in told


def test_a_wrong_ending_does_not_matter_and_is_told(make):
    (image,), report = make({"a.jpg": encoded(GRAY, "PNG")})
    np.testing.assert_array_equal(image[0], GRAY)
    assert "Of another format than their ending says" in report


def test_wide_gamuts_become_srgb(make):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    swapped = profile.replace(b"rXYZ", b"tmp_").replace(b"gXYZ", b"rXYZ").replace(b"tmp_", b"gXYZ")
    swapped = swapped.replace("sRGB".encode("utf-16-be"), "none".encode("utf-16-be")).replace(b"sRGB", b"none")
    (image,), _ = make({"a.png": encoded(RGB, icc_profile=swapped)})  # red and green have changed places
    assert abs(image.astype(int) - RGB[:, :, [1, 0, 2]].transpose(2, 0, 1)).max() <= 2


@pytest.mark.parametrize("kind", ["AVIF", "WEBP", "JPEG2000"])
def test_newer_formats(make, kind):
    if kind == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    smooth = np.full((SIDE, SIDE, 3), (200, 100, 50), np.uint8)
    (image,), _ = make({"a" + {"JPEG2000": ".jp2"}.get(kind, f".{kind.lower()}"): encoded(smooth, kind)})
    assert abs(image.transpose(1, 2, 0).astype(int) - smooth).max() <= 8


def test_heic(make):
    pytest.importorskip("pillow_heif").register_heif_opener()
    smooth = np.full((SIDE, SIDE, 3), (200, 100, 50), np.uint8)
    (image,), _ = make({"a.heic": encoded(smooth, "HEIF", quality=100)})
    assert abs(image.transpose(1, 2, 0).astype(int) - smooth).max() <= 8
