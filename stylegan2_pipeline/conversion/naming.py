"""Which images are meant by what a table calls them: a path or the end of one, a file, a patient, a series."""

import re
import unicodedata
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

from stylegan2_pipeline.sources.base import Source
from stylegan2_pipeline.sources.labels import file_of

SUBJECT, BASE, LOOSE, EXACT = 1, 2, 3, 4  # how surely images are meant: as those of a patient or series; as the only
# ones of that name, in whatever folder; by path, but for ending and case; by path
_ENDING = re.compile(r"\.[a-z][a-z0-9]{1,4}(\.gz)?$")


class Match(NamedTuple):
    """rank: how surely the images are meant, 0 for not at all; several: names more than one file alike."""

    images: Sequence[int] = ()
    rank: int = 0
    several: bool = False


class Images:
    """The images of a source by what a table may call them: by path, the end of a path, or a path that ends in theirs;
    without ending; by the file that holds several; by whom they are of, or the name of their series; by their groups,
    one an image, where paths tell them."""

    def __init__(self, source: Source, groups: Sequence[str | None] | None = None) -> None:
        files: dict[str, list[int]] = defaultdict(list)
        self._others: dict[str, list[int]] = defaultdict(list)
        for index, name in enumerate(source.names):
            files[file_of(name)].append(index)
            for key in {source.subject(index), source.volume(index), groups[index] if groups else None} - {None, ""}:
                self._others[_subject(str(key))].append(index)
        self._files = list(files.values())
        self._parts = _Paths(source.names if list(files) != list(source.names) else [])
        self._exact, self._paths = _Paths(list(files)), list(files)

    @cached_property
    def _loose(self) -> "_Paths":
        return _Paths([_bare(_folded(path)) for path in self._paths])

    def __len__(self) -> int:
        return sum(map(len, self._files))

    def find(self, cell: str) -> Match:
        cell = cell.replace("\\", "/").removeprefix("./")
        base = cell.rpartition("/")[2]
        if not base:
            return Match()
        if len(part := self._parts.find(cell)) == 1:
            return Match(part, EXACT)
        match = self._by_path(cell, EXACT, LOOSE)
        if not match and (others := self._others.get(_subject(cell))):
            return Match(others, SUBJECT)
        return match or (base != cell and self._by_path(base, BASE, BASE)) or Match()

    def _by_path(self, text: str, exact: int, loose: int) -> Match | None:
        files, folded = self._exact.find(text), _folded(text)
        rank = exact if files else loose
        files = files or self._loose.find(folded) or self._loose.find(_bare(folded))
        return None if not files else Match(self._files[files[0]], rank) if len(files) == 1 else Match(several=True)


class _Paths:
    """Places of paths, found by their ends."""

    def __init__(self, paths: Sequence[str]) -> None:
        turned = [(_turned(path), place) for place, path in enumerate(paths)]
        self._whole: dict[str, list[int]] = defaultdict(list)
        for path, place in turned:
            self._whole[path].append(place)
        self._sorted = sorted(turned)
        self._depth = max((path.count("/") for path in paths), default=0) + 1

    def find(self, path: str) -> Sequence[int]:
        """Of the longest path that is the end of this one, or of all (at most two) that this one is the end of."""
        parts = _turned(path).split("/")
        for length in range(min(len(parts), self._depth), 0, -1):
            if found := self._whole.get("/".join(parts[:length])):
                return found
        start = "/".join(parts) + "/"
        place = bisect_left(self._sorted, (start, -1))
        return [number for name, number in self._sorted[place:place + 2] if name.startswith(start)]


def _turned(path: str) -> str:
    return "/".join(reversed(path.split("/")))


def _folded(path: str) -> str:
    """However letters are written."""
    return unicodedata.normalize("NFC", path).casefold()


def _bare(path: str) -> str:
    return _ENDING.sub("", path)


def _subject(text: str) -> str:
    return text.casefold().removeprefix("sub-")
