"""What a user asks of a conversion, and what can be said about it before any image is read."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click
from PIL import ImageColor

from stylegan2_pipeline.dataset import MIN_RESOLUTION
from torch_utils.errors import UserError


@dataclass(frozen=True)
class Conversion:
    """What a user asks for; see the options of commands/dataset.py for the meaning of each."""

    source: Path
    dest: Path
    width: int | None = None
    height: int | None = None
    transform: str | None = None
    resize_filter: str = "lanczos"
    max_images: int | None = None
    labels: str = "auto"
    channels: str = "auto"
    background: str | None = None
    strict: bool = False
    workers: int | None = None
    program: str = "python dataset_tool.py"  # how the user called it, for messages

    def command_line(self) -> str:
        """What to type to ask for this."""
        words = ["--source", str(self.source), "--dest", str(self.dest)]
        if self.width:
            words.append(f"--resolution={self.width}x{self.height}")
        defaults = Conversion(self.source, self.dest)
        for name in ("transform", "resize_filter", "max_images", "labels", "channels", "background", "workers"):
            if getattr(self, name) != getattr(defaults, name):
                words.append(f"--{name.replace('_', '-')}={getattr(self, name)}")
        return f"{self.program} {shlex.join(words)}{' --strict' if self.strict else ''}"


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


def parse_background(text: str | None) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """The colours behind transparent pixels and around padded pictures: white and black unless one is named."""
    if text is None:
        return (255, 255, 255), (0, 0, 0)
    try:
        red, green, blue = ImageColor.getrgb(text)[:3]
    except ValueError:
        raise UserError(f"--background: {text!r} is no colour; write black, white or #20a0ff.") from None
    return (red, green, blue), (red, green, blue)


def parse_resolution(text: str | None, width: int | None, height: int | None) -> tuple[int | None, int | None]:
    """512x384, 512,384 or 512 -> (512, 384) or (512, 512); or --width and --height, of which one stands for both."""
    if text is None:
        return width or height, height or width
    if width or height:
        raise UserError("--resolution and --width/--height say the same thing; give one of them.")
    parts: Sequence[str] = text.lower().replace("x", ",").split(",")
    if not all(part.strip().isdecimal() and 0 < int(part) <= 16384 for part in parts) or len(parts) > 2:
        raise UserError(f"--resolution: {text!r} is not a size; write --resolution=512x512.")
    return int(parts[0]), int(parts[-1])
