"""Images that lie one behind the other in a file, as elements along the first axis of an array."""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stylegan2_pipeline.decode import BrokenImage


@dataclass(frozen=True)
class Rows:
    """An array of `shape` from byte `offset` of a file; fortran: its first index is the fastest. Nothing stays open."""

    path: Path
    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype = np.dtype(np.uint8)  # noqa: RUF009 - it cannot be changed
    fortran: bool = False

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    def row(self, index: int) -> np.ndarray:
        """Element number `index`, shape[1:]. Raises BrokenImage."""
        try:
            return np.array(self._mapped()[index]) if self.fortran else self._read(index)
        except (OSError, ValueError) as error:
            raise BrokenImage(f"cannot be read: {error}") from None

    def _read(self, index: int) -> np.ndarray:
        """Not mapped: where a file has become shorter, reading a map of it would end the process."""
        count = math.prod(self.shape[1:]) * self.dtype.itemsize
        with self.path.open("rb") as file:
            file.seek(self.offset + index * count)
            data = file.read(count)
        if len(data) < count:
            raise BrokenImage("cut short")
        return np.frombuffer(data, self.dtype).reshape(self.shape[1:])

    def _mapped(self) -> np.memmap:
        return np.memmap(self.path, self.dtype, "r", self.offset, self.shape, "F")
