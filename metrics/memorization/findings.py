"""What the search for copies found: for who writes it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from metrics.bootstrap import Interval
from metrics.memorization.figures import Threshold
from metrics.memorization.search import Move

NAN2 = (float("nan"), float("nan"))


@dataclass(frozen=True)
class Pair:
    """A generated image and the training image nearest to it; numbers are places in the order of their sets.

    distance 0..2 is sqrt(2 - 2 correlation) at 32 pixels; nndr: over the mean of the next fifty other training images
    (nan where there are none). move: what was done to the generated image to match, in pixels of full size. second:
    the nearest training image that is not the same as the first, None where there is none. flagged: nearer than the
    threshold. repeated: in addition so much nearer to one training image than to others that it is a copy.
    correlation, similarity (MS-SSIM): at up to 256 pixels, with the two aligned; nan where it was not looked at.
    """

    fake: int
    fake_name: str
    real: int
    real_name: str
    distance: float
    nndr: float
    move: Move
    second: int | None
    second_name: str
    second_distance: float
    flagged: bool
    repeated: bool
    correlation: float = float("nan")
    similarity: float = float("nan")


@dataclass(frozen=True)
class Shown:
    """uint8 images [C,S,S] of a pair: generated, the training image moved to match it, the next other one."""

    pair: Pair
    fake: np.ndarray
    real: np.ndarray
    second: np.ndarray | None


@dataclass(frozen=True)
class SameImages:
    """A group of duplicates: their names, and uint8 images [C,S,S] of the first of them."""

    names: tuple[str, ...]
    images: list[np.ndarray] = field(repr=False)


@dataclass(frozen=True)
class Figure:
    """A figure in words. usual: its value where nothing was copied, measured or known."""

    name: str
    value: float
    interval: Interval = NAN2
    usual: float = float("nan")
    meaning: str = ""


@dataclass(frozen=True)
class Findings:
    """verdict: the sentence to read first, and whether it is an alarm; notes: the others. results, intervals, counts,
    about: as of the metric. pairs: one for each generated image, the nearest first; shown: the first of them.

    unseen, planted: distances to the data of images that were not trained on, and of disguised copies. weaker: the
    unseen ones are training images left out, since there was no holdout. control: (disguise, planted, found).
    duplicates: the largest groups.
    """

    verdict: str
    alarm: bool
    notes: tuple[str, ...]
    results: Mapping[str, float]
    intervals: Mapping[str, Interval]
    counts: Mapping[str, int]
    about: Mapping[str, Any]
    figures: tuple[Figure, ...]
    limit: Threshold
    weaker: bool
    control: tuple[tuple[str, int, int], ...]
    unseen: np.ndarray = field(repr=False)
    planted: np.ndarray = field(repr=False)
    pairs: list[Pair] = field(repr=False)
    shown: list[Shown] = field(repr=False)
    duplicates: list[SameImages] = field(repr=False)

    @property
    def flagged(self) -> list[Pair]:
        return [pair for pair in self.pairs if pair.flagged]
