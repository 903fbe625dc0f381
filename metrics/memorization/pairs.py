"""Generated images with the training images nearest to them: in numbers, and the closest ones at up to 256 pixels."""

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from metrics.detectors.base import as_rgb
from metrics.inputs import ImageSet
from metrics.memorization.alignment import align, looked_at, similarity
from metrics.memorization.comparison import Comparison
from metrics.memorization.duplicates import Duplicates
from metrics.memorization.findings import Pair, SameImages, Shown
from metrics.memorization.search import Move

SHOWN = 24
MOST_LOOKED_AT = 200  # pairs that are compared at 256 pixels
CANDIDATES = 3        # of training images for each
_BYTES = 2**28        # of generated images at full size in memory
_CHUNK = 16
GROUPS, MEMBERS = 12, 6


class Pairs:
    """Makes them of what was found, with images from the sets that were compared."""

    def __init__(self, found: Comparison, fake: ImageSet, real: ImageSet) -> None:
        self._found, self._fake, self._real = found, fake, real
        self._near, self._second = found.fake, found.second(found.fake)
        self._numbers = found.sets.train.numbers[self._near.index]  # [QK]
        sample = fake.pick([int(found.sets.fake.numbers[0])])[0]
        self._scale, self._bytes = sample.shape[2] / found.sets.train.side, sample.nbytes

    def all(self, flagged: Tensor, repeated: Tensor) -> list[Pair]:
        """One for each generated image, in their order."""
        nndr = self._found.nndr(self._near)
        return [Pair(number, self._fake.name_of(number), **self._match(i, 0, int(self._second[i])),
                     distance=float(self._near.nearest[i]), nndr=float(nndr[i]), flagged=bool(flagged[i]),
                     repeated=bool(repeated[i])) for i, number in enumerate(self._found.sets.fake.numbers.tolist())]

    def _match(self, i: int, first: int, second: int) -> dict[str, Any]:
        """What a pair says of the two neighbours of image i in these places; second is first where there is none."""
        real, other = int(self._numbers[i, first]), int(self._numbers[i, second])
        there = first != second
        move = self._move(i, first)
        move = replace(move, down=round(move.down * self._scale), right=round(move.right * self._scale))
        return dict(real=real, real_name=self._real.name_of(real), move=move,
                    second=other if there else None, second_name=self._real.name_of(other) if there else "",
                    second_distance=float(self._near.distance[i, second]) if there else math.nan)

    def _move(self, i: int, k: int) -> Move:
        return self._found.moves.all.moves[int(self._near.move[i, k])]

    def look_closer(self, pairs: list[Pair]) -> tuple[list[Pair], list[Shown]]:
        """The pairs, the nearest first, of which the flagged and the nearest ones were compared at up to 256 pixels.

        Of the three nearest training images that one is named that then correlates best.
        """
        order = sorted(range(len(pairs)), key=lambda i: (pairs[i].distance, i))
        most = max(min(MOST_LOOKED_AT, _BYTES // self._bytes), SHOWN)
        chosen = order[:min(max(sum(pair.flagged for pair in pairs), SHOWN), most)]
        pictures = [looked_at(image) for image in self._fake.pick([pairs[i].fake for i in chosen])]
        better = list(pairs)
        shown: list[Shown] = []
        for start in range(0, len(chosen), _CHUNK):
            part = chosen[start:start + _CHUNK]
            for i, look in zip(part, self._looks(part, pictures[start:start + _CHUNK], pairs), strict=True):
                better[i] = look.pair
                shown += [look] if len(shown) < SHOWN else []
        return [better[i] for i in order], shown

    def _looks(self, part: list[int], pictures: list[np.ndarray], pairs: list[Pair]) -> Iterator[Shown]:
        places = {i: [*range(min(CANDIDATES, self._numbers.shape[1])), int(self._second[i])] for i in part}
        wanted = sorted({int(self._numbers[i, k]) for i in part for k in places[i]})
        images = dict(zip(wanted, map(looked_at, self._real.pick(wanted)), strict=True))
        for i, own in zip(part, pictures, strict=True):
            others = {k: images[int(self._numbers[i, k])] for k in places[i]}
            yield self._look(i, pairs[i], *of_one_kind(own, others))

    def _look(self, i: int, pair: Pair, own: np.ndarray, others: dict[int, np.ndarray]) -> Shown:
        looks = {k: align(own, image, self._move(i, k), self._found.sets.train.side) for k, image in others.items()}
        first = max(list(others)[:CANDIDATES], key=lambda k: looks[k].correlation)
        groups = self._found.groups[self._near.index[i]]
        second = int(self._second[i]) if groups[first] == groups[0] else 0
        if groups[second] == groups[first]:
            second = first
        match = self._match(i, first, second)
        found = replace(pair, **match, correlation=looks[first].correlation,
                        similarity=similarity(own, looks[first].image))
        return Shown(found, own, looks[first].image, looks[second].image if second != first else None)

    def duplicates(self, found: Duplicates) -> list[SameImages]:
        """The largest groups; of each at most six images."""
        groups = [self._found.sets.train.numbers[members].tolist() for members in found.sets[:GROUPS]]
        return [SameImages(tuple(map(self._real.name_of, members)),
                           [looked_at(image) for image in self._real.pick(members[:MEMBERS])]) for members in groups]


def of_one_kind(own: np.ndarray, others: dict[int, np.ndarray]) -> tuple[np.ndarray, dict[int, np.ndarray]]:
    """uint8 [C,S,S], all of the same channels and size: those of the others."""
    side = next(iter(others.values())).shape[1]
    if own.shape[1] != side:
        own = F.interpolate(torch.from_numpy(own)[None].float(), (side, side), mode="area")[0].to(torch.uint8).numpy()
    if own.shape[0] != next(iter(others.values())).shape[0]:
        own, others = _rgb(own), {k: _rgb(image) for k, image in others.items()}
    return own, others


def _rgb(image: np.ndarray) -> np.ndarray:
    return as_rgb(torch.from_numpy(image)[None])[0].numpy()
