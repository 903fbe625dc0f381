"""Resizing by area: each new pixel is the mean of what lies under it, pixels that it covers in part counted in part.

Of the usual filters only this one keeps the mean of the picture, and for whole factors it is the mean of blocks. All
sums are whole numbers, so that nothing is rounded but the result.
"""

import numpy as np
from PIL import Image


def resize_by_area(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    """An L, RGB or RGBA picture -> one of `size` (width, height), rounded half up; colours count by their alpha."""
    pixels = np.asarray(picture)
    area = pixels.shape[0] * pixels.shape[1]
    if picture.mode != "RGBA":
        return Image.fromarray(_divided(_sums(pixels, size), area))
    alpha = pixels[:, :, 3:].astype(np.uint16)
    colors, alphas = _sums(pixels[:, :, :3] * alpha, size), _sums(alpha, size)
    return Image.fromarray(np.dstack([_divided(colors, np.maximum(alphas, 1)), _divided(alphas, area)]))


def _sums(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Of all pixels under each new one, int64 [H',W'] or [H',W',C]: the mean times the number of pixels."""
    down = _stretches(pixels, size[1])
    return _stretches(np.ascontiguousarray(down.swapaxes(0, 1)), size[0]).swapaxes(0, 1)


def _stretches(values: np.ndarray, count: int) -> np.ndarray:
    """Sums over `count` equal stretches of the first axis, times count.

    In units of 1/count of an old pixel all ends of the new ones are whole numbers; so is the sum up to each of them.
    """
    length = len(values)
    whole, part = np.divmod(np.arange(count + 1) * length, count)
    narrow = values.dtype == np.uint8 and length < 2 ** 24  # then 32 bits hold the sums
    sums = np.zeros((length + 1, *values.shape[1:]), np.uint32 if narrow else np.int64)
    np.cumsum(values, 0, dtype=sums.dtype, out=sums[1:])
    part = part.reshape(-1, *[1] * (values.ndim - 1))
    upto = sums[whole].astype(np.int64) * count + values[np.minimum(whole, length - 1)] * part
    return np.diff(upto, axis=0)


def _divided(sums: np.ndarray, by: np.ndarray | int) -> np.ndarray:
    return ((2 * sums + by) // (2 * by)).astype(np.uint8)
