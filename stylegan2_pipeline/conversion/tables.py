"""Tables beside a collection, CSV or TSV: a row about an image, a file or a patient, found by what it calls them."""

import csv
import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from stylegan2_pipeline.conversion.naming import BASE, EXACT, SUBJECT, Images, Match
from stylegan2_pipeline.sources.base import Source
from stylegan2_pipeline.sources.labels import printable, some
from torch_utils.errors import UserError

MAX_BYTES = 2 ** 28
ENDINGS = (".csv", ".tsv", ".tab", ".txt")
DELIMITERS = ",;\t|"
KEYS = ("file", "filename", "file_name", "path", "filepath", "image", "image_path", "image_name", "name", "img",
        "image_id", "id", "patient", "patient_id", "subject", "subject_id", "participant_id")  # the likeliest first


@dataclass(frozen=True)
class Table:
    """headings: of all columns, "1", "2", ... where the file has none; rows: their cells, as many in each; lines: of
    rows in the file; found: for each image of the source the rows about it. notes: sentences for the user."""

    path: Path
    headings: list[str]
    rows: list[list[str]]
    lines: list[int]
    delimiter: str
    key: int                        # the column by which rows were found
    found: list[list[int]]
    names: Sequence[str]
    notes: list[str] = field(default_factory=list)

    def others(self) -> list[str]:
        """The headings beside the column of names."""
        return [heading for place, heading in enumerate(self.headings) if place != self.key and heading]

    def cells(self, heading: str) -> list[str | None]:
        """For each image of the source what its row says there, without spaces around; None without a row.

        Raises UserError for a heading that is not there, and where several rows tell different things of one image.
        """
        column = self._column(heading)
        return [self._cell(image, rows, column) for image, rows in enumerate(self.found)]

    def _cell(self, image: int, rows: list[int], column: int) -> str | None:
        cells = [self.rows[row][column] for row in rows]
        if len(set(cells)) > 1:
            first, other = rows[0], next(row for row in rows if self.rows[row][column] != cells[0])
            raise UserError(f"{self.path}: lines {self.lines[first]} and {self.lines[other]} tell different things of "
                            f"{printable(self.names[image])}. Keep one of them, or write the paths of the images from "
                            f"the folder that --source names.")
        return cells[0] if cells else None

    def _column(self, heading: str) -> int:
        places = [place for place, other in enumerate(self.headings) if other == heading] or [
            place for place, other in enumerate(self.headings) if other.casefold() == heading.strip().casefold()]
        if len(places) != 1:
            fault = f"has {len(places)} columns" if places else "has no column"
            raise UserError(f"{self.path} {fault} {heading!r}; its columns are {some(self.headings, 20)}.")
        return places[0]


def read_table(path: Path, source: Source, groups: Sequence[str | None] | None = None) -> Table:
    """groups: of all images of the source, which rows may be about; see grouping.groups_in_paths.

    Raises UserError for a file that is no table, or that names no image of the source.
    """
    rows, lines, delimiter = _parse(_text(path), path)
    images = Images(source, groups)
    key, matches = _key_column(rows, images)
    if not any(match.images for match in matches.values()):
        raise UserError(f"{path}: no column names an image of {source.path}. Its first line is "
                        f"'{printable(delimiter.join(rows[0])[:200])}'; the images are called {some(source.names, 3)}. "
                        f"One column must hold such names, with or without folders and endings; or the patients in "
                        f"them, which --group-by='regex:(HOSP[0-9]+)' would find in HOSP001_slice03.jpg.")
    headings = list(rows[0])
    if matches[headings[key]].rank == EXACT:  # the first line is about an image already
        headings = [str(number + 1) for number in range(len(headings))]
    else:
        rows, lines = rows[1:], lines[1:]
    found = [matches[row[key]] for row in rows]
    return Table(path, headings, rows, lines, delimiter, key, _assign(found, len(source.names)), source.names,
                 _notes(path, found, [row[key] for row in rows], lines))


