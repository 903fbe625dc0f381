"""Folders of Hugging Face's `datasets`: .parquet or .arrow files with image files in a column.

The schema says what a column is, where `datasets` wrote it; else names and types tell. Images that a table only names
are not looked for.
"""

import bisect
import itertools
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any

from stylegan2_pipeline.decode import BrokenImage, Decoded, decode_image
from stylegan2_pipeline.progress import progress
from stylegan2_pipeline.sources.base import Reading, Source, digest, require
from stylegan2_pipeline.sources.columns import Columns, find_columns
from stylegan2_pipeline.sources.labels import Label, Labels, printable, some
from stylegan2_pipeline.sources.shards import ENDINGS, Cursor, Shard, damage_told, open_shard, read_column
from stylegan2_pipeline.sources.trees import Tree
from torch_utils.errors import UserError

WEIGHT = 1000              # images that a file is taken for while none has been opened
RUN = 128                  # rows that one process reads
SPLITS = {"train": "train", "training": "train", "validation": "validation", "valid": "validation",
          "val": "validation", "dev": "validation", "test": "test", "testing": "test", "eval": "test"}


class TableImages(Source):
    """One image a row, named after its file and its number there."""

    def __init__(self, tree: Tree, reading: Reading = Reading()) -> None:  # noqa: B008 - it cannot be changed
        require("pyarrow", "parquet", f"{tree.flag}: parquet and arrow files")
        self.path = tree.path
        self.tree = tree
        self.reading = reading
        self.shards: list[Shard] = []
        self.columns: list[Columns] = []
        self._broken: list[tuple[str, str]] = []
        self._left_out: list[tuple[str, str]] = []
        self._subjects: list[str | None] | None = None
        files, self._split_notes = chosen_split([name for name in tree.files if is_table_name(name)])
        for name in progress(files, len(files), "Reading headers"):
            self._add(name)
        self._starts = list(itertools.accumulate((shard.rows for shard in self.shards), initial=0))
        self.names = [f"{shard.name}#{row:06d}" for shard in self.shards for row in range(shard.rows)]
        self.names += [name for name, _ in self._broken]
        self._cursor = Cursor(tree)

    def _add(self, name: str) -> None:
        try:
            opened = open_shard(self.tree, name)
            opened.close()
            with damage_told():
                columns = find_columns(opened.shard.schema)
        except BrokenImage as error:
            self._broken.append((name, str(error)))
            return
        if PurePosixPath(name).name.startswith("cache-"):
            self._left_out.append((name, "what `datasets` keeps of its own work"))
        elif columns is None:
            found = some([str(column) for column in opened.shard.schema.names])
            self._left_out.append((name, f"a table without image files in a column; it has {found or 'no columns'}"))
        else:
            self.shards.append(opened.shard)
            self.columns.append(columns)

    def decode(self, index: int) -> Decoded:
        if index >= self._starts[-1]:
            raise BrokenImage(self._broken[index - self._starts[-1]][1])
        number, row = self._place(index)
        value = self._cursor.value(self.shards[number], self.columns[number].image, row)
        return decode_image(image_bytes(value), self.reading.max_pixels)

    def _place(self, index: int) -> tuple[int, int]:
        """Number of the shard, and the row in it."""
        number = bisect.bisect_right(self._starts, index) - 1
        return number, index - self._starts[number]

    def labels(self) -> Labels | None:
        if not any(columns.label for columns in self.columns):
            return None
        kinds = {columns.class_names for columns in self.columns if columns.label}
        if len(kinds) > 1:
            raise UserError(f"{self.tree.flag}: the files in {self.path} do not agree on their classes, as those of "
                            f"different sets do not: name the folder or file of one of them.")
        values = self._column([columns.label for columns in self.columns])
        names = next(iter(kinds))
        return as_labels(values, list(names) if names else None, f"{self.tree.flag}: {self.path}")

    def _column(self, names: Sequence[str | None]) -> list:
        """One value an image; names: of the column, one a shard."""
        values: list = []
        for shard, name in zip(self.shards, names, strict=True):
            try:
                values += read_column(self.tree, shard, name) if name else [None] * shard.rows
            except BrokenImage as error:
                raise UserError(f"{self.tree.flag}: {printable(shard.name)}: the column {printable(name or '')} "
                                f"{error}. Fetch the file again, or take it away.") from None
        return values + [None] * len(self._broken)

    def state(self) -> str:
        return digest([(name, *self.tree.stamp(name)) for name in self.tree.files])

    def notes(self) -> list[str]:
        notes = [*self.tree.notes(), *self._split_notes]
        folders = sorted({str(PurePosixPath(shard.name).parent) for shard in self.shards})
        if len(folders) > 1:
            notes.append(f"Tables of {len(folders)} folders become one set: {some(folders)}.")
        others = sorted({name for columns in self.columns for name in columns.others})
        if others:
            taken = self.columns[0]
            what = f"images from the column {printable(taken.image)}"
            what += f", labels from {printable(taken.label)}" if taken.label else ""
            notes.append(f"Taken are {what}. Not taken: {some(others)}.")
        return notes

    def left_out(self) -> list[tuple[str, str]]:
        return self._left_out

    def subject(self, index: int) -> str | None:
        if self._subjects is None:
            values = self._column([columns.subject for columns in self.columns])
            self._subjects = [None if value is None else str(value) for value in values]
        return self._subjects[index]

    def run(self, index: int) -> int:
        """A shard's rows are dealt out in runs of RUN: getting to a row is cheap beside decoding its image."""
        if index >= self._starts[-1]:
            return self._starts[-1] // RUN + len(self.shards) + index
        number, row = self._place(index)
        return self._starts[number] // RUN + number + row // RUN

    def close(self) -> None:
        self._cursor.close()
        self.tree.close()

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_subjects": None}


