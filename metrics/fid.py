"""Frechet distances of features of a network: FID (Heusel et al. 2017), FD-DINOv2 (Stein et al. 2023), and FID for
infinitely many images (Chong & Forsyth 2020).
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from metrics.bootstrap import Z
from metrics.counts import alarm, counts_of, half_of
from metrics.frechet import Moments, frechet, frechet_of_samples
from metrics.influence import MOST, influences, interval, standard_errors
from metrics.inputs import ImageSet, MetricInputs, MetricValue, Request
from torch_utils.seeding import derive_seed

FEW = 10000  # images below which the bias of a distance is told
POINTS = 15  # of Chong & Forsyth
FIRST_POINT = 5000
_ESTIMATOR = "float64; trace by symmetric factors"


@dataclass(frozen=True)
class Sample:
    """Moments of a set of images, and feature rows of some of them, or of all where they are few."""

    moments: Moments
    rows: Tensor

    @classmethod
    def of(cls, images: ImageSet, detector: str, count: int) -> "Sample":
        """Of the first `count` images; memory is that of MOST rows, and of what the set of images keeps."""
        if count > MOST:
            return cls(images.moments(detector, count), images.features(detector, MOST))
        return cls.of_rows(images.features(detector, count))

    @classmethod
    def of_rows(cls, rows: Tensor) -> "Sample":
        return cls(Moments.of([rows]), rows)

    def distance(self, other: "Sample", ddof: int = 0) -> float:
        if max(self.moments.count, other.moments.count) <= self.rows.shape[1] and self.complete and other.complete:
            return frechet_of_samples(self.rows, other.rows, ddof)
        return frechet(self.moments, other.moments, ddof)

    def errors(self, other: "Sample") -> tuple[float, float]:
        return standard_errors(self.moments, other.moments, self.rows, other.rows)

    @property
    def complete(self) -> bool:
        return len(self.rows) == self.moments.count


def fid(inputs: MetricInputs, request: Request, detector: str = "inception", ddof: int = 0) -> MetricValue:
    """The Frechet distance of generated to real images; covariances are divided by counts less ddof.

    <name>_floor is the distance of two disjoint halves of the real images, <name>_ratio that of as many generated
    images to one of the halves over it. Few images make a distance too large, by about c (1/n + 1/m) of n and m; the
    floor tells c, and a note how much that is. The interval is about chance in both sets, not about that bias. With
    mirrored copies among the real images there is no floor.
    """
    n, m = counts_of(inputs, request, least=2)
    real, fake = Sample.of(inputs.real, detector, n), Sample.of(inputs.fake, detector, m)
    distance, errors = real.distance(fake, ddof), real.errors(fake)
    results, notes, bias = {request.name: distance}, [], None
    if half := half_of(n, m, 2, request.mirror):
        first, second = _halves(inputs.real, real, detector, half)
        generated = fake if half == m else Sample.of(inputs.fake, detector, half)
        floor, same_count = first.distance(second, ddof), first.distance(generated, ddof)
        results[f"{request.name}_floor"] = floor
        results[f"{request.name}_ratio"] = same_count / floor if floor else math.nan
        bias = floor * half / 2 * (1 / n + 1 / m)
        if same_count < floor and _beyond_chance(floor - same_count, first.errors(second), first.errors(generated)):
            notes.append(alarm(request.name))
    notes = _bias_notes(n, m, bias) + notes
    about = {"estimator": _ESTIMATOR, "ddof": ddof, "standard_error_of_real": errors[0],
             "standard_error_of_generated": errors[1]}
    return MetricValue(results, {"real": n, "fake": m, "floor": half}, {request.name: interval(distance, errors)},
                       tuple(notes), about)


def _halves(images: ImageSet, whole: Sample, detector: str, half: int) -> tuple[Sample, Sample]:
    """The first and the second `half` images of a set that is known as a whole."""
    if 2 * half <= MOST:
        rows = images.features(detector, 2 * half)
        return Sample.of_rows(rows[:half]), Sample.of_rows(rows[half:])
    first = images.moments(detector, half)
    both = whole.moments if whole.moments.count == 2 * half else images.moments(detector, 2 * half)
    some = whole.rows[:half // 2]  # chance is as large in any real images
    return Sample(first, some), Sample(both.without(first), some)


def _bias_notes(n: int, m: int, bias: float | None) -> list[str]:
    """bias: what n real and m generated images would be apart if all were real; None where that is not known."""
    if min(n, m) >= FEW:
        return []
    size = ("Part of this distance is bias: so few images" if bias is None else
            f"About {bias:.3g} of this distance is bias: {n} real and {m} generated images")
    return [f"{size} would be so far apart if all were real. Compare it at equal numbers only; kid has no such bias."]


def _beyond_chance(difference: float, *errors: tuple[float, float]) -> bool:
    """By errors that are too large for sets that are alike: of 400 pairs of such sets none was beyond."""
    return difference > Z * math.hypot(*(error for pair in errors for error in pair))


def fid_inf(inputs: MetricInputs, request: Request, detector: str = "inception") -> MetricValue:
    """FID at infinitely many generated images (Chong & Forsyth 2020, section 4.1): the distances of random subsets at
    15 sizes, followed along a line in 1 / size to 0.

    <name>_measured is the distance at all generated images. Only their bias is taken away, not that of the real
    images, which stay as they are; a note says how large it is where they are few.
    """
    n, m = counts_of(inputs, request, least=2 * POINTS)
    real, rows = Sample.of(inputs.real, detector, n), inputs.fake.features(detector, m)
    sizes = torch.linspace(min(FIRST_POINT, m // 2), m, POINTS).round().long()
    subsets = [_subset(m, int(size), inputs.seed, i) for i, size in enumerate(sizes)]
    distances = torch.zeros(POINTS, dtype=torch.float64)
    for i, subset in enumerate(subsets):
        some = Sample(_moments(rows[subset], inputs.device), rows[subset])
        distances[i] = real.distance(some)
    weights = intercept_weights(1 / sizes.double())
    value = float(weights @ distances)
    whole = Sample(some.moments, rows[:MOST])
    errors = _errors_of_line(real, whole, subsets, weights, distances)
    results = {request.name: value, f"{request.name}_measured": float(distances[-1])}
    half = Z * math.hypot(*errors)
    about = {"estimator": f"{_ESTIMATOR}; line in 1/size through {POINTS} sizes", "ddof": 0, "sizes": sizes.tolist(),
             "distances": distances.tolist(), "standard_error": math.hypot(*errors)}
    return MetricValue(results, {"real": n, "fake": m}, {request.name: (value - half, value + half)},
                       tuple(_notes_of_line(inputs, request, detector, real, m)), about)


def _subset(count: int, size: int, seed: int, number: int) -> Tensor:
    generator = torch.Generator().manual_seed(derive_seed(seed, "fid_inf", number))
    return torch.randperm(count, generator=generator)[:size]


def _moments(rows: Tensor, device: torch.device) -> Moments:
    """On the CPU, of rows [N,D]; the sums are taken on a device."""
    found = Moments.of(part.to(device) for part in rows.split(MOST))
    return Moments(found.count, found.mean.cpu(), found.scatter.cpu())


def intercept_weights(x: Tensor) -> Tensor:
    """w [N] with w @ y the value at 0 of the line fitted to (x, y) by least squares."""
    centred = x - x.mean()
    return 1 / len(x) - x.mean() * centred / centred.square().sum()


def _errors_of_line(real: Sample, fake: Sample, subsets: list[Tensor], weights: Tensor,
                    distances: Tensor) -> tuple[float, float, float]:
    """Standard errors of the value at 0: from the real images, the generated ones, and what is not on the line.

    A generated image is in several subsets; to first order it moves the value by psi times the sum of their weights,
    each by the size of its subset.
    """
    psi_real, psi_fake = influences(real.moments, fake.moments, real.rows, fake.rows)
    share = torch.zeros(fake.moments.count, dtype=torch.float64)
    for subset, weight in zip(subsets, weights, strict=True):
        share[subset] += weight / len(subset)
    x = torch.tensor([1 / len(subset) for subset in subsets], dtype=torch.float64)
    line = torch.stack([torch.ones_like(x), x], 1)
    residuals = distances - line @ torch.linalg.lstsq(line, distances[:, None]).solution[:, 0]
    scatter = residuals.square().sum() / (len(x) - 2)
    return (float(psi_real.std()) / math.sqrt(real.moments.count), float(psi_fake.std() * share.norm()),
            float(scatter.sqrt() * weights.norm()))


def _notes_of_line(inputs: MetricInputs, request: Request, detector: str, real: Sample, m: int) -> list[str]:
    notes, n = [], real.moments.count
    if m // 2 < FIRST_POINT:
        notes.append(f"{m} generated images are few to follow the distance from: it falls along a line in 1/size from "
                     f"about {FIRST_POINT} on, of which there should be twice as many.")
    if n < FEW:
        half = half_of(n, n, 2, request.mirror)
        halves = _halves(inputs.real, real, detector, half) if half else None
        size = f", about {halves[0].distance(halves[1]) * half / 2 / n:.3g}," if halves else ""
        notes.append(f"The bias of the {n} real images{size} is left in it: only the number of generated images is "
                     f"followed to infinity.")
    return notes
