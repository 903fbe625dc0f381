"""Images of a training set that show the same: equal pixels, or more alike than different images are, mirrored or not.

Whoever takes them for different images is misled: the second neighbour of a copy would be another copy of the same
image, and each duplicate would be its twin's nearest neighbour at no distance.
"""

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from metrics.diversity import copy_threshold, mirrored
from metrics.memorization.thumbnails import COARSE, FINE, Thumbnails, block, reduced

_SAMPLE = 512    # images by which it is judged how alike different ones are
_NEIGHBOUR = 10  # more images than are usually duplicates of one another
_ROWS = 1024


@dataclass(frozen=True)
class Duplicates:
    """groups [N]: the first image that each is the same as, itself where there is none. limit: the distance from which
    images count as different. exact: how many images have the pixels of an earlier one. copies [N]: as groups, but
    that images of one subject are copies only where their pixels are equal: neighbours in one head are alike."""

    groups: Tensor
    limit: float
    exact: int
    copies: Tensor

    @property
    def different(self) -> int:
        """How many images there are that are no copies."""
        return len(self.copies.unique())

    @property
    def sets(self) -> list[list[int]]:
        """The images of each group of two or more, the largest groups first."""
        found = defaultdict(list)
        for i, group in enumerate(self.copies.tolist()):
            found[group].append(i)
        return sorted((members for members in found.values() if len(members) > 1), key=len, reverse=True)


def find_duplicates(images: Thumbnails, subjects: Sequence[int] | None = None) -> Duplicates:
    """Of images that show something (Thumbnails.showing). subjects: whom each image is of, if that is known."""
    limit = copy_distance(images)
    first: dict[bytes, int] = {}
    equal = [(first.setdefault(digest, i), i) for i, digest in enumerate(images.digests)]
    near = list(alike(images, limit))
    copies = [(a, b) for a, b in near if subjects is None or subjects[a] != subjects[b]]
    return Duplicates(_joined(len(images), [*equal, *near]), limit, len(images) - len(first),
                      _joined(len(images), [*equal, *copies]))


def _joined(count: int, pairs: Sequence[tuple[int, int]]) -> Tensor:
    """[N]: the least number of the set that each is in."""
    joined = Joined(count)
    for a, b in pairs:
        joined.join(a, b)
    return torch.tensor([joined.root(i) for i in range(count)])


def copy_distance(images: Thumbnails) -> float:
    """Below which images count as the same: what diversity.copy_threshold says, but at most half of the usual distance
    to a tenth neighbour, so that a set in which all are much alike does not become one image."""
    rows = images.beginning(_SAMPLE).rows(FINE)
    if len(rows) <= _NEIGHBOUR:
        return 0.0
    distances = (2 - 2 * rows @ rows.T).clamp_min(0).sqrt()
    usual = float(distances.kthvalue(_NEIGHBOUR + 1, dim=1).values.median())
    return min(math.sqrt(2 - 2 * copy_threshold(rows)), usual / 2)


def alike(images: Thumbnails, limit: float) -> Iterator[tuple[int, int]]:
    """Pairs of places of images nearer than the limit, the second mirrored or not.

    At 16 pixels a pair is never farther apart than at 32. Rows there have the length c, not 1, so that candidates are
    those with c_i^2 + c_j^2 - 2 c_i c_j s_ij <= limit^2, all of which have s_ij >= 1 - limit^2 / (2 c_i c_j): the
    product of rows with one number more, limit / (sqrt(2) c), is 1 or more.
    """
    fine, coarse = images.rows(FINE), images.rows(COARSE)
    channels = images.grids.shape[1]
    slack = (limit / (math.sqrt(2) * _shares(fine, channels, block(min(FINE, images.side), COARSE))))[:, None]
    for flip in (False, True):
        other, fine_other = (mirrored(coarse, channels), mirrored(fine, channels)) if flip else (coarse, fine)
        rows, others = torch.cat([coarse, slack], dim=1), torch.cat([other, slack], dim=1)
        for start in range(0, len(rows), _ROWS):
            near = rows[start:start + _ROWS] @ others[start:].T >= 1 - 1e-5
            for pairs in (near.nonzero() + start).split(_ROWS):
                i, j = pairs[pairs[:, 0] < pairs[:, 1]].T
                close = (fine[i] - fine_other[j]).norm(dim=1) < limit
                yield from zip(i[close].tolist(), j[close].tolist(), strict=True)


def _shares(fine: Tensor, channels: int, size: int) -> Tensor:
    """[N]: the length that rows of length 1 have left by means of blocks, were those to count for all their pixels."""
    side = math.isqrt(fine.shape[1] // channels)
    means = reduced(fine.reshape(len(fine), channels, side, side), size)
    return (means.flatten(1).norm(dim=1) * size).clamp_min(1e-6)


class Joined:
    """Sets of numbers 0..n-1 that are joined; each is known by its least member."""

    def __init__(self, n: int) -> None:
        self._parent = list(range(n))

    def root(self, i: int) -> int:
        while self._parent[i] != i:
            self._parent[i] = self._parent[self._parent[i]]
            i = self._parent[i]
        return i

    def join(self, a: int, b: int) -> None:
        low, high = sorted((self.root(a), self.root(b)))
        self._parent[high] = low
