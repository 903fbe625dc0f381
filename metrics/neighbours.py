"""Two sets of images by their nearest neighbours: precision, recall, density, coverage, a two-sample test, realism.

All take rows of features [N,D]; how much they say is up to the features. Distances are found in blocks, so that memory
does not grow with the square of the images, and measured so that equal rows are at distance 0 and the edge of a
neighbourhood is sharp: products of float64 rows find what is near, and where they cannot tell, the difference of the
two rows is measured. Distances that agree to 12 digits count as equal.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from metrics.bootstrap import Interval, mean_interval, wilson

K = 5
_BLOCK = 4096  # rows at a time: their distances to as many others are 128 MiB
_SPARE = 4  # candidates beyond the k nearest, as products may tell near equal ones in another order
_EQUAL = 1e-12  # of squared distances, relative
_CPU = torch.device("cpu")


@dataclass(frozen=True)
class Prdc:
    """precision, recall: the part of the generated (real) images within reach of a real (generated) one, edge included
    (Kynkaanniemi et al. 2019, eq. 2). density, coverage: how many real neighbourhoods a generated image lies in, over
    k; the part of real ones that hold one, edge not included (Naeem et al. 2020, eq. 4 and 5).

    intervals: 95 %, by these names, over the images counted, with the neighbourhoods as they are.
    """

    precision: float
    recall: float
    density: float
    coverage: float
    intervals: dict[str, Interval]


@dataclass(frozen=True)
class Overlap(Prdc):
    """Of generated and real images, `count` of each.

    told_apart: the part of all images whose nearest neighbour is of their own set (Lopez-Paz & Oquab 2017): one half
    where the sets cannot be told apart, less where one copies the other.
    """

    told_apart: float
    count: int


@dataclass(frozen=True)
class Neighbourhoods:
    """For each point [M], how many neighbourhoods hold it, edge included and not; for each centre [N], whether its
    neighbourhood holds a point, edge not included.
    """

    with_edge: Tensor
    without_edge: Tensor
    filled: Tensor


def prdc(real: Tensor, fake: Tensor, k: int = K, device: torch.device = _CPU) -> Prdc:
    """real [N,D], fake [M,D], both more than k."""
    of_real, of_fake = neighbourhoods(real, fake, k, device), neighbourhoods(fake, real, k, device)
    figures = {
        "precision": _share(of_real.with_edge > 0),
        "recall": _share(of_fake.with_edge > 0),
        "density": _mean(of_real.without_edge / k),
        "coverage": _share(of_real.filled),
    }
    return Prdc(**{name: value for name, (value, _) in figures.items()},
                intervals={name: interval for name, (_, interval) in figures.items()})


def overlap(real: Tensor, fake: Tensor, k: int = K) -> Overlap:
    """real, fake [N,D], equally many and more than k."""
    assert real.shape == fake.shape, (real.shape, fake.shape)
    found = prdc(real, fake, k)
    own = torch.cat([nearest(real, None, 1)[0], nearest(fake, None, 1)[0]])
    other = torch.cat([nearest(real, fake, 1)[0], nearest(fake, real, 1)[0]])
    told_apart = float((own < other * (1 - _EQUAL)).double().mean())
    return Overlap(**vars(found), told_apart=told_apart, count=len(real))


def realism(real: Tensor, fake: Tensor, k: int = K) -> Tensor:
    """[M] of fake [M,D]: how deep it lies in a real neighbourhood, 1 at its edge (Kynkaanniemi et al. 2019, eq. 3).

    The wider half of the neighbourhoods is left out, as there: they hold everything.
    """
    reach = nearest(real, None, k)[0][:, -1].sqrt()
    kept = reach <= reach.median()
    return (reach[kept, None] / torch.cdist(real[kept].double(), fake.double()).clamp_min(1e-12)).amax(0)


def neighbourhoods(centres: Tensor, points: Tensor, k: int, device: torch.device = _CPU) -> Neighbourhoods:
    """Which of points [M,D] are no further from each of centres [N,D] than its k-th nearest other centre is."""
    reach = nearest(centres, None, k, device)[0][:, -1:]
    with_edge, without_edge = torch.zeros([2, len(points)], dtype=torch.int64)
    filled = torch.zeros(len(centres), dtype=torch.bool)
    for block in _blocks(centres, points, device):
        edge = reach[block.rows].to(device)
        inside, on_edge = block.squares < edge, torch.zeros_like(block.squares, dtype=torch.bool)
        for i, j, exact in block.exactly((block.squares - edge).abs() <= block.doubt):
            inside[i, j] = exact < edge[i, 0] * (1 - _EQUAL)
            on_edge[i, j] = (exact - edge[i, 0]).abs() <= edge[i, 0] * _EQUAL
        without_edge[block.columns] += inside.sum(0).cpu()
        with_edge[block.columns] += (inside | on_edge).sum(0).cpu()
        filled[block.rows] |= inside.any(1).cpu()
    return Neighbourhoods(with_edge, without_edge, filled)


def nearest(points: Tensor, others: Tensor | None, k: int, device: torch.device = _CPU) -> tuple[Tensor, Tensor]:
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


def _share(mask: Tensor) -> tuple[float, Interval]:
    return float(mask.double().mean()), wilson(int(mask.sum()), len(mask))


def _mean(values: Tensor) -> tuple[float, Interval]:
    low, high = mean_interval(values)
    return float(values.double().mean()), (max(low, 0.0), high)
