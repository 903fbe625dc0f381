"""`python -m benchmarks.curves`: whether a faster way of computing trains alike, by curves of the first steps."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from torch import Tensor

from benchmarks.curve_picture import draw
from benchmarks.settings import AUGMENT_OPTIONS, NETWORK_OPTIONS, training_config
from stylegan2_pipeline.config import AugmentConfig, TrainConfig
from stylegan2_pipeline.devices import chosen_device, prepare
from stylegan2_pipeline.sample_data.write import render
from stylegan2_pipeline.training_step import Trainer
from torch_utils.timing import describe

STATISTICS = {"Loss/G/loss": "loss of G", "Loss/D/loss": "loss of D", "Loss/scores/real": "D's score of real images",
              "Loss/scores/fake": "D's score of generated images"}
SMOOTH = 10  # steps that a point of a curve is the mean of
Curves = dict[str, np.ndarray]  # name of a statistic -> [steps]


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@NETWORK_OPTIONS
@AUGMENT_OPTIONS
@click.option("--batch", type=click.IntRange(min=1), default=8, help="Images of a step.")
@click.option("--steps", type=click.IntRange(min=2 * SMOOTH), default=100, help="Of each run.")
@click.option("--seeds", type=click.IntRange(min=2), default=3, help="Runs of each way, each with a seed of its own.")
@click.option("--other", type=click.Choice(["bf16", "fp16"]), default="bf16", help="Compared with fp32.")
@click.option("--images", type=click.IntRange(min=1), default=200, help="Of the sample data that is trained on.")
@click.option("--picture", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="A PNG of the curves.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def main(steps: int, seeds: int, other: str, images: int, picture: Path | None, as_json: bool, **options: Any) -> None:
    """Train on sample data from several seeds in float32 and in a shorter type, and compare the curves.

    Curves are means over ten steps. `seeds apart` is how far two runs in float32 with different seeds are from each
    other, `types apart` how far runs of one seed in both types are (root mean squares over steps and pairs). A ratio
    below 1 says that the type changes less than another seed does. `inside` is the share of points of the shorter type
    that lie between the lowest and the highest of float32; of as many runs in float32 as there are seeds, a further one
    would be inside (n - 1) / (n + 1) of the time.

    \b
    Examples:
      python -m benchmarks.curves --resolution=64 --channels=1 --cbase=4096 --picture=curves.png
      python -m benchmarks.curves --device=cuda --resolution=256 --other=fp16 --steps=500
    """
    device = chosen_device(options["device"])
    config = training_config({**options, "precision": "fp32"}, device)
    config = replace(config, augment=AugmentConfig(mode="ada", pipe=options["augpipe"], p=options["p"]))
    prepare(config)
    real = sample_images(config, images, device)
    runs: dict[str, list[Curves]] = {}
    todo = [(precision, seed) for seed in range(seeds) for precision in ("fp32", other)]
    with click.progressbar(todo, label="Training", file=sys.stderr) as bar:
        for precision, seed in bar:
            made = curves(replace(config, precision=precision, seed=seed), real, steps, device)
            runs.setdefault(precision, []).append(made)
    rows = [compared(name, runs["fp32"], runs[other]) for name in STATISTICS]
    if picture:
        draw(picture, {STATISTICS[name]: {way: [run[name] for run in found] for way, found in runs.items()}
                       for name in STATISTICS}, SMOOTH)
    if as_json:
        click.echo(json.dumps({"rows": rows, "runs": {way: [{name: run[name].tolist() for name in run} for run in found]
                                                      for way, found in runs.items()}}, indent=1))
        return
    click.echo(f"{describe(device)}; {config.data.resolution}x{config.data.resolution}, {config.data.num_channels} "
               f"channel(s), channel base {config.networks.channel_base}, batch {config.batch}, {steps} steps, "
               f"{seeds} seeds\n")
    click.echo(table(rows, other))


def sample_images(config: TrainConfig, count: int, device: torch.device) -> Tensor:
    """[count,C,R,R] in [-1, 1]."""
    kind = "mri" if config.data.num_channels == 1 else "cigarette"
    drawn = [np.atleast_3d(np.asarray(render(kind, 0, number, config.data.resolution))) for number in range(count)]
    return torch.from_numpy(np.stack(drawn)).permute(0, 3, 1, 2).to(device, torch.float32).contiguous() / 127.5 - 1


def curves(config: TrainConfig, images: Tensor, steps: int, device: torch.device) -> Curves:
    """Of one run from its first step on, smoothed."""
    trainer = Trainer(config, torch.zeros(1, 0), device, tell=lambda text: click.echo(text, err=True))
    random = torch.Generator().manual_seed(config.seed)
    found: dict[str, list[float]] = {name: [] for name in STATISTICS}
    for _ in range(steps):
        real = images[torch.randint(len(images), [config.batch], generator=random).to(device)]
        trainer.step(real, torch.zeros(config.batch, 0, device=device))
        stats = trainer.collector.harvest()
        for name, values in found.items():
            values.append(stats[name].mean)
    return {name: np.convolve(values, np.full(SMOOTH, 1 / SMOOTH), "valid") for name, values in found.items()}


def compared(name: str, base: list[Curves], other: list[Curves]) -> dict[str, Any]:
    """One row: how far seeds and types are apart in one statistic."""
    a, b = (np.stack([run[name] for run in runs]) for runs in (base, other))  # [seeds, steps]
    pairs = [(i, j) for i in range(len(a)) for j in range(i)]
    seeds = float(np.sqrt(np.mean([np.mean((a[i] - a[j]) ** 2) for i, j in pairs])))
    types = float(np.sqrt(np.mean((a - b) ** 2)))
    inside = float(np.mean((b >= a.min(0)) & (b <= a.max(0))))
    return {"statistic": name, "seeds": seeds, "types": types, "ratio": types / seeds, "inside": inside}


def table(rows: list[dict[str, Any]], other: str) -> str:
    lines = ["| | seeds apart | types apart | ratio | inside |", "|---|---|---|---|---|"]
    lines += [f"| {STATISTICS[row['statistic']]} | {row['seeds']:.3g} | {row['types']:.3g} | {row['ratio']:.2f} | "
              f"{row['inside']:.0%} |" for row in rows]
    return "\n".join(lines) + f"\n\nfp32 against {other}.\n"


if __name__ == "__main__":
    main(prog_name="python -m benchmarks.curves")
