"""Standard errors of Frechet distances: the derivative they stand on, and distances of many draws."""

import numpy as np
import pytest
import torch

from metrics.frechet import Moments, frechet, frechet_distance
from metrics.influence import influences, interval, standard_errors

D = 12


def draw(n, seed, scale=1.0, shift=0.0):
    x = np.random.RandomState(seed).randn(n, D) * np.arange(1, D + 1) ** -0.5
    return torch.from_numpy(x * scale + shift)


def weighted(x, weights):
    mean = weights @ x
    return mean, (x - mean).T @ ((x - mean) * weights[:, None])


@pytest.mark.parametrize(("n", "m"), [(60, 50), (8, 9), (8, 60), (60, 8), (12, 12), (2, 30)])
def test_influence_is_the_derivative_by_the_weight_of_a_sample(n, m):
    x, y = draw(n, 0), draw(m, 1, 1.3, 0.2)
    found = influences(Moments.of([x]), Moments.of([y]), x, y)

    def moved(which, step):
        weights = [torch.full([len(rows)], 1 / len(rows)).double() for rows in (x, y)]
        weights[which] *= 1 - step
        weights[which][1] += step
        return frechet_distance(*weighted(x, weights[0]), *weighted(y, weights[1]))

    for which, psi in enumerate(found):
        derivative = (moved(which, 1e-5) - moved(which, -1e-5)) / 2e-5
        assert float(psi[1] - psi.mean()) == pytest.approx(derivative, rel=1e-4, abs=1e-5)


def test_some_of_the_samples_tell_about_as_much_as_all():
    x, y = draw(3000, 0), draw(2000, 1, 1.2)
    a, b = Moments.of([x]), Moments.of([y])
    assert standard_errors(a, b, x[:1000], y[:1000]) == pytest.approx(standard_errors(a, b, x, y), rel=0.15)


@pytest.mark.parametrize(("n", "m", "scale", "at_least"), [(200, 200, 1.0, 0.95), (200, 200, 1.3, 0.9),
                                                           (30, 200, 1.3, 0.9), (10, 10, 1.3, 0.85)])
def test_intervals_hold_the_expected_distance(n, m, scale, at_least):
    """Of 200 draws, about 95 % do where the sets differ, and more where they are alike."""
    distances, intervals = [], []
    for seed in range(200):
        x, y = draw(n, 2 * seed), draw(m, 2 * seed + 1, scale)
        a, b = Moments.of([x]), Moments.of([y])
        distances.append(frechet(a, b))
        intervals.append(interval(distances[-1], standard_errors(a, b, x, y)))
    expected = np.mean(distances)
    assert np.mean([low <= expected <= high for low, high in intervals]) >= at_least
    widths = [(high - low) / 2 / 1.96 for low, high in intervals]
    assert np.mean(widths) < 1.7 * np.std(distances)


def test_sets_without_variance():
    same = torch.ones(3, D).double()
    assert standard_errors(Moments.of([same]), Moments.of([same[:1]]), same, same[:1]) == (0, 0)
    assert interval(1.0, (0.0, 0.0)) == (1, 1) and interval(1.0, (3.0, 4.0))[0] == 0
