"""`demo`: the whole pipeline on sample data, one command after the other, as a user would type them."""

import shlex
import time
from dataclasses import dataclass
from pathlib import Path

import click

from stylegan2_pipeline.commands.numbers import FiniteRange


@dataclass(frozen=True)
class Size:
    """How large a demo is: image size, number of images, training length and the width of the networks."""

    resolution: int
    count: int
    kimg: float
    ticks: int
    train: str


SIZES = {
    "tiny":  Size(16, 40, 0.064, 2, "--batch=8 --cbase=256 --cmax=16"),
    "cpu":   Size(64, 800, 12, 12, "--batch=8 --glr=0.004 --dlr=0.004 --gamma=1 --cbase=1024 --cmax=128"),
    "cuda":  Size(128, 2000, 120, 30, "--batch=32"),
}


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option("--outdir", default="demo", metavar="DIR", help="Where everything goes.")
@click.option("--kind", type=click.Choice(["mri", "cigarette"]), default="mri", help="Sample data to train on.")
@click.option("--size", type=click.Choice(["auto", *SIZES]), default="auto",
              help="auto: cuda where there is a CUDA device (15 minutes or so), else cpu (7 or so on 2 cores).")
@click.option("--kimg", type=FiniteRange(min=0, min_open=True), help="Train longer or shorter than the size says.")
def command(outdir: str, kind: str, size: str, kimg: float | None) -> None:
    """Run the whole pipeline on sample data: images, archive, training, new images, quality numbers, a report.

    \b
    Examples:
      stylegan2 demo
      stylegan2 demo --kind=cigarette --outdir=demo-cigarette --kimg=50
    """
    from stylegan2_pipeline.checkpoint import newest_snapshot

    folder = next_folder(Path(outdir))
    chosen = SIZES[pick_size() if size == "auto" else size]
    kimg = kimg or chosen.kimg
    start = time.time()
    images, archive, runs = folder / "images", folder / f"{kind}.zip", folder / "training-runs"
    augmented, out = folder / "augmentation", folder / "generated"
    res = f"{chosen.resolution}x{chosen.resolution}"
    step("Sample images", "sample-data", f"--kind={kind} --count={chosen.count} --size={2 * chosen.resolution} "
         f"--outdir={quote(images)}")
    step("Images to an archive", "dataset", f"--source={quote(images)} --dest={quote(archive)} --resolution={res}")
    step("What augmentation does to them", "augment", f"--data={quote(archive)} --outdir={quote(augmented)}")
    step("Training", "train", f"--data={quote(archive)} --outdir={quote(runs)} --mirror=1 --kimg={kimg:g} "
         f"--tick={kimg / chosen.ticks:g} --snap={max(chosen.ticks // 4, 1)} --metrics=none {chosen.train}")
    network = newest_snapshot(runs)
    step("New images", "generate", f"--network={quote(network)} --seeds=1-32 --trunc=0.8 --grid=8x4 "
         f"--outdir={quote(out)}")
    step("How good they are, and whether any is a copy", "metrics", f"--network={quote(network)} "
         f"--data={quote(archive)} --metrics=panel,memorization --num={min(chosen.count, 2048)}")
    run = Path(str(network)).parent
    step("How the training went", "report", quote(run))
    step("The same images through training", "timelapse", quote(run))
    tell(folder, run, time.time() - start)


def quote(path: object) -> str:
    return shlex.quote(str(path))


def pick_size() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def next_folder(outdir: Path) -> Path:
    """outdir if it is new or empty, else outdir-2, outdir-3, ...: nothing of an earlier demo is lost."""
    candidates = (outdir if n == 1 else outdir.with_name(f"{outdir.name}-{n}") for n in range(1, 10000))
    return next(path for path in candidates if not path.exists() or not any(path.iterdir()))


def step(title: str, verb: str, arguments: str) -> None:
    """Runs a command in this process, shown as it would be typed; an error of it ends the demo with its message."""
    from stylegan2_pipeline.__main__ import main

    scripts = {"dataset": "python dataset_tool.py", "train": "python train.py", "generate": "python generate.py"}
    click.secho(f"\n== {title}", bold=True)
    click.echo(f"$ {scripts.get(verb, f'stylegan2 {verb}')} {arguments}\n")
    try:
        main.main([verb, *shlex.split(arguments)], prog_name="stylegan2", standalone_mode=False)
    except click.exceptions.Exit as stop:
        if stop.exit_code:
            raise


def tell(folder: Path, run: Path, sec: float) -> None:
    """Names what there is to look at."""
    from torch_utils.text import format_time

    grids = sorted(run.glob("fakes0*.png"))
    things = [
        ("sample images",                          folder / "images"),
        ("archive of them",                        next(folder.glob("*.zip"))),
        ("augmentations by strength",              folder / "augmentation" / "augment-percentiles.png"),
        ("augmentations as training draws them",   folder / "augmentation" / "augment-random.png"),
        ("real images as training saw them",       run / "reals.png"),
        ("the generator before training",          run / "fakes_init.png"),
        *((f"the generator at {int(path.stem[5:])} kimg", path) for path in grids[:-1]),
        ("the generator at the end",               grids[-1]),
        ("network",                                max(run.glob("network-snapshot-*.pkl"))),
        ("how the training went, in one page",     run / "report.html"),
        ("a film of it",                           run / "progress.gif"),
        ("settings",                               run / "training_options.json"),
        ("log",                                    run / "log.txt"),
        ("statistics",                             run / "stats.jsonl"),
        ("TensorBoard events",                     next(run.glob("events.out.tfevents.*"))),
        ("how good its images are, in numbers",    run / "metric-swd.jsonl"),
        ("whether any is a copy, in one page",     run / "memorization" / "memorization.html"),
        ("new images",                             folder / "generated"),
        ("new images in one picture",              folder / "generated" / "grid.png"),
    ]
    click.secho(f"\n== Done in {format_time(sec)}. Look at:", bold=True)
    for name, path in things:
        click.echo(f"  {name:<40} {path}")
    click.echo(f"\nCurves: tensorboard --logdir={quote(run.parent)}")
    click.echo("(to type these commands yourself, enter the environment first: . .venv/bin/activate)")
