"""The first pass of a conversion: what each image is, and what that means for the set."""

import dataclasses
import hashlib
import io
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from PIL import Image

from stylegan2_pipeline.conversion.foreground import Box
from stylegan2_pipeline.conversion.resize import resize_pixels
from stylegan2_pipeline.conversion.spool import Piece
from stylegan2_pipeline.decode import Decoded

GRAY_TOLERANCE = 3   # channels that differ by no more than this, of 255, are gray; JPEG alone can cause as much
OPAQUE = 250         # alpha from here on counts as opaque
PERCENTILES = (0.5, 99.5)  # of all values of the deep images of a volume, or of the set; they become 0 and 255
THUMBNAIL = 64       # pixels a side

Histogram = tuple[np.ndarray, np.ndarray]  # bins int64, counts int64


@dataclass(frozen=True, slots=True)
class Drawn:
    """An image as the archive will hold it: where its file lies in the spool, the recipe it was made by, and a hash of
    its pixels."""

    piece: Piece
    recipe: str
    digest: str


@dataclass(frozen=True, slots=True)
class Finding:
    """What the scan says of one image. When error is set, it is broken and nothing else holds.

    size: width, height, upright; mode, format: as in the file; channels: of the decoded pixels; deep: more than 8
    bits; colour: channels differ somewhere; equal: they differ nowhere; transparent: alpha says something; profile: a
    colour profile was applied; remarks: see Decoded; flat: one value everywhere; digest: of the decoded pixels; box,
    filled: of the foreground and its share of the pixels, where asked for; details: thumbnail, and histogram if deep.
    """

    index: int
    error: str | None = None
    size: tuple[int, int] = (0, 0)
    mode: str = ""
    format: str = ""
    channels: int = 0
    deep: bool = False
    colour: bool = False
    equal: bool = False
    transparent: bool = False
    rotated: bool = False
    animated: bool = False
    profile: bool = False
    remarks: tuple[str, ...] = ()
    flat: bool = False
    digest: str = ""
    box: Box | None = None
    filled: float | None = None
    details: Piece | None = None
    drawn: Drawn | None = None

    @property
    def square(self) -> bool:
        return self.size[0] == self.size[1]

    def to_json(self) -> dict[str, Any]:
        return {name: value for name, value in dataclasses.asdict(self).items() if value != _DEFAULTS.get(name)}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Self:
        """Raises TypeError or KeyError for what to_json does not make."""
        drawn, details, box = record.get("drawn"), record.get("details"), record.get("box")
        return cls(**{**record, "size": tuple(record.get("size", (0, 0))), "remarks": tuple(record.get("remarks", ())),
                      "box": tuple(box) if box else None, "details": Piece(**details) if details else None,
                      "drawn": drawn_from_json(drawn) if drawn else None})


_DEFAULTS = {f.name: f.default for f in dataclasses.fields(Finding)}


def drawn_from_json(record: Mapping[str, Any]) -> Drawn:
    return Drawn(Piece(**record["piece"]), record["recipe"], record["digest"])


@dataclass(frozen=True)
class Details:
    """thumbnail: uint8 [64,64,1|3], the whole image made square, over white; histogram: of a deep image."""

    thumbnail: np.ndarray
    histogram: Histogram | None = None

    def to_bytes(self) -> bytes:
        file = io.BytesIO()
        for array in (self.thumbnail, *(self.histogram or ())):
            np.save(file, array, allow_pickle=False)
        return file.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        file = io.BytesIO(data)
        arrays = []
        while file.tell() < len(data):
            arrays.append(np.load(file, allow_pickle=False))
        return cls(arrays[0], (arrays[1], arrays[2]) if len(arrays) == 3 else None)


def examined(index: int, image: Decoded) -> tuple[Finding, Details]:
    """What can be said of one image alone; without foreground and pieces."""
    height, width, channels = image.pixels.shape
    thumbnail = thumbnail_of(image.pixels)
    colour, equal = (False, True) if channels == 1 else colours(image.pixels)
    details = Details(thumbnail, histogram(image) if image.deep else None)
    flat = int(np.ptp(thumbnail, axis=(0, 1)).max()) <= 1 and bool((image.pixels == image.pixels[0, 0]).all())
    return Finding(
        index, size=(width, height), mode=image.mode, format=image.format, channels=channels, deep=image.deep,
        colour=colour, equal=equal, transparent=has_transparency(image.pixels), rotated=image.rotated,
        animated=image.animated, profile=image.profile, remarks=image.remarks, flat=flat,
        digest=digest_of(image.pixels, thumbnail)), details


def digest_of(pixels: np.ndarray, thumbnail: np.ndarray) -> str:
    """Equal for equal pixels. A CRC-32 is enough beside the thumbnail, and takes half as long as a longer hash."""
    crc = zlib.crc32(np.ascontiguousarray(pixels).data)
    state = hashlib.blake2b(repr((pixels.shape, pixels.dtype.str, crc)).encode(), digest_size=16)
    state.update(thumbnail.tobytes())
    return state.hexdigest()


def thumbnail_of(pixels: np.ndarray) -> np.ndarray:
    """uint8 or float32 [H,W,C] -> uint8 [64,64,1|3] by means of blocks; deep values from the least to the largest."""
    if pixels.dtype != np.uint8:
        low, high = float(pixels.min()), float(pixels.max())
        pixels = np.rint((pixels - low) * np.float32(255 / max(high - low, 1e-30))).astype(np.uint8)
    small = resize_pixels(pixels, (THUMBNAIL, THUMBNAIL), "box")
    if small.shape[2] == 4:
        white = Image.new("RGBA", (THUMBNAIL, THUMBNAIL), (255, 255, 255, 255))
        small = np.asarray(Image.alpha_composite(white, Image.fromarray(small)).convert("RGB"))
    return small


