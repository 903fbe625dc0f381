"""The kernel distance, KID on Inception features (Binkowski et al. 2018, arXiv 1801.01401): the squared maximum mean
discrepancy with k(x, y) = (x'y / D + 1)^3, estimated without bias. It is 0 on average for equal distributions at any
number of images, and so falls below 0 in about half of such cases.
"""

import math
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from metrics.bootstrap import Z
from metrics.counts import alarm, counts_of, half_of
from metrics.inputs import MetricInputs, MetricValue, Request
from torch_utils.seeding import derive_seed

SUBSETS = 100
SUBSET_SIZE = 1000
FLOOR_SUBSETS = 20
LEAST = 4
ALARM = 3  # standard errors below 0 beyond which chance is no explanation
GROUPS = 20
GROUPED = 4000  # images at most that the groups are made of
Draws = Iterable[tuple[Tensor, Tensor]]  # numbers of real and of generated images


def kid(inputs: MetricInputs, request: Request, detector: str = "inception") -> MetricValue:
    """The mean distance of 100 random subsets of min(real, generated, 1000) images.

    <name>_std is the standard deviation over the subsets, as usually printed; it is not the error of the mean, which
    the interval tells: the subsets share images. <name>_floor is the distance between halves of the real images: 0 but
    for chance.
    """
    n, m = counts_of(inputs, request, least=LEAST)
    real, fake = inputs.real.features(detector, n), inputs.fake.features(detector, m)
    found = subset_distances(real, fake, draws(n, m, inputs.seed), inputs.device)
    value, std = float(found.mean()), float(found.std(correction=0))
    # The mean of all images' pairs has an error, and so has the choice of subsets of them.
    error = math.hypot(standard_error(real, fake, inputs.device), std / math.sqrt(len(found)))
    results = {request.name: value, f"{request.name}_std": std}
    if half := half_of(n, m, 2, request.mirror):
        subsets = draws(half, half, inputs.seed, FLOOR_SUBSETS)
        floor = subset_distances(real[:half], real[half:2 * half], subsets, inputs.device)
        results[f"{request.name}_floor"] = float(floor.mean())
    size = min(n, m, SUBSET_SIZE)
    interval = value - Z * error, value + Z * error
    about = {"estimator": "unbiased, float64", "kernel": "(x.y/D + 1)^3", "subsets": len(found), "subset_size": size,
             "standard_error": error}
    notes = (alarm(request.name),) if value < -ALARM * error else ()
    return MetricValue(results, {"real": n, "fake": m, "floor": half}, {request.name: interval}, notes, about)


def draws(n: int, m: int, seed: int, subsets: int = SUBSETS) -> Iterator[tuple[Tensor, Tensor]]:
    """Random subsets of equal size of n real and m generated images, without repeats; one pair where it takes all."""
    size = min(n, m, SUBSET_SIZE)
    generator = torch.Generator().manual_seed(derive_seed(seed, "kid"))
    for _ in range(subsets if max(n, m) > size else 1):
        yield torch.randperm(n, generator=generator)[:size], torch.randperm(m, generator=generator)[:size]


def subset_distances(real: Tensor, fake: Tensor, subsets: Draws, device: torch.device) -> Tensor:
    """[S] float64 distances of subsets of rows [N,D] and [M,D]."""
    found = [distance(real[i].to(device).double(), fake[j].to(device).double()) for i, j in subsets]
    return torch.stack(found).cpu()


def distance(x: Tensor, y: Tensor) -> Tensor:
    """The unbiased squared maximum mean discrepancy of x [N,D] and y [M,D] (Gretton et al. 2012, eq. 3); may be < 0."""
    return _mean_of_pairs(x) + _mean_of_pairs(y) - 2 * kernel(x, y).mean()


def kernel(x: Tensor, y: Tensor) -> Tensor:
    return (x @ y.T / x.shape[1] + 1) ** 3


def _mean_of_pairs(x: Tensor) -> Tensor:
    """Of the kernel over pairs of different rows."""
    values = kernel(x, x)
    return (values.sum() - values.trace()) / (len(x) * (len(x) - 1))


def standard_error(real: Tensor, fake: Tensor, device: torch.device) -> float:
    """Of the distance of all images, rows [N,D] and [M,D]: a jackknife that leaves out groups of each set in turn.

    It looks at GROUPED images at most and scales the variance down to all: it falls with their number, and with its
    square for equal distributions, for which the error is rather too large than too small.
    """
    x, y = (rows[:GROUPED].to(device).double() for rows in (real, fake))
    return math.sqrt(_variance(x, y) * len(x) / len(real) + _variance(y, x) * len(y) / len(fake))


def _variance(x: Tensor, y: Tensor) -> float:
    """Of the distance, by leaving out groups of x; sums over pairs of groups tell all in the time of one distance."""
    groups = min(GROUPS, len(x))
    member = torch.zeros([groups, len(x)], dtype=x.dtype, device=x.device)
    member[torch.arange(len(x)) * groups // len(x), torch.arange(len(x))] = 1
    pairs = member @ kernel(x, x).fill_diagonal_(0) @ member.T
    across = member @ kernel(x, y).sum(1)
    left = len(x) - member.sum(1)
    left_pairs = pairs.sum() - 2 * pairs.sum(1) + pairs.diagonal()
    found = left_pairs / (left * (left - 1)) - 2 * (across.sum() - across) / (left * len(y))
    return float(found.var(correction=0)) * (groups - 1)
