"""LSUN, and other LMDB databases whose values are image files.

The database is read by what its file format says, not by the library for it: that one trusts the file, and a damaged
page ends the process. Little-endian files of 64-bit machines, which all published ones are.
"""

import array
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from stylegan2_pipeline.decode import MAX_BYTES, BrokenImage, Decoded, decode_image
from stylegan2_pipeline.progress import progress
from stylegan2_pipeline.sources.base import Reading, Source, digest
from stylegan2_pipeline.sources.labels import some
from stylegan2_pipeline.sources.trees import Tree, starts_with
from torch_utils.errors import UserError

FILE = "data.mdb"
MAGIC = struct.pack("<2I", 0xBEEFC0DE, 1)   # and the version of the format
PAGE_HEADER = 16                            # number of the page, padding, kind, and where its free part is
META = struct.Struct("<2I2Q48s48sQQ")       # magic, version, address, size, free pages, data, last page, transaction
DATABASE = struct.Struct("<IHH5Q")          # page size (of the first), flags, depth, 3 counts of pages, entries, root
NODE = struct.Struct("<4H")                 # size of the value, or child page, in two halves; flags; size of the key
NO_PAGE = 2 ** 64 - 1
BRANCH, LEAF = 1, 2                         # kinds of pages
OVERFLOW, NESTED = 1, 6                     # flags of nodes: the value has pages of its own; it is a database
MAX_DEPTH = 32


class Damaged(Exception):
    """The file is none, or not whole."""


class Entry(NamedTuple):
    key: bytes
    offset: int
    size: int
    nested: bool


class LmdbImages(Source):
    """One image a value, in the order of the keys, which are the names; binary keys are in hexadecimal."""

    curated = True

    def __init__(self, tree: Tree, reading: Reading = Reading()) -> None:  # noqa: B008 - it cannot be changed
        self.path, self.tree, self.reading = tree.path, tree, reading
        self._name, self._others = _choose(tree)
        place = tree.local(self._name)
        if place is None:
            raise UserError(f"{tree.flag}: {self._name} in {tree.path} can only be read where it lies in a folder by "
                            f"itself: unpack it first.")
        self._place = place
        self.names: list[str] = []
        self._left_out: list[tuple[str, str]] = []
        spans = array.array("q")  # of millions, a list would take a gigabyte
        try:
            with place.open("rb") as file:
                for entry in entries(file):
                    if entry.nested:
                        self._left_out.append((_name(entry.key), "a database within the database"))
                    else:
                        self.names.append(_name(entry.key))
                        spans.extend((entry.offset, entry.size))
            if len(set(self.names)) < len(self.names):
                raise Damaged("a key in it is there more than once")
        except (Damaged, OSError) as error:
            raise UserError(f"{tree.flag}: {place} cannot be read: {error}. Was it copied whole?") from None
        self._spans = np.array(spans).reshape(-1, 2)

    def decode(self, index: int) -> Decoded:
        offset, size = map(int, self._spans[index])
        if size > MAX_BYTES:
            raise BrokenImage(f"too large: more than {MAX_BYTES >> 30} GiB")
        try:
            with self._place.open("rb") as file:
                file.seek(offset)
                data = file.read(size)
        except OSError as error:
            raise BrokenImage(error.strerror or str(error)) from None
        return decode_image(data, max_pixels=self.reading.max_pixels)

    def state(self) -> str:
        return digest([(self._name, *self.tree.stamp(self._name))])

    def notes(self) -> list[str]:
        if not self._others:
            return self.tree.notes()
        return [*self.tree.notes(), f"Read: {self._name}; left out: {some(self._others)}."]

    def left_out(self) -> list[tuple[str, str]]:
        return self._left_out

    def close(self) -> None:
        self.tree.close()


def _choose(tree: Tree) -> tuple[str, list[str]]:
    """The one database of the tree, or the one that is for training, and the others."""
    found = list(_databases(tree))
    if not found:
        raise UserError(f"{tree.flag}: there is no LMDB database ({FILE}) in {tree.path}.")
    train = [name for name in found if "train" in name]
    if len(found) > 1 and len(train) != 1:
        raise UserError(f"{tree.flag}: {tree.path} holds {len(found)} databases ({some(found)}). Name the folder of "
                        f"one, such as {tree.path / Path(found[0]).parent}.")
    chosen = train[0] if train else found[0]
    return chosen, [name for name in found if name != chosen]


