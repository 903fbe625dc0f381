"""Files of Arrow tables - .parquet, and .arrow as streams or files - read a few rows at a time."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from stylegan2_pipeline.decode import BrokenImage
from stylegan2_pipeline.sources.base import require
from stylegan2_pipeline.sources.labels import printable
from stylegan2_pipeline.sources.trees import Tree

ENDINGS = (".parquet", ".arrow")
ROWS_AT_ONCE = 16          # images are large
ARROW_FILE = b"ARROW1"     # begins the kind of .arrow that has a directory at its end
MAX_ROWS = 2 ** 24         # of one file, and not more than it has bytes
STREAM_BYTES = 2 ** 20     # of a column that are read ahead


@dataclass(frozen=True)
class Shard:
    """name in the tree; schema: of pyarrow; groups: rows in each part that can be read without those before it."""

    name: str
    schema: Any
    groups: tuple[int, ...]

    @property
    def rows(self) -> int:
        return sum(self.groups)

    def place(self, row: int) -> tuple[int, int]:
        """Group of a row, and the row's number within it."""
        group = 0
        while row >= self.groups[group]:
            row -= self.groups[group]
            group += 1
        return group, row


class Opened:
    """A shard whose file is open; batches(group, column) gives its rows of one column in parts."""

    def __init__(self, shard: Shard, batches: Callable[[int, str], Iterator[Any]], close: Callable[[], None]) -> None:
        self.shard = shard
        self.batches = batches
        self.close = close


def open_shard(tree: Tree, name: str) -> Opened:
    """Raises BrokenImage for a damaged file, UserError when pyarrow is missing."""
    require("pyarrow", "parquet", f"{tree.flag}: parquet and arrow files")
    with damage_told():
        opened = (_open_parquet if name.lower().endswith(".parquet") else _open_arrow)(tree, name)
        if min(opened.shard.groups, default=0) < 0 or opened.shard.rows > min(MAX_ROWS, tree.stamp(name)[0]):
            opened.close()
            raise BrokenImage(f"cannot be read: it claims to have {opened.shard.rows} rows")
        return opened


@contextmanager
def damage_told() -> Iterator[None]:
    try:
        yield
    except BrokenImage:
        raise
    except Exception as error:  # pyarrow raises its own, OSError, MemoryError, and numpy's and Python's
        reason = printable(str(error)).partition("\n")[0] or type(error).__name__
        raise BrokenImage(f"cannot be read: {reason}") from None


def _open_parquet(tree: Tree, name: str) -> Opened:
    from pyarrow import BufferReader
    from pyarrow.parquet import ParquetFile
    place = tree.local(name) or BufferReader(tree.read_bytes(name))
    file = ParquetFile(place, pre_buffer=False, buffer_size=STREAM_BYTES, page_checksum_verification=True)
    groups = tuple(file.metadata.row_group(number).num_rows for number in range(file.metadata.num_row_groups))

    def batches(group: int, column: str) -> Iterator[Any]:
        return file.iter_batches(ROWS_AT_ONCE, row_groups=[group], columns=[column], use_threads=False)

    return Opened(Shard(name, file.schema_arrow, groups), batches, file.close)


def _open_arrow(tree: Tree, name: str) -> Opened:
    """Of a file on the disk only what is looked at is read: it is mapped into memory."""
    import pyarrow as pa
    local = tree.local(name)
    data = pa.memory_map(str(local)) if local else pa.BufferReader(tree.read_bytes(name))
    if tree.read_bytes(name, len(ARROW_FILE)) == ARROW_FILE:
        reader = pa.ipc.open_file(data)
        parts = [reader.get_batch(number) for number in range(reader.num_record_batches)]
    else:
        reader = pa.ipc.open_stream(data)
        parts = list(reader)

    def batches(group: int, column: str) -> Iterator[Any]:
        part = parts[group].select([column])
        part.validate(full=True)  # offsets that point outside would be followed
        yield part

    return Opened(Shard(name, reader.schema, tuple(part.num_rows for part in parts)), batches, data.close)


class Cursor:
    """Goes through a column of the shards of a tree; rows in their order are read once."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._opened: Opened | None = None
        self._at = ("", "", -1)              # shard, column and group of _parts
        self._parts: Iterator[Any] = iter(())
        self._first = 0                      # number within the group of the first row of _values
        self._values: Any = ()
        self._failed: tuple[tuple[str, str, int], int, str] | None = None  # place, first row that fails, reason

    def value(self, shard: Shard, column: str, row: int) -> Any:
        """A pyarrow scalar. Raises BrokenImage."""
        group, row = shard.place(row)
        at = (shard.name, column, group)
        if self._failed is not None and self._failed[0] == at and row >= self._failed[1]:
            raise BrokenImage(self._failed[2])
        if at != self._at or row < self._first:
            self._start(shard, column, group)
        try:
            with damage_told():
                while row >= self._first + len(self._values):
                    self._advance(shard.groups[group])
                return self._values[row - self._first]
        except BrokenImage as error:  # the rest of the group cannot be reached, and is not tried again
            self._failed = (at, self._first + len(self._values), str(error))
            raise

    def _start(self, shard: Shard, column: str, group: int) -> None:
        if self._opened is None or self._opened.shard.name != shard.name:
            self.close()
            self._opened = open_shard(self._tree, shard.name)
        self._at, self._first, self._values = (shard.name, column, group), 0, ()
        with damage_told():
            self._parts = self._opened.batches(group, column)

    def _advance(self, rows: int) -> None:
        self._first += len(self._values)
        self._values = ()
        part = next(self._parts, None)
        if part is None:
            raise BrokenImage(f"cut off: {self._first} of {rows} rows are there")
        self._values = part.column(0)

    def close(self) -> None:
        if self._opened is not None:
            self._at, self._parts, self._values = ("", "", -1), iter(()), ()
            self._opened.close()
            self._opened = None

    def __getstate__(self) -> dict:
        return {"_tree": self._tree}

    def __setstate__(self, state: dict) -> None:
        self.__init__(state["_tree"])  # type: ignore[misc]


def read_column(tree: Tree, shard: Shard, column: str) -> list:
    """All values of a column, as Python has them. Raises BrokenImage."""
    opened = open_shard(tree, shard.name)
    try:
        with damage_told():
            return [value for group in range(len(shard.groups)) for part in opened.batches(group, column)
                    for value in part.column(0).to_pylist()]
    finally:
        opened.close()
