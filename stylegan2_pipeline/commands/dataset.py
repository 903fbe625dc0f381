"""`dataset`: from any collection of images to a training archive; `dataset inspect`: what is in a collection."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

PATH = click.Path(path_type=Path)
SETTINGS: dict[str, Any] = {"help_option_names": ["-h", "--help"], "show_default": True, "max_content_width": 120}
Command = Callable[..., Any]

SOURCE = [
    click.option("--source", metavar="PATH", required=True, type=PATH,
                 help="What to read: a folder with all folders inside it, .zip, .tar, .tar.gz, or one file; of images, "
                      "DICOM, NIfTI and others, see below."),
    click.option("--source-type", metavar="KIND", help="Read it as this, whatever it looks like: images, dicom, ... "
                                                       "[default: what most of its files are]"),
    click.option("--only", metavar="PATTERN", multiple=True, help="Only files whose path is like this, such as "
                 "'*t1ce*'; may be given several times."),
    click.option("--frames", metavar="first|all|N", default="first", help="Of animations and files of many pages."),
    click.option("--max-pixels", metavar="INT", type=click.IntRange(1), help="Images that claim more are left out, as "
                 "decompression bombs are.  [default: 201 million]"),
    click.option("--window", metavar="auto|LO,HI|LO%,HI%|header", default="auto",
                 help="Which values of images with more than 8 bits become black and white. auto: percentiles 0.5 and "
                      "99.5 of each volume, or of all images that stand alone; header: what DICOM files say."),
    click.option("--axis", type=click.Choice(["axial", "coronal", "sagittal"]), default="axial",
                 help="Which slices of a volume (NIfTI)."),
    click.option("--slices", metavar="LO:HI", default="0:1", help="Which part of each volume, 0.3:0.7 for its middle."),
    click.option("--every", metavar="INT", type=click.IntRange(1), default=1, help="Only every so many slices."),
    click.option("--channel", metavar="INT", type=click.IntRange(0), help="Of volumes with four dimensions."),
    click.option("--keep-localizers", is_flag=True, help="Also DICOM files that are localisers, screenshots or made "
                                                         "from others."),
]
LABELS = [
    click.option("--labels", metavar="HOW", default="auto",
                 help="Classes: auto (what the source says), folders, none, FILE.csv, column:NAME[,NAME...] of "
                      "--table, or regex:PATTERN on the path, whose first group is the class."),
    click.option("--table", metavar="CSV", type=PATH, help="A row an image: its file, and columns for --labels and "
                                                           "--group-by."),
    click.option("--unlabelled", type=click.Choice(["error", "drop", "class"]), default="error",
                 help="Images without a label, where others have one: name them and stop, leave them out, or make them "
                      "a class."),
]
GROUPS = [
    click.option("--group-by", metavar="HOW", help="What stays together, and is told to metrics: patient, volume, "
                 "folder, file, column:NAME of --table, or regex:PATTERN on the path.  [default: patient, else volume, "
                 "where they are known]"),
]
OTHERS = [
    click.option("--max-images", metavar="INT", type=click.IntRange(1), help="Only the first good ones by name."),
    click.option("--report", metavar="FILE", type=PATH, multiple=True, help="A report as .html (one page, with "
                 "pictures), .json or .txt; may be given several times."),
    click.option("--workers", metavar="INT", type=click.IntRange(1, 256), help="Processes; the result does not depend "
                 "on it.  [default: one a core]"),
]
DEST = click.option("--dest", metavar="PATH", required=True, type=PATH,
                    help="The archive to make: a name that ends in .zip, or a new or empty folder.")
PICTURES = [
    click.option("--resolution", metavar="WxH", help="Size of the images, such as 512x512, 512,512 or 512. "
                 "Training needs a square and a power of two.  [default: as they are, if all are alike]"),
    click.option("--width", metavar="INT", type=click.IntRange(1, 16384), help="The same as --resolution, in two."),
    click.option("--height", metavar="INT", type=click.IntRange(1, 16384), help="See --width."),
    click.option("--transform", type=click.Choice(["center-crop", "center-crop-wide", "center-crop-dhariwal", "pad",
                                                   "pad-only", "stretch"]),
                 help="How images become square: cut to the middle; cut to WxH and put on a black square; as ImageNet "
                      "is prepared for published figures; resized and surrounded by borders; surrounded without being "
                      "enlarged; distorted.  [default: none, for images that are square]"),
    click.option("--crop", type=click.Choice(["none", "foreground"]), default="none",
                 help="foreground: cut away the even background first, one box for all slices of a volume."),
    click.option("--min-foreground", metavar="SHARE", type=click.FloatRange(0, 1), default=0.0,
                 help="Leave out images that show less than this, such as 0.15 for empty slices."),
    click.option("--resize-filter", type=click.Choice(["lanczos", "box", "bicubic", "area"]), default="lanczos",
                 help="How to resize."),
    click.option("--pad-with", metavar="COLOR|edge|reflect", default="black", help="What surrounds padded images."),
    click.option("--alpha-background", metavar="COLOR", default="white",
                 help="What lies behind transparent pixels, where they are not kept: black, white, #rrggbb."),
    click.option("--channels", type=click.Choice(["auto", "1", "3", "4"]), default="auto",
                 help="Gray, RGB or RGBA for all. auto: RGBA if most images are transparent somewhere, else RGB if any "
                      "has colour, else gray."),
]
SETS = [
    click.option("--duplicates", type=click.Choice(["auto", "keep", "drop-exact", "drop-near"]), default="auto",
                 help="Images that show the same as an earlier one. auto: exact copies are left out, but not of "
                      "published sets; drop-near: also mirrored or slightly changed ones."),
    click.option("--holdout", metavar="SHARE|N", help="Set images aside in an archive of their own, never to be "
                 "trained on: 0.1, 10% or 500. Copies and groups stay together."),
    click.option("--holdout-dest", metavar="PATH", type=PATH, help="[default: DEST-holdout.zip]"),
    click.option("--seed", metavar="INT", type=int, default=0, help="Of what is set aside."),
]
FILES = [
    click.option("--format", type=click.Choice(["png", "webp"]), default="png",
                 help="Of the files; both are lossless."),
    click.option("--compress", metavar="0-9", type=click.IntRange(0, 9), default=0,
                 help="0 is fastest to write and to train from; 6 takes about half the space."),
    click.option("--strict", is_flag=True, help="Stop, before anything is written, if any image cannot be read."),
    click.option("--continue", "continue_", is_flag=True, help="Go on with an interrupted conversion, or say why that "
                 "cannot be. Without it, one that fits is gone on with, and another one begun anew."),
]


def options(*lists: list[Command]) -> Callable[[Command], Command]:
    def add(function: Command) -> Command:
        for option in reversed([option for some in lists for option in some]):
            function = option(function)
        return function
    return add


class ConvertUnlessNamed(click.Group):
    """`dataset --source ...` is `dataset convert --source ...`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = ["convert", *args]
        return super().parse_args(ctx, args)

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Of convert, which is what it does unless told."""
        inner = click.Context(convert, info_name=ctx.info_name, parent=ctx.parent, **SETTINGS)
        convert.format_help(inner, formatter)
        with formatter.section("Another command"):
            formatter.write_dl([("inspect", "Say what is in a collection, with pictures, and write nothing else. "
                                            "inspect --help says more.")])


@click.group(cls=ConvertUnlessNamed, context_settings=SETTINGS)
def command() -> None:
    """Turn any collection of images into a training archive."""


@command.command(context_settings=SETTINGS, epilog="""\b
What can be read as --source:
  images     JPEG, PNG, WebP, AVIF, TIFF, BMP, GIF, PPM, JPEG 2000, TGA; HEIC with pip install '.[heic]'
  archives   of this or any other tool of the ecosystem: encoded anew, smaller, with other labels
  dicom      series of DICOM files                                      pip install '.[dicom]'
  nifti      .nii and .nii.gz volumes, slice by slice                   pip install '.[nifti]'
  matlab     .mat files of the figshare brain tumour set                pip install '.[mat]'
  mnist      train-images-idx3-ubyte.gz, also Fashion-MNIST
  cifar      cifar-10-python.tar.gz, cifar-100-python.tar.gz
  lsun       a folder with data.mdb
  arrays     .npy and .npz
  parquet    Hugging Face datasets                                      pip install '.[parquet]'