def _name(key: bytes) -> str:
    text = key.decode("ascii", "replace")
    return text if text and text.isascii() and text.isprintable() else f"0x{key.hex()}"


class _File:
    """Pages of a database by number; none is read that the file does not have."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.size = file.seek(0, 2)
        first = self._meta(0)
        self.page_size = DATABASE.unpack(first[4])[0]
        if self.page_size not in (2 ** power for power in range(9, 17)):
            raise Damaged("the size of its pages makes no sense")
        newest = max(first, self._meta(self.page_size), key=lambda meta: meta[7])
        *_, self.entries, self.root = DATABASE.unpack(newest[5])
        self.pages = newest[6] + 1
        if self.pages * self.page_size > self.size:
            raise Damaged(f"it announces {self.pages * self.page_size} bytes and has {self.size}")

    def _meta(self, offset: int) -> tuple:
        meta = self.read(offset + PAGE_HEADER, META.size)
        if not meta.startswith(MAGIC):
            raise Damaged("it does not begin as an LMDB database does")
        return META.unpack(meta)

    def read(self, offset: int, size: int) -> bytes:
        self._file.seek(min(offset, self.size))
        data = self._file.read(size)
        if len(data) < size:
            raise Damaged("it is cut short")
        return data

    def nodes(self, number: int) -> tuple[int, bytes, list[int]]:
        """A page: its kind, its bytes, and where its nodes begin."""
        if not 2 <= number < self.pages:
            raise Damaged(f"a page {number} is not there")
        page = self.read(number * self.page_size, self.page_size)
        kind, lower = struct.unpack_from("<2H", page, 10)
        count = (lower - PAGE_HEADER) // 2
        if not 0 <= count <= (self.page_size - PAGE_HEADER) // 2 or kind & ~0x10 not in (BRANCH, LEAF):
            raise Damaged(f"page {number} is damaged")
        places = list(struct.unpack_from(f"<{count}H", page, PAGE_HEADER))
        if any(place + NODE.size > self.page_size for place in places):
            raise Damaged(f"page {number} is damaged")
        return kind & 3, page, places


def entries(file: BinaryIO) -> Iterator[Entry]:
    """All entries of the main database, in the order of keys. Raises Damaged."""
    database = _File(file)
    if database.root == NO_PAGE:
        return
    if database.entries > database.size:
        raise Damaged("it announces more entries than fit")
    yield from progress(_walk(database), database.entries, "Reading keys")


def _walk(database: _File) -> Iterator[Entry]:
    waiting = [(database.root, 1)]
    visited = entries = 0
    while waiting:
        number, depth = waiting.pop()
        visited += 1
        if depth > MAX_DEPTH or visited > database.pages:
            raise Damaged("its pages form a circle")
        kind, page, places = database.nodes(number)
        if kind == BRANCH:
            waiting += [(_child(page, place), depth + 1) for place in reversed(places)]
            continue
        entries += len(places)
        for place in places:
            yield _entry(database, number, page, place)
    if entries != database.entries:
        raise Damaged(f"it announces {database.entries} entries and has {entries}")


def _child(page: bytes, place: int) -> int:
    low, high, top, _ = NODE.unpack_from(page, place)
    return low | high << 16 | top << 32


def _entry(database: _File, number: int, page: bytes, place: int) -> Entry:
    low, high, flags, key_size = NODE.unpack_from(page, place)
    size, begin = low | high << 16, place + NODE.size + key_size
    if flags & OVERFLOW:
        if begin + 8 > len(page):
            raise Damaged(f"page {number} is damaged")
        offset = int.from_bytes(page[begin:begin + 8], "little") * database.page_size + PAGE_HEADER
        end = database.pages * database.page_size
    else:
        offset, end = number * database.page_size + begin, (number + 1) * database.page_size
    if offset + size > end:
        raise Damaged(f"page {number} is damaged")
    return Entry(page[place + NODE.size:begin], offset, size, bool(flags & NESTED))


def _databases(tree: Tree) -> Iterator[str]:
    return (name for name in tree.files
            if name.rpartition("/")[2] == FILE and starts_with(tree, name, MAGIC, PAGE_HEADER))


def claims(tree: Tree) -> int:
    return sum(1 for _ in _databases(tree))
