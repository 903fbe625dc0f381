"""What every metric is given, and what it gives."""

import abc
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from metrics.detectors.base import Detector
from metrics.frechet import Moments

Watch = Callable[[Iterable[Any], int, str], Iterator[Any]]  # items, how many, what is done: the items as they pass

KEPT_BYTES = 2**30  # features of a detector up to this size stay in memory: 131,000 images of 2048 numbers


def unwatched(items: Iterable[Any], length: int, label: str) -> Iterator[Any]:
    """For where nobody looks."""
    yield from items


class ImageSet(abc.ABC):
    """uint8 images in one fixed random order, so that beginnings and halves are random samples.

    size: how many there are; None for a generator, which makes as many as wanted, the same ones each time. Features
    that were asked for stay in memory up to KEPT_BYTES a detector, so that several metrics share one pass.
    """

    size: int | None

    def __init__(self) -> None:
        self._kept: dict[str, Tensor] = {}

    @abc.abstractmethod
    def images(self, count: int) -> Iterator[np.ndarray]:
        """The first `count` images in batches [n,C,H,W] of any sizes."""

    @abc.abstractmethod
    def stream(self, detector: str, count: int) -> Iterator[Tensor]:
        """Rows of features of the first `count` images in batches [n,D], float32 on the CPU."""

    def name_of(self, index: int) -> str:
        """What people know the image in this place of the order by: a file, a number."""
        return f"image {index}"

    def subjects(self) -> Sequence[int] | None:
        """In this order, a number for whom or what each image is of, as for slices of one head; None if not known."""
        return None

    def pick(self, indices: Sequence[int]) -> list[np.ndarray]:
        """The images uint8 [C,H,W] in these places of the order."""
        wanted = set(map(int, indices))
        found: dict[int, np.ndarray] = {}
        start = 0
        for batch in self.images(max(wanted, default=-1) + 1):
            found |= {i: batch[i - start] for i in wanted if start <= i < start + len(batch)}
            start += len(batch)
        return [found[int(index)] for index in indices]

    def features(self, detector: str, count: int) -> Tensor:
        """[count,D] float32 on the CPU; all at once in memory."""
        kept = self._kept.get(detector)
        if kept is None or len(kept) < count:
            kept = torch.cat(list(self.stream(detector, count)))
            self._keep(detector, kept)
        return kept[:count]

    def moments(self, detector: str, count: int) -> Moments:
        """Number, mean and covariance of the features of the first `count` images; memory does not grow with them."""
        kept = self._kept.get(detector)
        if kept is not None and len(kept) >= count:
            return Moments.of(iter([kept[:count]]))
        return Moments.of(self._keeping(detector, self.stream(detector, count)))

    def _keeping(self, detector: str, batches: Iterator[Tensor]) -> Iterator[Tensor]:
        """The batches as they pass, kept together as long as they are not too many."""
        parts: list[Tensor] = []
        size = 0
        for batch in batches:
            size += batch.nbytes
            parts = [*parts, batch] if size <= KEPT_BYTES else []
            yield batch
        if parts:
            self._keep(detector, torch.cat(parts))

    def _keep(self, detector: str, rows: Tensor) -> None:
        if rows.nbytes <= KEPT_BYTES:
            self._kept[detector] = rows


@dataclass(frozen=True)
class Request:
    """One measurement as its name says it.

    name: also the key of the main result. count: generated images. real_most: real images at most; None: all.
    mirror: the real images are the data and its mirrored copies.
    """

    name: str
    count: int
    real_most: int | None = None
    mirror: bool = False


@dataclass(frozen=True)
class MetricInputs:
    """Two sets of images and how to compare them.

    detector(name) opens the network behind features. watch: shows how far long work is. holdout: images like the data
    that were never trained on. trained_mirror: the network was trained on mirrored copies as well. `about` is recorded
    with the result.
    """

    real: ImageSet
    fake: ImageSet
    detector: Callable[[str], Detector]
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    seed: int = 0
    num_gpus: int = 1
    snapshot: str | None = None
    holdout: ImageSet | None = None
    trained_mirror: bool = False
    watch: Watch = unwatched
    about: Mapping[str, Any] = field(default_factory=dict)

    @property
    def num_real(self) -> int:
        assert self.real.size is not None
        return self.real.size

    def num_fake(self, wanted: int) -> int:
        """As many generated images as wanted, or as there are."""
        return wanted if self.fake.size is None else min(wanted, self.fake.size)


@dataclass(frozen=True)
class MetricValue:
    """results: the figures under their keys; counts: the numbers of images behind them ("real", "fake", "floor", ...).

    intervals: 95 % intervals of figures, by their keys. notes: sentences for whoever reads the figures: bias of small
    counts, alarms. about: what else was decided - estimator, neighbours, subsets. details: more than figures, for who
    writes pictures of it.
    """

    results: dict[str, float]
    counts: dict[str, int]
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    about: Mapping[str, Any] = field(default_factory=dict)
    details: Any = None


def take(batches: Iterator[np.ndarray], count: int) -> Iterator[np.ndarray]:
    """The first `count` images of a stream, in its batches; asserts that there are as many."""
    left = count
    while left:
        batch = next(batches, None)
        assert batch is not None and batch.dtype == np.uint8 and batch.ndim == 4, f"{left} of {count} images missing"
        yield batch[:left]
        left -= len(batch[:left])
