"""Text drawn into pictures is found where it is, and hardly anything else is taken for text."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image, ImageDraw, ImageFont

from stylegan2_pipeline.conversion.burned_in import text_like
from stylegan2_pipeline.sample_data.cigarette import render_cigarette
from stylegan2_pipeline.sample_data.mri import render_mri

TEXTS = ["DOE^JANE 12.03.1964", "SE: 4  IM: 17", "W 1200 L 600", "2019-11-04 10:22", "ID 4471902"]


def draw(pixels, text, place, size=12, value=255, smooth=True):
    """uint8 [H,W,C] with the text at (x, y) from a corner, negative ones from the right and bottom; and its box."""
    image = Image.fromarray(pixels if pixels.shape[2] > 1 else pixels[:, :, 0])
    drawing = ImageDraw.Draw(image)
    drawing.fontmode = "L" if smooth else "1"
    font = ImageFont.load_default(size)
    left, top, right, bottom = drawing.textbbox((0, 0), text, font)
    x, y = (edge if edge >= 0 else length + edge - extent
            for edge, length, extent in zip(place, image.size, (right, bottom), strict=True))
    drawing.text((x, y), text, fill=value if image.mode == "L" else (value,) * 3, font=font)
    drawn = np.asarray(image)
    return drawn.reshape(*drawn.shape[:2], -1), (x + left, y + top, x + right, y + bottom)


def overlap(one, other):
    """Area of what two boxes share, over the area of what they cover together."""
    left, top, right, bottom = (f(a, b) for f, a, b in zip((max, max, min, min), one, other, strict=True))
    shared = max(right - left, 0) * max(bottom - top, 0)
    areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other))
    return shared / (areas - shared)


@pytest.fixture(scope="module")
def slices():
    return [render_mri(3, index, 256)[:, :, None] for index in range(2)]


@pytest.mark.parametrize("place", [(4, 4), (-4, 4), (4, -4), (-4, -4)])
@pytest.mark.parametrize("size, value, smooth", [(10, 255, True), (12, 255, False), (14, 170, True), (16, 255, True)])
def test_text_in_the_corners_is_found_where_it_is(slices, place, size, value, smooth):
    found = []
    for number, text in enumerate(TEXTS):
        drawn, box = draw(slices[number % 2], text, place, size, value, smooth)
        found.append(max((overlap(box, line) for line in text_like(drawn)), default=0))
    assert sorted(found)[1] > 0.3 and max(found) > 0.8  # of five; long ones lose the end that is over the head


def test_text_is_found_in_jpegs_and_in_larger_pictures(slices):
    drawn, box = draw(slices[0], TEXTS[0], (4, 4), 12)
    file = io.BytesIO()
    Image.fromarray(drawn[:, :, 0]).save(file, "JPEG", quality=80)
    assert overlap(box, text_like(np.asarray(Image.open(file))[:, :, None])[0]) > 0.6
    large = np.zeros((1500, 2500, 3), np.uint8)
    drawn, box = draw(large, TEXTS[3], (-30, -30), 40)
    assert overlap(box, text_like(drawn)[0]) > 0.6
    alpha = np.concatenate([drawn, np.full_like(drawn[:, :, :1], 255)], axis=2)
    assert text_like(alpha) == text_like(drawn)


def test_several_lines_are_several_boxes():
    drawn = np.zeros((256, 256, 1), np.uint8)
    boxes = []
    for number, text in enumerate((TEXTS[0], TEXTS[3], TEXTS[4])):
        drawn, box = draw(drawn, text, (5, 5 + 20 * number), 12)
        boxes.append(box)
    found = text_like(drawn)
    assert len(found) == 3
    assert all(overlap(box, line) > 0.6 for box, line in zip(boxes, sorted(found, key=lambda box: box[1]), strict=True))


def test_what_is_in_the_middle_is_no_annotation():
    drawn, _ = draw(np.zeros((256, 256, 1), np.uint8), "ABCDEFG", (100, 120), 12)
    assert text_like(drawn) == []


def test_plain_slices_noise_stripes_and_small_pictures_have_none(slices):
    assert [text_like(pixels) for pixels in slices] == [[]] * 2
    random = np.random.default_rng(0)
    for pixels in (random.integers(0, 256, (200, 200, 3), np.uint8), np.full((64, 64, 1), 255, np.uint8),
                   np.zeros((31, 500, 1), np.uint8), np.indices((128, 128))[1, :, :, None].astype(np.uint8) % 16 * 16,
                   (random.random((256, 256, 1)) < 0.01).astype(np.uint8) * 255):
        assert text_like(pixels) == []


@settings(max_examples=30, deadline=None)
@given(arrays.arrays(np.uint8, st.tuples(st.integers(1, 70), st.integers(1, 70), st.sampled_from([1, 3, 4])),
                     elements=st.sampled_from([0, 60, 255])))
def test_any_picture_gives_boxes_within_it(pixels):
    height, width, _ = pixels.shape
    for left, top, right, bottom in text_like(pixels):
        assert 0 <= left < right <= width and 0 <= top < bottom <= height


@pytest.mark.slow
def test_share_of_false_alarms_and_of_text_found():
    """On pictures that the thresholds were not chosen on: at most 1 % of alarms, at least 95 % of lines found."""
    slices = [render_mri(11, index, 256)[:, :, None] for index in range(100)]
    scenes = [render_cigarette(11, index, 256) for index in range(100)]
    assert sum(bool(text_like(pixels)) for pixels in slices) <= 1
    assert sum(bool(text_like(pixels)) for pixels in scenes) <= 1
    random = np.random.default_rng(0)
    places = [(4, 4), (-4, 4), (4, -4), (-4, -4)]
    drawn = [draw(pixels, TEXTS[random.integers(5)], places[random.integers(4)], int(random.choice([10, 12, 16, 20])),
                  int(random.choice([255, 180])), bool(random.random() < 0.5))[0] for pixels in slices]
    assert sum(bool(text_like(pixels)) for pixels in drawn) >= 95