def colours(pixels: np.ndarray) -> tuple[bool, bool]:
    """Of uint8 [H,W,3|4]: whether channels differ by more than GRAY_TOLERANCE somewhere that is not fully transparent;
    whether they differ nowhere."""
    if _spread(pixels[::16, ::16]) > GRAY_TOLERANCE:
        return True, False
    spread = _spread(pixels)
    return spread > GRAY_TOLERANCE, spread == 0


def has_colour(pixels: np.ndarray) -> bool:
    return pixels.shape[2] > 1 and colours(pixels)[0]


def _spread(pixels: np.ndarray) -> int:
    red, green, blue = (pixels[:, :, channel].astype(np.int16) for channel in range(3))
    spread = np.maximum(np.maximum(abs(red - green), abs(green - blue)), abs(red - blue))
    if pixels.shape[2] == 4:
        spread[pixels[:, :, 3] == 0] = 0
    return int(spread.max())


def has_transparency(pixels: np.ndarray) -> bool:
    return pixels.shape[2] == 4 and int(pixels[:, :, 3].min()) < OPAQUE


def histogram(image: Decoded) -> Histogram:
    """Of the values that mean something."""
    values = image.pixels if image.empty is None else image.pixels[image.pixels != image.empty]
    bins, counts = np.unique(_bin(values), return_counts=True)
    return bins.astype(np.int64), counts.astype(np.int64)


def merge(histograms: Sequence[Histogram]) -> Histogram:
    bins, inverse = np.unique(np.concatenate([bins for bins, _ in histograms]), return_inverse=True)
    counts = np.zeros(len(bins), np.int64)
    np.add.at(counts, inverse, np.concatenate([counts for _, counts in histograms]))
    return bins, counts


def window(histogram: Histogram, percentiles: tuple[float, float] = PERCENTILES) -> tuple[float, float]:
    """The values at the percentiles, the second larger than the first; (0, 1) where nothing was counted."""
    bins, counts = histogram
    if not len(bins):
        return 0.0, 1.0
    total = np.cumsum(counts)
    low, high = (_value(int(bins[np.searchsorted(total, total[-1] * percent / 100)])) for percent in percentiles)
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
    """The findings of a set, in order: those to keep, broken ones, and those left out on purpose, with the reason.

    volumes: the name of each deep image's volume (None: it stands alone); histograms: by volume.
    """

    def __init__(self) -> None:
        self.good: list[Finding] = []
        self.broken: list[Finding] = []
        self.passed: list[tuple[Finding, str]] = []
        self.histograms: dict[str | None, Histogram] = {}
        self.boxes: dict[str, Box] = {}

    def add(self, finding: Finding, details: Details | None = None, volume: str | None = None,
            least_filled: float = 0.0) -> None:
        """details: of a deep image, so that its volume gets a window; least_filled: images with less are left out."""
        if finding.error is not None:
            self.broken.append(finding)
            return
        if details is not None and details.histogram is not None:
            known = self.histograms.get(volume)
            self.histograms[volume] = merge([known, details.histogram]) if known else details.histogram
        if finding.filled is not None and finding.filled < least_filled:
            self.passed.append((finding, f"less than {least_filled:.0%} of it shows anything"))
            return
        if volume is not None and finding.flat and finding.channels == 1:
            self.passed.append((finding, "a slice of a volume that shows nothing"))
            return
        if volume is not None and finding.box is not None:
            self.boxes[volume] = around(self.boxes.get(volume, finding.box), finding.box)
        self.good.append(finding)

    @property
    def deep(self) -> int:
        return sum(finding.deep for finding in self.good)

    @property
    def sizes(self) -> Counter[tuple[int, int]]:
        return Counter(finding.size for finding in self.good)

    @property
    def modes(self) -> Counter[str]:
        return Counter(finding.mode for finding in self.good)

    @property
    def formats(self) -> Counter[str]:
        return Counter(finding.format for finding in self.good)

    def windows(self, percentiles: tuple[float, float] = PERCENTILES) -> dict[str | None, tuple[float, float]]:
        """The values that become 0 and 255, by volume."""
        return {volume: window(found, percentiles) for volume, found in self.histograms.items()}


def around(a: Box, b: Box) -> Box:
    """The least box that holds both."""
    return min(a[0], b[0]), min(a[1], b[1]), max(a[2], b[2]), max(a[3], b[3])


def choose_channels(good: Sequence[Finding], asked: str, background: tuple[int, int, int]) -> tuple[int, str]:
    """Channels for the whole set, and why. asked: auto, 1, 3 or 4; background goes behind transparent pixels.

    auto: RGBA if most images have pixels that are not opaque; else RGB if any image has colour; else gray.
    """
    if asked != "auto":
        return int(asked), f"--channels={asked} asks for it"
    count = len(good)
    transparent = sum(finding.transparent for finding in good)
    if 2 * transparent > count:
        return 4, f"{transparent} of {count} have transparent pixels"
    colour = sum(finding.colour for finding in good)
    if colour:
        return 3, f"{colour} of {count} are in colour"
    if transparent and len(set(background)) > 1:
        return 3, f"{transparent} of {count} get a background in colour"
    return 1, f"none of {count} is in colour"
