"""The Frechet distance between Gaussians fitted to two sets of features."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor


@dataclass(frozen=True)
class Moments:
    """count samples; mean [D] and scatter [D,D], the sum of products of what is left without the mean, in float64."""

    count: int
    mean: Tensor
    scatter: Tensor

    @classmethod
    def of(cls, batches: Iterator[Tensor]) -> Self:
        """Of batches [n,D]; the sums are taken around the first row, so that a large mean costs no digits."""
        count = 0
        origin = total = products = None
        for batch in batches:
            x = batch.double()
            if origin is None or total is None or products is None:
                origin = x[0].clone()
                total, products = torch.zeros_like(origin), x.new_zeros([x.shape[1], x.shape[1]])
            x = x - origin
            total += x.sum(0)
            products += x.T @ x
            count += len(x)
        assert origin is not None and total is not None and products is not None, "no samples"
        return cls(count, origin + total / count, products - total[:, None] * total / count)

    def covariance(self, ddof: int = 0) -> Tensor:
        """[D,D], divided by count - ddof."""
        return self.scatter / (self.count - ddof)


def frechet(a: Moments, b: Moments, ddof: int = 0) -> float:
    """The Frechet distance of the Gaussians of two samples, with covariances divided by their counts less ddof."""
    return frechet_distance(a.mean, a.covariance(ddof), b.mean, b.covariance(ddof))


def frechet_of_samples(x: Tensor, y: Tensor) -> float:
    """Frechet distance of two samples [N,D], [M,D] float64, with covariances divided by N and M.

    Fewer samples than dimensions leave covariances without an inverse; then the trace is taken from the singular values
    of the N x M products of centred samples, which is exact, and cheaper.
    """
    mean_x, mean_y = x.mean(0), y.mean(0)
    centred_x, centred_y = x - mean_x, y - mean_y
    if max(len(x), len(y)) > x.shape[1]:
        return frechet_distance(mean_x, centred_x.T @ centred_x / len(x), mean_y, centred_y.T @ centred_y / len(y))
    overlap = torch.linalg.svdvals(centred_x @ centred_y.T).sum() / math.sqrt(len(x) * len(y))
    spread = centred_x.square().sum() / len(x) + centred_y.square().sum() / len(y)
    return max(float((mean_x - mean_y).square().sum() + spread - 2 * overlap), 0.0)


def frechet_distance(mean_x: Tensor, cov_x: Tensor, mean_y: Tensor, cov_y: Tensor) -> float:
    """|m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^1/2) for means [D] and covariances [D,D] in float64 (Dowson & Landau 1982).

    (S1 S2)^1/2 has the trace of (R S2 R)^1/2 with R = S1^1/2, which is symmetric: real without rounding anything off.
    """
    values, vectors = torch.linalg.eigh(cov_x)
    root = vectors * values.clamp_min(0).sqrt() @ vectors.T
    overlap = torch.linalg.eigvalsh(root @ cov_y @ root).clamp_min(0).sqrt().sum()
    distance = (mean_x - mean_y).square().sum() + cov_x.trace() + cov_y.trace() - 2 * overlap
    return max(float(distance), 0.0)