def is_table_name(name: str) -> bool:
    return name.lower().endswith(ENDINGS)


def claims(tree: Tree) -> int:
    return WEIGHT * sum(map(is_table_name, tree.files))


def chosen_split(files: Sequence[str]) -> tuple[list[str], list[str]]:
    """Files of the training split, where there is one, else all; and notes about the others."""
    splits = {name: split_of(name) for name in files}
    train = [name for name in files if splits[name] == "train"]
    if not train or len(train) == len(files):
        return list(files), []
    counts = Counter(split or "no split" for split in splits.values() if split != "train")
    others = ", ".join(f"{count} of {split}" for split, count in sorted(counts.items()))
    return train, [f"The training split is taken ({len(train)} {'file' if len(train) == 1 else 'files'}), not the "
                   f"other files ({others}). To read those, name their folder or file."]


def split_of(name: str) -> str:
    """train, validation, test or "": what the file's name says, else the nearest of its folders."""
    for part in reversed(PurePosixPath(name).with_suffix("").parts):
        for word in re.split(r"[^a-z]+", part.lower()):
            if word in SPLITS:
                return SPLITS[word]
    return ""


def image_bytes(value: Any) -> bytes:
    """Of a row. Raises BrokenImage where there is none."""
    with damage_told():
        held = value.as_py()
    if isinstance(held, dict):
        if held.get("bytes") is None and held.get("path"):
            raise BrokenImage("the table only names a file, and does not hold it")
        held = held.get("bytes")
    if held is None:
        raise BrokenImage("no image in this row")
    return held


def as_labels(values: Sequence[object], names: list[str] | None, where: str) -> Labels | None:
    """Whole numbers as they are, -1 for none; texts as classes in their order. Raises UserError."""
    known = {value for value in values if value is not None}
    if not known:
        return None
    if all(isinstance(value, str) for value in known):
        names = sorted(map(str, known))
        number: dict[object, Label | None] = {name: index for index, name in enumerate(names)}
        return Labels([number.get(value) for value in values], names)
    if not all(isinstance(value, int) and -1 <= value < (len(names) if names else 2 ** 31) for value in known):
        limit = f"to {len(names) - 1}, as its schema says" if names else "up"
        raise UserError(f"{where}: the column of labels holds something else than class numbers from 0 {limit}; leave "
                        f"the labels out with --labels=none.")
    numbers = [int(value) if isinstance(value, int) and value >= 0 else None for value in values]
    return Labels(list(numbers), names) if any(number is not None for number in numbers) else None
