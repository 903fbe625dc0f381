"""Every kind of image file -> the pixels a viewer would show."""

import io
import struct
import sys
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms, features

from stylegan2_pipeline import image_formats
from stylegan2_pipeline.decode import NO_PROFILE, SHALLOWER, BrokenImage, Reel, decode_image, read_header
from stylegan2_pipeline.png import encode_png

pytestmark = [pytest.mark.filterwarnings("ignore::UserWarning"),  # of Pillow, as in stylegan2_pipeline.decode
              pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")]

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


def s15(*values):
    return struct.pack(f">{len(values)}i", *(round(value * 65536) for value in values))


def described(name):
    return b"desc\0\0\0\0" + struct.pack(">I", len(name) + 1) + name + b"\0" + b"\0" * 78


def wide_gamut_profile():
    """A matrix profile with Adobe RGB's primaries (D50-adapted) and gamma 2.2, laid out after ICC.1:2001."""
    xyz = {b"wtpt": (0.9642, 1, 0.8249)} | dict(zip((b"rXYZ", b"gXYZ", b"bXYZ"), WIDE_TO_XYZ.T, strict=True))
    tags = {b"desc": described(b"wide"), b"cprt": b"text\0\0\0\0none\0"}
    tags |= {name: b"XYZ \0\0\0\0" + s15(*value) for name, value in xyz.items()}
    tags |= {name: b"curv\0\0\0\0" + struct.pack(">IH", 1, round(2.2 * 256)) for name in (b"rTRC", b"gTRC", b"bTRC")}
    return profile_of(tags, b"RGB ")


def profile_of(tags, space):
    offset, table, body = 128 + 4 + 12 * len(tags), b"", b""
    for name, data in tags.items():
        data += b"\0" * (-len(data) % 4)
        table += name + struct.pack(">II", offset + len(body), len(data))
        body += data
    size = offset + len(body)
    header = struct.pack(">I4sI4s4s4s", size, b"none", 0x02400000, b"mntr", space, b"XYZ ") + b"\0" * 12 + b"acsp"
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


def sixteen_bit_png(color_type, values):
    height, width, _ = values.shape
    rows = b"".join(b"\0" + (row.astype(">u2") * 257).tobytes() for row in values)

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">2I5B", width, height, 16, color_type, 0, 0, 0)) + \
        chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_sixteen_bit_colour_is_read_in_eight():
    np.testing.assert_array_equal(pixels(sixteen_bit_png(2, RGB)), RGB)


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


def test_what_files_with_endings_of_images_often_are_instead():
    assert reason(saved(RGB, "PNG").replace(b"IHDR", b"IHDX")) == "a damaged PNG"
    assert reason(saved(RGB, "TIFF")[:20]) == "a damaged TIFF"
    assert reason(b"\xff\xd8\xff\xe0" + bytes(40)) == "a damaged JPEG"
    assert reason(b"%PDF-1.7 ...") == "not an image but a PDF"
    assert reason(b"PK\3\4" + bytes(40)) == "not an image but a zip"
    assert reason(b"\0\0\0\x18ftypisom" + bytes(40)) == "not an image but a video"
    assert reason(bytes(128) + b"DICM" + bytes(10)) == "a DICOM file"


def test_a_file_that_claims_to_be_huge_is_not_unpacked():
    data = bytearray(encode_png(np.zeros((1, 2, 2), np.uint8)))
    data[16:24] = struct.pack(">2I", 60000, 60000)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    assert "too large" in reason(bytes(data))


def gray_profile(gamma):
    """A gray profile of a plain gamma, laid out after ICC.1:2001."""
    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"
    return profile_of({b"desc": described(b"steep"), b"cprt": b"text\0\0\0\0none\0",
                       b"wtpt": b"XYZ \0\0\0\0" + s15(0.9642, 1, 0.8249), b"kTRC": curve}, b"GRAY")


def test_gray_profiles_are_heeded_too():
    decoded = decode_image(saved(np.full((4, 4), 128, np.uint8), "JPEG", icc_profile=gray_profile(3.0), quality=100))
    linear = (128 / 255) ** 3.0
    expected = 255 * (1.055 * linear ** (1 / 2.4) - 0.055)  # as above
    assert decoded.profile and decoded.pixels.shape == (4, 4, 1) and expected < 105
    assert abs(decoded.pixels.astype(float) - expected).max() < 2


def test_what_is_told_beside_the_pixels():
    decoded = decode_image(saved(RGB, icc_profile=wide_gamut_profile()))
    assert (decoded.format, decoded.profile, decoded.remarks) == ("PNG", True, ())
    assert not decode_image(saved(RGB, icc_profile=b"no profile at all")).profile
    inks = decode_image(saved(Image.fromarray(np.zeros((8, 8, 4), np.uint8), "CMYK"), "JPEG"))
    assert (inks.format, inks.mode, inks.remarks) == ("JPEG", "CMYK", (NO_PROFILE,))
    assert decode_image(sixteen_bit_png(2, RGB)).remarks == (SHALLOWER,)
    assert decode_image(sixteen_bit_png(4, np.dstack([GRAY, ALPHA]))).remarks == (SHALLOWER,)
    assert decode_image(b"P6 1 1 65535\n" + struct.pack(">3H", 65535, 257 * 9, 0)).remarks == (SHALLOWER,)
    assert decode_image(b"P6 1 1 255\n" + bytes(3)).remarks == ()
    assert decode_image(saved(GRAY.astype(np.uint16))).remarks == ()


