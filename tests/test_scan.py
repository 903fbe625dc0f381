"""The scan: what counts as colour, and the window of deep images."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from stylegan2_pipeline.conversion.scan import has_colour, histogram, merge, window
from stylegan2_pipeline.decode import Decoded


def test_hidden_colour_under_full_transparency_is_no_colour():
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 4), np.uint8)
    pixels[..., 3] = 0
    assert not has_colour(pixels)
    pixels[5, 5, 3] = 1
    pixels[5, 5, :3] = (9, 9, 90)
    assert has_colour(pixels)
    assert not has_colour(np.array([[[100, 103, 101]]], np.uint8))
    assert has_colour(np.array([[[100, 104, 100]]], np.uint8))


@given(st.lists(st.integers(0, 8191), min_size=1, max_size=400), st.integers(1, 3))
def test_window_is_the_percentiles_of_all_values(values, parts):
    def deep(chunk):
        return histogram(Decoded(np.array(chunk, np.float32).reshape(-1, 1, 1)))

    chunks = [chunk for chunk in (values[i::parts] for i in range(parts)) if chunk]
    low, high = window(merge([deep(chunk) for chunk in chunks]))
    expected = np.percentile(values, [0.5, 99.5], method="inverted_cdf")
    assert low == expected[0] and high == (expected[1] if expected[1] > expected[0] else low + 1)


def test_windows_of_large_and_negative_values():
    values = np.array([-1e6, -1000, -1, 0, 0.5, 3e5], np.float32).repeat(100).reshape(-1, 1, 1)
    low, high = window(histogram(Decoded(values)))
    assert abs(low / -1e6 - 1) < 1e-3 and abs(high / 3e5 - 1) < 1e-3
