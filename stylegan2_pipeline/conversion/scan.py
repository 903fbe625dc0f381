"""The first pass of a conversion: what each image is, and what that means for the set."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from stylegan2_pipeline.decode import BrokenImage, Decoded
from stylegan2_pipeline.sources.base import Source

GRAY_TOLERANCE = 3   # channels that differ by no more than this, of 255, are gray; JPEG alone can cause as much
OPAQUE = 250         # alpha from here on counts as opaque
PERCENTILES = (0.5, 99.5)  # of all values of all deep images; they become 0 and 255

Histogram = tuple[np.ndarray, np.ndarray]  # bins int64, counts int64


@dataclass(frozen=True, slots=True)
class Finding:
    """What the scan says of one image. When error is set, it is broken and nothing else holds."""

    index: int
    error: str | None = None
    size: tuple[int, int] = (0, 0)  # width, height, upright
    mode: str = ""                  # as in the file
    colour: bool = False
    transparent: bool = False
    rotated: bool = False
    animated: bool = False
    histogram: Histogram | None = None  # of deep images; Scan.add takes it out, to save memory

    @property
    def square(self) -> bool:
        return self.size[0] == self.size[1]


def inspect(source: Source, index: int) -> Finding:
    try:
        image = source.decode(index)
    except BrokenImage as error:
        return Finding(index, error=str(error))
    height, width, _ = image.pixels.shape
    return Finding(index, size=(width, height), mode=image.mode, colour=has_colour(image.pixels),
                   transparent=has_transparency(image.pixels), rotated=image.rotated, animated=image.animated,
                   histogram=histogram(image) if image.deep else None)


def has_colour(pixels: np.ndarray) -> bool:
    """Whether channels of uint8 [H,W,C] differ by more than GRAY_TOLERANCE somewhere that is not fully transparent."""
    if pixels.shape[2] == 1:
        return False
    return _spread(pixels[::16, ::16]) > GRAY_TOLERANCE or _spread(pixels) > GRAY_TOLERANCE


def _spread(pixels: np.ndarray) -> int:
    red, green, blue = (pixels[:, :, channel].astype(np.int16) for channel in range(3))
    spread = np.maximum(np.maximum(abs(red - green), abs(green - blue)), abs(red - blue))
    if pixels.shape[2] == 4:
        spread[pixels[:, :, 3] == 0] = 0
    return int(spread.max())


def has_transparency(pixels: np.ndarray) -> bool:
    return pixels.shape[2] == 4 and int(pixels[:, :, 3].min()) < OPAQUE


def histogram(image: Decoded) -> Histogram:
    bins, counts = np.unique(_bin(image.pixels), return_counts=True)
    return bins.astype(np.int64), counts.astype(np.int64)


def merge(histograms: Sequence[Histogram]) -> Histogram:
    bins, inverse = np.unique(np.concatenate([bins for bins, _ in histograms]), return_inverse=True)
    counts = np.zeros(len(bins), np.int64)
    np.add.at(counts, inverse, np.concatenate([counts for _, counts in histograms]))
    return bins, counts


def window(histogram: Histogram) -> tuple[float, float]:
    """The values at PERCENTILES, the second larger than the first."""
    bins, counts = histogram
    total = np.cumsum(counts)
    low, high = (_value(int(bins[np.searchsorted(total, total[-1] * percent / 100)])) for percent in PERCENTILES)
    return (low, high) if high > low else (low, low + 1.0)


# Bins are as fine as float32 numbers with 12 bits of fraction: whole numbers up to 8192 have one each, larger values
# one to a part in 4096, so that the range of any camera or scanner fits.
BIN_SHIFT = 23 - 12


def _bin(values: np.ndarray) -> np.ndarray:
    """Integers in the order of the values: float32 bits, sign and magnitude -> two's complement, fraction cut."""
    bits = np.ascontiguousarray(values, np.float32).view(np.int32).astype(np.int64).ravel()
    magnitude = (bits & 0x7FFFFFFF) >> BIN_SHIFT
    return np.where(bits < 0, -magnitude, magnitude)


def _value(number: int) -> float:
    value = float(np.array(abs(number) << BIN_SHIFT, np.int32).view(np.float32))
    return -value if number < 0 else value


class Scan:
    """The findings of a set, in order: good ones and broken ones; deep counts the good ones with more than 8 bits."""

    def __init__(self) -> None:
        self.good: list[Finding] = []
        self.broken: list[Finding] = []
        self.deep = 0
        self._histogram: Histogram | None = None

    def add(self, finding: Finding) -> None:
        if finding.error is not None:
            self.broken.append(finding)
            return
        if finding.histogram is not None:
            self.deep += 1
            self._histogram = merge([self._histogram, finding.histogram]) if self._histogram else finding.histogram
        self.good.append(replace(finding, histogram=None))

    @property
    def sizes(self) -> Counter[tuple[int, int]]:
        return Counter(finding.size for finding in self.good)

    @property
    def modes(self) -> Counter[str]:
        return Counter(finding.mode for finding in self.good)

    def window(self) -> tuple[float, float] | None:
        """For all deep images together; None if there are none."""
        return window(self._histogram) if self._histogram else None


def choose_channels(scan: Scan, asked: str, background: tuple[int, int, int]) -> tuple[int, str]:
    """Channels for the whole set, and why. asked: auto, 1, 3 or 4; background goes behind transparent pixels.

    auto: RGBA if most images have pixels that are not opaque; else RGB if any image has colour; else gray.
    """
    if asked != "auto":
        return int(asked), f"--channels={asked} asks for it"
    count = len(scan.good)
    transparent = sum(finding.transparent for finding in scan.good)
    if 2 * transparent > count:
        return 4, f"{transparent} of {count} have transparent pixels"
    colour = sum(finding.colour for finding in scan.good)
    if colour:
        return 3, f"{colour} of {count} are in colour"
    if transparent and len(set(background)) > 1:
        return 3, f"{transparent} of {count} get a background in colour"
    return 1, f"none of {count} is in colour"
