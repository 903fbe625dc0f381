"""Every kind of image file -> the pixels a viewer would show."""

import functools
import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, features

from stylegan2_pipeline.decode import BrokenImage, decode_image, read_header
from stylegan2_pipeline.png import encode_png

RNG = np.random.default_rng(0)
GRAY = RNG.integers(0, 256, (5, 7), np.uint8)
RGB = RNG.integers(0, 256, (5, 7, 3), np.uint8)
ALPHA = RNG.integers(0, 256, (5, 7), np.uint8)


def saved(image, kind="PNG", **options):
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image)
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def pixels(data):
    decoded = decode_image(data)
    assert read_header(data) == (decoded.pixels.shape[2], *read_header(data)[1:3], False)
    assert decoded.pixels.dtype == np.uint8 and decoded.pixels.flags.c_contiguous and not decoded.deep
    return decoded.pixels


def reason(data, **options):
    with pytest.raises(BrokenImage) as caught:
        decode_image(data, **options)
    return str(caught.value)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "TGA", "PPM"])
def test_gray_and_rgb_in_every_lossless_format(kind):
    np.testing.assert_array_equal(pixels(saved(GRAY, kind)), GRAY[:, :, None])
    np.testing.assert_array_equal(pixels(saved(RGB, kind)), RGB)


@pytest.mark.parametrize("kind", ["WEBP", "JPEG2000", "AVIF"])
def test_newer_formats(kind):
    if kind == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    options = {"WEBP": {"lossless": True}, "JPEG2000": {}, "AVIF": {"quality": 100}}[kind]
    smooth = np.full((16, 16, 3), (200, 100, 50), np.uint8)
    assert abs(pixels(saved(smooth, kind, **options)).astype(int) - smooth).max() <= 4


def test_jpeg_gray_and_colour_differ_in_channels():
    assert pixels(saved(np.full((8, 8), 90, np.uint8), "JPEG")).shape == (8, 8, 1)
    colour = pixels(saved(np.full((8, 8, 3), (200, 100, 50), np.uint8), "JPEG", quality=95))
    assert abs(colour.astype(int) - (200, 100, 50)).max() <= 3


def test_gray_with_alpha_and_rgba_keep_alpha():
    both = np.dstack([GRAY, ALPHA])
    np.testing.assert_array_equal(pixels(saved(both)), np.dstack([GRAY, GRAY, GRAY, ALPHA]))
    rgba = np.dstack([RGB, ALPHA])
    np.testing.assert_array_equal(pixels(saved(rgba)), rgba)


def palette_image(transparent=None):
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putdata([0, 1])
    return saved(image) if transparent is None else saved(image, transparency=transparent)


def test_palettes_are_colours_not_numbers():
    np.testing.assert_array_equal(pixels(palette_image()), [[[255, 0, 0], [0, 0, 255]]])
    np.testing.assert_array_equal(pixels(palette_image(transparent=1)), [[[255, 0, 0, 255], [0, 0, 255, 0]]])


def test_a_transparent_colour_is_alpha():
    image = Image.fromarray(np.array([[[9, 8, 7], [1, 2, 3]]], np.uint8))
    np.testing.assert_array_equal(pixels(saved(image, transparency=(9, 8, 7)))[0, :, 3], [0, 255])


def test_one_bit_is_black_and_white():
    image = Image.fromarray(GRAY > 127)
    assert image.mode == "1"
    np.testing.assert_array_equal(pixels(saved(image)), np.where(GRAY > 127, 255, 0)[:, :, None])


def test_cmyk_is_ink():
    inks = np.zeros((1, 4, 4), np.uint8)
    inks[0, 1, 0] = 255  # cyan
    inks[0, 2, 3] = 255  # black
    inks[0, 3, 1:3] = 255  # magenta and yellow: red
    expected = np.array([[[255, 255, 255], [0, 255, 255], [0, 0, 0], [255, 0, 0]]])
    cmyk = Image.fromarray(inks.repeat(16, 0).repeat(16, 1), "CMYK")
    assert cmyk.mode == "CMYK"
    assert (pixels(saved(cmyk, "TIFF"))[8:9, 8::16] == expected).all()
    assert abs(pixels(saved(cmyk, "JPEG", quality=100))[8:9, 8::16].astype(int) - expected).max() <= 6