def _key_column(rows: Sequence[Sequence[str]], images: Images) -> tuple[int, dict[str, Match]]:
    """The column by which rows are found, and what each of its cells names."""
    best: tuple[tuple[int, ...], int, dict[str, Match]] = (), 0, {}
    for place in sorted(range(len(rows[0])), key=lambda place: _order(rows[0][place])):
        matches = {cell: images.find(cell) for cell in {row[place] for row in rows}}
        worth = _worth(matches, rows[0][place])
        best = max(best, (worth, -place, matches), key=lambda found: found[:2])
        if worth[:2] == (len(images), len(images)):  # no other can be better
            break
    return -best[1], best[2]


def _worth(matches: Mapping[str, Match], heading: str) -> tuple[int, int, int, bool]:
    """How well a column names images: how many, how surely, whether all of it does, and what it is called."""
    covered = {image for match in matches.values() for image in match.images}
    exact = sum(match.rank == EXACT for match in matches.values())
    return len(covered), exact, -sum(not match.images for match in matches.values()), _order(heading) < len(KEYS)


def _order(heading: str) -> int:
    return KEYS.index(heading.casefold()) if heading.casefold() in KEYS else len(KEYS)


def _assign(found: Sequence[Match], count: int) -> list[list[int]]:
    """For each image the rows that are most surely about it."""
    best: list[tuple[int, list[int]]] = [(0, [])] * count
    for row, match in enumerate(found):
        for image in match.images:
            rank, rows = best[image]
            if match.rank >= rank:
                best[image] = match.rank, [*rows, row] if match.rank == rank else [row]
    return [rows for _, rows in best]


def _notes(path: Path, found: Sequence[Match], cells: Sequence[str], lines: Sequence[int]) -> list[str]:
    secret = any(match.rank == SUBJECT for match in found)  # names of patients are not shown

    def told(wanted: Callable[[Match], bool]) -> str:
        return some([f"line {line}" if secret else cell for match, cell, line in zip(found, cells, lines, strict=True)
                     if wanted(match)])

    several = sum(match.several for match in found)
    unknown = sum(not match.images for match in found) - several
    based = sum(match.rank == BASE for match in found)
    sentences = ((unknown, "name no image here", lambda match: not match.images and not match.several),
                 (several, "name several images alike, and are not used; their folders would tell which",
                  lambda match: match.several),
                 (based, "name an image in another folder, and are taken for the one of that name",
                  lambda match: match.rank == BASE))
    return [f"{path.name}: {count} of {len(found)} rows {what} ({told(wanted)})."
            for count, what, wanted in sentences if count]


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise UserError(f"{path} is no table of labels: it has more than {MAX_BYTES >> 20} MiB.")
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}.") from None
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is no text in UTF-8 (byte {error.start}); save the table as CSV in UTF-8.") from None
    if "\0" in text:
        raise UserError(f"{path} is no text; save the table as CSV in UTF-8.")
    return text


def _parse(text: str, path: Path) -> tuple[list[list[str]], list[int], str]:
    """Rows of equal length, the line that each ends in, and the delimiter, which is the one that parts the first line
    most often."""
    named = re.match(r"sep=([,;|\t])(\r\n|\r|\n)", text)  # as Excel writes it
    first = re.split(r"[\r\n]", text.lstrip("\r\n"), maxsplit=1)[0]
    delimiter = named[1] if named else max(DELIMITERS, key=lambda mark: _columns(first, mark))
    reader = csv.reader(io.StringIO(text[named.end():] if named else text, newline=""), delimiter=delimiter)
    rows, lines = [], []
    try:
        for row in reader:
            if any(cell.strip() for cell in row):
                rows.append([cell.strip() for cell in row])
                lines.append(reader.line_num + bool(named))
    except csv.Error as error:
        raise UserError(f"{path}: line {reader.line_num}: {error}.") from None
    if not rows or len(rows[0]) < 2:
        raise UserError(f"{path} is no table with two columns or more, such as file,label; columns are parted by a "
                        f"comma, a semicolon or a tab.")
    width = len(rows[0])
    for row, line in zip(rows, lines, strict=True):
        if any(row[width:]):
            raise UserError(f"{path}: line {line} has {len(row)} columns, and the first line has {width}. Put cells "
                            f"that contain {delimiter!r} in quotes.")
        row[width:] = [""] * (width - len(row))
    return rows, lines, delimiter


def _columns(line: str, delimiter: str) -> int:
    try:
        return len(next(csv.reader([line], delimiter=delimiter)))
    except csv.Error:  # of a cell that is too long
        return 0
