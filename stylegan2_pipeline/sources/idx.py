"""MNIST, Fashion-MNIST, EMNIST: images and labels in idx files, also gzipped ones."""

import gzip
import io
import itertools
import re
import struct
import zlib
from collections.abc import Iterator

import numpy as np

from stylegan2_pipeline.decode import BrokenImage, Decoded
from stylegan2_pipeline.sources.base import Reading, Source, digest
from stylegan2_pipeline.sources.folder import FileTree
from stylegan2_pipeline.sources.labels import Labels, some
from stylegan2_pipeline.sources.rows import Rows
from stylegan2_pipeline.sources.trees import Tree
from stylegan2_pipeline.sources.unpacked import Unpacked
from torch_utils.errors import UserError

IMAGES = re.compile(r"(^|.*[/_-])images[-.]idx3-ubyte(\.gz)?$")
UINT8 = 8     # the third byte of an idx file: what its numbers are; the fourth: how many dimensions it has
CHUNK = 2 ** 20
FASHION = ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"]
FASHION_STARTS = (bytes((9, 0, 0, 3, 0, 2, 7, 2, 5, 5)), bytes((9, 2, 1, 1, 6, 1, 4, 6, 5, 7)))  # its first labels


class IdxImages(Source):
    """The training images: those of the test are left out, unless their file is what the user named, or all there is.

    Each is gray [H,W,1], named "<file>#00000". EMNIST's files hold them transposed; they are turned back.
    """

    curated = True

    def __init__(self, tree: Tree, reading: Reading = Reading()) -> None:  # noqa: B008 - it cannot be changed
        self.path, self.tree, self.reading = tree.path, tree, reading
        found = sorted(filter(is_images, tree.files), key=lambda name: ("train" not in name, name))
        if not found:
            raise UserError(f"{tree.flag}: there is no file such as train-images-idx3-ubyte.gz in {tree.path}.")
        self._name, self._others = found[0], found[1:]
        self._where = f"{tree.flag}: {tree.path}: {self._name}"
        self._transposed = "emnist" in self._name.lower()
        self._unpacked: Unpacked | None = None
        self._rows: Rows | None = self._open()
        stem = self._name.removesuffix(".gz")
        self.names = [f"{stem}#{index:05d}" for index in range(len(self._rows))]

    def decode(self, index: int) -> Decoded:
        self._rows = self._rows or self._open()
        pixels = self._rows.row(index)
        if pixels.size > self.reading.max_pixels:
            raise BrokenImage(f"too large: {pixels.size} pixels")
        return Decoded(np.ascontiguousarray(pixels.T if self._transposed else pixels)[:, :, np.newaxis], format="idx")

    def state(self) -> str:
        names = [name for name in (self._name, self._labels_name()) if name]
        return digest([(name, *self.tree.stamp(name)) for name in names])

    def labels(self) -> Labels | None:
        name = self._labels_name()
        if name is None:
            return None
        try:
            data = b"".join(itertools.islice(_unzipped(self.tree, name), len(self.names) // CHUNK + 2))  # not a bomb's
            (count,), begin = _header(data[:8], 1)
        except (BrokenImage, ValueError, EOFError, OSError, zlib.error) as error:
            raise UserError(f"{self.tree.flag}: {self.path}: {name} cannot be read: {error}.") from None
        values = data[begin:]
        if not count == len(values) == len(self.names):
            raise UserError(f"{self._where} holds {len(self.names)} images, and {name} {len(values)} labels: one of "
                            f"them was not copied whole, or they do not belong together.")
        fashion = values.startswith(FASHION_STARTS) and max(values) < len(FASHION)
        return Labels(list(values), FASHION if fashion else None)

    def notes(self) -> list[str]:
        notes = self.tree.notes()
        if self._others:
            notes.append(f"Read: {self._name}; left out: {some(self._others)}. Name the file itself to get another.")
        if self._labels_name() is None:
            notes.append("There is no file of labels beside it.")
        return notes

    def close(self) -> None:
        if self._unpacked is not None and self._unpacked.close():
            self._unpacked = self._rows = None
        self.tree.close()

    def _open(self) -> Rows:
        """Where the images lie: in the file, or in a temporary one if that is compressed or inside an archive."""
        tree, name = self.tree, self._name
        local = tree.local(name)
        try:
            if local is not None and not name.endswith(".gz"):
                shape, offset = _header(tree.read_bytes(name, 16), 3)
                size = tree.stamp(name)[0]
                rows = Rows(local, offset, shape)
            else:
                self._unpacked = Unpacked(self._where)
                begin = self._unpacked.add(_unzipped(tree, name), tree.stamp(name)[0])
                size = self._unpacked.path.stat().st_size - begin
                with self._unpacked.path.open("rb") as file:
                    shape, offset = _header(file.read(16), 3)
                rows = Rows(self._unpacked.path, begin + offset, shape)
        except (BrokenImage, ValueError, EOFError, OSError, zlib.error) as error:
            self.close()
            raise UserError(f"{self._where} cannot be read: {error}. Was it copied whole?") from None
        if size != offset + rows.nbytes or not rows.nbytes:
            raise UserError(f"{self._where} announces {' x '.join(map(str, shape))} bytes and holds {size - offset}: "
                            f"it was not copied whole.")
        return rows

    def _labels_name(self) -> str | None:
        """train-labels-idx1-ubyte beside train-images-idx3-ubyte, each with or without .gz, and a dot or a hyphen."""
        stem = self._name.removesuffix(".gz").replace("images", "labels")
        stems = [re.sub("[-.]idx3", dot, stem) for dot in ("-idx1", ".idx1")]
        names = [stem + ending for stem in stems for ending in ("", ".gz")]
        return next((name for name in names if self._holds(name)), None)

    def _holds(self, name: str) -> bool:
        return self.tree.beside(name) if isinstance(self.tree, FileTree) else name in self.tree


def _unzipped(tree: Tree, name: str) -> Iterator[bytes]:
    local = tree.local(name)
    with local.open("rb") if local else io.BytesIO(tree.read_bytes(name)) as packed:
        file = gzip.GzipFile(fileobj=packed) if name.endswith(".gz") else packed
        while chunk := file.read(CHUNK):
            yield chunk


def _header(data: bytes, dimensions: int) -> tuple[tuple[int, ...], int]:
    """Shape of an idx file of uint8, and where its numbers begin. Raises ValueError."""
    if data[:4] != bytes((0, 0, UINT8, dimensions)):
        raise ValueError(f"it does not begin as an idx file of bytes in {dimensions} dimensions does")
    length = 4 + 4 * dimensions
    if len(data) < length:
        raise ValueError("it is cut short")
    return struct.unpack(f">{dimensions}I", data[4:length]), length


def is_images(name: str) -> bool:
    return IMAGES.match(name.lower()) is not None


def claims(tree: Tree) -> int:
    return sum(map(is_images, tree.files))
