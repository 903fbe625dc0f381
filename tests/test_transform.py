"""One decoded image -> the image of an archive, down to pixels."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from stylegan2_pipeline.conversion.foreground import foreground
from stylegan2_pipeline.conversion.resize import FILTER_NAMES, FILTERS, resize_pixels
from stylegan2_pipeline.conversion.transform import Recipe, render
from stylegan2_pipeline.decode import Decoded
from torch_utils.resampling import native

RNG = np.random.default_rng(0)


def noise(width, height, channels=3):
    return RNG.integers(0, 256, (height, width, channels), np.uint8)


def drawn(pixels, recipe, box=None):
    """[H,W,C], as Decoded has it."""
    result = render(Decoded(pixels), recipe, box)
    assert result.dtype == np.uint8 and result.shape[0] == recipe.channels
    return result.transpose(1, 2, 0)


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("name", sorted(FILTERS))
def test_filters_are_pillows(name, channels):
    pixels = noise(50, 40, channels)
    shape = drawn(pixels, Recipe(channels, 23, 31, "stretch", name))
    expected = Image.fromarray(pixels.squeeze()).resize((23, 31), FILTERS[name])
    np.testing.assert_array_equal(shape, np.asarray(expected).reshape(31, 23, channels))


@pytest.mark.parametrize("compiled", [True, False])
@settings(max_examples=60)
@given(name=st.sampled_from(FILTER_NAMES), channels=st.sampled_from([1, 3, 4]), width=st.integers(1, 40),
       height=st.integers(1, 40), size=st.tuples(st.integers(1, 30), st.integers(1, 30)), seed=st.integers(0, 99))
def test_parts_of_pictures_are_resized_as_if_they_were_cut_out(compiled, name, channels, width, height, size, seed):
    whole = np.random.default_rng(seed).integers(0, 256, (60, 50, channels), np.uint8)
    part = whole[7:7 + height, 5:5 + width]
    with pytest.MonkeyPatch.context() as patch:
        if not compiled:
            patch.setattr(native, "state", lambda say=print: native.State(None))
        found = resize_pixels(part, size, name)
    alone = resize_pixels(part.copy(), size, name)
    assert found.shape == (size[1], size[0], channels)
    np.testing.assert_array_equal(found, alone)
    if name in FILTERS:
        cut = Image.fromarray(whole.squeeze()).crop((5, 7, 5 + width, 7 + height))
        np.testing.assert_array_equal(found.squeeze(), np.asarray(cut.resize(size, FILTERS[name])).squeeze())


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("transform", ["stretch", "center-crop", "pad", "pad-only"])
def test_what_has_the_size_stays_to_the_bit(transform, channels):
    pixels = noise(32, 32, channels)
    for name in FILTER_NAMES:
        np.testing.assert_array_equal(drawn(pixels, Recipe(channels, 32, 32, transform, name)), pixels)


def test_pixels_are_a_view_that_is_quick_to_encode():
    result = render(Decoded(noise(50, 40)), Recipe(3, 16, 16))
    assert result.shape == (3, 16, 16) and result.transpose(1, 2, 0).flags.c_contiguous


def test_border_in_a_colour():
    shown = drawn(noise(8, 4), Recipe(3, 8, 8, "pad", border=(1, 2, 3)))
    assert (shown[:2] == (1, 2, 3)).all() and (shown[6:] == (1, 2, 3)).all()
    gray = drawn(noise(4, 8, 1), Recipe(1, 8, 8, "pad", border=(255, 255, 255)))
    assert (gray[:, :2] == 255).all() and (gray[:, 6:] == 255).all()
    alpha = drawn(noise(4, 8, 4), Recipe(4, 8, 8, "pad", border=(255, 255, 255)))
    assert (alpha[:, :2] == 0).all()  # transparent, whatever the colour


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_borders_that_go_on_or_mirror(channels):
    pixels = noise(8, 4, channels)
    edge = drawn(pixels, Recipe(channels, 8, 8, "pad", border="edge"))
    np.testing.assert_array_equal(edge[2:6], pixels)
    np.testing.assert_array_equal(edge[:2], pixels[:1].repeat(2, 0))
    np.testing.assert_array_equal(edge[6:], pixels[-1:].repeat(2, 0))
    mirrored = drawn(pixels, Recipe(channels, 8, 8, "pad", border="reflect"))
    np.testing.assert_array_equal(mirrored, pixels[[2, 1, 0, 1, 2, 3, 2, 1]])  # the outermost row is not doubled


@pytest.mark.parametrize("border", ["edge", "reflect", (9, 9, 9)])
@given(width=st.integers(1, 40), height=st.integers(1, 40), side=st.sampled_from([1, 4, 7, 32]),
       transform=st.sampled_from(["pad", "pad-only"]))
def test_borders_fit_every_shape(border, width, height, side, transform):
    assert drawn(noise(width, height), Recipe(3, side, side, transform, border=border)).shape == (side, side, 3)


def test_small_pictures_are_not_enlarged_by_pad_only():
    digit = noise(28, 28, 1)
    shown = drawn(digit, Recipe(1, 32, 32, "pad-only"))
    np.testing.assert_array_equal(shown[2:30, 2:30], digit)
    assert shown.sum() == digit.sum()
    np.testing.assert_array_equal(drawn(noise(64, 32, 1) * 0 + 7, Recipe(1, 32, 32, "pad-only"))[8:24], 7)


def test_what_lies_behind_and_what_lies_around_are_two_things():
    pixels = np.zeros((4, 8, 4), np.uint8)
    shown = drawn(pixels, Recipe(3, 8, 8, "pad", background=(200, 0, 0), border=(0, 0, 200)))
    assert (shown[2:6] == (200, 0, 0)).all() and (shown[:2] == (0, 0, 200)).all()
    half = drawn(np.full((1, 1, 4), 100, np.uint8), Recipe(1, 1, 1, background=(0, 0, 0)))
    assert abs(int(half[0, 0, 0]) - 100 * 100 / 255) <= 1


def test_deep_values_become_shades_between_the_ends_of_the_window():
    values = np.array([[-5, 0, 25, 50, 100, 1e9]], np.float32)[:, :, None]
    shown = drawn(values, Recipe(1, 6, 1, window=(0.0, 100.0)))
    assert shown[0, :, 0].tolist() == [0, 0, 64, 128, 255, 255]


def head(left, top, right, bottom, width=128, height=96):
    pixels = np.zeros((height, width, 1), np.uint8)
    pixels[top:bottom, left:right] = 200
    return pixels


def test_a_box_is_shown_with_a_margin_and_square():
    pixels = head(50, 30, 90, 70)
    box, _ = foreground(pixels)
    shown = drawn(pixels, Recipe(1, 44, 44, "pad"), box)  # 40 and a margin of 2 on each side
    np.testing.assert_array_equal(shown, pixels[28:72, 48:92])
    assert (drawn(pixels, Recipe(1, 88, 88, "pad", "box"), box)[4:84, 4:84] == 200).all()


def test_a_box_takes_what_surrounds_it_before_borders():
    pixels = head(10, 40, 110, 60)
    pixels[0] = 9
    shown = drawn(pixels, Recipe(1, 108, 108, "pad", border=(77, 77, 77)), foreground(head(10, 40, 110, 60))[0])
    assert (shown[0] == 77).all() and (shown[6] == 9).all() and (shown[46:66, 4:104] == 200).all()  # 96 rows of 108
    cut = drawn(pixels, Recipe(1, 96, 96, "center-crop"), (10, 40, 110, 60))
    np.testing.assert_array_equal(cut, pixels[:, 12:108])


def test_a_box_of_a_wide_recipe_is_wide():
    pixels = head(50, 30, 90, 58, 200, 200)
    shown = drawn(pixels, Recipe(1, 44, 33, "center-crop-wide"), (50, 30, 90, 58))
    assert shown.shape == (44, 44, 1)
    np.testing.assert_array_equal(shown[5:38], pixels[27:60, 48:92])


def test_deep_images_are_cut_too():
    values = head(50, 30, 90, 70).astype(np.float32) * 10
    shown = drawn(values, Recipe(1, 44, 44, "pad", window=(0.0, 2000.0)), foreground(values)[0])
    assert shown[0, 0, 0] == 0 and (shown[2:42, 2:42] == 255).all()


def test_one_box_keeps_the_slices_of_a_volume_in_their_places():
    first, second = head(50, 30, 70, 50), head(60, 40, 90, 70)
    shown = [drawn(pixels, Recipe(1, 44, 44, "pad"), (50, 30, 90, 70)) for pixels in (first, second)]
    np.testing.assert_array_equal(np.maximum(*shown), np.maximum(first, second)[28:72, 48:92])


@pytest.mark.parametrize("size", [(70, 50), (33, 90), (16, 16), (12, 20), (64, 64), (31, 32)])
def test_the_crop_of_published_imagenet_figures_is_that_of_pillow_step_by_step(size):
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    picture = Image.fromarray(pixels)
    while min(picture.size) >= 32:
        picture = picture.resize((picture.width // 2, picture.height // 2), Image.Resampling.BOX)
    shorter = min(picture.size)
    picture = picture.resize((round(picture.width * 16 / shorter), round(picture.height * 16 / shorter)),
                             Image.Resampling.BICUBIC)
    left, top = (picture.width - 16) // 2, (picture.height - 16) // 2
    found = render(Decoded(pixels), Recipe(3, 16, 16, "center-crop-dhariwal", "lanczos")).transpose(1, 2, 0)
    np.testing.assert_array_equal(found, np.asarray(picture.crop((left, top, left + 16, top + 16))))
