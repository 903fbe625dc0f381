"""Files of archives: what other programs read in them is what was put in."""

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, features

from stylegan2_pipeline.decode import decode_image
from stylegan2_pipeline.encode import Encoding, check_encoding, encode, encode_webp, ending
from stylegan2_pipeline.png import encode_png
from torch_utils.errors import UserError

RNG = np.random.default_rng(0)
MODES = {1: "L", 3: "RGB", 4: "RGBA"}


def noise(channels, height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (channels, height, width), np.uint8)


def shades(channels=3, side=96):
    """Smooth, as photographs mostly are."""
    y, x = np.mgrid[:side, :side]
    return np.stack([(100 + 80 * np.sin(x / 17 + c) + 60 * np.cos(y / 23)).clip(0, 255) for c in range(channels)]
                    ).astype(np.uint8)


def flat(side=96):
    """A few flat colours, as in drawings."""
    squares = np.random.default_rng(1).integers(0, 4, (side // 8, side // 8), np.uint8).repeat(8, 0).repeat(8, 1)
    return np.stack([squares * 60, 255 - squares * 60, squares * 20])


def opened(data):
    """By Pillow, which checks what it reads."""
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        return image.mode, np.atleast_3d(np.asarray(image)).transpose(2, 0, 1)


@given(channels=st.sampled_from([1, 3, 4]), height=st.integers(1, 40), width=st.integers(1, 40),
       level=st.sampled_from([0, 0, 1, 6, 9]), seed=st.integers(0, 99), view=st.booleans())
def test_png_files_are_read_by_others(channels, height, width, level, seed, view):
    image = noise(channels, height, width, seed)
    if view:
        image = np.ascontiguousarray(image.transpose(1, 2, 0)).transpose(2, 0, 1)
    mode, pixels = opened(encode_png(image, level))
    assert mode == MODES[channels]
    np.testing.assert_array_equal(pixels, image)


def test_png_files_larger_than_a_block():
    image = noise(3, 200, 333)
    np.testing.assert_array_equal(opened(encode_png(image))[1], image)
    exactly = np.zeros((1, 65535 // 3, 2), np.uint8)  # 65535 bytes with the filter types
    np.testing.assert_array_equal(opened(encode_png(exactly))[1], exactly)


def test_stored_files_hold_the_pixels_as_they_are_and_whole_chunks():
    image = noise(3, 5, 4)
    data = encode_png(image)
    assert image.transpose(1, 2, 0)[2].tobytes() in data
    at, kinds = 8, []
    while at < len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        body = data[at + 8:at + 8 + length]
        assert struct.unpack_from(">I", data, at + 8 + length)[0] == zlib.crc32(kind + body)
        if kind == b"IDAT":
            assert len(zlib.decompress(body)) == 5 * (1 + 4 * 3)
        kinds.append(kind)
        at += 12 + length
    assert kinds == [b"IHDR", b"IDAT", b"IEND"]


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_every_row_filter_is_undone_by_others(channels):
    """Rows made so that each of the five predictions is the best of some."""
    image = shades(channels).copy()
    rows = image.shape[1]
    image[:, 10] = image[:, 9]                                             # like the row above
    image[:, 20] = np.arange(rows, dtype=np.uint8)                         # a ramp
    image[:, 30] = RNG.integers(0, 256, (channels, rows), np.uint8)        # nothing helps
    image[:, 40:60] = (np.arange(20)[:, None] * 5 + np.arange(rows) * 2 % 99).astype(np.uint8)
    data = encode_png(image, 6)
    np.testing.assert_array_equal(opened(data)[1], image)
    start = data.index(b"IDAT") + 4
    used = set(zlib.decompressobj().decompress(data[start:])[::1 + rows * channels])
    assert len(used) >= 3 and used <= {0, 1, 2, 3, 4}


def test_compression_pays_and_the_filters_are_used_where_they_do():
    for image in (shades(), shades(1), flat()):
        stored, quick, small = (len(encode_png(image, level)) for level in (0, 1, 9))
        assert small <= quick < stored / 3
        plain = len(zlib.compress(image.transpose(1, 2, 0).tobytes(), 9))
        assert small < plain * 1.1 + 100
    assert len(encode_png(shades(), 9)) < 0.7 * len(zlib.compress(shades().transpose(1, 2, 0).tobytes(), 9))
    others = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(shades().transpose(1, 2, 0))).save(others, "PNG", compress_level=9)
    assert len(encode_png(shades(), 9)) < 1.02 * len(others.getvalue())


@pytest.mark.skipif(not features.check("webp"), reason="this Pillow has no WebP")
@given(channels=st.sampled_from([3, 4]), height=st.integers(1, 20), width=st.integers(1, 20), seed=st.integers(0, 99),
       level=st.integers(0, 9))
def test_webp_is_without_loss(channels, height, width, seed, level):
    image = noise(channels, height, width, seed)
    if channels == 4:
        image[3, ::2] = 0  # hidden colours stay, too
    data = encode_webp(image, level)
    np.testing.assert_array_equal(decode_image(data).pixels.transpose(2, 0, 1), image)


def test_opaque_images_of_an_rgba_set_keep_their_alpha():
    image = shades(4)
    image[3] = 255
    for encoding in (Encoding("webp"), Encoding("png"), Encoding("png", 9)):
        np.testing.assert_array_equal(opened(encode(image, encoding))[1], image)


def test_formats_and_endings():
    assert ending(Encoding()) == ".png" and encode(shades()) == encode_png(shades())
    assert encode(shades(), Encoding("png", 6)) == encode_png(shades(), 6)
    assert ending(Encoding("webp")) == ".webp" and encode(shades(), Encoding("webp", 3))[8:12] == b"WEBP"
    assert len(encode(shades(), Encoding("webp", 9))) < len(encode(shades(), Encoding("png", 9)))


def test_what_a_format_cannot_hold():
    check_encoding(Encoding("png", 9), 1, 99999, 1)
    check_encoding(Encoding("webp"), 3, 512, 512)
    with pytest.raises(UserError, match="--format=webp: WebP has no gray"):
        check_encoding(Encoding("webp"), 1, 512, 512)
    with pytest.raises(UserError, match="end at 16383"):
        check_encoding(Encoding("webp"), 4, 16384, 16384)
