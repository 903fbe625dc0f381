"""`metrics`: a trained network and its data in, quality numbers out."""

from pathlib import Path

import click


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True, "max_content_width": 120})
@click.option("--network", metavar="PKL", help="Snapshot: a file or URL.  [default: the newest under training-runs]")
@click.option("--data", required=True, metavar="PATH", help="The images it was trained on: a zip or folder.")
@click.option("--metrics", "names", default="swd", metavar="NAMES", help="What to measure, separated by commas.")
@click.option("--num", type=click.IntRange(min=2), help="Images to generate.  [default: the metric's own number]")
@click.option("--seed", type=int, default=0, help="Of latents, noise, labels and the metric's own draws.")
@click.option("--batch", type=click.IntRange(min=1), default=16, help="Images at once on the device.")
@click.option("--device", metavar="NAME", help="cpu, cuda, cuda:1, ...  [default: cuda where there is one]")
@click.option("--outdir", type=click.Path(path_type=Path), metavar="DIR",
              help="Where metric-NAME.jsonl is added to.  [default: the network's run folder, else out]")
def command(network: str | None, data: str, names: str, num: int | None, seed: int, batch: int, device: str | None,
            outdir: Path | None) -> None:
    """Measure how close a network's images are to the data.

    Each result is printed and added as a line of JSON, with all that it depends on, to metric-NAME.jsonl.

    \b
    Metrics, of which lower is better:
      swd     sliced Wasserstein distance of image patches, by scale: texture, detail, and layout at the coarsest.
              Blind to brightness and contrast.
      pfd32   Frechet distance of images reduced to 32x32: layout, brightness, contrast, and lack of variety.
              Blind to detail. It is not FID.
    NAME_floor is what two halves of the data are apart; NAME_ratio compares with that at as many images as a half
    has: near 1 is as close as other real images are, for this measure. Numbers of different data sets or --num do not
    compare.

    \b
    Examples:
      stylegan2 metrics --data=data.zip
      stylegan2 metrics --network=network.pkl --data=data.zip --metrics=swd,pfd32 --num=2000
    """
    from stylegan2_pipeline.evaluation import measure

    for result, path in measure(network, data, names, num=num, seed=seed, batch=batch, device=device, outdir=outdir):
        for key, value in result["results"].items():
            click.echo(f"{key:<12} {value:.4f}")
        counts = ", ".join(f"{count} {kind}" for kind, count in result["counts"].items())
        click.echo(f"Images: {counts}. Time: {result['total_time_str']}. Added to {path}")
