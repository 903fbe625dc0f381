"""`metrics`: a trained network, or images, and the data in; quality numbers out."""

from pathlib import Path
from typing import Any

import click

from metrics.names import KINDS, counted
from metrics.published import WEIGHTS

FOLDER = click.Path(path_type=Path)
SETTINGS = {"help_option_names": ["-h", "--help"], "show_default": True, "max_content_width": 120}
EPILOG = "\b\n" + "\n".join([
    "All metrics, those without weights:", *(f"  {kind.usual:<13} {kind.title}" for kind in KINDS if not kind.weights),
    "and those with weights, in brackets:",
    *(f"  {kind.usual:<13} {kind.title} [{', '.join(kind.weights)}]" for kind in KINDS if kind.weights)])
CHIEF = ("", "_expected", "_repeated", "_extracted", "_found", "_duplicates")  # where a page explains the others


def weights_options(command: Any) -> Any:
    """--weights and --offline."""
    for option in (
        click.option("--offline", is_flag=True, help="Download nothing."),
        click.option("--weights", multiple=True, type=FOLDER, metavar="PATH",
                     help="Weights of detectors, a file or a folder of them; may be given several times.  [default: "
                          "STYLEGAN2_WEIGHTS or the cache; else downloaded]"),
    ):
        command = option(command)
    return command


@click.group(context_settings=SETTINGS, invoke_without_command=True, epilog=EPILOG)
@click.option("--network", metavar="PKL", help="Snapshot: a file, run folder or URL.  [default: the newest under "
                                               "training-runs]")
@click.option("--images", type=FOLDER, metavar="PATH", help="Compare these images, a zip or folder, instead of a "
                                                            "network's.")
@click.option("--data", metavar="PATH", help="Real images: a zip or folder.  [default: the network's training data]")
@click.option("--metrics", default="panel", metavar="NAMES", help="What to measure, separated by commas.")
@click.option("--num", type=click.IntRange(min=2), help="Generated images.  [default: the metric's own number]")
@click.option("--seed", type=int, default=0, help="Of latents, noise, labels and the metric's own draws.")
@click.option("--trunc", type=float, default=1.0, help="Truncation psi; published figures are at 1.")
@click.option("--mirror", type=click.Choice(["auto", "on", "off"]), default="auto",
              help="Mirrored copies among the real images; auto: as in training, for older names without _full.")
@click.option("--holdout", type=FOLDER, metavar="PATH",
              help="Images of the same kind that were not trained on, of other patients: for memorization.")
@weights_options
@click.option("--batch", type=click.IntRange(min=1), default=16, help="Images at once on the device.")
@click.option("--device", metavar="NAME", help="cpu, cuda, cuda:1, ...  [default: cuda where there is one]")
@click.option("--gpus", type=click.IntRange(min=1), default=1, help="Devices that share the work.")
@click.option("--outdir", type=FOLDER, metavar="DIR",
              help="Where metric-NAME.jsonl is added to.  [default: the network's run folder, else out-metrics]")
@click.option("--cache/--no-cache", default=True, help="Keep statistics of the real images for the next time.")
@click.pass_context
def command(ctx: click.Context, **options: Any) -> None:
    """Measure how close a network's images, or any images, are to the data.

    Each result is printed and added as a line of JSON, with all that it depends on, to metric-NAME.jsonl.

    \b
    Without weights (the default, `panel`, is the first four):
      swd     image patches by scale: texture, detail, layout at the coarsest. Blind to brightness and contrast.
      rfd     features of a random network: brightness, contrast, blur, artefacts, lack of variety.
      pfd32   images reduced to 32x32: layout, brightness, lack of variety. Blind to detail.
      prdc32  at 32x32: are images like the data (precision, density), is all of the data there (recall, coverage).
      memorization  copies of training images, with pictures of the closest pairs. Takes --holdout.
    NAME_floor is what two halves of the data are apart; NAME_ratio compares with that at as many images as a half
    has: near 1 is as close as other real images are, for this measure. None of these is FID.

    \b
    With weights, once downloaded (`stylegan2 metrics fetch`): fid50k_full, kid50k_full, pr50k3_full and others, as
    published. Any number may stand in the name: fid2k_full. Below 10,000 images trust kid more than fid.

    \b
    Examples:
      stylegan2 metrics
      stylegan2 metrics --network=network.pkl --data=data.zip --metrics=panel,fid50k_full,kid50k_full
      stylegan2 metrics --images=out/ --data=data.zip --metrics=kid2k_full
      stylegan2 metrics --network=network.pkl --metrics=memorization --holdout=other_patients.zip
      stylegan2 metrics fetch inception
    """
    if ctx.invoked_subcommand is not None:
        return
    from stylegan2_pipeline.measuring import Asked, measure

    if code := measure(Asked(**options), show):
        ctx.exit(code)


def show(record: dict[str, Any], path: Path, files: list[Path]) -> None:
    """A result on the terminal: figures with their intervals, what they stand on, and what to keep in mind."""
    results = record["results"]
    beside = {f"{key}{end}" for key in results for end in ("_floor", "_ratio")}
    lines = {key: value for key, value in results.items() if key not in beside}
    notes = list(record["notes"])
    if files:
        lines = {key: value for key, value in lines.items() if key.removeprefix(record["metric"]) in CHIEF}
        click.echo(notes.pop(0))
    width = max(map(len, lines))
    for key, value in lines.items():
        interval = record["intervals"].get(key)
        between = f"[{', '.join(map(figure, interval))}]" if interval else ""
        more = "".join(f"   {end} {figure(results[f'{key}_{end}'])}" for end in ("floor", "ratio")
                       if f"{key}_{end}" in results)
        click.echo(f"{key:<{width}}  {figure(value):>9}  {between:<20}{more}".rstrip())
    psi = record.get("truncation_psi", 1.0)
    at = "" if psi == 1 else f" Truncation psi {psi:g}: compare at the same psi only."
    click.echo(f"  Images: {counted(record['counts'])}. Time: {record['total_time_str']}.{at}")
    for note in notes:
        click.echo(f"  {note}")
    click.echo(f"  Added to {path}" + (f"; all figures and the pictures: {files[0]}" if files else ""))


def figure(value: float) -> str:
    """Four decimals, or of what is small, as kernel distances are, four digits."""
    return f"{value:.4f}" if not 0 < abs(value) < 0.1 else f"{value:.4g}"


@command.command(context_settings=SETTINGS)
@click.argument("names", nargs=-1, metavar="[inception] [vgg16] [lpips] [dinov2]", type=click.Choice(list(WEIGHTS)))
@weights_options
def fetch(names: tuple[str, ...], weights: tuple[Path, ...], offline: bool) -> None:
    """Download the weights of detectors ahead of time, for a machine without network for example.

    Without names: inception, vgg16 and lpips. Files are checked by size and hash, and an interrupted download goes on
    where it was. They go to STYLEGAN2_WEIGHTS, or to `weights` in the cache; that folder can be copied to a machine
    without network.

    \b
    Examples:
      stylegan2 metrics fetch
      stylegan2 metrics fetch inception
      STYLEGAN2_WEIGHTS=/shared/weights stylegan2 metrics fetch dinov2
    """
    from metrics.weights import WeightsSource
    from metrics.weights import fetch as fetch_weights

    for file in fetch_weights(names or ("inception", "vgg16", "lpips"), WeightsSource(weights, offline)):
        click.echo(f"{file.name:<10} {file.path}  sha256 {file.sha256}")


