"""Figures of two samples of distances: is one nearer than chance explains?"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from metrics.bootstrap import Interval
from torch_utils.seeding import derive_seed

LEAST_FOR_RATE = 100  # images by which a false-positive rate of 1 % can be seen at all
FALSE_RATE = 0.01
REPEATS = 1000
_BLOCK = 100


@dataclass(frozen=True)
class Threshold:
    """tau: a generated image nearer than this is flagged. place, of count: it is the place-th smallest distance of so
    many images that were never trained on."""

    tau: float
    place: int
    count: int

    @property
    def expected(self) -> float:
        """The share of new images like these that are flagged without any copying: exactly, on average."""
        return self.place / (self.count + 1)


def threshold(unseen: Tensor, q: float) -> Threshold:
    """The distance [N] that at most the part q of new images are below, or the least one where N is too small."""
    place = max(math.floor(q * (len(unseen) + 1) + 1e-9), 1)
    return Threshold(float(unseen.sort().values[place - 1]), place, len(unseen))


def chance_of_flags(flags: int, count: int, limit: Threshold) -> float:
    """The probability of so many flags or more, of count images, when they come like those never trained on.

    That those are a sample as well is accounted for: with the threshold at the j-th of m, the number of n others below
    it is negative hypergeometric, which is a binomial mixed over what the true rate may be. A plain binomial with the
    rate j / (m + 1) would call chance a discovery: at j = 2, m = 250, n = 500 twelve flags have 0.0008 by it, 0.037
    here.
    """
    j, m, n = limit.place, limit.count, count
    def log_choose(a: int, b: int) -> float:
        return math.lgamma(a + 1) - math.lgamma(b + 1) - math.lgamma(a - b + 1)
    total = log_choose(m + n, n)
    return min(math.fsum(math.exp(log_choose(j - 1 + k, k) + log_choose(m - j + n - k, n - k) - total)
                         for k in range(flags, n + 1)), 1.0)


def mann_whitney_z(a: Tensor, b: Tensor) -> float:
    """How far a is below b, in standard deviations of chance: negative where a is less (C_T of Meehan et al. 2020,
    without cells). Ties count half and shrink the deviation."""
    na, nb = len(a), len(b)
    values, counts = torch.cat([a, b]).double().unique(return_counts=True)
    ties = float((counts.double() ** 3 - counts).sum()) / ((na + nb) * (na + nb - 1))
    deviation = math.sqrt(na * nb / 12 * (na + nb + 1 - ties))
    return (0.5 - float(_below(a, b).mean())) * na * nb / deviation if len(values) > 1 else 0.0


def _below(a: Tensor, b: Tensor) -> Tensor:
    """[A,B]: 1 where a is below b, 0.5 where they are equal."""
    return ((a[:, None] < b).float() + (a[:, None] <= b).float()) / 2


@dataclass(frozen=True)
class Inference:
    """Can be told from distances to generated images which images were trained on?

    auc: the probability that a member is nearer than another image: 0.5 where they cannot be told apart. tpr: the part
    of members found at 1 % false ones, nan below 100 other images. Both with 95 % intervals.
    """

    auc: float
    auc_interval: Interval
    tpr: float
    tpr_interval: Interval


def inference(members: Tensor, others: Tensor, seed: int) -> Inference:
    """Of distances [A] and [B] to the nearest generated image; percentile bootstrap over both."""
    below = _below(members, others)  # [AB]
    generator = torch.Generator().manual_seed(derive_seed(seed, "membership"))
    aucs, rates = [], []
    enough = len(others) >= LEAST_FOR_RATE
    for _ in range(REPEATS // _BLOCK):
        b = torch.randint(len(others), [_BLOCK, len(others)], generator=generator)
        a = torch.randint(len(members), [_BLOCK, len(members)], generator=generator)
        aucs.append(((_times(a) @ below) * _times(b)).sum(1) / below.numel())
        if enough:
            rates.append(_found(members[a], others[b]))
    tpr = float(_found(members[None], others[None])) if enough else math.nan
    return Inference(float(below.mean()), _interval(torch.cat(aucs)), tpr,
                     _interval(torch.cat(rates)) if enough else (math.nan, math.nan))


def _times(index: Tensor) -> Tensor:
    """[R,N] of draws [R,N] from N: how often each was drawn."""
    return torch.zeros(index.shape).scatter_add_(1, index, torch.ones(index.shape))


def _found(members: Tensor, others: Tensor) -> Tensor:
    """[R] of [R,A] and [R,B]: the part of members below the limit that at most 1 % of the others are below."""
    limit = others.sort(dim=1).values[:, math.floor(FALSE_RATE * others.shape[1])]
    return (members < limit[:, None]).float().mean(dim=1)


def _interval(values: Tensor) -> Interval:
    low, high = values.double().quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return low, high
