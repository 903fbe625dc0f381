"""The Frechet distance between Gaussians fitted to two sets of features (Dowson & Landau 1982; Heusel et al. 2017).

|m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^1/2) for means m [D] and covariances S [D,D], all in float64. With any F1, F2 such
that F F' = S the trace of the root is the sum of the singular values of F1' F2: real, never negative, and exact where
covariances have no inverse.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

_ROWS = 1024  # summed at a time
_TRUSTED = 1e-14  # an eigenvalue below this part of the largest one has lost the digits of its root to rounding


@dataclass(frozen=True)
class Moments:
    """count samples; mean [D] and scatter [D,D], the sum of products of what is left without the mean, in float64."""

    count: int
    mean: Tensor
    scatter: Tensor

    @classmethod
    def of(cls, batches: Iterable[Tensor]) -> Self:
        """Of batches [n,D], which may be of any sizes; memory does not grow with their number.

        The sums are taken around the first row, so that a large mean costs no digits.
        """
        count = 0
        origin = total = products = None
        for rows in _regrouped(batches):
            x = rows.double()
            if origin is None or total is None or products is None:
                origin = x[0].clone()
                total, products = torch.zeros_like(origin), x.new_zeros([x.shape[1], x.shape[1]])
            x = x - origin
            total += x.sum(0)
            products.addmm_(x.T, x)
            count += len(x)
        assert origin is not None and total is not None and products is not None, "no samples"
        return cls(count, origin + total / count, products - total[:, None] * total / count)

    def without(self, part: "Moments") -> "Moments":
        """Of the samples that are left without a part of them."""
        left = self.count - part.count
        assert left > 0, (self.count, part.count)
        shift = part.mean - self.mean
        between = shift[:, None] * shift * (self.count * part.count / left)
        return Moments(left, self.mean - shift * (part.count / left), self.scatter - part.scatter - between)

    def covariance(self, ddof: int = 0) -> Tensor:
        """[D,D], divided by count - ddof."""
        return self.scatter / (self.count - ddof)


def frechet(a: Moments, b: Moments, ddof: int = 0) -> float:
    """The distance of two samples; covariances are divided by their counts less ddof.

    ddof 0 is the convention of stylegan2-ada, 1 that of torch-fidelity and pytorch-fid.
    """
    return frechet_distance(a.mean, a.covariance(ddof), b.mean, b.covariance(ddof))


def frechet_of_samples(x: Tensor, y: Tensor, ddof: int = 0) -> float:
    """The distance of two samples [N,D], [M,D].

    With no more samples than dimensions the samples themselves, centred, are the factors of their covariances.
    """
    if max(len(x), len(y)) > x.shape[1]:
        return frechet(Moments.of([x]), Moments.of([y]), ddof)
    x, y = x.double(), y.double()
    mean_x, mean_y = x.mean(0), y.mean(0)
    factor_x, factor_y = (x - mean_x) / math.sqrt(len(x) - ddof), (y - mean_y) / math.sqrt(len(y) - ddof)
    overlap = torch.linalg.svdvals(factor_x @ factor_y.T).sum()
    spread = factor_x.square().sum() + factor_y.square().sum()
    return max(float((mean_x - mean_y).square().sum() + spread - 2 * overlap), 0.0)


def frechet_distance(mean_x: Tensor, cov_x: Tensor, mean_y: Tensor, cov_y: Tensor) -> float:
    """The distance of Gaussians by their means [D] and covariances [D,D], float64."""
    spread = (mean_x - mean_y).square().sum() + cov_x.trace() + cov_y.trace()
    return max(float(spread - 2 * _overlap(cov_x, cov_y)), 0.0)


def _overlap(cov_x: Tensor, cov_y: Tensor) -> Tensor:
    """tr (S1 S2)^1/2: through eigenvalues of L' S2 L with S1 = L L', the fastest way, where all of them have digits."""
    lower, failed = torch.linalg.cholesky_ex(cov_x)
    if not failed:
        values = torch.linalg.eigvalsh(lower.T @ cov_y @ lower)
        if values[0] > _TRUSTED * values[-1]:
            return values.sqrt().sum()
    return torch.linalg.svdvals(factor(cov_x).T @ factor(cov_y)).sum()


def factor(covariance: Tensor) -> Tensor:
    """F [D,R] with F F' the covariance [D,D] of rank R; directions whose variance is rounding are left out."""
    values, vectors = torch.linalg.eigh(covariance)
    kept = values > values[-1] * len(values) * torch.finfo(values.dtype).eps
    return vectors[:, kept] * values[kept].sqrt()


def _regrouped(batches: Iterable[Tensor]) -> Iterator[Tensor]:
    """The same rows in batches of _ROWS, so that sums depend on the rows alone, and products of matrices are large."""
    waiting: list[Tensor] = []
    count = 0
    for batch in batches:
        waiting.append(batch)
        count += len(batch)
        if count >= _ROWS:
            *full, rest = torch.cat(waiting).split(_ROWS)
            full, waiting = ([*full, rest], []) if len(rest) == _ROWS else (full, [rest])
            count = sum(map(len, waiting))
            yield from full
    if count:
        yield torch.cat(waiting)
