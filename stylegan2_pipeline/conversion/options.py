"""What a user asks of a conversion, and what can be said about it before any image is read."""

import dataclasses
import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from PIL import ImageColor

from stylegan2_pipeline.conversion.drawing import Draft
from stylegan2_pipeline.conversion.labelling import LabelOptions
from stylegan2_pipeline.conversion.windows import Window, parse_window
from stylegan2_pipeline.dataset import MIN_RESOLUTION
from stylegan2_pipeline.encode import Encoding
from stylegan2_pipeline.sources.base import Reading
from torch_utils.errors import UserError

Color = tuple[int, int, int]


@dataclass(frozen=True)
class Conversion:
    """What a user asks for; see the options of commands/dataset.py for the meaning of each."""

    source: Path
    dest: Path
    source_type: str | None = None
    only: tuple[str, ...] = ()
    frames: str = "first"
    axis: str = "axial"
    slices: str = "0:1"
    every: int = 1
    channel: int | None = None
    keep_localizers: bool = False
    max_pixels: int | None = None
    window: str = "auto"
    width: int | None = None
    height: int | None = None
    transform: str | None = None
    crop: str = "none"
    min_foreground: float = 0.0
    resize_filter: str = "lanczos"
    pad_with: str = "black"
    alpha_background: str = "white"
    channels: str = "auto"
    labels: str = "auto"
    table: Path | None = None
    unlabelled: str = "error"
    duplicates: str = "auto"
    holdout: str | None = None
    holdout_dest: Path | None = None
    group_by: str | None = None
    seed: int = 0
    max_images: int | None = None
    format: str = "png"
    compress: int = 0
    report: tuple[Path, ...] = ()
    strict: bool = False
    continue_: bool = False
    workers: int | None = None
    program: str = "python dataset_tool.py"  # how the user called it, for messages

    def command_line(self) -> str:
        """What to type to ask for this."""
        words = ["--source", str(self.source), "--dest", str(self.dest)]
        if self.width:
            words.append(f"--resolution={self.width}x{self.height}")
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name not in _SAID_OTHERWISE and value != field.default:
                flag = f"--{field.name.replace('_', '-')}"
                words += [f"{flag}={one}" for one in (value if isinstance(value, tuple) else (value,))
                          ] if not isinstance(value, bool) else [flag]
        return f"{self.program} {shlex.join(words)}"

    def reading(self) -> Reading:
        """Raises UserError for slices that are none."""
        more: dict[str, Any] = {"max_pixels": self.max_pixels} if self.max_pixels else {}
        header = "header" if self.window == "header" else "auto"
        return Reading(frames=self.frames, window=header, axis=self.axis, slices=parse_slices(self.slices),
                       every=self.every, channel=self.channel, keep_localizers=self.keep_localizers, **more)

    def label_options(self) -> LabelOptions:
        return LabelOptions(self.labels, self.table, self.unlabelled, self.group_by)

    def encoding(self) -> Encoding:
        return Encoding(self.format, self.compress)

    def values(self) -> Window:
        return parse_window(self.window)

    def draft(self) -> Draft:
        """What it says about how images are drawn. Raises UserError for colours and windows that are none."""
        window = self.values()
        numbers = (window.low, window.high) if window.kind == "values" else None
        border = self.pad_with if self.pad_with in ("edge", "reflect") else parse_color(self.pad_with, "--pad-with")
        return Draft(None if self.channels == "auto" else int(self.channels), self.width, self.height, self.transform,
                     self.resize_filter, parse_color(self.alpha_background, "--alpha-background"), border, numbers,
                     self.crop == "foreground")

    @property
    def holdout_path(self) -> Path:
        """Where the images that are set aside go."""
        name = self.dest.stem if self.dest.suffix.lower() == ".zip" else self.dest.name
        ending = self.dest.name.removeprefix(name)
        return self.holdout_dest or self.dest.with_name(f"{name}-holdout{ending}")


_SAID_OTHERWISE = {"source", "dest", "width", "height", "continue_", "program"}


