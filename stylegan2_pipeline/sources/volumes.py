"""What readers of volumes share: which slices are taken, square pixels, and what of a volume is background."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from stylegan2_pipeline.decode import BrokenImage

BACKGROUND_SHARE = 0.1   # of a volume that has one and the same value, and its corners too
SAME_SPACING = 0.01      # pixels whose sides differ by no more than this, relatively, are square
LONGEST_PIXEL = 100      # times as long as wide; beyond, the header is wrong
AXES = {"sagittal": 0, "coronal": 1, "axial": 2}  # of an array whose axes lead to the right, the front and the top


@dataclass(frozen=True)
class Background:
    """value: what voxels hold where nothing is, or None; low: the least value of the volume, which is drawn there.

    A volume that was standardised has its background, zero, in the middle of its values; in a picture it is black.
    """

    value: float | None
    low: float
    gaps: bool = False  # there are voxels that hold no finite number

    @property
    def empty(self) -> float | None:
        """Of the pixels that fill() gives."""
        return self.low if self.value is not None or self.gaps else None

    def fill(self, values: np.ndarray) -> np.ndarray:
        """float32, with `low` where nothing is; `values` is written to."""
        if self.gaps:
            values[~np.isfinite(values)] = self.low
        if self.value is not None and self.value != self.low:
            values[values == self.value] = self.low
        return values


def background_of(slabs: Iterable[np.ndarray], corners: np.ndarray) -> Background:
    """slabs: all values of a volume, float32, in parts of any shape; corners: those of its corners [8].

    Raises BrokenImage when no value is a finite number.
    """
    usual, count = max(zip(*np.unique(corners[np.isfinite(corners)], return_counts=True), strict=True),
                       key=lambda pair: pair[1], default=(np.float32(0), 0))
    total = finite = same = 0
    low, high = np.inf, -np.inf
    for slab in slabs:
        known = slab[np.isfinite(slab)]
        total, finite = total + slab.size, finite + known.size
        if known.size:
            low, high = min(low, float(known.min())), max(high, float(known.max()))
            same += int(np.count_nonzero(known == usual))
    if not finite:
        raise BrokenImage("holds no finite number")
    found = 4 * count >= 3 * corners.size and same >= BACKGROUND_SHARE * total and usual < high
    return Background(float(usual) if found else None, low, gaps=finite < total)


def chosen(count: int, part: tuple[float, float], every: int) -> range:
    """Numbers of the slices whose middles lie in `part` of a volume of `count`, and of those every so many."""
    low, high = part
    taken = [number for number in range(count) if low <= (number + 0.5) / count <= high]
    return range(taken[0], taken[-1] + 1, every) if taken else range(0)


def stretching(height_mm: float, width_mm: float) -> float:
    """How many times as high as wide a pixel is; 1 where it is square, or where the spacings are no lengths."""
    ratio = height_mm / width_mm if height_mm > 0 and width_mm > 0 else 1.0
    return ratio if np.isfinite(ratio) and ratio > 0 and abs(ratio - 1) > SAME_SPACING else 1.0


def square_pixels(pixels: np.ndarray, height_mm: float, width_mm: float, max_pixels: int) -> np.ndarray:
    """pixels [H,W,C], each height_mm x width_mm, with the coarser side enlarged so that they are square.

    float32 or uint8 as they came, linear between the middles of the pixels. Raises BrokenImage when what the header
    claims would be a picture of more than max_pixels.
    """
    ratio = stretching(height_mm, width_mm)
    if ratio == 1:
        return pixels
    axis, factor = (0, ratio) if ratio > 1 else (1, 1 / ratio)
    if factor > LONGEST_PIXEL or factor * pixels.shape[0] * pixels.shape[1] > max_pixels:
        raise BrokenImage(f"its header says that pixels are {factor:.0f} times as long as wide, which cannot be right")
    return _enlarge(pixels, axis, round(pixels.shape[axis] * factor))


def _enlarge(pixels: np.ndarray, axis: int, length: int) -> np.ndarray:
    count = pixels.shape[axis]
    where = np.clip((np.arange(length) + 0.5) * count / length - 0.5, 0, count - 1)
    below = where.astype(np.intp)
    above = np.minimum(below + 1, count - 1)
    weight = (where - below).astype(np.float32).reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
    values = pixels.astype(np.float32, copy=False)
    mixed = values.take(below, axis) * (1 - weight) + values.take(above, axis) * weight
    return mixed if pixels.dtype == np.float32 else np.rint(mixed).astype(pixels.dtype)
