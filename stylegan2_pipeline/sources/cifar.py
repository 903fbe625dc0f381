"""CIFAR-10 and CIFAR-100 as published for Python: pickles of pixels and labels, read without running them."""

import contextlib
import math
import re
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import NamedTuple

import numpy as np

from stylegan2_pipeline.decode import BrokenImage, Decoded
from stylegan2_pipeline.sources.base import Reading, Source, digest
from stylegan2_pipeline.sources.folder import FileTree
from stylegan2_pipeline.sources.labels import Labels, printable, some
from stylegan2_pipeline.sources.pickles import Call, read_plain
from stylegan2_pipeline.sources.rows import Rows
from stylegan2_pipeline.sources.trees import Tree, starts_with
from stylegan2_pipeline.sources.unpacked import Unpacked
from torch_utils.errors import UserError

SHAPE = (3, 32, 32)
PICKLE = b"\x80"  # the first byte of a pickle since Python 2.3
MAX_PICKLE = 2 ** 29  # bytes; the largest of the published ones has 155 MB
TRAIN, TEST = re.compile(r"data_batch_\d+|train"), re.compile(r"test_batch|test")
META = {"batches.meta": "label_names", "meta": "fine_label_names"}  # file, and what it calls the classes


class Batch(NamedTuple):
    pixels: bytes  # [N,3,32,32]
    labels: list[int]


class CifarImages(Source):
    """The training images, RGB [32,32,3], named "<file>#00000", with the fine labels of CIFAR-100. The test images are
    left out, unless their file is what the user named."""

    curated = True

    def __init__(self, tree: Tree, reading: Reading = Reading()) -> None:  # noqa: B008 - it cannot be changed
        self.path, self.tree, self.reading = tree.path, tree, reading
        self._files, self._others = _choose(tree)
        if not self._files:
            raise UserError(f"{tree.flag}: there are no files data_batch_1 ... beside a batches.meta, nor train beside "
                            f"a meta, in {tree.path}: it is no CIFAR-10 or CIFAR-100 for Python.")
        self._unpacked: Unpacked | None = None
        self._labels: list[int] = []
        self._rows: list[Rows] = []
        self._open()
        self.names = [f"{name}#{index:05d}" for name, rows in zip(self._files, self._rows, strict=True)
                      for index in range(len(rows))]
        self._ends = np.cumsum([len(rows) for rows in self._rows])

    def decode(self, index: int) -> Decoded:
        if not self._rows:
            self._open()
        number = int(np.searchsorted(self._ends, index, "right"))
        rows = self._rows[number]
        pixels = rows.row(index - int(self._ends[number]) + len(rows))
        return Decoded(np.ascontiguousarray(pixels.transpose(1, 2, 0)), "RGB", format="CIFAR")

    def state(self) -> str:
        return digest([(name, *self.tree.stamp(name)) for name in self._files])

    def labels(self) -> Labels:
        """Class numbers as published, and the names of the classes."""
        meta = next(name for name in META if _holds(self.tree, beside(self._files[0], name)))
        name = beside(self._files[0], meta)
        with self._naming(name):
            names = self._record(name).get(META[meta])
            if not (isinstance(names, list) and all(isinstance(name, str) for name in names)
                    and max(self._labels) < len(names)):
                raise ValueError("it does not name the classes")
        return Labels(list(self._labels), names)

    def notes(self) -> list[str]:
        if not self._others:
            return self.tree.notes()
        return [*self.tree.notes(), f"Left out, because the images for tests are not trained on: {some(self._others)}."]

    def close(self) -> None:
        if self._unpacked is not None and self._unpacked.close():
            self._unpacked, self._rows = None, []
        self.tree.close()

    def _open(self) -> None:
        """All pixels into one temporary file, that each process reads rows from instead of whole pickles."""
        self._unpacked = Unpacked(f"{self.tree.flag}: {self.path}")
        self._labels, self._rows = [], []
        for name in self._files:
            batch = self._batch(name)
            begin = self._unpacked.add([batch.pixels], len(batch.pixels))
            self._rows.append(Rows(self._unpacked.path, begin, (len(batch.labels), *SHAPE)))
            self._labels += batch.labels

    def _batch(self, name: str) -> Batch:
        with self._naming(name):
            record = self._record(name)
            labels = record.get("labels", record.get("fine_labels"))
            if not (isinstance(labels, list) and labels and all(type(label) is int and 0 <= label < 2 ** 31
                                                                for label in labels)):
                raise ValueError("it holds no labels as CIFAR has them")
            pixels = _pixels(record.get("data"))
            if len(pixels) != len(labels) * math.prod(SHAPE):
                raise ValueError(f"{len(labels)} labels do not belong to {len(pixels)} bytes of pixels")
            return Batch(pixels, labels)

    def _record(self, name: str) -> dict:
        """A pickled dictionary, its keys as text. Raises ValueError, BrokenImage."""
        if self.tree.stamp(name)[0] > MAX_PICKLE:
            raise ValueError("it is too large")
        record = read_plain(self.tree.read_bytes(name))
        if not isinstance(record, dict):
            raise ValueError("it is no dictionary")
        return {key.decode("latin-1") if isinstance(key, bytes) else key: value for key, value in record.items()}

    @contextlib.contextmanager
    def _naming(self, name: str) -> Iterator[None]:
        try:
            yield
        except (BrokenImage, ValueError) as error:
            self.close()
            raise UserError(f"{self.tree.flag}: {self.path}: {name} cannot be read: {printable(str(error))}. Was it "
                            f"copied whole?") from None


def _pixels(array: object) -> bytes:
    """The bytes of a numpy array of uint8, row by row, as pickles hold one. Raises ValueError."""
    if not isinstance(array, Call) or not isinstance(array.state, tuple) or len(array.state) != 5:
        raise ValueError("its data is no array")
    _, _, kind, fortran, data = array.state
    if not isinstance(kind, Call) or kind.arguments[:1] not in (("u1",), (b"u1",)) or fortran:
        raise ValueError("its array is not of bytes, row by row")
    if not isinstance(data, str | bytes):
        raise ValueError("its array has no bytes")
    return data.encode("latin-1") if isinstance(data, str) else data


def beside(name: str, other: str) -> str:
    return str(PurePosixPath(name).with_name(other))


def _holds(tree: Tree, name: str) -> bool:
    return tree.beside(name) if isinstance(tree, FileTree) else name in tree


def _batches(tree: Tree) -> Iterator[str]:
    """Files that are named as CIFAR's beside a file that says the names of its classes, and are pickles."""
    for name in tree.files:
        base = name.rpartition("/")[2]
        meta = "batches.meta" if "_batch" in base else "meta"
        if (TRAIN.fullmatch(base) or TEST.fullmatch(base)) and _holds(tree, beside(name, meta)):
            yield name


def _choose(tree: Tree) -> tuple[list[str], list[str]]:
    """Files of the training images, and the others; those of the test where there is nothing else."""
    names = sorted(_batches(tree))
    train = [name for name in names if TRAIN.fullmatch(PurePosixPath(name).name)]
    first = PurePosixPath((train or names or [""])[0]).parent
    chosen = [name for name in train or names if PurePosixPath(name).parent == first]
    return chosen, [name for name in names if name not in chosen]


def claims(tree: Tree) -> int:
    return sum(starts_with(tree, name, PICKLE) for name in _batches(tree))
