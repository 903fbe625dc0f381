"""What stands out from the background, and the box that a picture is cut to."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stylegan2_pipeline.conversion.foreground import foreground, greatest, roomy
from stylegan2_pipeline.sample_data.cigarette import render_cigarette
from stylegan2_pipeline.sample_data.mri import render_mri

BOX = (30, 20, 110, 90)


def scene(background=0.0, inside=100.0, noise=0.0, box=BOX, size=(128, 120), kind=np.uint8, seed=0):
    """A rectangle before a background, both with noise, [H,W,1]."""
    values = np.full((size[1], size[0]), background)
    left, top, right, bottom = box
    values[top:bottom, left:right] = inside
    values = values + np.random.default_rng(seed).normal(0, 1, values.shape) * noise
    return (values.clip(0, 255).round() if kind == np.uint8 else values).astype(kind)[:, :, None]


@pytest.mark.parametrize("kind", [np.uint8, np.float32])
@pytest.mark.parametrize(("background", "inside"), [(0, 100), (255, 120), (128, 0), (40, 60)])
def test_a_rectangle_to_the_pixel(kind, background, inside):
    box, share = foreground(scene(background, inside, kind=kind))
    assert box == BOX and share == pytest.approx(80 * 70 / (128 * 120))


@given(left=st.integers(1, 60), top=st.integers(1, 60), width=st.integers(2, 50), height=st.integers(2, 50),
       scale=st.sampled_from([1e-3, 1.0, 1e4]))
def test_any_rectangle_in_any_unit(left, top, width, height, scale):
    box = left, top, left + width, top + height
    values = scene(-7 * scale, 5 * scale, box=box, kind=np.float32)
    assert foreground(values) == (box, pytest.approx(width * height / (128 * 120)))


@pytest.mark.parametrize("seed", range(5))
def test_the_noise_of_a_scanner_is_background(seed):
    random = np.random.default_rng(seed)
    real, imaginary = scene(0, 150, kind=np.float32)[:, :, 0], 0
    magnitude = np.hypot(real + random.normal(0, 5, real.shape), imaginary + random.normal(0, 5, real.shape))
    for pixels in (magnitude.astype(np.float32)[:, :, None], magnitude.clip(0, 255).astype(np.uint8)[:, :, None]):
        box, share = foreground(pixels)
        assert box == BOX and share == pytest.approx(80 * 70 / (128 * 120), rel=0.01)


def test_hot_pixels_do_not_widen_the_box():
    pixels = scene()
    for y, x in ((0, 0), (0, 127), (119, 64), (5, 100), (6, 101)):  # also two that touch
        pixels[y, x] = 255
    assert foreground(pixels)[0] == BOX


def test_nothing_but_background():
    assert foreground(np.full((9, 9, 3), 77, np.uint8)) == (None, 0.0)
    assert foreground(np.zeros((1, 1, 1), np.float32)) == (None, 0.0)
    air = abs(np.random.default_rng(0).normal(0, 4, (64, 64, 1))).astype(np.float32)
    box, share = foreground(air)
    assert box is None and share == 0
    blocks = np.random.default_rng(0).integers(0, 4, (64, 64, 1)).astype(np.uint8)  # what JPEG makes of black
    assert foreground(blocks) == (None, 0.0)


def test_a_scene_has_no_background_and_smeared_noise_is_one():
    y, x = np.mgrid[:96, :128] / 96
    for seed in range(4):
        noise = np.random.default_rng(seed).normal(0, 1, (96, 128))
        smeared = (noise[:-1, :-1] + noise[1:, :-1] + noise[:-1, 1:] + noise[1:, 1:])[:, :, None]
        assert foreground(abs(smeared).astype(np.float32)) == (None, 0.0)
        sky = (np.where(y < 0.6, 220 - 60 * y, 60 + 30 * np.sin(9 * x + seed)) + 4 * noise).astype(np.uint8)
        assert foreground(sky[:, :, None]) == ((0, 0, 128, 96), 1.0)
    photographs = [foreground(render_cigarette(0, seed, 128))[1] for seed in range(8)]
    assert np.mean(np.array(photographs) == 1.0) > 0.5  # the others have a ground like noise


@pytest.mark.parametrize("seed", range(3))
def test_heads_are_found_in_noise_and_in_a_larger_frame(seed):
    random = np.random.default_rng(seed)
    head = np.atleast_3d(render_mri(0, seed, 128)).astype(np.float32) * 4
    (left, top, right, bottom), share = foreground(head)
    assert 0.3 < share < 0.7
    frame = np.zeros((200, 180, 1), np.float32)
    frame[50:178, 30:158] = head[:, :, :1]
    frame = np.hypot(frame + random.normal(0, 15, frame.shape), random.normal(0, 15, frame.shape)).astype(np.float32)
    found, _ = foreground(frame)
    assert max(abs(np.subtract(found, (left + 30, top + 50, right + 30, bottom + 50)))) <= 2


def test_a_head_that_reaches_the_edge():
    pixels = scene(box=(30, 40, 90, 120), noise=2)
    assert foreground(pixels)[0] == (30, 40, 90, 120)


def test_colour_counts_though_the_brightness_is_the_same():
    pixels = np.full((50, 60, 3), 100, np.uint8)
    pixels[10:30, 20:50] = (160, 70, 85)
    assert foreground(pixels)[0] == (20, 10, 50, 30)


def test_transparent_pixels_are_background():
    pixels = np.random.default_rng(0).integers(0, 256, (50, 60, 4)).astype(np.uint8)
    pixels[:, :, 3] = 0
    pixels[10:30, 20:50, 3] = 255
    assert foreground(pixels)[0] == (20, 10, 50, 30)
    pixels[:, :, 3] = 255  # opaque: then colours count, and this is noise all over
    pixels[:, :, :3] = 9
    pixels[5:9, 5:9, :3] = 99
    assert foreground(pixels)[0] == (5, 5, 9, 9)


@given(size=st.tuples(st.integers(1, 300), st.integers(1, 300)), data=st.data(),
       shape=st.sampled_from([(1, 1), (4, 3)]))
def test_a_roomy_box_holds_the_box_and_stays_inside(size, data, shape):
    left, top = (data.draw(st.integers(0, side - 1)) for side in size)
    right, bottom = data.draw(st.integers(left + 1, size[0])), data.draw(st.integers(top + 1, size[1]))
    outer = roomy((left, top, right, bottom), size, shape)
    assert 0 <= outer[0] <= left < right <= outer[2] <= size[0]
    assert 0 <= outer[1] <= top < bottom <= outer[3] <= size[1]
    width, height = outer[2] - outer[0], outer[3] - outer[1]
    if width < size[0] and height < size[1]:
        assert abs(width * shape[1] - height * shape[0]) <= max(shape)  # in proportion, to the pixel


def test_roomy_boxes_are_moved_rather_than_cut():
    assert roomy((0, 10, 20, 90), (100, 100)) == (0, 7, 86, 93)
    assert roomy((40, 10, 60, 90), (100, 100)) == (7, 7, 93, 93)
    assert roomy((0, 0, 100, 50), (100, 50)) == (0, 0, 100, 50)  # nothing around it to take
    assert roomy((60, 10, 90, 20), (50, 80)) == (0, 0, 50, 80)   # of a larger page of the same file


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_the_greatest_of_channels(channels):
    values = np.random.default_rng(channels).integers(0, 256, (7, 5, channels), np.uint8)
    assert (greatest(values) == values.max(2)).all() and greatest(values).dtype == np.uint8
