"""`dataset`: from a folder or zip of images to a training archive."""

from pathlib import Path

import click


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option("--source", metavar="PATH", required=True, type=click.Path(path_type=Path),
              help="A folder, with all folders inside it, or a .zip of images.")
@click.option("--dest", metavar="PATH", required=True, type=click.Path(path_type=Path),
              help="The archive to make: a name that ends in .zip (stored, not compressed), or a new or empty folder.")
@click.option("--resolution", metavar="WxH", help="Size of the images, such as 512x512, 512,512 or 512. "
              "Training needs a square and a power of two. [default: as they are, if all are alike]")
@click.option("--width", metavar="INT", type=click.IntRange(1, 16384), help="The same as --resolution, in two options.")
@click.option("--height", metavar="INT", type=click.IntRange(1, 16384), help="See --width.")
@click.option("--transform", type=click.Choice(["center-crop", "center-crop-wide", "pad", "stretch"]),
              help="How images become square: cut to the middle; cut to WxH and put on a black square; surrounded by "
              "borders; distorted. [default: none, for images that are square]")
@click.option("--resize-filter", type=click.Choice(["lanczos", "box"]), default="lanczos", help="How to resize.")
@click.option("--max-images", metavar="INT", type=click.IntRange(1), help="Keep only the first ones by name.")
@click.option("--labels", type=click.Choice(["auto", "folders", "none"]), default="auto",
              help="Classes: from the source's dataset.json, if it has one; from the names of top folders; none.")
@click.option("--channels", type=click.Choice(["auto", "1", "3", "4"]), default="auto",
              help="Gray, RGB or RGBA for all. auto: RGBA if most images are transparent somewhere, else RGB if any "
              "has colour, else gray.")
@click.option("--background", metavar="COLOR", help="Behind transparent pixels and around padded images: black, white "
              "or #rrggbb. [default: white behind, black around]")
@click.option("--strict", is_flag=True, help="Stop, before anything is written, if any image cannot be read.")
@click.option("--workers", metavar="INT", type=click.IntRange(1, 256), help="Processes; the result does not depend on "
              "it. [default: one a core]")
@click.pass_context
def command(ctx: click.Context, resolution: str | None, width: int | None, height: int | None,
            **options: object) -> None:
    """Turn a folder or zip of images into a training archive: one size, one kind, checked one by one.

    Images of any common format are read for what they mean (rotation, palettes, transparency, CMYK, 16 bits); broken
    ones are listed and left out. The archive appears under its name when it is whole, and not before.

    \b
    Examples:
      python dataset_tool.py --source ./data/sigara --dest ./data/sigara.zip --resolution=512x512
      python dataset_tool.py --source photos --dest photos.zip --resolution=512x512 --transform=center-crop
      python dataset_tool.py --source mri.zip --dest mri256.zip --resolution=256 --transform=pad
      python dataset_tool.py --source animals --dest animals.zip --resolution=128 --labels=folders
    """
    from stylegan2_pipeline.conversion.convert import convert
    from stylegan2_pipeline.conversion.options import Conversion, parse_resolution

    width, height = parse_resolution(resolution, width, height)
    path = ctx.command_path
    program = f"python {path}" if path.endswith(".py") else path
    convert(Conversion(width=width, height=height, program=program, **options))  # type: ignore[arg-type]