def check_options(asked: Conversion) -> None:
    """Raises UserError for what cannot be meant."""
    check_resolution(asked)
    for flag, path in (("--dest", asked.dest), ("--holdout-dest", asked.holdout_dest)):
        if path and path.name in ("", ".."):
            raise UserError(f"{flag}: {path} is no name for an archive; choose one that ends in .zip, or a new folder.")
    if asked.holdout is None and asked.holdout_dest:
        raise UserError("--holdout-dest says where images are set aside; say how many with --holdout=0.1.")
    if asked.holdout is not None:
        parse_holdout(asked.holdout)
        if asked.holdout_path.absolute() == asked.dest.absolute():
            raise UserError("--holdout-dest: the images that are set aside need another place than --dest.")
    if not 0 <= asked.min_foreground <= 1:  # as nan is not
        raise UserError("--min-foreground: write a share from 0 to 1, such as 0.15.")
    if asked.table and not any((how or "").startswith("column:") for how in (asked.labels, asked.group_by)):
        raise UserError(f"--table={asked.table} is there for --labels=column:NAME and --group-by=column:NAME, and "
                        f"neither is given. For labels alone: --labels={asked.table}.")
    for path in asked.report:
        check_report(path)


def check_report(path: Path) -> None:
    """Before the work, that it can be written. Raises UserError."""
    folder = path.absolute().parent
    if path.suffix.lower() not in (".html", ".json", ".txt"):
        raise UserError(f"--report: {path} must end in .html, .json or .txt, which says what it becomes.")
    if os.path.isdir(path):
        raise UserError(f"--report: {path} is a folder; name a file in it.")
    if not os.path.isdir(folder):
        raise UserError(f"--report: {path}: there is no folder {folder}. Make it first.")
    if not os.access(folder, os.W_OK):
        raise UserError(f"--report: {path}: nothing can be written to {folder}. Choose another place.")


def check_resolution(asked: Conversion) -> None:
    if asked.transform == "center-crop-wide":
        if not (asked.width and asked.height and asked.width > asked.height):
            raise UserError("--transform=center-crop-wide needs a --resolution that is wider than high, such as "
                            "--resolution=512x384; the pictures lie on a black square of that width.")
    elif asked.width != asked.height:
        raise UserError(f"--resolution={asked.width}x{asked.height}: training needs square images. Choose "
                        f"--resolution={asked.width}x{asked.width}, or, for pictures of {asked.width}x{asked.height} "
                        f"on a black square, --transform=center-crop-wide (wider than high only).")
    if asked.width and not trainable(asked.width):
        click.echo(f"Warning: --resolution={asked.width}x{asked.height}: train.py needs a power of two, "
                   f"{MIN_RESOLUTION} or more; it will not take this archive.", err=True)


def trainable(side: int) -> bool:
    return side >= MIN_RESOLUTION and side & (side - 1) == 0


def parse_color(text: str, flag: str) -> Color:
    try:
        red, green, blue = ImageColor.getrgb(text)[:3]
        bytes((red, green, blue))  # which refuses rgb(300, 0, 0)
    except ValueError:
        more = ", edge or reflect" if flag == "--pad-with" else ""
        raise UserError(f"{flag}: {text!r} is no colour; write black, white or #20a0ff{more}.") from None
    return red, green, blue


def parse_holdout(text: str) -> float | int:
    """0.1 and 10% -> a share of the images; 500 -> as many."""
    try:
        if text.endswith("%"):
            value: float | int = float(text[:-1]) / 100
        else:
            value = int(text) if text.isdecimal() else float(text)
    except ValueError:
        value = -1
    if not (0 < value < 1 or (isinstance(value, int) and value >= 1)):
        raise UserError(f"--holdout: {text!r} is neither a share such as 0.1 nor a number of images such as 500.")
    return value


def parse_slices(text: str) -> tuple[float, float]:
    """0.3:0.7 -> which part of a volume, from one end to the other."""
    low, colon, high = text.partition(":")
    try:
        part = float(low or 0), float(high or 1)
    except ValueError:
        part = 1.0, 0.0
    if not (colon and 0 <= part[0] < part[1] <= 1):
        raise UserError(f"--slices: {text!r} is no part of a volume; write --slices=0.3:0.7 for its middle.")
    return part


def parse_resolution(text: str | None, width: int | None, height: int | None) -> tuple[int | None, int | None]:
    """512x384, 512,384 or 512 -> (512, 384) or (512, 512); or --width and --height, of which one stands for both."""
    if text is None:
        return width or height, height or width
    if width or height:
        raise UserError("--resolution and --width/--height say the same thing; give one of them.")
    parts: Sequence[str] = text.lower().replace("x", ",").split(",")
    if len(text) > 20 or len(parts) > 2 or not all(part.strip().isdecimal() and 0 < int(part) <= 16384
                                                   for part in parts):
        raise UserError(f"--resolution: {text!r:.30} is not a size; write --resolution=512x512.")
    return int(parts[0]), int(parts[-1])
