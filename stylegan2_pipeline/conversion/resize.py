"""The one place where pictures change their size."""

from collections.abc import Callable

import numpy as np
from PIL import Image

from stylegan2_pipeline.conversion.area import resize_by_area
from torch_utils.resampling import native

FILTERS = native.FILTERS
FILTER_NAMES = ("lanczos", "box", "bicubic", "area")


def prepare(say: Callable[[str], None]) -> None:
    """Compiles what resizes pictures, where this has not been done; `say` gets a line if it takes seconds.

    For the process that starts others: each of them would find out by itself, all at the same time.
    """
    native.state(say)


def resize(picture: Image.Image, size: tuple[int, int], resize_filter: str = "lanczos") -> Image.Image:
    """An L, RGB or RGBA picture -> one of `size` (width, height); resize_filter: one of FILTER_NAMES.

    The filters of Pillow give what Pillow gives, to the bit; area is exact (see conversion.area).
    """
    if picture.size == size:
        return picture
    if resize_filter == "area":
        return resize_by_area(picture, size)
    if picture.mode == "RGBA":  # transparent pixels have no weight: Pillow's own way, and its own rounding
        return resize(picture.convert("RGBa"), size, resize_filter).convert("RGBA")
    pixels = np.asarray(picture).reshape(picture.height, picture.width, -1)
    resampler = native.state().resampler
    if resampler is None or picture.mode not in native.MODES.values() or not resampler.takes(pixels, size):
        return picture.resize(size, FILTERS[resize_filter])
    return Image.frombuffer(picture.mode, size, resampler(pixels, size, resize_filter), "raw", picture.mode, 0, 1)


def resize_pixels(pixels: np.ndarray, size: tuple[int, int], resize_filter: str = "lanczos") -> np.ndarray:
    """As resize, for uint8 [H,W,C] with C = 1, 3 or 4, which may be a part of a larger picture: without copies."""
    height, width, channels = pixels.shape
    if (width, height) == size:
        return pixels
    resampler = native.state().resampler if resize_filter in FILTERS and channels != 4 else None
    if resampler is not None and resampler.takes(pixels, size):
        return resampler(pixels, size, resize_filter)
    picture = Image.fromarray(np.ascontiguousarray(pixels[:, :, 0] if channels == 1 else pixels))
    return np.asarray(resize(picture, size, resize_filter)).reshape(size[1], size[0], channels)
