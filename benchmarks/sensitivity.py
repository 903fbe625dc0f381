"""What the metrics without weights see: known damage done to images, and how far each figure moves.

    python -m benchmarks.sensitivity --kind mri --size 128 --images 300 --json FILE

Half of the images of `sample-data` stand for the data, the other half, damaged, for what a network makes of it. The
table in docs/metrics.md is this one's.
"""

import io
import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import click
import numpy as np
import torch
from PIL import Image
from scipy import ndimage
from torch import Tensor

from metrics.detectors.registry import Detectors
from metrics.diversity import msssim, vendi
from metrics.inputs import ImageSet, MetricInputs, Request
from metrics.panel import pfd32, prdc32, rfd
from metrics.plain import spectrum, tone
from metrics.swd import swd
from stylegan2_pipeline.progress import progress
from stylegan2_pipeline.sample_data.write import KINDS, render

METRICS = {f.__name__: f for f in (swd, rfd, pfd32, prdc32, msssim, vendi, tone, spectrum)}


class Images(ImageSet):
    """uint8 images [N,C,H,W] in memory."""

    def __init__(self, images: np.ndarray, detectors: Detectors) -> None:
        super().__init__()
        self._images, self._detectors, self.size = images, detectors, len(images)

    def images(self, count: int) -> Iterator[np.ndarray]:
        return (self._images[i:min(i + 64, count)] for i in range(0, count, 64))

    def stream(self, detector: str, count: int) -> Iterator[Tensor]:
        return (self._detectors.rows(detector, torch.from_numpy(batch)).cpu() for batch in self.images(count))


def damaged(train: np.ndarray, held_out: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """Names, and what is done to the uint8 images [N,C,R,R] that were held out; copies are of the training images."""
    random = np.random.RandomState(1)
    x = held_out.astype(np.float64)
    resolution = x.shape[-1]
    board = np.where(np.indices([resolution, resolution]).sum(0) % 2, 10, -10)
    yield "held out, as they are", held_out
    yield "blur, sigma 1", _uint8(ndimage.gaussian_filter(x, (0, 0, 1, 1)))
    yield "blur, sigma 2.5", _uint8(ndimage.gaussian_filter(x, (0, 0, 2.5, 2.5)))
    yield "noise, sd 8", _uint8(x + 8 * random.randn(*x.shape))
    yield "JPEG, quality 20", np.stack([_jpeg(image, 20) for image in held_out])
    yield "contrast x 0.85", _uint8(128 + 0.85 * (x - 128))
    yield "brightness + 12", _uint8(x + 12)
    yield "shift by 4 %", np.roll(held_out, round(0.04 * resolution), axis=3)
    yield "checkerboard, +-10", _uint8(x + board)
    yield "warped", _uint8(np.stack([_warped(image, random) for image in x]))
    yield "collapse to 20", held_out[random.randint(20, size=len(held_out))]
    yield "training copies, noise 2", _uint8(train + 2 * random.randn(*x.shape))


def _uint8(x: np.ndarray) -> np.ndarray:
    return np.rint(x).clip(0, 255).astype(np.uint8)


def _jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(image[0] if len(image) == 1 else image.transpose(1, 2, 0)).save(file, "JPEG", quality=quality)
    return _channels_first(np.asarray(Image.open(file)))


def _warped(image: np.ndarray, random: np.random.RandomState) -> np.ndarray:
    """Moved by a smooth random field of 3 % of the width in the mean."""
    size = image.shape[-1]
    field = ndimage.gaussian_filter(random.randn(2, size, size), (0, size / 10, size / 10))
    places = np.indices([size, size]) + field * 0.03 * size / field.std()
    return np.stack([ndimage.map_coordinates(channel, places, order=1, mode="nearest") for channel in image])


def _channels_first(image: np.ndarray) -> np.ndarray:
    return image[None] if image.ndim == 2 else image.transpose(2, 0, 1)


def rendered(kind: str, size: int, count: int) -> np.ndarray:
    """uint8 [count,C,size,size] of `sample-data`."""
    numbers = progress(range(1, count + 1), count, f"{kind} images")
    return np.stack([_channels_first(np.asarray(render(kind, 0, i, size))) for i in numbers])


def measured(train: np.ndarray, fake: np.ndarray, names: Iterable[str] = METRICS) -> dict[str, float]:
    """The results of the metrics, by their keys."""
    detectors = Detectors(torch.device("cpu"))
    inputs = MetricInputs(Images(train, detectors), Images(fake, detectors), detectors)
    results: dict[str, float] = {}
    for name in names:
        results |= METRICS[name](inputs, Request(name, len(fake))).results
    return results


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option("--kind", type=click.Choice(sorted(KINDS)), default="mri", help="Of `stylegan2 sample-data`.")
@click.option("--size", type=click.IntRange(min=16), default=128, help="Of the images: a power of two.")
@click.option("--images", type=click.IntRange(min=20), default=300, help="Of the data, and as many held out.")
@click.option("--metrics", default=",".join(METRICS), help="Which, separated by commas.")
@click.option("--json", "path", type=click.Path(path_type=Path), help="Where to keep all figures.")
def main(kind: str, size: int, images: int, metrics: str, path: Path | None) -> None:
    """What the metrics without weights see: known damage done to images, and how far each figure moves."""
    both = rendered(kind, size, 2 * images)
    found = {}
    for name, fake in damaged(both[:images], both[images:]):
        found[name] = measured(both[:images], fake, metrics.split(","))
        click.echo(f"{name}: " + ", ".join(f"{key} {value:.3g}" for key, value in found[name].items()))
    if path is not None:
        path.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
