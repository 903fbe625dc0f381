"""What every metric is given."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch


@dataclass(frozen=True)
class MetricInputs:
    """Two sets of uint8 images as streams of batches [N,C,H,W], C = 1, 3 or 4, and how to compare them.

    Each call of `real` starts a pass over all num_real images in one fixed order, which must be a random one: metrics
    take the beginning, or halves, as samples. `fake(count)` makes `count` images, the same ones in each call. Batches
    may be of any sizes. `num` replaces the metric's own number of images; `about` is recorded with the result.
    """

    real: Callable[[], Iterator[np.ndarray]]
    num_real: int
    fake: Callable[[int], Iterator[np.ndarray]]
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    seed: int = 0
    num: int | None = None
    num_gpus: int = 1
    snapshot: str | None = None
    about: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class MetricValue:
    """The figures under their keys, and the numbers of images behind them."""

    results: dict[str, float]
    counts: dict[str, int]


def take(batches: Iterator[np.ndarray], count: int) -> Iterator[np.ndarray]:
    """The first `count` images of a stream, in its batches; asserts that there are as many."""
    left = count
    while left:
        batch = next(batches, None)
        assert batch is not None and batch.dtype == np.uint8 and batch.ndim == 4, f"{left} of {count} images missing"
        yield batch[:left]
        left -= len(batch[:left])
