"""Labels of a collection: from its dataset.json, or from the folders that its images lie in."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch_utils.errors import UserError

Label = int | list[float]


@dataclass(frozen=True)
class Labels:
    """values: one an image, a class number or a vector of numbers, None where there is none; never both kinds."""

    values: list[Label | None]
    class_names: list[str] | None = None

    def missing(self) -> list[int]:
        return [index for index, value in enumerate(self.values) if value is None]


def labels_from_json(record: object, names: Sequence[str], prefix: str, where: str) -> Labels | None:
    """Labels by file name from the content of a dataset.json; None when it holds none.

    prefix: the folder of dataset.json inside the collection ("" or "folder/"). Raises UserError, which begins with
    `where`, for a record that is not {"labels": [[name, label], ...] | null}.
    """
    if not isinstance(record, dict):
        raise UserError(f'{where} must hold {{"labels": [["name.png", 0], ...]}} or {{"labels": null}}.')
    entries = record.get("labels")
    if not entries:
        return None
    by_name = _labels_by_name(entries, where)
    values = [by_name.get(name.removeprefix(prefix)) for name in names]
    if all(value is None for value in values):
        raise UserError(f"{where} has {len(by_name)} labels, and none of them names an image that is here; names are "
                        f"relative to the folder of dataset.json, such as {next(iter(by_name))!r}.")
    _check_one_kind(values, where)
    return Labels(values, _class_names(record, values))


def labels_from_folders(names: Sequence[str], where: str) -> Labels:
    """The name of each image's top folder is its class; classes are numbered in the order of their names.

    One folder around all the others is looked into. Raises UserError when images lie outside of folders.
    """
    folders = top_folders(names)
    loose = [name for name, folder in zip(names, folders, strict=True) if folder is None]
    if loose:
        raise UserError(f"--labels=folders: {len(loose)} of {len(names)} images in {where} lie in no class folder "
                        f"({some(loose)}). Give each class a folder of its own, or leave --labels=folders out.")
    class_names = sorted({folder for folder in folders if folder is not None})
    number = {name: index for index, name in enumerate(class_names)}
    return Labels([number[folder] for folder in folders if folder is not None], class_names)


def top_folders(names: Sequence[str]) -> list[str | None]:
    """Of each image the folder below the one that is around all of them; None where it lies in no such folder."""
    parts = [name.split("/") for name in names]
    while parts and min(map(len, parts)) > 2 and len({part[0] for part in parts}) == 1:
        parts = [part[1:] for part in parts]
    return [part[0] if len(part) > 1 else None for part in parts]


def file_of(name: str) -> str:
    """The file that an image comes from: names of frames and slices are those of their file, '#' and a word or number.
    """
    file, mark, frame = name.rpartition("#")
    return file if mark and file and frame and not set(frame) & set("./") else name


def some(names: Sequence[str], most: int = 5) -> str:
    """The first few names, and how many more there are; safe to print whatever the bytes of a file name."""
    shown = ", ".join(printable(name) for name in names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def printable(name: str) -> str:
    return name.encode("utf-8", "backslashreplace").decode()


def _labels_by_name(entries: object, where: str) -> dict[str, Label | None]:
    if not isinstance(entries, list):
        raise UserError(f'{where}: "labels" must be a list of [name, label], or null.')
    by_name: dict[str, Label | None] = {}
    for entry in entries:
        if not (isinstance(entry, list) and len(entry) == 2 and isinstance(entry[0], str)):
            raise UserError(f'{where}: {entry!r:.80} is not a pair [name, label].')
        by_name[entry[0].replace("\\", "/").removeprefix("./")] = _label(entry[1], f"{where}: {entry[0]}")
    return by_name


def _label(value: object, where: str) -> Label | None:
    if value is None:
        return None
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2 ** 31:
        return value
    if isinstance(value, list) and value and all(_is_number(number) for number in value):
        return [float(number) for number in value]
    raise UserError(f"{where} has the label {value!r:.80}; it must be a class number from 0, or a list of numbers.")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _check_one_kind(values: Sequence[Label | None], where: str) -> None:
    lengths = {len(value) if isinstance(value, list) else 0 for value in values if value is not None}
    if len(lengths) > 1:
        kinds = ", ".join("class numbers" if not length else f"vectors of {length}" for length in sorted(lengths))
        raise UserError(f"{where} mixes labels of different kinds ({kinds}); use one kind for all images.")


def _class_names(record: dict, values: Sequence[Label | None]) -> list[str] | None:
    names = record.get("class_names")
    if not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
        return None
    numbers = [value for value in values if isinstance(value, int)]
    lengths = {len(value) for value in values if isinstance(value, list)}  # one name a number of a vector
    return list(names) if (numbers and max(numbers) < len(names)) or lengths == {len(names)} else None
