"""The brain tumour set on figshare (number 1512427): one MATLAB file a slice, with its label and its patient.

cjdata.image is a slice with values of its own scale, which differs from slice to slice; so each has a window of its
own, as if it were a volume. HDF5, which these files are, lists the sides of MATLAB's arrays in the other order.
"""

import contextlib
import io
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from stylegan2_pipeline.decode import BrokenImage, Decoded
from stylegan2_pipeline.progress import progress
from stylegan2_pipeline.sources.base import Reading, Source, digest, require
from stylegan2_pipeline.sources.labels import Labels, printable
from stylegan2_pipeline.sources.trees import Tree
from stylegan2_pipeline.sources.volumes import background_of
from torch_utils.errors import UserError

CLASS_NAMES = ["meningioma", "glioma", "pituitary tumor"]  # of the labels 1, 2, 3
HDF5 = b"\x89HDF\r\n\x1a\n"
HDF5_AT = 512              # behind MATLAB's own header
MOST_CHARACTERS = 256      # of a patient's code


class Record(NamedTuple):
    """label: 0, 1, 2 or None; patient: a code, or None."""

    label: int | None
    patient: str | None


class NotOurs(Exception):
    """A MATLAB file that holds something else; the message says what is missing."""


class MatlabSlices(Source):
    """One image a file. Labels and patients are read at the opening, images later."""

    def __init__(self, tree: Tree, reading: Reading = Reading()) -> None:  # noqa: B008 - it cannot be changed
        require("h5py", "mat", f"{tree.flag}: MATLAB files")
        self.path = tree.path
        self.tree = tree
        self.reading = reading
        self.names: list[str] = []
        self._records: list[Record] = []
        self._left_out: list[tuple[str, str]] = []
        files = [name for name in tree.files if is_matlab_name(name)]
        for name in progress(files, len(files), "Reading headers"):
            self._add(name)

    def _add(self, name: str) -> None:
        try:
            with open_record(self.tree, name) as record:
                found = Record(label_of(record), patient_of(record))
        except NotOurs as reason:
            self._left_out.append((name, str(reason)))
            return
        except BrokenImage:  # decode will say so
            found = Record(None, None)
        self.names.append(name)
        self._records.append(found)

    def decode(self, index: int) -> Decoded:
        try:
            with open_record(self.tree, self.names[index]) as record:
                stored = record.array("image", self.reading.max_pixels)
        except NotOurs as reason:
            raise BrokenImage(str(reason)) from None
        if stored is None or stored.ndim != 2 or not stored.size:
            raise BrokenImage("cjdata.image is no picture")
        with np.errstate(over="ignore"):
            pixels = stored.astype(np.float32)
        background = background_of([pixels], pixels[[0, 0, -1, -1], [0, -1, 0, -1]])
        pixels = np.ascontiguousarray(background.fill(pixels)[:, :, np.newaxis])
        return Decoded(pixels, mode=stored.dtype.name, format="MATLAB", empty=background.empty)

    def labels(self) -> Labels | None:
        values = [record.label for record in self._records]
        return Labels(list(values), CLASS_NAMES) if any(value is not None for value in values) else None

    def state(self) -> str:
        return digest([(name, *self.tree.stamp(name)) for name in self.tree.files])

    def notes(self) -> list[str]:
        return [*self.tree.notes(), "Each slice has a window of its own, because each comes with a scale of its own. "
                                    "Left and right are as the set has them; it does not say which they are."]

    def left_out(self) -> list[tuple[str, str]]:
        return self._left_out

    def volume(self, index: int) -> str | None:
        return self.names[index]

    def subject(self, index: int) -> str | None:
        return self._records[index].patient

    def close(self) -> None:
        self.tree.close()


def is_matlab_name(name: str) -> bool:
    return name.lower().endswith(".mat")


def claims(tree: Tree) -> int:
    return sum(map(is_matlab_name, tree.files))


class Fields:
    """cjdata of one open file. What lies in another file is not followed."""

    def __init__(self, file: Any, h5py: Any) -> None:
        self._file, self._h5py = file, h5py
        group = file["cjdata"] if isinstance(file.get("cjdata", getlink=True), h5py.HardLink) else None
        if not isinstance(group, h5py.Group):
            raise NotOurs("a MATLAB file without cjdata, in which the figshare set keeps its slices")
        self._group = group

    def array(self, name: str, most: int) -> np.ndarray | None:
        """Numbers as MATLAB shows them, None where there are none. Raises BrokenImage for more than `most`."""
        if not isinstance(self._group.get(name, getlink=True), self._h5py.HardLink):
            return None
        found = self._group[name]
        if isinstance(found, self._h5py.Dataset) and found.dtype == self._h5py.ref_dtype and found.size == 1:
            found = self._file[found[()].item()]  # a cell: a reference to what it holds
        if not isinstance(found, self._h5py.Dataset) or found.external or found.is_virtual:
            return None
        if found.size and found.size > most:
            raise BrokenImage(f"too large: a field of {found.size} numbers")
        return found[()].T if found.size and found.dtype.kind in "iuf" else None


@contextlib.contextmanager
def open_record(tree: Tree, name: str) -> Iterator[Fields]:
    """cjdata of a file. Raises NotOurs, or BrokenImage for a damaged file, also from within the block."""
    start = tree.read_bytes(name, HDF5_AT + len(HDF5))
    try:
        if start[HDF5_AT:] == HDF5 or start.startswith(HDF5):
            h5py = require("h5py", "mat", f"{tree.flag}: MATLAB files")
            place = tree.local(name) or io.BytesIO(tree.read_bytes(name))
            with h5py.File(place, "r", **({} if isinstance(place, io.BytesIO) else {"locking": False})) as file:
                yield Fields(file, h5py)
        elif start.startswith(b"MATLAB 5"):
            raise BrokenImage("of MATLAB's format before 7.3, in which the figshare set is not; save it in MATLAB by "
                              "save(name, 'cjdata', '-v7.3')")
        else:
            raise BrokenImage("not a MATLAB file" if start else "an empty file")
    except (NotOurs, BrokenImage, UserError):
        raise
    except Exception as error:  # h5py raises many kinds for what is damaged
        raise BrokenImage(f"cannot be read: {printable(str(error)) or type(error).__name__}") from None


def label_of(record: Fields) -> int | None:
    """0, 1 or 2."""
    found = record.array("label", most=1)
    label = float(found.ravel()[0]) if found is not None else 0
    return int(label) - 1 if label in (1, 2, 3) else None


def patient_of(record: Fields) -> str | None:
    """The code is text, of which MATLAB stores the characters' numbers."""
    found = record.array("PID", MOST_CHARACTERS)
    if found is None:
        return None
    if found.dtype.kind == "f":
        return " ".join(f"{number:.17g}" for number in found.ravel())
    return "".join(chr(number) for number in found.ravel().tolist() if 0 < number < 0xD800) or None
