"""Resizing by area, against the integral of the picture taken as a field of squares."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from stylegan2_pipeline.conversion.area import resize_by_area
from stylegan2_pipeline.conversion.resize import resize


def overlaps(old, new):
    """Fraction[new][old]: how much of each old pixel lies under each new one."""
    step = Fraction(old, new)
    return [[max(Fraction(0), min((i + 1) * step, j + 1) - max(i * step, j)) for j in range(old)] for i in range(new)]


def exact(pixels, width, height):
    """By fractions, rounded half up; slow."""
    down, across = overlaps(pixels.shape[0], height), overlaps(pixels.shape[1], width)
    area = Fraction(pixels.shape[0] * pixels.shape[1], width * height)
    result = np.zeros((height, width), np.uint8)
    for y, x in np.ndindex(height, width):
        total = sum(down[y][j] * across[x][i] * int(pixels[j, i]) for j, i in np.ndindex(*pixels.shape)
                    if down[y][j] and across[x][i])
        result[y, x] = int(total / area + Fraction(1, 2))
    return result


sizes = st.integers(1, 7)


@given(size=st.tuples(sizes, sizes), new=st.tuples(sizes, sizes), seed=st.integers(0, 999))
def test_every_size_to_every_other(size, new, seed):
    pixels = np.random.default_rng(seed).integers(0, 256, size, np.uint8)
    np.testing.assert_array_equal(np.asarray(resize_by_area(Image.fromarray(pixels), new)), exact(pixels, *new))


@pytest.mark.parametrize("channels", [1, 3])
def test_whole_factors_are_means_of_blocks(channels):
    pixels = np.random.default_rng(0).integers(0, 256, (12, 30, channels), np.uint8)
    resized = resize(Image.fromarray(pixels.squeeze()), (10, 4), "area")
    means = pixels.reshape(4, 3, 10, 3, channels).mean((1, 3))
    np.testing.assert_array_equal(np.atleast_3d(np.asarray(resized)), np.floor(means + 0.5 + 1e-9))
    assert resized.mode == {1: "L", 3: "RGB"}[channels]


def test_hidden_colours_do_not_count():
    pixels = np.array([[[200, 100, 0, 255], [7, 7, 7, 0], [10, 20, 30, 128], [90, 80, 70, 64]]], np.uint8)
    shown = np.asarray(resize_by_area(Image.fromarray(pixels), (2, 1)))
    assert shown[0, 0].tolist() == [200, 100, 0, 128]
    assert shown[0, 1].tolist() == [round((128 * a + 64 * b) / 192) for a, b in ((10, 90), (20, 80), (30, 70))] + [96]
    nothing = np.asarray(resize_by_area(Image.fromarray(np.zeros((2, 2, 4), np.uint8)), (1, 1)))
    assert nothing.tolist() == [[[0, 0, 0, 0]]]
