"""Disguised copies of training images, planted among those that are searched, to see how many the search finds."""

import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy import ndimage

PLANTED = 35
NOISE = 10       # standard deviation, of 255
QUALITY = 30     # of JPEG
CONTRAST = 0.7
BRIGHTER = 20
TURN = 3.0       # degrees

Array = np.ndarray
Disguise = Callable[[Array, np.random.Generator], Array]


@dataclass(frozen=True)
class Planted:
    """A disguised copy uint8 [C,H,W] of the training image in this place of the order."""

    image: Array
    source: int
    disguise: str


def plant(images: list[Array], sources: list[int], rng: np.random.Generator) -> list[Planted]:
    """Each of the images uint8 [C,H,W] in another disguise in turn."""
    names = list(DISGUISES)
    return [Planted(DISGUISES[names[i % len(names)]](image, rng), source, names[i % len(names)])
            for i, (image, source) in enumerate(zip(images, sources, strict=True))]


def _color(image: Array, changed: Array) -> Array:
    """The changed values [C,H,W], rounded, with the alpha that the image had."""
    pixels = np.clip(changed + 0.5, 0, 255).astype(np.uint8)
    return np.concatenate([pixels[:3], image[3:]]) if len(image) == 4 else pixels


def noise(image: Array, rng: np.random.Generator) -> Array:
    return _color(image, image + rng.normal(0, NOISE, image.shape))


def blur(image: Array, rng: np.random.Generator) -> Array:
    """By a Gaussian of the deviation 1/128 of the width."""
    sigma = image.shape[2] / 128
    return np.stack([ndimage.gaussian_filter(plane, sigma, mode="nearest") for plane in image])


def jpeg(image: Array, rng: np.random.Generator) -> Array:
    color = image[0] if len(image) == 1 else image[:3].transpose(1, 2, 0)
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(color)).save(buffer, "jpeg", quality=QUALITY)
    with Image.open(buffer) as picture:
        decoded = np.asarray(picture)
    return np.concatenate([decoded[None] if decoded.ndim == 2 else decoded.transpose(2, 0, 1), image[3:]])


def mirror(image: Array, rng: np.random.Generator) -> Array:
    return np.ascontiguousarray(image[:, :, ::-1])


def shift(image: Array, rng: np.random.Generator) -> Array:
    """By up to 1/20 of the width in each direction, in whole pixels; the edge is repeated."""
    most = max(image.shape[2] // 20, 1)
    down, right = rng.integers(-most, most + 1, 2)
    padded = np.pad(image, [(0, 0), (most, most), (most, most)], mode="edge")
    height, width = image.shape[1:]
    return padded[:, most - down:most - down + height, most - right:most - right + width].copy()


def contrast(image: Array, rng: np.random.Generator) -> Array:
    return _color(image, image * CONTRAST + BRIGHTER)


def rotation(image: Array, rng: np.random.Generator) -> Array:
    angle = TURN * rng.choice((-1, 1))
    turned = ndimage.rotate(image.astype(np.float32), angle, axes=(2, 1), reshape=False, order=1, mode="nearest")
    return np.clip(turned + 0.5, 0, 255).astype(np.uint8)


DISGUISES: dict[str, Disguise] = {
    "noise": noise,
    "blur": blur,
    "jpeg": jpeg,
    "mirror": mirror,
    "shift": shift,
    "contrast": contrast,
    "rotation": rotation,
}
