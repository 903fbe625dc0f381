"""What the numbers of an array mean as pictures: which axis is which, and which value is white."""

from dataclasses import dataclass

import numpy as np

from stylegan2_pipeline.decode import BrokenImage

CHANNELS = (1, 3, 4)
TABLE_RATIO = 16  # an array of two axes that is so many times as long as wide is no picture


@dataclass(frozen=True)
class Layout:
    """count images of height x width; single: the array is one of them; first: channels come before rows."""

    count: int
    height: int
    width: int
    channels: int
    single: bool
    first: bool

    def pixels(self, row: np.ndarray) -> np.ndarray:
        """An image as it lies in the array -> [H,W,C]."""
        if self.first:
            row = np.moveaxis(row, 0, -1)
        return row.reshape(self.height, self.width, self.channels)


def layout_of(shape: tuple[int, ...]) -> Layout:
    """[H,W], [H,W,C], [C,H,W] (C 3 or 4), [N,H,W], [N,H,W,C] or [N,C,H,W]. Raises ValueError with the reason."""
    if not all(shape):
        raise ValueError("it is empty")
    if len(shape) == 2:
        if max(shape) >= TABLE_RATIO * min(shape):
            raise ValueError(f"its shape {list(shape)} is that of a table: reshape it to [N,H,W]")
        return Layout(1, *shape, 1, single=True, first=False)
    if len(shape) == 3:
        if shape[2] in CHANNELS:
            return Layout(1, *shape, single=True, first=False)
        if shape[0] in CHANNELS[1:]:
            return Layout(1, shape[1], shape[2], shape[0], single=True, first=True)
        return Layout(*shape, 1, single=False, first=False)
    if len(shape) == 4 and shape[3] in CHANNELS:
        return Layout(*shape, single=False, first=False)
    if len(shape) == 4 and shape[1] in CHANNELS:
        return Layout(shape[0], shape[2], shape[3], shape[1], single=False, first=True)
    raise ValueError(f"its shape {list(shape)} is none of [N,H,W], [N,H,W,C], [N,C,H,W] with 1, 3 or 4 channels")


@dataclass(frozen=True)
class Scale:
    """8 bits = (value - low) * factor, for values from low to high."""

    low: float
    high: float
    factor: float
    remark: str

    def apply(self, values: np.ndarray) -> np.ndarray:
        """uint8 of the same shape. Raises BrokenImage for values that are outside or no numbers."""
        values = values.astype(np.float32)
        if not (values.min() >= self.low and values.max() <= self.high):  # also where one is not a number
            raise BrokenImage(f"holds values outside {self.low:g} to {self.high:g}, which the others have")
        return np.rint((values - self.low) * self.factor).astype(np.uint8)


SCALES = (  # the first that holds what there is
    Scale(0, 1, 255, "Colours from 0 to 1 made 8 bits"),
    Scale(-1, 1, 127.5, "Colours from -1 to 1 made 8 bits"),
    Scale(0, 255, 1, "Colours from 0 to 255 rounded to 8 bits"),
)
BYTES = Scale(0, 255, 1, "Colours from 0 to 255 in more than 8 bits")
WORDS = Scale(0, 65535, 1 / 257, "Colours of 16 bits reduced to 8")


def choose_scale(dtype: np.dtype, low: float, high: float) -> Scale:
    """How colours of a type other than uint8, in this range, become 8 bits. Raises ValueError if that is unclear."""
    whole = (BYTES, WORDS) if dtype == np.uint16 else (BYTES,)
    for scale in whole if dtype.kind in "iu" else SCALES:
        if scale.low <= low and high <= scale.high:
            return scale
    raise ValueError(f"its colours are {dtype.name} from {low:g} to {high:g}; 8-bit ones, or floats from 0 to 1 or "
                     f"-1 to 1, say what is white")
