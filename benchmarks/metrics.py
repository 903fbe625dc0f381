"""`python -m benchmarks.metrics`: speed of the metrics against the packages that others measure with."""

import importlib
import json
import math
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
import scipy.linalg
import torch
from torch import Tensor, nn

from benchmarks.peers import INSTALL, let_torchvision_load
from metrics.detectors.inception import open_inception
from metrics.detectors.inception_network import Inception
from metrics.detectors.registry import full_precision
from metrics.frechet import frechet_of_samples
from metrics.weights import WeightsFile
from stylegan2_pipeline.devices import chosen_device
from torch_utils.timing import describe, interleaved

PARTS = ("inception", "frechet")
PEER = "numpy.cov, scipy.linalg.sqrtm"
Row = dict[str, Any]


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option("--parts", default=",".join(PARTS), help="What is measured, separated by commas.")
@click.option("--resolution", type=click.IntRange(min=1), default=512, help="Of the images given to Inception.")
@click.option("--batch", type=click.IntRange(min=1), default=16, help="Images given to Inception at a time.")
@click.option("--dimensions", type=click.IntRange(min=2), default=2048, help="Of the features of Frechet distances.")
@click.option("--device", metavar="NAME", help="Of Inception: cpu, cuda, ...  [default: cuda where there is one]")
@click.option("--seconds", type=float, default=20.0, help="Spent on each comparison, at the least.")
@click.option("--json", "as_json", is_flag=True, help="Print a list of rows instead of tables.")
def main(parts: str, resolution: int, batch: int, dimensions: int, device: str | None, seconds: float,
         as_json: bool) -> None:
    """Time the features of Inception and the arithmetic of the Frechet distance, in turns with what others do.

    Inception: images a second from uint8 to the 2048 features, with random weights, computed plainly, with channels
    last in memory, and with normalisation folded into the convolutions besides (what the metrics do), against the
    extractor of torch-fidelity where that is installed. Frechet: seconds from two sets of features to their distance,
    against covariances by numpy and their root by scipy.linalg.sqrtm, which takes minutes in all. The last column is
    the largest difference of features, or the relative one of distances.

    \b
    Examples:
      python -m benchmarks.metrics
      python -m benchmarks.metrics --parts=inception --batch=1 --resolution=256
      python -m benchmarks.metrics --parts=frechet --dimensions=512 --seconds=1
    """
    if unknown := set(parts.split(",")) - set(PARTS):
        raise click.UsageError(f"--parts: there is no {unknown.pop()}; there is: {', '.join(PARTS)}.")
    where = chosen_device(device)
    rows: list[Row] = []
    if "inception" in parts.split(","):
        rows += inception_rows(resolution, batch, where, seconds)
    if "frechet" in parts.split(","):
        rows += [row for count in (2 * dimensions, dimensions // 2) for row in frechet_rows(count, dimensions, seconds)]
    if as_json:
        click.echo(json.dumps(rows, indent=1))
        return
    click.echo(f"{describe(where)}\n")
    for title in dict.fromkeys(row["title"] for row in rows):
        click.echo(table([row for row in rows if row["title"] == title]))


def inception_rows(resolution: int, batch: int, device: torch.device, seconds: float) -> list[Row]:
    """One row a way of computing the same features of one batch."""
    images = torch.randint(0, 256, [batch, 3, resolution, resolution], dtype=torch.uint8, device=device)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "inception.pth"
        torch.save(random_weights(), path)
        variants = extractors(path, device)
    with torch.no_grad(), full_precision():
        expected = variants["plain"](images)
        differences = {way: float((run(images) - expected).abs().max()) for way, run in variants.items()}
        times = interleaved({way: partial(run, images) for way, run in variants.items()}, device, seconds)
    peer = "torch-fidelity" if "torch-fidelity" in times else "plain"
    title = f"Inception, {resolution}x{resolution}, batches of {batch}"
    return [{"title": title, "way": way, "unit": "images/s", "figure": batch / times[way], "peer": peer,
             "ratio": times[peer] / times[way], "difference": differences[way]} for way in variants]


def extractors(path: Path, device: torch.device) -> dict[str, Callable[[Tensor], Tensor]]:
    """uint8 images to features [N,2048], by name of the way."""
    file = WeightsFile("inception", path, "random", published=False)
    plain, turned, fused = (open_inception(file, device, fused=fused) for fused in (False, False, True))
    assert turned.module is not None
    turned.module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    found: dict[str, Callable[[Tensor], Tensor]] = {}
    let_torchvision_load()
    try:
        peer = importlib.import_module("torch_fidelity.feature_extractor_inceptionv3")
        extractor = peer.FeatureExtractorInceptionV3("random", ["2048"], feature_extractor_weights_path=str(path))
        extractor = extractor.eval().to(device)
        found["torch-fidelity"] = lambda images: extractor(images)[0]
    except ImportError:
        click.echo(f"torch-fidelity is not installed, so ours is compared with itself computed plainly. To compare "
                   f"with it: {INSTALL}", err=True)
    return found | {"plain": plain.rows, "channels last": turned.rows, "channels last, fused": fused.rows}


def random_weights() -> dict[str, Tensor]:
    """Of the shapes of Inception, such that signals keep their size from layer to layer."""
    torch.manual_seed(0)
    module = Inception()
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight)
    return module.state_dict()


def frechet_rows(count: int, dimensions: int, seconds: float) -> list[Row]:
    """Our arithmetic and that by scipy's root, from two sets of `count` features each."""
    x, y = features(count, dimensions, 0), features(count, dimensions, 1)
    found: dict[str, float] = {}
    ways: dict[str, Callable[[], object]] = {
        PEER: lambda: found.update({PEER: by_sqrtm(x.numpy(), y.numpy())}),
        "metrics.frechet": lambda: found.update({"metrics.frechet": frechet_of_samples(x, y)})}
    times = interleaved(ways, torch.device("cpu"), seconds)
    title = f"Frechet distance, {dimensions} dimensions, {count} and {count} images"
    return [{"title": title, "way": way, "unit": "s", "figure": times[way], "peer": PEER,
             "ratio": times[PEER] / times[way], "difference": abs(found[way] / found[PEER] - 1)} for way in ways]


def features(count: int, dimensions: int, seed: int) -> Tensor:
    """Normal with variances that fall off as those of images' features do."""
    generator = torch.Generator().manual_seed(seed)
    scales = torch.arange(1, dimensions + 1) ** -0.5
    return (torch.randn([count, dimensions], generator=generator) + 0.1 * seed) * scales


def by_sqrtm(x: np.ndarray, y: np.ndarray) -> float:
    """The distance as it is usually computed, covariances divided by their counts."""
    (mean_x, cov_x), (mean_y, cov_y) = ((a.mean(0), np.cov(a, rowvar=False, ddof=0)) for a in
                                        (x.astype(np.float64), y.astype(np.float64)))
    root = np.real(np.trace(scipy.linalg.sqrtm(cov_x @ cov_y)))
    return float(((mean_x - mean_y) ** 2).sum() + np.trace(cov_x) + np.trace(cov_y) - 2 * root)


def table(rows: list[Row]) -> str:
    """A Markdown table of one comparison."""
    unit, peer = rows[0]["unit"], rows[0]["peer"]
    lines = [f"**{rows[0]['title']}**\n", f"| | {unit} | times {peer} | difference |", "|---|---|---|---|"]
    for row in rows:
        digits = 1 if row["figure"] >= 10 else 2 - min(0, math.floor(math.log10(row["figure"])))
        lines.append(f"| {row['way']} | {row['figure']:.{digits}f} | {row['ratio']:.2f} | {row['difference']:.1e} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main(prog_name="python -m benchmarks.metrics")