def test_a_wide_gamut_becomes_srgb_and_srgb_stays():
    profile = wide_gamut_profile()
    image = np.full((4, 4, 3), (200, 100, 100), np.uint8)
    converted = pixels(saved(image, icc_profile=profile))
    linear = np.linalg.solve(SRGB_TO_XYZ, WIDE_TO_XYZ @ (image[0, 0] / 255) ** 2.2)
    expected = 255 * (1.055 * linear ** (1 / 2.4) - 0.055)  # IEC 61966-2-1, above its linear part
    assert expected[0] > 220 and abs(converted - expected).max() < 2
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    np.testing.assert_array_equal(pixels(saved(RGB, icc_profile=srgb)), RGB)
    np.testing.assert_array_equal(pixels(saved(RGB, icc_profile=b"no profile at all")), RGB)
    rgba = np.dstack([image, np.full((4, 4), 77, np.uint8)])
    np.testing.assert_array_equal(pixels(saved(rgba, icc_profile=profile))[:, :, 3], rgba[:, :, 3])


WIDE_TO_XYZ = np.array([[0.6097, 0.2053, 0.1492], [0.3111, 0.6257, 0.0632], [0.0195, 0.0609, 0.7446]])
SRGB_TO_XYZ = np.array([[0.4361, 0.3851, 0.1431], [0.2225, 0.7169, 0.0606], [0.0139, 0.0971, 0.7141]])


def wide_gamut_profile():
    """A matrix profile with Adobe RGB's primaries (D50-adapted) and gamma 2.2, laid out after ICC.1:2001."""
    def s15(*values):
        return struct.pack(f">{len(values)}i", *(round(value * 65536) for value in values))

    def text(name):
        return b"desc\0\0\0\0" + struct.pack(">I", len(name) + 1) + name + b"\0" + b"\0" * 78

    xyz = {b"wtpt": (0.9642, 1, 0.8249)} | dict(zip((b"rXYZ", b"gXYZ", b"bXYZ"), WIDE_TO_XYZ.T, strict=True))
    tags = {b"desc": text(b"wide"), b"cprt": b"text\0\0\0\0none\0"}
    tags |= {name: b"XYZ \0\0\0\0" + s15(*value) for name, value in xyz.items()}
    tags |= {name: b"curv\0\0\0\0" + struct.pack(">IH", 1, round(2.2 * 256)) for name in (b"rTRC", b"gTRC", b"bTRC")}
    offset, table, body = 128 + 4 + 12 * len(tags), b"", b""
    for name, data in tags.items():
        data += b"\0" * (-len(data) % 4)
        table += name + struct.pack(">II", offset + len(body), len(data))
        body += data
    size = offset + len(body)
    header = struct.pack(">I4sI4s4s4s", size, b"none", 0x02400000, b"mntr", b"RGB ", b"XYZ ") + b"\0" * 12 + b"acsp"
    header = (header + b"\0" * 28 + s15(0.9642, 1, 0.8249)).ljust(128, b"\0")
    return header + struct.pack(">I", len(tags)) + table + body


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_keep_all_their_values(kind):
    values = np.arange(35, dtype=np.uint16).reshape(5, 7) * 117
    decoded = decode_image(saved(values, kind))
    assert decoded.deep and decoded.mode.startswith("I") and read_header(saved(values, kind)) == (1, 5, 7, True)
    np.testing.assert_array_equal(decoded.pixels[:, :, 0], values)


def test_whole_numbers_and_floats_keep_their_values():
    whole = (np.arange(6, dtype=np.int32).reshape(2, 3) - 3) * 1000
    np.testing.assert_array_equal(decode_image(saved(whole, "TIFF")).pixels[:, :, 0], whole)
    floats = np.linspace(-1, 1, 6, dtype=np.float32).reshape(2, 3)
    np.testing.assert_array_equal(decode_image(saved(floats, "TIFF")).pixels[:, :, 0], floats)
    floats[0, 0] = np.nan
    assert reason(saved(floats, "TIFF")) == "holds values that are not finite"


def test_sixteen_bit_colour_is_read_in_eight():
    rows = b"".join(b"\0" + (RGB[y].astype(">u2") * 257).tobytes() for y in range(5))

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">2I5B", 7, 5, 16, 2, 0, 0, 0)) + \
        chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    np.testing.assert_array_equal(pixels(data), RGB)


CORNER = {1: (0, 0), 2: (0, -1), 3: (-1, -1), 4: (-1, 0), 5: (0, 0), 6: (0, -1), 7: (-1, -1), 8: (-1, 0)}


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "JPEG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(orientation, kind):
    """EXIF 2.3, table 6: where the file's first row and first column are to be seen."""
    stored = np.zeros((32, 64, 3), np.uint8)
    stored[:16, :16] = 255          # at the start of the first row ...
    stored[:16, 32:48] = 128        # ... along which comes a gray patch
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"quality": 100} if kind == "JPEG" else {"lossless": True} if kind == "WEBP" else {}
    decoded = decode_image(saved(stored, kind, exif=exif, **options))
    upright = decoded.pixels
    assert upright.shape == ((64, 32, 3) if orientation >= 5 else (32, 64, 3))
    row, column = CORNER[orientation]
    assert upright[row, column].min() > 240
    along = upright[:, column, 0] if orientation >= 5 else upright[row, :, 0]  # the file's first row, as seen
    seen = along if (row if orientation >= 5 else column) == 0 else along[::-1]
    assert abs(int(seen[40]) - 128) < 12
    if kind != "TIFF":  # whose reader turns it without a word
        assert decoded.rotated == (orientation != 1)


