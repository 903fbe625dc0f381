"""`timelapse`: a run folder in, a short film of its training out."""

from pathlib import Path

import click

from stylegan2_pipeline.commands.numbers import FiniteRange


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True, "max_content_width": 120})
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), metavar="FILE",
              help="A name that ends in .gif, .webp or .mp4.  [default: RUN/progress.gif]")
@click.option("--cells", type=click.IntRange(min=1), default=12, metavar="N",
              help="Images to show; evenly from the grid, as many as it has.")
@click.option("--seconds", type=FiniteRange(0.1, 600), metavar="S",
              help="Length until the last grid, which is held for 2 s.  [default: 0.5 a grid, 4 to 16]")
@click.option("--size", type=click.IntRange(8, 1024), metavar="PIXELS",
              help="Width and height of an image.  [default: its own, 64 to 128]")
@click.option("--blend/--no-blend", default=True, help="Fade from grid to grid.")
def command(run: Path, out: Path | None, cells: int, seconds: float | None, size: int | None, blend: bool) -> None:
    """Make a film of a run: the images of the same latents through training.

    RUN is a run folder of train.py, or of the public stylegan2-ada-pytorch and stylegan3 code. The pictures are its
    grids, fakes_init.png and fakes000200.png, ..., of which a snapshot writes one; each frame says the kimg. A .gif
    or .webp starts again at its end. .mp4 takes the package av: pip install '.[video]'.

    \b
    Examples:
      stylegan2 timelapse training-runs/00000-cells-auto1
      # Four images, large, as a video of ten seconds.
      stylegan2 timelapse training-runs/00000-cells-auto1 --out=cells.mp4 --cells=4 --size=256 --seconds=10
    """
    from stylegan2_pipeline.timelapse import timelapse

    path = timelapse(run, out, cells=cells, seconds=seconds, size=size, blend=blend)
    click.echo(path)
