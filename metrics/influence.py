"""How far chance may have moved a Frechet distance: its influence function, and from that a standard error.

To first order a sample x of set 1 adds (psi(x) - mean psi) / n to the distance, where, with x centred,

    psi(x) = 2 (m1 - m2)' x + x' (I - T) x,    T = S1^-1/2 (S1^1/2 S2 S1^1/2)^1/2 S1^-1/2,

because I - T is the gradient of the distance by S1 (T maps the first Gaussian onto the second by optimal transport).
The variance of psi over the samples, by their number, is the infinitesimal jackknife (Efron 1982): nothing is drawn
again, and it takes about as long as three more distances.

What it holds, measured with 64 dimensions of falling variance, 150 draws of sets of 32 to 1000, alike to far apart:
95 % intervals hold the distance to be expected of so many samples in 91 to 100 % of draws, for normal features and for
tails of Student's t with 8 degrees. They are wide where both sets are alike (errors up to 1.5 times the true ones),
and too narrow where tails have no fourth moment. A plain bootstrap repeats samples, which looks like collapse and
pushes the distance up: there its intervals did not even hold the distance itself. A jackknife of ten groups gives the
same intervals as these for twenty distances.
"""

import math

import torch
from torch import Tensor

from metrics.bootstrap import Interval, Z
from metrics.frechet import Moments, factor

MOST = 4096  # samples whose influence is looked at: their variance is then known to a few per cent


def interval(distance: float, errors: tuple[float, float]) -> Interval:
    """95 % around a distance, by the standard errors from both sets; not below 0."""
    half = Z * math.hypot(*errors)
    return max(distance - half, 0.0), distance + half


def standard_errors(a: Moments, b: Moments, x: Tensor, y: Tensor) -> tuple[float, float]:
    """Of frechet(a, b), from drawing the samples of a, and those of b; 0 for sets of one.

    x [N,D], y [M,D]: samples of a and of b, all of them or as many as there is time for.
    """
    return tuple(math.sqrt(float(psi.var()) / of.count) if of.count > 1 else 0.0
                 for psi, of in zip(influences(a, b, x, y), (a, b), strict=True))  # type: ignore[return-value]


def influences(a: Moments, b: Moments, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """psi [N], [M] of samples x of a and y of b."""
    x, y = x.double() - a.mean, y.double() - b.mean
    root, coordinates = _factor(a, x)
    # Along an eigenvector of F' S2 F with eigenvalue s^2, T is s in coordinates F^-1 x, and its inverse 1/s in F' y.
    squares, vectors = torch.linalg.eigh(root.T @ b.covariance() @ root)
    kept = squares > squares.sum() * len(squares) * torch.finfo(squares.dtype).eps
    s, vectors = squares[kept].sqrt(), vectors[:, kept]
    mapped_x = (coordinates @ vectors).square() @ s
    mapped_y = (y @ root @ vectors).square() @ (1 / s)
    shift = 2 * (a.mean - b.mean)
    return x @ shift + x.square().sum(1) - mapped_x, -(y @ shift) + y.square().sum(1) - mapped_y


def _factor(a: Moments, x: Tensor) -> tuple[Tensor, Tensor]:
    """F [D,R] with F F' the covariance of a, and the coordinates [N,R] in it of samples of a, x [N,D] centred."""
    if a.count == len(x) <= x.shape[1]:
        return x.T / math.sqrt(a.count), torch.eye(a.count, dtype=x.dtype, device=x.device) * math.sqrt(a.count)
    lower, failed = torch.linalg.cholesky_ex(a.covariance())
    if not failed:
        return lower, torch.linalg.solve_triangular(lower, x.T, upper=False).T
    root = factor(a.covariance())
    return root, x @ (root / root.square().sum(0))
