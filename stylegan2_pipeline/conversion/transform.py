"""One decoded image -> the uniform image of an archive."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image

from stylegan2_pipeline.conversion.foreground import Box, roomy
from stylegan2_pipeline.conversion.resize import resize_pixels
from stylegan2_pipeline.decode import Decoded

Color = tuple[int, int, int]

MODES = {1: "L", 3: "RGB", 4: "RGBA"}
BORDERS: dict[str, Literal["edge", "reflect"]] = {"edge": "edge", "reflect": "reflect"}


@dataclass(frozen=True)
class Recipe:
    """How every image of a set is made.

    channels 1, 3 or 4; width x height of the picture (a square canvas of `width` when transform is center-crop-wide);
    transform: of TRANSFORMS; resize_filter: of resize.FILTER_NAMES; window: values of deep images that become 0 and
    255; background: behind transparent pixels; border: around pictures that do not fill the square, a colour (for
    RGBA transparent black instead), "edge" (the outermost pixels go on) or "reflect" (the picture mirrored).
    """

    channels: int
    width: int
    height: int
    transform: str = "stretch"
    resize_filter: str = "lanczos"
    window: tuple[float, float] | None = None
    background: Color = (255, 255, 255)
    border: Color | str = (0, 0, 0)


def render(image: Decoded, recipe: Recipe, box: Box | None = None) -> np.ndarray:
    """uint8 [C,H,W], a view of [H,W,C]. Colours are made uniform first, at full size, then it is cut and resized.

    box: of the part to show, as of foreground(); it gets a margin and the proportions of the recipe, as far as the
    image has surroundings for that.
    """
    pixels = image.pixels
    if box is not None:
        left, top, right, bottom = roomy(box, (pixels.shape[1], pixels.shape[0]), (recipe.width, recipe.height))
        pixels = pixels[top:bottom, left:right]
    picture = TRANSFORMS[recipe.transform](unify(to_8_bits(pixels, recipe.window), recipe), recipe)
    return np.ascontiguousarray(picture).transpose(2, 0, 1)


def to_8_bits(pixels: np.ndarray, window: tuple[float, float] | None) -> np.ndarray:
    """Deep values float32 -> uint8, linear between the ends of the window and cut off outside."""
    if pixels.dtype == np.uint8:
        return pixels
    assert window is not None
    low, high = window
    return np.rint(np.clip((pixels.astype(np.float64) - low) / (high - low), 0, 1) * 255).astype(np.uint8)


def unify(pixels: np.ndarray, recipe: Recipe) -> np.ndarray:
    """uint8 [H,W,1|3|4] -> uint8 [H,W,C] with the recipe's channels."""
    height, width, channels = pixels.shape
    if channels == recipe.channels:
        return pixels
    picture = Image.fromarray(np.ascontiguousarray(pixels[:, :, 0] if channels == 1 else pixels))
    if channels == 4:
        backdrop = Image.new("RGBA", picture.size, (*recipe.background, 255))
        picture = Image.alpha_composite(backdrop, picture).convert("RGB")
    return np.asarray(picture.convert(MODES[recipe.channels])).reshape(height, width, recipe.channels)


def stretch(picture: np.ndarray, recipe: Recipe) -> np.ndarray:
    return resize_pixels(picture, (recipe.width, recipe.height), recipe.resize_filter)


def center_crop(picture: np.ndarray, recipe: Recipe) -> np.ndarray:
    """The largest part in the middle that has the shape asked for."""
    left, top, right, bottom = middle((picture.shape[1], picture.shape[0]), (recipe.width, recipe.height))
    return stretch(picture[top:bottom, left:right], recipe)


def center_crop_wide(picture: np.ndarray, recipe: Recipe) -> np.ndarray:
    return on_canvas(center_crop(picture, recipe), recipe)


def center_crop_dhariwal(picture: np.ndarray, recipe: Recipe) -> np.ndarray:
    """As ImageNet is prepared for published figures (Dhariwal & Nichol 2021): halved by means of blocks while its
    shorter side is twice what is wanted or more, then bicubic, then the middle; whatever the recipe's filter is."""
    side = recipe.width
    height, width, _ = picture.shape
    while min(height, width) >= 2 * side:
        height, width = height // 2, width // 2
        picture = resize_pixels(picture, (width, height), "box")
    scale = side / min(height, width)
    height, width = round(height * scale), round(width * scale)
    top, left = (height - side) // 2, (width - side) // 2
    return resize_pixels(picture, (width, height), "bicubic")[top:top + side, left:left + side]


def pad(picture: np.ndarray, recipe: Recipe) -> np.ndarray:
    """The whole picture, as large as fits."""
    height, width, _ = picture.shape
    longest = max(width, height)
    size = (max(1, round(recipe.width * width / longest)), max(1, round(recipe.width * height / longest)))
    return on_canvas(resize_pixels(picture, size, recipe.resize_filter), recipe)


def pad_only(picture: np.ndarray, recipe: Recipe) -> np.ndarray:
    """The whole picture, no larger than it is: digits of 28x28 in squares of 32x32."""
    return on_canvas(picture, recipe) if max(picture.shape[:2]) <= recipe.width else pad(picture, recipe)


TRANSFORMS: dict[str, Callable[[np.ndarray, Recipe], np.ndarray]] = {  # uint8 [H,W,C] -> uint8 [H,W,C]
    "stretch": stretch, "center-crop": center_crop, "center-crop-wide": center_crop_wide, "pad": pad,
    "pad-only": pad_only, "center-crop-dhariwal": center_crop_dhariwal,
}


def middle(size: tuple[int, int], shape: tuple[int, int]) -> Box:
    """left, top, right, bottom of the largest centred part of `size` whose sides are as shape[0] : shape[1]."""
    width, height = size
    if width * shape[1] >= height * shape[0]:
        part = max(1, round(height * shape[0] / shape[1])), height
    else:
        part = width, max(1, round(width * shape[1] / shape[0]))
    left, top = (width - part[0]) // 2, (height - part[1]) // 2
    return left, top, left + part[0], top + part[1]


def on_canvas(picture: np.ndarray, recipe: Recipe) -> np.ndarray:
    """The picture in the middle of a square of the recipe's width."""
    side, (height, width, channels) = recipe.width, picture.shape
    if (height, width) == (side, side):
        return picture
    left, top = (side - width) // 2, (side - height) // 2
    if isinstance(recipe.border, str):
        around = ((top, side - height - top), (left, side - width - left), (0, 0))
        return np.pad(picture, around, mode=BORDERS[recipe.border])
    canvas = np.empty((side, side, channels), np.uint8)
    canvas[:] = border_color(recipe.border, channels)
    canvas[top:top + height, left:left + width] = picture
    return canvas


def border_color(color: Color, channels: int) -> tuple[int, ...]:
    """Transparent black for RGBA; for gray, as Pillow makes gray of colours."""
    if channels == 4:
        return 0, 0, 0, 0
    return color if channels == 3 else (int(np.asarray(Image.new("RGB", (1, 1), color).convert("L"))[0, 0]),)
