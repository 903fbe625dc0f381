"""Resizing by area: each new pixel is the mean of what lies under it, pixels that it covers in part counted in part.

Of the usual filters only this one keeps the mean of the picture, and for whole factors it is the mean of blocks.
"""

import numpy as np
from PIL import Image


def resize_by_area(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    """An L, RGB or RGBA picture -> one of `size` (width, height), rounded half up; colours count by their alpha."""
    pixels = np.asarray(picture)
    width, height = size
    if picture.mode != "RGBA":
        return Image.fromarray(_to_uint8(_shrink(_shrink(pixels, height, 0), width, 1)))
    alpha = pixels[:, :, 3:].astype(np.int64)
    colors = _shrink(_shrink(pixels[:, :, :3] * alpha, height, 0), width, 1)
    alpha = _shrink(_shrink(alpha, height, 0), width, 1)
    return Image.fromarray(_to_uint8(np.dstack([colors / np.maximum(alpha, np.finfo(np.float64).tiny), alpha])))


def _shrink(values: np.ndarray, count: int, axis: int) -> np.ndarray:
    """Means over `count` equal stretches of an axis, float64.

    In units of 1/count of an old pixel all ends of the new pixels are whole numbers, and the sums up to them exact.
    """
    length = values.shape[axis]
    values = np.moveaxis(values, axis, 0)
    whole, part = np.divmod(np.arange(count + 1) * length, count)
    sums = np.zeros((length + 1, *values.shape[1:]), np.int64 if values.dtype.kind in "iu" else np.float64)
    np.cumsum(values, 0, out=sums[1:])
    part = part.reshape(-1, *[1] * (values.ndim - 1))
    upto = sums[whole] * count + values[np.minimum(whole, length - 1)] * part
    return np.moveaxis(np.diff(upto, axis=0) / length, 0, axis)


def _to_uint8(values: np.ndarray) -> np.ndarray:
    return np.floor(values + (0.5 + 1e-9)).clip(0, 255).astype(np.uint8)
