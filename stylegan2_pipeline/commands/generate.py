"""`generate`: a trained network in, pictures out."""

from pathlib import Path

import click

from stylegan2_pipeline.commands.numbers import Finite


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True, "max_content_width": 120})
@click.option("--network", metavar="PKL", help="Snapshot: a file or URL.  [default: the newest under training-runs]")
@click.option("--seeds", metavar="LIST", help="E.g. 1-10,15.  [default: 1-10, or as many as --grid holds]")
@click.option("--trunc", type=Finite(), default=1.0, metavar="PSI", help="Truncation; below 1 less varied.")
@click.option("--class", "class_", metavar="NAME|NUMBER", help="Class to make, for a network trained with classes.")
@click.option("--noise-mode", type=click.Choice(["const", "random", "none"]), default="const",
              help="Per-pixel noise: that of the network, that of the seed, or none.")
@click.option("--projected-w", metavar="NPZ", help="Render the ws of this file instead of seeds.")
@click.option("--outdir", type=click.Path(path_type=Path), default="out", metavar="DIR",
              help="Where pictures go; those of the same names are replaced.")
@click.option("--grid", metavar="COLSxROWS", help="Also write all images as one picture, grid.png.")
@click.option("--batch", type=click.IntRange(min=1), default=8, help="Images between two writes; changes no image.")
@click.option("--device", metavar="NAME", help="cpu, cuda, cuda:1, ...  [default: cuda where there is one]")
def command(network: str | None, seeds: str | None, trunc: float, class_: str | None, noise_mode: str,
            projected_w: str | None, outdir: Path, grid: str | None, batch: int, device: str | None) -> None:
    """Make images from a trained network.

    Each seed is one image, seed0001.png, bit for bit the same whatever other seeds and --batch are given; another
    machine, device or number of CPU threads may round a few pixels differently.

    \b
    Examples:
      # Ten images by the newest network under training-runs.
      python generate.py --seeds=1-10
      # Typical images of one class by a given network, and all of them in one picture.
      python generate.py --network=network.pkl --seeds=1-8 --class=cat --trunc=0.7 --grid=4x2
      # The image that a projection found.
      python generate.py --network=network.pkl --projected-w=out/projected_w.npz
    """
    from stylegan2_pipeline.generation import generate

    for path in generate(network, seeds=seeds, trunc=trunc, class_=class_, noise_mode=noise_mode,
                         projected_w=projected_w, outdir=outdir, grid=grid, batch=batch, device=device):
        click.echo(path)
