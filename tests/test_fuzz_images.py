"""Files of every format, cut short and with bytes changed: an image or BrokenImage, never anything else."""

import functools
import io
import random
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, features

from stylegan2_pipeline.decode import BrokenImage, Reel, decode_image, read_header

pytestmark = [pytest.mark.filterwarnings("ignore::UserWarning"),  # of Pillow, as in stylegan2_pipeline.decode
              pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")]
MOST = 2 ** 20

RNG = np.random.default_rng(0)
RGB = np.kron(RNG.integers(0, 256, (4, 5, 3), np.uint8), np.ones((4, 4, 1), np.uint8))
GRAY = np.ascontiguousarray(RGB[:, :, 0])
RGBA = np.dstack([RGB, GRAY])


def saved(pixels, kind, **options):
    stream = io.BytesIO()
    (pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)).save(stream, kind, **options)
    return stream.getvalue()


def moving(kind, **options):
    frames = [Image.fromarray(RGB), Image.fromarray(RGB[::-1].copy()), Image.fromarray(RGB[:, ::-1].copy())]
    return saved(frames[0], kind, save_all=True, append_images=frames[1:], **options)


@functools.cache
def valid_files():
    exif = Image.Exif()
    exif[0x0112] = 6
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    files = {
        "png": saved(RGB, "PNG"), "png gray": saved(GRAY, "PNG"), "png alpha": saved(RGBA, "PNG"),
        "png 16": saved(GRAY.astype(np.uint16) * 200, "PNG"), "png moving": moving("PNG"),
        "png palette": saved(Image.fromarray(RGB).quantize(), "PNG"),
        "png exif, profile": saved(RGB, "PNG", exif=exif, icc_profile=profile),
        "jpeg": saved(RGB, "JPEG"), "jpeg progressive": saved(RGB, "JPEG", progressive=True),
        "jpeg gray": saved(GRAY, "JPEG"), "jpeg exif": saved(RGB, "JPEG", exif=exif),
        "jpeg inks": saved(Image.fromarray(RGBA, "CMYK"), "JPEG"), "mpo": moving("MPO"),
        "gif": saved(GRAY, "GIF"), "gif moving": moving("GIF"), "bmp": saved(RGB, "BMP"),
        "tiff": saved(RGB, "TIFF"), "tiff pages": moving("TIFF"), "tiff 16": saved(GRAY.astype(np.uint16), "TIFF"),
        "tiff float": saved(GRAY.astype(np.float32), "TIFF"), "tiff lzw": saved(RGB, "TIFF", compression="tiff_lzw"),
        "tiff deflate": saved(RGBA, "TIFF", compression="tiff_adobe_deflate"),
        "tiff group 4": saved(Image.fromarray(GRAY > 99), "TIFF", compression="group4"),
        "webp": saved(RGB, "WEBP"), "webp lossless": saved(RGBA, "WEBP", lossless=True), "webp moving": moving("WEBP"),
        "ppm": saved(RGB, "PPM"), "pgm in words": b"P2\n4 2 300\n1 2 3 4 300 200 100 0\n",
        "pgm 16": b"P5 2 2 65535\n" + struct.pack(">4H", 0, 1, 2, 65535),
        "jpeg 2000": saved(RGB, "JPEG2000"), "tga": saved(RGBA, "TGA"),
        "tga runs": saved(RGB, "TGA", compression="tga_rle"),
    }
    if features.check("avif"):
        files |= {"avif": saved(RGB, "AVIF"), "avif moving": moving("AVIF")}
    return files | heic_files()


def heic_files():
    try:
        import pillow_heif
    except ImportError:
        return {}
    pillow_heif.register_heif_opener()
    return {"heic": saved(RGB, "HEIF"), "heic several": moving("HEIF")}


def read_or_refuse(data):
    """Every way in; what comes out is an image, or a reason."""
    for number in (0, 1):
        try:
            decoded = decode_image(data, MOST, number)
        except BrokenImage as error:
            assert str(error)
        else:
            height, width, channels = decoded.pixels.shape
            assert channels in (1, 3, 4) and 0 < height * width <= MOST
            assert decoded.pixels.dtype == np.uint8 or np.isfinite(decoded.pixels).all()
    try:
        header = read_header(data)
        assert header.channels in (1, 3, 4)
        with Reel(data, MOST) as reel:
            assert reel.frames()
    except BrokenImage as error:
        assert str(error)


def damaged(data, random):
    data = bytearray(data)
    for _ in range(random.choice([0, 1, 1, 2, 5])):
        place = random.randrange(len(data)) if random.random() < 0.5 else random.randrange(min(64, len(data)))
        data[place] = random.choice([data[place] ^ 1 << random.randrange(8), random.randrange(256), 0, 255])
    if random.random() < 0.3:
        del data[random.randrange(len(data)):]
    return bytes(data)


def test_the_files_are_valid():
    for name, data in valid_files().items():
        assert decode_image(data).pixels.shape[:2] in {(16, 20), (20, 16), (2, 4), (2, 2)}, name


@settings(max_examples=200)
@given(name=st.sampled_from(sorted(valid_files())), seed=st.integers(0, 2 ** 32))
def test_damaged_files_are_read_or_refused(name, seed):
    read_or_refuse(damaged(valid_files()[name], random.Random(seed)))


@given(start=st.sampled_from(sorted(data[:length] for data in valid_files().values() for length in (4, 12, 40))),
       rest=st.binary(max_size=200))
def test_beginnings_that_go_on_as_anything(start, rest):
    read_or_refuse(start + rest)


@pytest.mark.parametrize("name", sorted(valid_files()))
def test_cut_anywhere(name):
    data = valid_files()[name]
    for length in range(0, len(data), max(1, len(data) // 20)):
        read_or_refuse(data[:length])


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(valid_files()))
def test_many_damages(name):
    for seed in range(400):
        read_or_refuse(damaged(valid_files()[name], random.Random(seed)))
