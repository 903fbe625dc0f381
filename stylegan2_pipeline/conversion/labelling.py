"""What --labels asks for: from dataset.json, folders, a table or a pattern to one label an image, or none at all."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from stylegan2_pipeline.conversion.grouping import compiled, groups_in_paths
from stylegan2_pipeline.conversion.label_values import MAX_CLASSES, from_cells, from_columns
from stylegan2_pipeline.conversion.tables import ENDINGS, Table, read_table
from stylegan2_pipeline.sources.base import Source
from stylegan2_pipeline.sources.labels import Label, Labels, labels_from_json, some, top_folders
from torch_utils.errors import UserError

CHOICES = ("auto, none, folders, a table FILE.csv, column:NAME with --table=FILE.csv, regex:PATTERN, or a "
           "dataset.json")
HEADINGS = ("label", "labels", "class", "class_name", "category", "target", "diagnosis")  # of columns with labels
UNLABELLED = "unlabelled"


@dataclass(frozen=True)
class LabelOptions:
    """labels: auto (what the source says), none, folders, FILE.csv, FILE.json, column:NAME[,NAME...] of the table, or
    regex:PATTERN. unlabelled: what becomes of images without a label: error, drop, or class (one of their own).
    group_by: rows of a table may be about groups that it finds in paths."""

    labels: str = "auto"
    table: Path | None = None
    unlabelled: str = "error"
    group_by: str | None = None


@dataclass(frozen=True)
class Labelled:
    """labels: of the images that stay, each of which has one; None for a set without. kept: their positions among the
    indices that were asked for. notes: sentences for the user."""

    labels: Labels | None
    kept: list[int]
    notes: list[str] = field(default_factory=list)


def choose_labels(options: LabelOptions, source: Source, indices: Sequence[int], where: str) -> Labelled:
    """Labels of the images source.names[indices]; `where` is what the user calls the source.

    Raises UserError, naming --labels or the table, for labels that cannot be had, and for images without one unless
    options.unlabelled says what becomes of them.
    """
    found, notes = _labels(options, source, indices, where)
    if found is None:
        return Labelled(None, list(range(len(indices))), notes)
    missing = found.missing()
    if not missing:
        return Labelled(found, list(range(len(indices))), notes)
    names = [source.names[indices[position]] for position in missing]
    if len(missing) == len(indices):
        raise UserError(" ".join([f"--labels={options.labels}: none of {len(indices)} images has a label "
                                  f"({some(names, 3)}). Give them labels, or leave them without by "
                                  f"--labels=none.", *notes]))
    told = f"{len(missing)} of {len(indices)} images have no label{_place(options)}: {some(names, 10)}."
    if options.unlabelled == "drop":
        kept = [position for position, value in enumerate(found.values) if value is not None]
        left = Labels([found.values[position] for position in kept], found.class_names)
        return Labelled(left, kept, [*notes, f"Left out, as --unlabelled=drop asks: {told}"])
    if options.unlabelled == "class":
        return Labelled(_with_class(found, told), list(range(len(indices))),
                        [*notes, f"A class of their own, as --unlabelled=class asks: {told}"])
    remedy = ("Labels are of use only when every image has one: add the missing ones, leave these images out with "
              "--unlabelled=drop, make a class of them with --unlabelled=class, or drop all labels with --labels=none.")
    raise UserError(" ".join([told, remedy, *notes]))


def label_table(options: LabelOptions) -> Path | None:
    """The table whose columns are labels, or else may be: the one that --labels names, or --table."""
    return Path(options.labels) if options.labels.lower().endswith(ENDINGS) else options.table


def _labels(options: LabelOptions, source: Source, indices: Sequence[int],
            where: str) -> tuple[Labels | None, list[str]]:
    names = [source.names[index] for index in indices]
    kind, _, rest = options.labels.partition(":")
    if options.labels == "none":
        return None, []
    if options.labels == "auto":
        return _picked(source.labels(), indices), []
    if options.labels == "folders":
        folders = top_folders(source.names)
        return _from_folders([folders[index] for index in indices], names, options, where)
    if kind == "regex" and rest:
        find = compiled(rest, "--labels")
        return from_cells([find(name) for name in names], f"--labels={options.labels}")
    if kind == "column" and rest:
        return _from_table(options, source, indices, rest)
    if options.labels.lower().endswith(ENDINGS):
        return _from_table(options, source, indices, None)
    if options.labels.lower().endswith(".json"):
        return _picked(_from_json(Path(options.labels), source), indices), []
    raise UserError(f"--labels={options.labels}: choose {CHOICES}.")


def _picked(labels: Labels | None, indices: Sequence[int]) -> Labels | None:
    return Labels([labels.values[index] for index in indices], labels.class_names) if labels else None


def _from_folders(folders: Sequence[str | None], names: Sequence[str], options: LabelOptions,
                  where: str) -> tuple[Labels, list[str]]:
    loose = [name for name, folder in zip(names, folders, strict=True) if folder is None]
    if loose and (options.unlabelled == "error" or len(loose) == len(names)):
        raise UserError(f"--labels=folders: {len(loose)} of {len(names)} images in {where} lie in no class folder "
                        f"({some(loose)}). Give each class a folder of its own, or leave --labels=folders out; "
                        f"--unlabelled=drop leaves these images out, --unlabelled=class makes a class of them.")
    classes = sorted({folder for folder in folders if folder is not None})
    numbers = {folder: number for number, folder in enumerate(classes)}
    return Labels([None if folder is None else numbers[folder] for folder in folders], classes), []


def _from_json(path: Path, source: Source) -> Labels | None:
    try:
        record = json.loads(path.read_bytes().decode("utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"--labels: {path} cannot be read ({error}).") from None
    return labels_from_json(record, source.names, prefix="", where=f"--labels: {path}")


def _from_table(options: LabelOptions, source: Source, indices: Sequence[int],
                wanted: str | None) -> tuple[Labels, list[str]]:
    path = label_table(options)
    if path is None:
        raise UserError(f"--labels={options.labels} needs --table=FILE.csv, the table that has this column.")
    table = read_table(path, source, groups_in_paths(options.group_by, source))
    headings = _label_headings(table) if wanted is None else _headings(table, wanted)
    columns = [[cells[index] for index in indices] for cells in map(table.cells, headings)]
    labels, notes = (from_cells(columns[0], f"{path}: column {headings[0]!r}", table.delimiter) if len(columns) == 1
                     else from_columns(columns, headings, str(path), table.delimiter))
    return labels, [*table.notes, *notes]


def _headings(table: Table, wanted: str) -> list[str]:
    """One column, whose name may have commas in it, or several."""
    return [wanted] if wanted in table.headings or "," not in wanted else [name.strip() for name in wanted.split(",")]


def _label_headings(table: Table) -> list[str]:
    """The columns of a table that --labels names without saying which."""
    others = table.others()
    if len(others) == 1:
        return others
    known = [heading for heading in others if heading.casefold() in HEADINGS]
    if len(known) == 1:
        return known
    raise UserError(f"--labels: {table.path} has several columns ({some(others, 20)}). Say which are labels: "
                    f"--table={table.path} --labels='column:{(known or others)[0]}', or several, parted by commas.")


def _with_class(labels: Labels, told: str) -> Labels:
    """With a last class, or a last tag, for images without a label."""
    numbers = [value for value in labels.values if isinstance(value, int)]
    names = labels.class_names
    if not numbers and names is None:
        raise UserError(f"--unlabelled=class: labels are numbers here, not classes. {told} Leave them out with "
                        f"--unlabelled=drop.")
    if names is None and max(numbers) >= MAX_CLASSES:
        raise UserError(f"--unlabelled=class: a class after number {max(numbers)} is one too many. {told} Leave them "
                        f"out with --unlabelled=drop.")
    if names is None:
        names = [str(number) for number in range(max(numbers) + 1)]
    last: Label = len(names) if numbers else [0.0] * len(names) + [1.0]
    own = UNLABELLED + "_" * (UNLABELLED in names)
    return Labels([last if value is None else [*value, 0.0] if isinstance(value, list) else value
                   for value in labels.values], [*names, own])


def _place(options: LabelOptions) -> str:
    if options.labels.startswith("column:") or options.labels.lower().endswith(ENDINGS):
        return f" in {label_table(options)}"
    return " in dataset.json" if options.labels == "auto" else ""
