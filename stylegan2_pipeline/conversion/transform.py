"""One decoded image -> the uniform image of an archive."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image

from stylegan2_pipeline.conversion.resize import resize
from stylegan2_pipeline.decode import Decoded

Color = tuple[int, int, int]
Box = tuple[int, int, int, int]

MODES = {1: "L", 3: "RGB", 4: "RGBA"}


@dataclass(frozen=True)
class Recipe:
    """How every image of a set is made.

    channels 1, 3 or 4; width x height of the picture (a square canvas of `width` when transform is center-crop-wide);
    window: values of deep images that become 0 and 255; background: behind transparent pixels; border: around
    pictures that do not fill the square, transparent black for RGBA.
    """

    channels: int
    width: int
    height: int
    transform: str = "stretch"
    resize_filter: str = "lanczos"
    window: tuple[float, float] | None = None
    background: Color = (255, 255, 255)
    border: Color = (0, 0, 0)


def render(image: Decoded, recipe: Recipe) -> np.ndarray:
    """uint8 [C,H,W]. Colours are made uniform first, at full size, then the picture is cut and resized."""
    picture = unify(to_8_bits(image.pixels, recipe.window), recipe)
    pixels = np.asarray(TRANSFORMS[recipe.transform](picture, recipe))
    return np.ascontiguousarray(pixels.reshape(*pixels.shape[:2], recipe.channels).transpose(2, 0, 1))


def to_8_bits(pixels: np.ndarray, window: tuple[float, float] | None) -> np.ndarray:
    """Deep values float32 -> uint8, linear between the ends of the window and cut off outside."""
    if pixels.dtype == np.uint8:
        return pixels
    assert window is not None
    low, high = window
    return np.rint(np.clip((pixels.astype(np.float64) - low) / (high - low), 0, 1) * 255).astype(np.uint8)


def unify(pixels: np.ndarray, recipe: Recipe) -> Image.Image:
    """uint8 [H,W,1|3|4] -> a picture with the recipe's channels."""
    picture = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    if picture.mode == "RGBA" and recipe.channels != 4:
        backdrop = Image.new("RGBA", picture.size, (*recipe.background, 255))
        picture = Image.alpha_composite(backdrop, picture).convert("RGB")
    return picture if picture.mode == MODES[recipe.channels] else picture.convert(MODES[recipe.channels])


def stretch(picture: Image.Image, recipe: Recipe) -> Image.Image:
    return resize(picture, (recipe.width, recipe.height), recipe.resize_filter)


def center_crop(picture: Image.Image, recipe: Recipe) -> Image.Image:
    """The largest part in the middle that has the shape asked for."""
    return stretch(picture.crop(middle(picture.size, (recipe.width, recipe.height))), recipe)


def center_crop_wide(picture: Image.Image, recipe: Recipe) -> Image.Image:
    return on_canvas(center_crop(picture, recipe), recipe)


def pad(picture: Image.Image, recipe: Recipe) -> Image.Image:
    """The whole picture, as large as fits."""
    width, height = picture.size
    longest = max(width, height)
    size = (max(1, round(recipe.width * width / longest)), max(1, round(recipe.width * height / longest)))
    return on_canvas(resize(picture, size, recipe.resize_filter), recipe)


TRANSFORMS: dict[str, Callable[[Image.Image, Recipe], Image.Image]] = {
    "stretch": stretch, "center-crop": center_crop, "center-crop-wide": center_crop_wide, "pad": pad,
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


def on_canvas(picture: Image.Image, recipe: Recipe) -> Image.Image:
    """The picture in the middle of a square of the recipe's width."""
    if picture.mode == "RGBA":
        canvas = Image.new("RGBA", (recipe.width, recipe.width))
    else:
        canvas = Image.new("RGB", (recipe.width, recipe.width), recipe.border).convert(picture.mode)
    canvas.paste(picture, ((recipe.width - picture.width) // 2, (recipe.width - picture.height) // 2))
    return canvas
