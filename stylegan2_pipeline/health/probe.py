"""Measurements of a run's health from its images: generated from latents that stay the same, against the data.

No network weights are needed, and no more than a fraction of a second. rules judges them.
"""

import math
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from metrics.detectors.pixels32 import reduced_pixels
from stylegan2_pipeline.health.leaks import gauges, luma

CHUNK = 8  # images made small at a time, which bounds the memory of large ones
MAX_ROWS = 128  # of an image at full resolution, for what is counted there
MAX_SUBSETS = 8  # of as many images as the other set has, over which a figure is averaged


class HealthProbe:
    """Knows the data, and measures generated images against it.

    reals: uint8 [N,C,H,W], C = 1, 3 or 4, at most a few hundred random training images.
    """

    def __init__(self, reals: np.ndarray) -> None:
        assert reals.dtype == np.uint8 and reals.ndim == 4 and len(reals), (reals.dtype, reals.shape)
        self._reals = small_images(reals)
        self._spread = mean_distance(self._reals)
        self._distinct = distinct_part(self._reals)
        self._own_distance = nearest_distances(self._reals).mean().item() if len(reals) > 1 else 0.0
        self._brightness = luma(self._reals).mean().item()
        self._pixel_std = luma(self._reals).std().item()
        self._extreme = extreme_share(reals)
        self._sharpness = sharpness(reals)
        self._gauges = gauges(self._reals)
        self.before: Tensor | None = None  # the images of the last call, small; a run that goes on puts them back

    def measure(self, fakes: np.ndarray) -> dict[str, float]:
        """Figures of uint8 images [M,C,H,W] under the names of docs/health.md, all finite.

        fakes[i] must come from the same latent every time: the figure of change is against the call before. What cannot
        be measured with this data (diversity of one image, say) is left out.
        """
        assert fakes.dtype == np.uint8 and fakes.ndim == 4 and len(fakes), (fakes.dtype, fakes.shape)
        images = small_images(fakes)
        figures = self._diversity(images) | self._appearance(images, fakes)
        figures |= {f"Health/leak_{gauge.name}": gauge(images) for gauge in self._gauges}
        if self.before is not None and self.before.shape == images.shape:
            moved = (images - self.before).flatten(1).norm(dim=1).mean().item()
            figures["Health/change"] = ratio(moved, self._spread)
        self.before = images
        return {name: value for name, value in figures.items() if math.isfinite(value)}

    def _diversity(self, images: Tensor) -> dict[str, float]:
        """How much generated images differ among themselves, and from the data, in units of the data's own figures."""
        n = min(len(images), len(self._reals))
        figures = {"Health/nearest_real": ratio(nearest_distances(images, self._reals).mean().item(),
                                                self._own_distance)}
        if n < 2:
            return figures
        return figures | {
            "Health/diversity": ratio(mean_distance(images), self._spread),
            "Health/distinct": ratio(distinct_part(images), self._distinct),
            "Health/nearest_pair": ratio(mean_over_subsets(_own_nearest, images, n),
                                         mean_over_subsets(_own_nearest, self._reals, n)),
            "Health/variety": ratio(mean_over_subsets(effective_number, images, n),
                                    mean_over_subsets(effective_number, self._reals, n)),
        }

    def _appearance(self, images: Tensor, fakes: np.ndarray) -> dict[str, float]:
        gray = luma(images)
        return {
            "Health/brightness": ratio(gray.mean().item() - self._brightness, self._pixel_std),
            "Health/contrast": ratio(gray.std().item(), self._pixel_std),
            "Health/sharpness": ratio(sharpness(fakes), self._sharpness),
            "Health/extreme": extreme_share(fakes) - self._extreme,
        }


def small_images(images: np.ndarray) -> Tensor:
    """uint8 [N,C,H,W] to block means [N,C,r,r] in [0, 1], r = min(H, 32)."""
    n, channels = images.shape[:2]
    pieces: Iterator[np.ndarray] = (images[at:at + CHUNK] for at in range(0, n, CHUNK))
    pixels = reduced_pixels(pieces, torch.device("cpu")).float()
    size = math.isqrt(pixels.shape[1] // channels)
    return pixels.reshape(n, channels, size, size)


def ratio(value: float, unit: float) -> float:
    """NaN where the data has no such unit: all its images the same, or one alone."""
    return value / unit if unit > 1e-6 else math.nan


def mean_distance(images: Tensor) -> float:
    """Mean Euclidean distance of two different images of [N,C,r,r]; 0 of one alone."""
    return torch.pdist(images.flatten(1)).mean().item() if len(images) > 1 else 0.0


def nearest_distances(images: Tensor, others: Tensor | None = None) -> Tensor:
    """[N]: the distance of each image to the nearest of the others; without others, to the nearest of its own set."""
    if others is not None:
        return torch.cdist(images.flatten(1), others.flatten(1)).amin(1)
    distances = torch.cdist(images.flatten(1), images.flatten(1))
    return distances.fill_diagonal_(math.inf).amin(1)


def distinct_part(images: Tensor) -> float:
    """The part of images [N,C,r,r] that is not the same in all: deviation from their mean, over that from gray.

    Colours and contrasts that run away enlarge distances; this part they leave as it is.
    """
    own = (images - images.mean(0)).square().sum()
    return math.sqrt(own / (images - 0.5).square().sum().clamp_min(1e-12))


def _own_nearest(images: Tensor) -> float:
    return nearest_distances(images).mean().item()


def effective_number(images: Tensor) -> float:
    """How many directions images [N,C,r,r] vary in: (trace)^2 / trace of squares of their covariance, 1 to N - 1.

    Blind to contrast: a few distinct pictures repeated count few, however far they are apart.
    """
    centred = (images - images.mean(0)).flatten(1).double()
    gram = centred @ centred.T
    squares = gram.square().sum().item()
    return gram.trace().item() ** 2 / squares if squares > 1e-12 else 1.0


def mean_over_subsets(figure: Callable[[Tensor], float], images: Tensor, n: int) -> float:
    """Of disjoint runs of n images: figures that depend on the number of images are compared at the same number."""
    values = [figure(images[at:at + n]) for at in range(0, len(images) - n + 1, n)][:MAX_SUBSETS]
    return sum(values) / len(values)


def _rows(images: np.ndarray) -> np.ndarray:
    return images[:, :, ::max(images.shape[2] // MAX_ROWS, 1)]


def extreme_share(images: np.ndarray) -> float:
    """Part of values that are 0 or 255, beyond which nothing can be told."""
    rows = _rows(images)
    return float(((rows == 0) | (rows == 255)).mean())


def sharpness(images: np.ndarray) -> float:
    """Mean difference of pixels next to each other in a row, in levels of 255."""
    rows = _rows(images).astype(np.int16)
    return float(np.abs(np.diff(rows, axis=3)).mean())
