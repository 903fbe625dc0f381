"""The nearest images of a set: by their correlation at 32 pixels, over mirroring and shifts of the image asked for.

The same moves are searched for whatever is asked for: generated images, holdout images, planted copies, training
images. Searching more for one side than for the other would by itself make that side look nearer. Mirroring is always
among them: a mirrored copy shows the same patient, and a network can make one although it was not trained with
mirrored images, by its augmentations or by symmetry.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from metrics.memorization.thumbnails import COARSE, FINE, Thumbnails, block, margin, unit_rows

TURN = 2.5   # degrees, to either side
_QUERIES = 32
_CANDIDATES = 16  # at least, for the nearest image alone

Progress = Callable[[Iterable[Any], int, str], Iterator[Any]]


@dataclass(frozen=True)
class Move:
    """What is done to the image asked for: mirrored or not, turned by degrees (to the left), then moved by pixels."""

    mirror: bool = False
    turn: float = 0.0
    down: int = 0
    right: int = 0


@dataclass(frozen=True)
class Moves:
    """All that are searched in pictures of `side` pixels: mirrored or not, turned or not, shifts by the margin.

    plain: without turning, by which candidates are found; in steps of one pixel, since different images of one kind are
    alike enough that a copy beside its place by more is not among them. all: with turning too, in steps of two.
    """

    side: int
    mirror: bool = True
    shift: bool = True
    turn: bool = True

    @cached_property
    def plain(self) -> "MoveGrid":
        return MoveGrid(self._pictures(0.0, 1), self._reach)

    @cached_property
    def all(self) -> "MoveGrid":
        turns = [(-TURN, 2), (TURN, 2)] if self.turn else []
        return MoveGrid(tuple(picture for turn, step in [(0.0, 1), *turns] for picture in self._pictures(turn, step)),
                        self._reach)

    @property
    def _reach(self) -> int:
        return margin(self.side) if self.shift else 0

    def _pictures(self, turn: float, step: int) -> tuple[tuple[bool, float, int], ...]:
        return tuple((mirror, turn, step) for mirror in ([False, True] if self.mirror else [False]))


@dataclass(frozen=True)
class MoveGrid:
    """Of each of the pictures, (mirrored, turned by, step), shifts by -reach..reach in steps; the least moves first."""

    pictures: tuple[tuple[bool, float, int], ...]
    reach: int

    @cached_property
    def moves(self) -> list[Move]:
        return [self._raster[i] for i in self._order]

    @cached_property
    def _raster(self) -> list[Move]:
        # A window at the upper left shows the picture moved down and to the right.
        return [Move(mirror, turn, *shift) for mirror, turn, step in self.pictures
                for shift in product(range(self.reach, -self.reach - 1, -step), repeat=2)]

    @cached_property
    def _order(self) -> list[int]:
        """Of equally good moves the least is meant, so that it comes first."""
        def size(i: int) -> tuple[float, ...]:
            move = self._raster[i]
            return abs(move.turn), move.down**2 + move.right**2, move.mirror
        return sorted(range(len(self._raster)), key=size)

    def rows(self, x: Tensor, side: int) -> Tensor:
        """What is within the margin of pictures [N,C,S,S] after each move, at `side` pixels: unit_rows [N,M,D].

        Block means of a shifted picture are those of its moving average, taken elsewhere.
        """
        size = block(x.shape[-1], side)
        out = margin(x.shape[-1]) - self.reach
        span = x.shape[-1] - 2 * margin(x.shape[-1]) - size + 1
        windows = []
        for mirror, turn, step in self.pictures:
            picture = turned(x.flip(3) if mirror else x, turn)
            average = F.avg_pool2d(picture, size, 1) if size > 1 else picture
            average = average[:, :, out:average.shape[2] - out, out:average.shape[3] - out]
            cut = average.unfold(2, span, step).unfold(3, span, step)[..., ::size, ::size]  # [NCDRHW]
            windows.append(cut.permute(0, 2, 3, 1, 4, 5).flatten(1, 2))
        return unit_rows(torch.cat(windows, dim=1)[:, self._order])


def turned(x: Tensor, degrees: float) -> Tensor:
    """Pictures [N,C,H,W] turned to the left about their middle, bilinear; edges are repeated."""
    if not degrees:
        return x
    angle, aspect = math.radians(degrees), x.shape[2] / x.shape[3]
    cos, sin = math.cos(angle), math.sin(angle)
    theta = x.new_tensor([[cos, -sin * aspect, 0], [sin / aspect, cos, 0]]).expand(len(x), -1, -1)
    grid = F.affine_grid(theta, list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, padding_mode="border", align_corners=False)


@dataclass(frozen=True)
class Neighbours:
    """Of Q images the K nearest of a set, nearest first. distance [Q,K] 0..2: sqrt(2 - 2 correlation), inf where there
    are no K; index [Q,K] into the set; move [Q,K]: which of Moves.all brings the image asked for there."""

    distance: Tensor
    index: Tensor
    move: Tensor

    @property
    def nearest(self) -> Tensor:
        return self.distance[:, 0]

    def part(self, chosen: Tensor) -> "Neighbours":
        """chosen: bool [Q]."""
        return Neighbours(self.distance[chosen], self.index[chosen], self.move[chosen])


class Index:
    """A set to search in. groups [N]: images of one group are the same image."""

    def __init__(self, images: Thumbnails, groups: Tensor | None = None, device: torch.device | None = None) -> None:
        self.images, self.device = images, device or torch.device("cpu")
        self.groups = torch.arange(len(images)) if groups is None else groups
        self._coarse, self._fine = images.rows(COARSE).to(self.device), images.rows(FINE).to(self.device)

    def search(self, queries: Thumbnails, k: int, moves: Moves, *, without: Tensor | None = None,
               progress: Progress | None = None, label: str = "") -> Neighbours:
        """The k nearest of each query; without [Q,E]: groups that do not count for it.

        Candidates are found at 16 pixels, more than k of them, and then compared at 32 with all moves.
        """
        starts: Iterable[int] = range(0, len(queries), _QUERIES)
        if progress is not None:
            starts = progress(starts, len(range(0, len(queries), _QUERIES)), label)
        parts = []
        for start in starts:
            block = queries.grids[start:start + _QUERIES]
            hidden = None if without is None else without[start:start + _QUERIES]
            parts.append(self._nearest(block, k, moves, hidden))
        return Neighbours(*(torch.cat([part[i] for part in parts]) for i in range(3)))

    def _nearest(self, block: Tensor, k: int, moves: Moves, without: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        x = block.to(self.device).float()
        scores = self._coarse_scores(x, moves.plain)
        if without is not None:
            groups = self.groups.to(self.device)
            for column in without.to(self.device).T:
                scores.masked_fill_(groups == column[:, None], -torch.inf)
        best = scores.topk(min(max(k + k // 2, _CANDIDATES), len(self.images)), dim=1)
        distance, move = self._fine_distances(x, best.indices, moves.all)
        distance = distance.masked_fill(best.values == -torch.inf, torch.inf)
        order = distance.argsort(dim=1, stable=True)[:, :k]
        return distance.gather(1, order).cpu(), best.indices.gather(1, order).cpu(), move.gather(1, order).cpu()

    def _coarse_scores(self, x: Tensor, grid: MoveGrid) -> Tensor:
        """[B,N]: the highest correlation over the moves."""
        rows = grid.rows(x, COARSE)  # [BMD]
        scores = rows[:, 0] @ self._coarse.T
        for i in range(1, rows.shape[1]):
            torch.maximum(scores, rows[:, i] @ self._coarse.T, out=scores)
        return scores

    def _fine_distances(self, x: Tensor, candidates: Tensor, grid: MoveGrid) -> tuple[Tensor, Tensor]:
        """Distances [B,K] of x from candidates [B,K] under the best of the moves, and which that is [B,K]."""
        own = grid.rows(x, FINE)  # [BMD]
        other = self._fine[candidates]  # [BKD]
        move = (own @ other.transpose(1, 2)).argmax(dim=1)
        own = own.gather(1, move[:, :, None].expand(-1, -1, own.shape[2]))
        return (own - other).norm(dim=2), move  # more precise for near ones than 2 - 2 own other
