"""`sample-data`: procedural images to try the pipeline on."""

from pathlib import Path

import click


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True, "max_content_width": 120})
@click.option("--kind", type=click.Choice(["mri", "cigarette"]), required=True,
              help="mri: gray and alike; cigarette: colour and wild.")
@click.option("--count", type=int, required=True, metavar="N", help="Number of images.")
@click.option("--size", type=int, default=512, metavar="PIXELS", help="Width and height; a power of two for training.")
@click.option("--outdir", type=click.Path(path_type=Path), required=True, metavar="DIR",
              help="A new or empty folder, or one that holds a part of the same set.")
@click.option("--seed", type=int, default=0, metavar="N", help="Another seed, other images.")
@click.option("--workers", type=int, metavar="N", help="Processes.  [default: one a core]")
def command(kind: str, count: int, size: int, outdir: Path, seed: int, workers: int | None) -> None:
    """Make procedural sample images to try the pipeline on.

    They are drawn from formulas alone: free of any patient, photograph or licence, and of no medical meaning. Image
    number i of a kind, seed and size is always the same, so a larger --count adds images to a folder.

    \b
    Examples:
      # A thousand small gray slices, quick to train on.
      stylegan2 sample-data --kind=mri --count=1000 --size=64 --outdir=data/mri
      # Colour images of a varied kind.
      stylegan2 sample-data --kind=cigarette --count=500 --size=256 --outdir=data/cigarettes
    """
    from stylegan2_pipeline.sample_data.write import write_samples

    write_samples(kind, count, size, outdir, seed, workers)
    click.echo(f"{count} images in {outdir}")
