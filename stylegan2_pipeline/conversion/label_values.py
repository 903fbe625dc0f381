"""From the words and numbers of a table's columns to labels: class numbers, class names, several tags, or vectors."""

import math
import re
from collections import Counter
from collections.abc import Sequence

from stylegan2_pipeline.sources.labels import Label, Labels, printable, some
from torch_utils.errors import UserError

MAX_CLASSES = 2 ** 16
MAX_TAGS = 1024
LARGEST = 3e38  # of float32
_TAGS = re.compile("[;|]")
_WHOLE = re.compile(r"-?[0-9]{1,18}")
_NOTHING = frozenset(("", "na", "n/a", "nan", "null", "none", "?"))  # in columns of numbers
_UNKNOWN = frozenset(("", "n/a", "nan"))  # and in those of words, as BIDS and pandas write it

Cells = Sequence[str | None]


def from_cells(cells: Cells, where: str, delimiter: str = ",") -> tuple[Labels, list[str]]:
    """Labels from one column: a cell an image, None or "" for no label; and what is to be said about them.

    Whole numbers from 0 are class numbers, as they are; other numbers are vectors of one; words are classes, numbered
    in the order of their names; and where a cell holds several, parted by ';' or '|', each word is a tag, and labels
    are vectors of 1 for the tags that an image has and 0 for the others. Raises UserError, which begins with `where`.
    """
    cells = [None if cell is None or cell.casefold() in _UNKNOWN else cell for cell in cells]
    if not any(cells):
        return Labels([None] * len(cells)), []
    numbers = _numbers(cells, delimiter)
    if numbers is None:
        return _tagged(cells, where) if any(_TAGS.search(cell or "") for cell in cells) else _named(cells, where)
    if all(_WHOLE.fullmatch(cell or "") or number is None for cell, number in zip(cells, numbers, strict=True)):
        return _numbered(numbers, where)
    values: list[Label | None] = [None if number is None else [_checked(number, where)] for number in numbers]
    return Labels(values), _about_numbers(numbers, cells, where)


def from_columns(columns: Sequence[Cells], headings: Sequence[str], where: str,
                 delimiter: str = ",") -> tuple[Labels, list[str]]:
    """Vectors, a number a column; an image without one of them has no label. The headings are the names of classes
    where all numbers are 0 or 1. Raises UserError, which begins with `where`, for columns of other than numbers."""
    parsed = [_numbers(cells, delimiter) for cells in columns]
    wordy = [heading for heading, numbers in zip(headings, parsed, strict=True) if numbers is None]
    if wordy:
        raise UserError(f"{where}: several columns make labels only of numbers, and not all of {some(wordy)} are. "
                        f"Name one column of words, or columns of numbers.")
    vectors: list[Label | None] = []
    for row in zip(*(numbers for numbers in parsed if numbers is not None), strict=True):
        known = [_checked(number, where) for number in row if number is not None]
        vectors.append(known if len(known) == len(row) else None)
    binary = all(set(vector) <= {0.0, 1.0} for vector in vectors if isinstance(vector, list))
    return Labels(vectors, list(headings) if binary else None), []


def _numbers(cells: Cells, delimiter: str) -> list[float | None] | None:
    """None for the whole if some cell is no number. Between semicolons, numbers may have a decimal comma."""
    numbers: list[float | None] = []
    for cell in cells:
        text = cell or ""
        if text.casefold() in _NOTHING:
            numbers.append(None)
            continue
        try:
            numbers.append(float(text.replace(",", ".") if delimiter == ";" else text))
        except ValueError:
            return None
        if "_" in text:  # which float() takes
            return None
    return numbers if any(number is not None for number in numbers) else None


def _checked(number: float, where: str) -> float:
    if not math.isfinite(number) or abs(number) > LARGEST:
        raise UserError(f"{where} holds {number:g}, which no network can be given; leave the cell empty where a number "
                        f"is not known.")
    return number


def _numbered(numbers: Sequence[float | None], where: str) -> tuple[Labels, list[str]]:
    values: list[Label | None] = [None if number is None else int(number) for number in numbers]
    used = sorted({value for value in values if isinstance(value, int)})
    if used[0] < 0:
        raise UserError(f"{where} holds {used[0]}, and classes count from 0. Leave cells empty where an image has no "
                        f"class; numbers that measure something need a decimal point.")
    if used[-1] >= MAX_CLASSES:
        raise UserError(f"{where}: {used[-1]} is too large for the number of a class. Classes count from 0; numbers "
                        f"that measure something need a decimal point.")
    unused = sorted(set(range(used[-1])) - set(used))
    notes = [f"{where}: no image has class {', '.join(map(str, unused[:10]))}{', ...' * (len(unused) > 10)}; class "
             f"numbers are kept as they are."] if unused else []
    return Labels(values), notes


def _about_numbers(numbers: Sequence[float | None], cells: Cells, where: str) -> list[str]:
    found = [number for number in numbers if number is not None]
    said = f"{where} holds numbers from {min(found):g} to {max(found):g}, which are taken for what they measure"
    if all(number == int(number) for number in found):
        return [f"{said}. Should they be classes: write them from 0 and without a decimal point."]
    return [f"{said}, not for classes."]


def _named(cells: Cells, where: str) -> tuple[Labels, list[str]]:
    counts = Counter(cell for cell in cells if cell)
    names = sorted(counts)
    numbers = {name: number for number, name in enumerate(names)}
    notes = []
    if len(names) > MAX_CLASSES:
        raise UserError(f"{where} has {len(names)} different words; so many classes cannot be learned.")
    if len(names) > max(10, counts.total() // 2):
        notes = [f"Warning: {where} makes {len(names)} classes of {counts.total()} images "
                 f"({some([printable(name) for name in names], 3)}); is it what you want to condition on?"]
    return Labels([numbers[cell] if cell else None for cell in cells], names), notes


def _tagged(cells: Cells, where: str) -> tuple[Labels, list[str]]:
    sets = [{tag.strip() for tag in _TAGS.split(cell or "")} - {""} for cell in cells]
    names = sorted(set().union(*sets))
    if len(names) > MAX_TAGS:
        raise UserError(f"{where} has {len(names)} different words, parted by ';' or '|'; so many tags cannot be "
                        f"learned.")
    values: list[Label | None] = [[float(name in tags) for name in names] if tags else None for tags in sets]
    return Labels(values, names), [f"{where} holds several words for an image: {len(names)} tags, of which each is in "
                                   f"or not."]
