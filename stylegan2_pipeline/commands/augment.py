"""`augment`: what the augmentation pipeline does to images."""

from pathlib import Path

import click

from stylegan2_pipeline.commands.numbers import FiniteRange
from stylegan2_pipeline.config import AUGPIPE_NAMES


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True, "max_content_width": 120})
@click.option("--data", type=click.Path(path_type=Path), required=True, metavar="ZIP|DIR", help="Training archive.")
@click.option("--outdir", type=click.Path(path_type=Path), required=True, metavar="DIR", help="Where pictures go.")
@click.option("--augpipe", type=click.Choice(AUGPIPE_NAMES), default="bgc", help="Operations, as in training.")
@click.option("--p", type=FiniteRange(0, 1), default=1.0, help="Probability of each in augment-random.png.")
@click.option("--images", type=click.IntRange(min=1), default=8, metavar="N", help="Images in augment-random.png.")
@click.option("--seed", type=int, default=0, metavar="N", help="Another seed, other images and other draws.")
def command(data: Path, outdir: Path, augpipe: str, p: float, images: int, seed: int) -> None:
    """Show what the augmentation pipeline does to images.

    Writes augment-percentiles.png: one image, a row for each operation with its parameter across its range, from
    quantile 0.05 to 0.95, and a last row with all of them; and augment-random.png: several images with random draws, as
    the discriminator sees them when the augmentation probability is --p.

    \b
    Examples:
      # Every operation of the default pipeline.
      stylegan2 augment --data=data/cells.zip --outdir=out
      # What training looks at when its status line says "augment 0.300".
      stylegan2 augment --data=data/cells.zip --outdir=out --p=0.3
    """
    from stylegan2_pipeline.augment_sheets import write_sheets

    for path in write_sheets(data, outdir, augpipe=augpipe, p=p, count=images, seed=seed):
        click.echo(path)
