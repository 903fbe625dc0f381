"""Two sets of images by their nearest neighbours: precision, recall, density, coverage, authenticity, a two-sample
test, realism. All take rows of features [N,D]; how much they say is up to the features.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from metrics.bootstrap import Interval, mean_interval, wilson
from metrics.counts import counts_of, half_of
from metrics.inputs import MetricInputs, MetricValue, Request
from metrics.nearest import CPU, Neighbourhoods, less, nearest, neighbourhoods

K = 5
PARTS = 10
IN_A_PART = 4  # images at least, times k
Figure = tuple[float, Interval]
Measure = Callable[[Tensor, Tensor, int, torch.device], dict[str, Figure]]  # of real, fake, k, device


@dataclass(frozen=True)
class Prdc:
    """precision, recall: the part of the generated (real) images within reach of a real (generated) one, edge included
    (Kynkaanniemi et al. 2019, eq. 2). density, coverage: how many real neighbourhoods a generated image lies in, over
    k; the part of real ones that hold one, edge not included (Naeem et al. 2020, eq. 4 and 5).

    intervals: 95 %, by these names; see with_intervals.
    """

    precision: float
    recall: float
    density: float
    coverage: float
    intervals: dict[str, Interval]


@dataclass(frozen=True)
class Overlap(Prdc):
    """Of equally many generated and real images, `count` of each.

    told_apart: the part of all images whose nearest neighbour is of their own set (Lopez-Paz & Oquab 2017): one half
    where the sets cannot be told apart, less where one copies the other.
    """

    told_apart: float
    count: int


def precision_recall(inputs: MetricInputs, request: Request, k: int = 3, detector: str = "vgg16") -> MetricValue:
    """Keys <name>_precision and <name>_recall, with the edges of neighbourhoods as stylegan2-ada has them; see Prdc.

    _floor: the same between halves of the real images, which is what a perfect generator gets. _ratio: that of as many
    generated images as a half has, over it.
    """
    return _compare(inputs, request, detector, k, _precision_and_recall)


def density_coverage(inputs: MetricInputs, request: Request, k: int = 5, detector: str = "inception") -> MetricValue:
    """Keys <name>_density, <name>_coverage and <name>_authenticity, each with _floor and _ratio as precision_recall.

    Inception features are the default, as those of FID, so that one pass serves both. authenticity: the part of
    generated images whose nearest real image has another real one nearer than them (Alaa et al. 2022, over generated
    images as in Stein et al. 2023): 0 for copies, about one half for a perfect generator. Repeated images in the data
    raise it.
    """
    return _compare(inputs, request, detector, k, _density_and_coverage)


def _compare(inputs: MetricInputs, request: Request, detector: str, k: int, measure: Measure) -> MetricValue:
    n, m = counts_of(inputs, request, least=k + 1)
    real, fake = inputs.real.features(detector, n), inputs.fake.features(detector, m)
    found = with_intervals(measure, real, fake, k, inputs.device)
    results = {f"{request.name}_{name}": value for name, (value, _) in found.items()}
    floor: dict[str, Figure] = {}
    if half := half_of(n, m, k + 1, request.mirror):
        floor = measure(real[:half], real[half:2 * half], k, inputs.device)
        same_count = measure(real[:half], fake[:half], k, inputs.device)
        for name, (value, _) in floor.items():
            results[f"{request.name}_{name}_floor"] = value
            results[f"{request.name}_{name}_ratio"] = same_count[name][0] / value if value else math.nan
    intervals = {f"{request.name}_{name}": interval for name, (_, interval) in found.items()}
    about = {"estimator": "exact distances", "neighbours": k}
    return MetricValue(results, {"real": n, "fake": m, "floor": half}, intervals, _notes(n, m, found, floor), about)


def _notes(n: int, m: int, found: dict[str, Figure], floor: dict[str, Figure]) -> tuple[str, ...]:
    notes = []
    if n != m:
        raised = {"recall": m > n, "precision": n > m, "coverage": m > n}
        names = " and ".join(name for name in found if raised.get(name))
        if names:
            notes.append(f"{n} real and {m} generated images: {names} would be lower at equal numbers, at which the "
                         f"ratios are.")
    if "authenticity" in floor and found["authenticity"][1][1] < floor["authenticity"][1][0]:
        notes.append("Generated images are nearer to single real ones than other real images are: copies of training "
                     "images would explain it; measure memorization.")
    return tuple(notes)


def prdc(real: Tensor, fake: Tensor, k: int = K, device: torch.device = CPU) -> Prdc:
    """real [N,D], fake [M,D] in random orders, both more than k."""
    found = with_intervals(_all_four, real, fake, k, device)
    return Prdc(**{name: value for name, (value, _) in found.items()},
                intervals={name: interval for name, (_, interval) in found.items()})


def with_intervals(measure: Measure, real: Tensor, fake: Tensor, k: int, device: torch.device) -> dict[str, Figure]:
    """Figures of both sets, with intervals for both drawn anew.

    Wilson's interval of a share takes the neighbourhoods as they are, though other images would have others: it held
    the expected figure in 54 to 97 % of draws (6 and 20 dimensions, 60 to 1000 images). So the figures of up to ten
    disjoint parts of both sets say how far they scatter, and the wider of both intervals is given: 86 to 100 %.
    """
    found = measure(real, fake, k, device)
    parts = min(PARTS, min(len(real), len(fake)) // (IN_A_PART * k))
    if parts < 2:
        return found
    of_parts = [measure(x, y, k, device)
                for x, y in zip(real.tensor_split(parts), fake.tensor_split(parts), strict=True)]
    return {name: (value, _wider(value, interval, [part[name][0] for part in of_parts],
                                 math.inf if name == "density" else 1.0))
            for name, (value, interval) in found.items()}


def _wider(value: float, interval: Interval, of_parts: list[float], top: float) -> Interval:
    """The interval, or that of the mean of parts around the value where it is wider; from 0 to top."""
    low, high = mean_interval(torch.tensor(of_parts, dtype=torch.float64))
    half = (high - low) / 2
    return max(min(interval[0], value - half), 0.0), min(max(interval[1], value + half), top)


def _all_four(real: Tensor, fake: Tensor, k: int, device: torch.device) -> dict[str, Figure]:
    of_real = neighbourhoods(real, _reach(real, k, device), fake, device)
    of_fake = neighbourhoods(fake, _reach(fake, k, device), real, device)
    return _precision_recall_of(of_real, of_fake) | _density_coverage_of(of_real, k)


def _precision_and_recall(real: Tensor, fake: Tensor, k: int, device: torch.device) -> dict[str, Figure]:
    return _precision_recall_of(neighbourhoods(real, _reach(real, k, device), fake, device),
                                neighbourhoods(fake, _reach(fake, k, device), real, device))


def _density_and_coverage(real: Tensor, fake: Tensor, k: int, device: torch.device) -> dict[str, Figure]:
    own = nearest(real, None, k, device)[0]
    found = _density_coverage_of(neighbourhoods(real, own[:, -1], fake, device), k)
    squares, numbers = nearest(fake, real, 1, device)
    return found | {"authenticity": _share(less(own[numbers[:, 0], 0], squares[:, 0]))}


def _precision_recall_of(of_real: Neighbourhoods, of_fake: Neighbourhoods) -> dict[str, Figure]:
    return {"precision": _share(of_real.with_edge > 0), "recall": _share(of_fake.with_edge > 0)}


def _density_coverage_of(of_real: Neighbourhoods, k: int) -> dict[str, Figure]:
    density = of_real.without_edge.double() / k
    low, high = mean_interval(density)
    return {"density": (float(density.mean()), (max(low, 0.0), high)), "coverage": _share(of_real.filled)}


def _reach(rows: Tensor, k: int, device: torch.device) -> Tensor:
    """[N] squared distances of rows [N,D] to the k-th nearest other one."""
    return nearest(rows, None, k, device)[0][:, -1]


def _share(mask: Tensor) -> Figure:
    return float(mask.double().mean()), wilson(int(mask.sum()), len(mask))


def overlap(real: Tensor, fake: Tensor, k: int = K) -> Overlap:
    """real, fake [N,D], equally many and more than k."""
    assert real.shape == fake.shape, (real.shape, fake.shape)
    own = torch.cat([_reach(real, 1, CPU), _reach(fake, 1, CPU)])
    other = torch.cat([nearest(real, fake, 1)[0], nearest(fake, real, 1)[0]])[:, 0]
    told_apart = float(less(own, other).double().mean())
    return Overlap(**vars(prdc(real, fake, k)), told_apart=told_apart, count=len(real))


def realism(real: Tensor, fake: Tensor, k: int = K) -> Tensor:
    """[M] of fake [M,D]: how deep it lies in a real neighbourhood, 1 at its edge (Kynkaanniemi et al. 2019, eq. 3).

    The wider half of the neighbourhoods is left out, as there: they hold everything.
    """
    reach = _reach(real, k, CPU).sqrt()
    kept = reach <= reach.median()
    return (reach[kept, None] / torch.cdist(real[kept].double(), fake.double()).clamp_min(1e-12)).amax(0)