def test_deep_images_are_turned_too():
    exif = Image.Exif()
    exif[0x0112] = 6
    values = np.arange(6, dtype=np.uint16).reshape(2, 3) * 1000
    np.testing.assert_array_equal(decode_image(saved(values, exif=exif)).pixels[:, :, 0], np.rot90(values, -1))


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_animations_give_their_first_frame(kind):
    frames = [Image.new("RGB", (4, 4), color) for color in ("red", "blue")]
    options = {"lossless": True} if kind == "WEBP" else {}
    decoded = decode_image(saved(frames[0], kind, save_all=True, append_images=frames[1:], **options))
    assert decoded.animated
    np.testing.assert_array_equal(decoded.pixels[0, 0, :3], [255, 0, 0])
    assert not decode_image(saved(frames[0], kind, **options)).animated


def test_each_reason_for_a_broken_file():
    assert reason(b"") == "an empty file"
    assert "web page" in reason(b"\n <!DOCTYPE html><title>404</title>")
    assert "HEIC" in reason(b"\0\0\0\x18ftypheic\0\0\0\0")
    assert "all bytes are zero" in reason(bytes(100))
    assert "recognised" in reason(b"some words")
    assert "truncated" in reason(saved(RGB.repeat(20, 0).repeat(20, 1), "JPEG")[:-300])
    whole = saved(RGB)
    assert "cannot be decoded" in reason(whole[:len(whole) // 2])
    assert reason(whole, max_pixels=34) == "too large: 7x5 is more than 3.4e-05 megapixels"
    assert decode_image(whole, max_pixels=35).pixels.shape == (5, 7, 3)


def test_a_file_that_claims_to_be_huge_is_not_unpacked():
    data = bytearray(encode_png(np.zeros((1, 2, 2), np.uint8)))
    data[16:24] = struct.pack(">2I", 60000, 60000)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    assert "too large" in reason(bytes(data))


@functools.cache
def valid_files():
    return [saved(RGB, "PNG"), saved(RGB, "JPEG"), saved(GRAY, "GIF"), saved(RGB, "BMP"), saved(RGB, "TIFF"),
            saved(RGB, "WEBP"), saved(GRAY.astype(np.uint16), "PNG"), palette_image(1), saved(RGB, "TGA"),
            saved(RGB, "JPEG", exif=bytes.fromhex("4578696600004d4d002a000000080001011200030000000100060000"))]


@pytest.mark.filterwarnings("ignore::UserWarning")  # of Pillow, as in stylegan2_pipeline.decode
@settings(max_examples=300)
@given(data=st.data())
def test_damaged_files_are_read_or_refused_never_worse(data):
    damaged = bytearray(data.draw(st.sampled_from(valid_files())))
    places = st.integers(0, len(damaged) - 1)
    for place, value in data.draw(st.lists(st.tuples(places, st.integers(0, 255)), max_size=4)):
        damaged[place] = value
    damaged = bytes(damaged[:data.draw(st.integers(0, len(damaged)))])
    try:
        decoded = decode_image(damaged)
    except BrokenImage as error:
        assert str(error)
    else:
        assert decoded.pixels.ndim == 3 and decoded.pixels.shape[2] in (1, 3, 4)


@given(data=st.data(), channels=st.sampled_from([1, 3, 4]), height=st.integers(1, 40), width=st.integers(1, 40))
def test_our_png_files_are_read_by_others(data, channels, height, width):
    image = np.random.default_rng(data.draw(st.integers(0, 99))).integers(0, 256, (channels, height, width), np.uint8)
    with Image.open(io.BytesIO(encode_png(image))) as opened:
        assert opened.mode == {1: "L", 3: "RGB", 4: "RGBA"}[channels]
        np.testing.assert_array_equal(np.asarray(opened).reshape(height, width, channels), image.transpose(1, 2, 0))


def test_png_files_larger_than_a_block():
    image = RNG.integers(0, 256, (3, 200, 333), np.uint8)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(encode_png(image)))), image.transpose(1, 2, 0))
    exactly = np.zeros((1, 65535 // 3, 2), np.uint8)  # 65535 bytes with the filter types
    assert Image.open(io.BytesIO(encode_png(exactly))).getextrema() == (0, 0)
