"""The nearest images of a set: by their correlation at 32 pixels, over mirroring and shifts of the image asked for.

The same moves are searched for whatever is asked for: generated images, holdout images, planted copies, training
images. Searching more for one side than for the other would by itself make that side look nearer. Mirroring is always
among them: a mirrored copy shows the same patient, and a network can make one although it was not trained with
mirrored images, by its augmentations or by symmetry.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor

from metrics.inputs import Watch
from metrics.memorization.thumbnails import COARSE, FINE, Thumbnails, block, margin, unit_rows

TURN = 2.5   # degrees, to either side
STEP = 4     # half pixels by which turned pictures are shifted
_QUERIES = 32
_CANDIDATES = 16  # at least, for the nearest image alone



@dataclass(frozen=True)
class Move:
    """What is done to the image asked for: mirrored or not, turned by degrees (to the left), then moved by pixels."""

    mirror: bool = False
    turn: float = 0.0
    down: float = 0.0
    right: float = 0.0


@dataclass(frozen=True)
class Moves:
    """All that are searched in pictures of `side` pixels: mirrored or not, turned or not, shifts by the margin.

    plain: in steps of a pixel and without turning, by which candidates are found. all: in steps of half a pixel, since
    where images of one kind are much alike, a copy a pixel beside its place is no nearer than they; and turned ones.
    """

    side: int
    mirror: bool = True
    shift: bool = True
    turn: bool = True

    @cached_property
    def plain(self) -> "MoveGrid":
        return MoveGrid(self._pictures(0.0, 2), self._reach)

    @cached_property
    def all(self) -> "MoveGrid":
        turns = [(0.0, 1), (-TURN, STEP), (TURN, STEP)] if self.turn else [(0.0, 1)]
        pictures = [picture for turn, halves in turns for picture in self._pictures(turn, halves)]
        return MoveGrid(tuple(pictures), self._reach)

    @property
    def _reach(self) -> int:
        return margin(self.side) if self.shift else 0

    def _pictures(self, turn: float, halves: int) -> tuple[tuple[bool, float, int], ...]:
        return tuple((mirror, turn, halves) for mirror in ([False, True] if self.mirror else [False]))


@dataclass(frozen=True)
class MoveGrid:
    """Of each of the pictures, (mirrored, turned by, step in half pixels), shifts by -reach..reach pixels in steps."""

    pictures: tuple[tuple[bool, float, int], ...]
    reach: int

    @cached_property
    def moves(self) -> list[Move]:
        # A window at the upper left shows the picture moved down and to the right.
        return [Move(mirror, turn, down / 2, right / 2) for mirror, turn, halves in self.pictures
                for down, right in product(range(2 * self.reach, -2 * self.reach - 1, -halves), repeat=2)]

    @cached_property
    def order(self) -> list[int]:
        """The least moves first: of moves that are equally good, the least is meant."""
        def size(i: int) -> tuple[float, ...]:
            move = self.moves[i]
            return abs(move.turn), move.down**2 + move.right**2, move.mirror
        return sorted(range(len(self.moves)), key=size)

    def windows(self, x: Tensor, side: int) -> tuple[Tensor, Tensor]:
        """What is within the margin of pictures [N,C,S,S] after each move, at `side` pixels: [N,M,C,H,W]; the length
        [N,M] of each less the mean of its channels.

        Block means of a shifted picture are those of its moving average, taken elsewhere.
        """
        size = block(x.shape[-1], side)
        out = margin(x.shape[-1]) - self.reach
        span = 2 * (x.shape[-1] - 2 * margin(x.shape[-1]) - size) + 1
        x = x - x.mean(dim=[2, 3], keepdim=True)  # for precision; every window has another mean
        found = []
        for mirror, turn, halves in self.pictures:
            picture = turned(x.flip(3) if mirror else x, turn)
            average = F.avg_pool2d(picture, size, 1) if size > 1 else picture
            twice = with_halves(average[:, :, out:average.shape[2] - out, out:average.shape[3] - out])
            cut = twice.unfold(2, span, halves).unfold(3, span, halves)[..., ::2 * size, ::2 * size]  # [NCDRHW]
            found.append(cut.permute(0, 2, 3, 1, 4, 5).flatten(1, 2))
        every = torch.cat(found, dim=1)
        sums = every.sum(dim=[3, 4]).square().sum(2) / every[0, 0, 0].numel()
        squares = torch.linalg.vector_norm(every, dim=[2, 3, 4]).square()
        return every, (squares - sums).clamp_min(1e-3).sqrt()


def with_halves(x: Tensor) -> Tensor:
    """[N,C,H,W] with the means of neighbours between them: [N,C,2H-1,2W-1]."""
    for dim in (2, 3):
        length = x.shape[dim]
        between = (x.narrow(dim, 0, length - 1) + x.narrow(dim, 1, length - 1)) / 2
        pairs = torch.stack([x.narrow(dim, 0, length - 1), between], dim + 1).flatten(dim, dim + 1)
        x = torch.cat([pairs, x.narrow(dim, length - 1, 1)], dim)
    return x


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
               progress: Watch | None = None, label: str = "") -> Neighbours:
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
        """[B,N]: the highest correlation over the moves. Rows of the set have no mean, so that those asked for may."""
        windows, lengths = grid.windows(x, COARSE)
        rows = windows.flatten(2) / lengths[:, :, None]
        scores = rows[:, 0] @ self._coarse.T
        for i in range(1, rows.shape[1]):
            torch.maximum(scores, rows[:, i] @ self._coarse.T, out=scores)
        return scores

    def _fine_distances(self, x: Tensor, candidates: Tensor, grid: MoveGrid) -> tuple[Tensor, Tensor]:
        """Distances [B,K] of x from candidates [B,K] under the best of the moves, and which that is [B,K]."""
        windows, lengths = grid.windows(x, FINE)
        other = self._fine[candidates]  # [BKD]
        scores = (windows.flatten(2) @ other.transpose(1, 2)) / lengths[:, :, None]  # [BMK]
        order = torch.tensor(grid.order, device=x.device)
        move = order[scores[:, order].argmax(dim=1)]
        own = unit_rows(windows[torch.arange(len(x), device=x.device)[:, None], move])
        return (own - other).norm(dim=2), move  # more precise for near ones than 2 - 2 own other