FRAMES = [np.full((6, 9, 3), color, np.uint8) for color in ((255, 0, 0), (0, 0, 255), (0, 255, 0), (9, 9, 9))]


def film(kind, **options):
    pictures = [Image.fromarray(frame) for frame in FRAMES]
    return saved(pictures[0], kind, save_all=True, append_images=pictures[1:], **options)


@pytest.mark.parametrize(("kind", "options"), [("GIF", {}), ("PNG", {}), ("WEBP", {"lossless": True}), ("TIFF", {}),
                                               ("AVIF", {"quality": 100})])
def test_any_frame_by_its_number(kind, options):
    if kind == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    data = film(kind, **options)
    with Reel(data) as reel:
        assert reel.frames() == [0, 1, 2, 3]
        for number in (0, 1, 2, 3, 1, 0):  # in turn, and back
            alone = decode_image(data, frame=number)
            assert abs(alone.pixels[:, :, :3].astype(int) - FRAMES[number]).max() <= 4
            np.testing.assert_array_equal(reel.decode(number).pixels, alone.pixels)
            assert alone.animated
    assert reason(data, frame=4) == "has 4 frames, and none with the number 4 (the first is 0)"
    still = saved(RGB, "PNG")
    np.testing.assert_array_equal(decode_image(still, frame=4).pixels, RGB)  # a still has one, and that is meant


def test_frames_that_cover_a_part_or_show_the_ones_before():
    pictures = [Image.new("RGBA", (4, 2)) for _ in range(3)]
    for number, picture in enumerate(pictures):
        picture.putpixel((number, 0), (250, 0, 0, 255))
    kept, cleared = (saved(pictures[0], "GIF", save_all=True, append_images=pictures[1:], disposal=way)
                     for way in (1, 2))
    np.testing.assert_array_equal(decode_image(kept, frame=2).pixels[0, :, 3], [255, 255, 255, 0])
    np.testing.assert_array_equal(decode_image(cleared, frame=2).pixels[0, :, 3], [0, 0, 255, 0])


def test_smaller_copies_in_a_tiff_are_no_pages():
    pages = [Image.fromarray(frame) for frame in FRAMES[:3]]
    pages[1] = pages[1].resize((3, 2))
    pages[1].encoderinfo = {"tiffinfo": {254: 1}}  # NewSubfileType: a reduced copy
    with Reel(saved(pages[0], "TIFF", save_all=True, append_images=pages[1:])) as reel:
        assert reel.frames() == [0, 2]
        np.testing.assert_array_equal(reel.decode(2).pixels, FRAMES[2])


def test_the_thumbnails_of_a_camera_are_no_frames():
    data = film("MPO", quality=100)
    with Reel(data) as reel:
        assert reel.frames() == [0] and reel.decode(3).format == "JPEG" and not reel.decode(0).animated


def test_a_broken_frame_does_not_spoil_those_before_it():
    data = film("GIF")
    data = data[:data.rindex(b"\x2c")]  # within the last frame
    assert decode_image(data, frame=2).pixels[0, 0, 2] == 0
    assert "frame" in reason(data, frame=3)


def test_heic(monkeypatch):
    heif = pytest.importorskip("pillow_heif")
    heif.register_heif_opener()
    exif = Image.Exif()
    exif[0x0112] = 6
    picture = np.full((32, 64, 3), (200, 100, 50), np.uint8)
    picture[:, :32] = (0, 0, 100)
    turned = Image.fromarray(picture)
    turned.info["exif"] = exif.tobytes()  # from which the writer makes HEIC's own mark of rotation
    decoded = decode_image(saved(turned, "HEIF", quality=100, chroma=444))
    assert (decoded.format, decoded.pixels.shape) == ("HEIF", (64, 32, 3))
    assert abs(decoded.pixels.astype(int) - np.rot90(picture, -1)).max() <= 8
    assert read_header(saved(picture, "HEIF"))[:3] == (3, 32, 64)
    several = film("HEIF", quality=100, primary_index=2)
    with Reel(several) as reel:
        shown = [reel.decode(number).pixels[3, 3] for number in reel.frames()]
    for pixel, frame in zip(shown, [FRAMES[2], FRAMES[3], FRAMES[0], FRAMES[1]], strict=True):  # the main one first
        assert abs(pixel.astype(int) - frame[3, 3]).max() <= 60  # colours at half the resolution
    assert reason(saved(picture, "HEIF")[:300]).startswith(("cannot be decoded", "a damaged HEIC"))


def test_heic_without_its_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    image_formats.heif_reader.cache_clear()
    try:
        assert "pip install '.[heic]'" in reason(b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic")
        assert reason(b"\0\0\0\x14ftypmif1\0\0\0\0mif1") == "not an image but a video"
    finally:
        image_formats.heif_reader.cache_clear()


def test_a_limit_that_the_user_raises(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)
    data = saved(np.zeros((60, 60), np.uint8))
    assert reason(data, max_pixels=500) == "too large: more than 0.0005 megapixels"
    assert reason(data, max_pixels=3599) == "too large: 60x60 is more than 0.003599 megapixels"
    assert decode_image(data, max_pixels=3600).pixels.shape == (60, 60, 1)
