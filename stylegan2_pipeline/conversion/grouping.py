"""Which images belong together - to a patient, a series, a folder - so that a holdout takes all of them or none."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath

from stylegan2_pipeline.conversion.tables import read_table
from stylegan2_pipeline.image_formats import EXTENSIONS
from stylegan2_pipeline.sources.base import Source
from stylegan2_pipeline.sources.labels import file_of, some
from torch_utils.errors import UserError

CHOICES = ("patient, volume, folder, file, regex:PATTERN for a part of the path, or column:NAME with --table=FILE.csv")


def groups_of(group_by: str | None, source: Source, indices: Sequence[int], table: Path | None = None) -> list[str]:
    """The name of each image's group; equal names, one group. They may be identities: to compare, never to show.

    group_by: patient, volume, folder, file, column:NAME or regex:PATTERN (the first bracketed group, or all that
    matches). None: by patient where the collection says of whom an image is, else by volume, else each its own.
    Raises UserError, naming --group-by, when an image has no group.
    """
    if group_by is None:
        return [_usual(source, index) for index in indices]
    kind, _, rest = group_by.partition(":")
    if rest and kind in ("column", "regex"):
        found = from_column(rest, source, indices, table) if kind == "column" else from_pattern(rest, source, indices)
    elif group_by in _KINDS:
        found = [_KINDS[group_by](source, index) for index in indices]
    else:
        raise UserError(f"--group-by={group_by}: choose {CHOICES}.")
    missing = [source.names[index] for index, group in zip(indices, found, strict=True) if group is None]
    if missing:
        raise UserError(f"--group-by={group_by}: {len(missing)} of {len(indices)} images {_lack(kind)} "
                        f"({some(missing)}). Every image needs a group: choose {CHOICES}.")
    return [group for group in found if group is not None]


def groups_in_paths(group_by: str | None, source: Source) -> list[str | None] | None:
    """For each image what a pattern finds in its path, or the last of its folders; None where others tell groups."""
    kind, _, rest = (group_by or "").partition(":")
    if kind == "regex" and rest:
        return from_pattern(rest, source, range(len(source.names)))
    return [name.rpartition("/")[0].rpartition("/")[2] or None for name in source.names] if kind == "folder" else None


def from_column(heading: str, source: Source, indices: Sequence[int], table: Path | None) -> list[str | None]:
    if table is None:
        raise UserError(f"--group-by=column:{heading} needs --table=FILE.csv, the table that has this column.")
    cells = read_table(table, source).cells(heading)
    return [cells[index] or None for index in indices]


def from_pattern(pattern: str, source: Source, indices: Sequence[int]) -> list[str | None]:
    find = compiled(pattern, "--group-by")
    return [find(source.names[index]) for index in indices]


def compiled(pattern: str, flag: str) -> Callable[[str], str | None]:
    """Finds the first bracketed group, or without brackets the whole match, in a name; None where nothing matches."""
    try:
        expression = re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise UserError(f"{flag}=regex:{pattern} is no regular expression: {error}. For example: "
                        f"{flag}='regex:(patient[0-9]+)/'") from None

    def find(name: str) -> str | None:
        match = expression.search(name)
        return match[1 if expression.groups else 0] if match else None

    return find


def _usual(source: Source, index: int) -> str:
    subject, volume = source.subject(index), source.volume(index)
    file = file_of(source.names[index])  # of an animation, whose frames are much alike
    own = file if PurePosixPath(file).suffix.lower() in EXTENSIONS else source.names[index]
    return f"of {subject}" if subject else f"in {volume}" if volume else f"image {own}"


def _lack(kind: str) -> str:
    return {"patient": "come without a word of whose they are", "volume": "are part of no volume or series",
            "column": "have no entry there", "regex": "are not matched"}[kind]


_KINDS: dict[str, Callable[[Source, int], str | None]] = {
    "patient": lambda source, index: source.subject(index) or None,
    "volume": lambda source, index: source.volume(index) or None,
    "folder": lambda source, index: source.names[index].rpartition("/")[0],
    "file": lambda source, index: file_of(source.names[index]),
}