pip install '.[sources]' takes all of these packages.""")
@options(SOURCE[:1], [DEST], PICTURES, LABELS, SETS, GROUPS, SOURCE[1:], FILES, OTHERS)
@click.pass_context
def convert(ctx: click.Context, resolution: str | None, width: int | None, height: int | None, **chosen: Any) -> None:
    """Turn a collection of images into a training archive: one size, one kind, checked one by one.

    Images are read for what they mean (rotation, palettes, transparency, CMYK, profiles, more than 8 bits); broken ones
    are listed and left out. The archive appears under its name when it is whole, and not before.

    \b
    Examples:
      python dataset_tool.py --source ./data/sigara --dest ./data/sigara.zip --resolution=512x512
      python dataset_tool.py --source photos --dest photos.zip --resolution=512x512 --transform=center-crop
      python dataset_tool.py --source animals --dest animals.zip --resolution=128 --labels=folders
      python dataset_tool.py --source dicoms --dest mri.zip --resolution=256 --transform=pad --holdout=0.1
      python dataset_tool.py inspect --source photos
    """
    def work() -> None:
        from stylegan2_pipeline.conversion.convert import convert
        from stylegan2_pipeline.conversion.options import Conversion, parse_resolution

        size = parse_resolution(resolution, width, height)
        convert(Conversion(width=size[0], height=size[1], program=_program(ctx), **chosen))

    _run(work)


@command.command(context_settings=SETTINGS)
@options(SOURCE[:1], SOURCE[1:], LABELS, GROUPS, OTHERS)
@click.pass_context
def inspect(ctx: click.Context, source: Path, **chosen: Any) -> None:
    """Say what is in a collection, and how to convert it; nothing is written but a report.

    Formats, sizes, colour, more than 8 bits, transparency, rotation; broken files and why; copies, also mirrored or
    changed ones; classes; text burned into pictures; a sheet of images, the mean image, and the command line to type.

    \b
    Examples:
      python dataset_tool.py inspect --source photos
      python dataset_tool.py inspect --source dicoms.zip --report=dicoms.html --report=dicoms.json
    """
    def work() -> None:
        from stylegan2_pipeline.conversion.options import Conversion
        from stylegan2_pipeline.inspection.inspect import inspect

        name = source.resolve().name.partition(".")[0] or "images"
        inspect(Conversion(source, Path(f"{name}.zip"), program=_program(ctx), **chosen))

    _run(work)


def _program(ctx: click.Context) -> str:
    """How the user called this, without the verb."""
    path = ctx.command_path.rsplit(" ", 1)[0]
    return f"python {path}" if path.endswith(".py") else path


def _run(work: Callable[[], None]) -> None:
    """Signals end it with the exit codes that shells expect."""
    from stylegan2_pipeline.conversion.interrupts import Interrupted, interrupts

    try:
        with interrupts():
            work()
    except Interrupted as stop:
        click.echo("\nStopped.", err=True)
        raise SystemExit(128 + stop.number) from None
