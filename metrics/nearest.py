"""Nearest neighbours among rows of features [N,D], in blocks, so that memory does not grow with the square of images.

Distances are exact where it matters: products of float64 rows find what is near, and where they cannot tell, the
difference of the two rows is measured. Equal rows are at distance 0, and the edge of a neighbourhood is sharp.
Distances whose squares agree to 12 digits count as equal.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

_BLOCK = 4096  # rows at a time: their distances to as many others are 128 MiB
_SPARE = 4  # candidates beyond the k nearest, as products may tell near equal ones in another order
_EQUAL = 1e-12  # of squared distances, relative
CPU = torch.device("cpu")


def less(a: Tensor, b: Tensor) -> Tensor:
    """Which squared distances a are less than b, not counting those that are equal but for rounding."""
    return a < b * (1 - _EQUAL)


@dataclass(frozen=True)
class Neighbourhoods:
    """For each point [M], how many neighbourhoods hold it, edge included and not; for each centre [N], whether its
    neighbourhood holds a point, edge not included.
    """

    with_edge: Tensor
    without_edge: Tensor
    filled: Tensor


def neighbourhoods(centres: Tensor, reach: Tensor, points: Tensor, device: torch.device = CPU) -> Neighbourhoods:
    """Which of points [M,D] are within reach, squared distances [N], of centres [N,D]."""
    with_edge, without_edge = torch.zeros([2, len(points)], dtype=torch.int64)
    filled = torch.zeros(len(centres), dtype=torch.bool)
    for block in _blocks(centres, points, device):
        edge = reach[block.rows, None].to(device)
        inside, on_edge = block.squares < edge, torch.zeros_like(block.squares, dtype=torch.bool)
        for i, j, exact in block.exactly((block.squares - edge).abs() <= block.doubt):
            inside[i, j] = less(exact, edge[i, 0])
            on_edge[i, j] = ~less(exact, edge[i, 0]) & ~less(edge[i, 0], exact)
        without_edge[block.columns] += inside.sum(0).cpu()
        with_edge[block.columns] += (inside | on_edge).sum(0).cpu()
        filled[block.rows] |= inside.any(1).cpu()
    return Neighbourhoods(with_edge, without_edge, filled)


def nearest(points: Tensor, others: Tensor | None, k: int, device: torch.device = CPU) -> tuple[Tensor, Tensor]:
    """Squared distances, ascending, and numbers [N,k] of the others [M,D] nearest to each of points [N,D].

    others None: the points themselves, each without itself. float64 and int64 on the CPU. Needs k others.
    """
    among = points if others is None else others
    available = len(among) - (others is None)
    assert 0 < k <= available, (k, len(among))
    kept = min(k + _SPARE, available)
    squares = torch.full([len(points), kept], torch.inf, dtype=torch.float64)
    numbers = torch.zeros([len(points), kept], dtype=torch.int64)
    for block in _blocks(points, among, device):
        if others is None:
            block.leave_out_itself()
        found = block.squares.topk(min(kept, block.squares.shape[1]), largest=False)
        both = torch.cat([squares[block.rows], found.values.cpu()], 1)
        squares[block.rows], order = both.topk(kept, largest=False)
        both_numbers = torch.cat([numbers[block.rows], found.indices.cpu() + block.columns.start], 1)
        numbers[block.rows] = both_numbers.gather(1, order)
    for rows in _slices(len(points)):
        x = points[rows].to(device).double()
        exact = [(x - among[column].to(device).double()).square().sum(1).cpu() for column in numbers[rows].T]
        squares[rows], order = torch.stack(exact, 1).sort(dim=1)
        numbers[rows] = numbers[rows].gather(1, order)
    return squares[:, :k], numbers[:, :k]


@dataclass(frozen=True)
class _Block:
    """Squared distances of rows x to rows y, float64, each off by no more than its row's doubt [n,1]."""

    rows: slice
    columns: slice
    x: Tensor
    y: Tensor
    squares: Tensor
    doubt: Tensor

    def exactly(self, pairs: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Rows, columns and squared distances, measured by differences, of pairs [n,m] bool; some at a time."""
        for some in pairs.nonzero().split(_BLOCK):
            i, j = some.T
            yield i, j, (self.x[i] - self.y[j]).square().sum(1)

    def leave_out_itself(self) -> None:
        """Of a set against itself."""
        first, end = max(self.rows.start, self.columns.start), min(self.rows.stop, self.columns.stop)
        own = torch.arange(first, max(end, first), device=self.squares.device)
        self.squares[own - self.rows.start, own - self.columns.start] = torch.inf


def _blocks(points: Tensor, others: Tensor, device: torch.device) -> Iterator[_Block]:
    """All distances of points [N,D] to others [M,D]."""
    centre = others[:_BLOCK].double().mean(0).to(device)  # what all rows share would cost digits
    for rows in _slices(len(points)):
        x = points[rows].to(device).double()
        from_centre = x - centre
        norms_x = from_centre.square().sum(1, keepdim=True)
        for columns in _slices(len(others)):
            y = others[columns].to(device).double()
            norms_y = (y - centre).square().sum(1)
            squares = (from_centre @ (y - centre).T).mul_(-2).add_(norms_x).add_(norms_y)
            doubt = (norms_x + norms_y.amax()) * (2 * (x.shape[1] + 4) * torch.finfo(torch.float64).eps)
            yield _Block(rows, columns, x, y, squares, doubt)


def _slices(count: int) -> Iterator[slice]:
    return (slice(start, min(start + _BLOCK, count)) for start in range(0, count, _BLOCK))
