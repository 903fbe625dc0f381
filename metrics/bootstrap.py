"""95 % intervals: where a figure would lie for other images of the same kinds, as many as these.

Such an interval is about chance, not about bias: a Frechet distance of few images is too large, and the interval lies
around the distance that is to be expected of so many images. Proportions have Wilson's interval, means Student's,
whatever else is computed of independent values a bootstrap. Frechet distances have metrics/influence.py.
"""

import math
from collections.abc import Callable

import torch
from scipy import special
from torch import Tensor

from torch_utils.seeding import derive_seed

Interval = tuple[float, float]

Z = 1.959964  # 97.5 % of the normal distribution
REPEATS = 1000


def wilson(hits: int, count: int) -> Interval:
    """Of a proportion, hits of count (Wilson 1927): within [0, 1], and not of width 0 at its ends."""
    assert 0 <= hits <= count and count > 0, (hits, count)
    share, pull = hits / count, Z**2 / count
    middle = (share + pull / 2) / (1 + pull)
    half = Z * math.sqrt(share * (1 - share) / count + pull / (4 * count)) / (1 + pull)
    return max(min(middle - half, share), 0.0), min(max(middle + half, share), 1.0)


def mean_interval(values: Tensor) -> Interval:
    """Of the mean of independent values [N], by Student's t; infinitely wide for one value."""
    n = len(values)
    if n < 2:
        return -math.inf, math.inf
    x = values.double()
    half = float(special.stdtrit(n - 1, 0.975)) * float(x.std()) / math.sqrt(n)
    return float(x.mean()) - half, float(x.mean()) + half


def bootstrap(values: Tensor, statistic: Callable[[Tensor], float], seed: int, repeats: int = REPEATS) -> Interval:
    """Of a statistic of independent values [N]: percentiles of what it is on resampled values (Efron 1979).

    For means, trimmed means, quantiles, which do not mind that resampling repeats values. Not for distances between
    sets nor diversity: repeats look like collapse there.
    """
    x = values.cpu()
    generator = torch.Generator().manual_seed(derive_seed(seed, "bootstrap"))
    found = [statistic(x[torch.randint(len(x), [len(x)], generator=generator)]) for _ in range(repeats)]
    low, high = torch.tensor(found, dtype=torch.float64).quantile(torch.tensor([0.025, 0.975], dtype=torch.float64))
    return float(low), float(high)
