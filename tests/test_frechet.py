"""The Frechet distance: closed forms, the general matrix root, what it must not see, and moments of streams."""

import time

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from metrics.frechet import Moments, frechet, frechet_distance, frechet_of_samples


def samples(n, d, seed=0, rank=None):
    rng = np.random.RandomState(seed)
    return torch.from_numpy(rng.randn(n, rank or d) @ rng.randn(rank or d, d) + rng.randn(d))


def moments(x):
    return x.mean(0), torch.from_numpy(np.cov(x.numpy(), rowvar=False, bias=True))


def by_sqrtm(x, y):
    (m1, s1), (m2, s2) = moments(x), moments(y)
    root = scipy.linalg.sqrtm(s1.numpy() @ s2.numpy()).real
    return float((m1 - m2).square().sum() + s1.trace() + s2.trace()) - 2 * np.trace(root)


def both_ways(x, y, **kwargs):
    of_moments = frechet(Moments.of([x]), Moments.of([y]), **kwargs)
    assert frechet_of_samples(x, y, **kwargs) == pytest.approx(of_moments, rel=1e-9, abs=1e-9)
    return of_moments


@settings(max_examples=20)
@given(st.lists(st.tuples(*[st.floats(0, 10)] * 4), min_size=1, max_size=5))
def test_independent_dimensions_add_up(dimensions):
    m1, m2, s1, s2 = torch.tensor(dimensions, dtype=torch.float64).T
    expected = float(((m1 - m2) ** 2 + (s1 - s2) ** 2).sum())
    actual = frechet_distance(m1, torch.diag(s1**2), m2, torch.diag(s2**2))
    assert actual == pytest.approx(expected, abs=1e-4)  # deviations below 1e-8 of the largest are rounding


@pytest.mark.parametrize(("n", "m"), [(200, 300), (300, 200), (500, 20)])
def test_distance_is_that_of_the_general_matrix_root(n, m):
    x, y = samples(n, 8), samples(m, 8, seed=1)
    assert both_ways(x, y) == pytest.approx(by_sqrtm(x, y), rel=1e-6)


@pytest.mark.parametrize(("n", "m"), [(5, 5), (2, 30), (29, 30), (2, 2), (31, 30), (500, 7), (7, 500)])
def test_few_samples_give_what_their_covariances_give(n, m):
    x, y = samples(n, 30), samples(m, 30, seed=1)
    assert both_ways(x, y) == pytest.approx(frechet_distance(*moments(x), *moments(y)), rel=1e-9)
    assert frechet_of_samples(y, x) == pytest.approx(frechet_of_samples(x, y), rel=1e-9)


def test_two_of_each_by_hand():
    """Variances 1 along x and 4 along y, at right angles: no overlap; means 0 and (3, 4)."""
    x, y = torch.tensor([[1.0, 0], [-1, 0]]).double(), torch.tensor([[3.0, 6], [3, 2]]).double()
    assert both_ways(x, y) == pytest.approx(25 + 1 + 4, rel=1e-12)
    assert both_ways(x, y, ddof=1) == pytest.approx(25 + 2 + 8, rel=1e-12)


def test_divisor_scales_covariances():
    x = samples(11, 4)
    wider = x.mean(0) + (x - x.mean(0)) * (11 / 10) ** 0.5
    y = samples(11, 4, seed=1)
    y_wider = y.mean(0) + (y - y.mean(0)) * (11 / 10) ** 0.5
    assert both_ways(x, y, ddof=1) == pytest.approx(both_ways(wider, y_wider), rel=1e-9)


@settings(max_examples=20)
@given(st.integers(2, 40), st.integers(2, 40), st.integers(1, 12), st.integers(0, 5))
def test_distance_does_not_see_rotation_or_which_set_is_first(n, m, d, seed):
    x, y = samples(n, d, seed), samples(m, d, seed=seed + 100)
    rotation = torch.from_numpy(np.linalg.qr(np.random.RandomState(seed).randn(d, d))[0])
    expected = both_ways(x, y)
    assert expected >= 0
    assert both_ways(x @ rotation + 7, y @ rotation + 7) == pytest.approx(expected, rel=1e-6, abs=1e-6)
    assert both_ways(y, x) == pytest.approx(expected, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("shape", [(10, 40), (100, 6), (41, 40), (2, 3)])
def test_equal_sets_are_at_zero_and_a_shift_is_its_square(shape):
    x = samples(*shape)
    scale = float(x.var(0).sum())
    assert both_ways(x, x) == pytest.approx(0, abs=1e-9 * max(scale, 1))
    assert both_ways(x, x + 3) == pytest.approx(9 * shape[1], rel=1e-9)


def test_dimensions_without_variance_are_no_obstacle():
    """Rank 4 of 10, in other directions; then the same with dimensions that are always 0, as dead features are."""
    x, y = samples(200, 10, rank=4), samples(200, 10, seed=1, rank=4)
    expected = frechet_of_samples(x, y)
    assert expected == pytest.approx(by_sqrtm(x, y), rel=1e-4)
    wide = [torch.cat([s, torch.zeros(200, 5).double()], 1) for s in (x, y)]
    assert both_ways(*wide) == pytest.approx(expected, rel=1e-9)


def test_nearly_dependent_dimensions_keep_their_digits():
    """Deviations over eight orders of magnitude, turned: eigenvalues of the product span thirty-two."""
    s1, s2 = (torch.logspace(0, -8, 9, dtype=torch.float64) * scale for scale in (1, 1.5))
    q = torch.from_numpy(np.linalg.qr(np.random.RandomState(0).randn(9, 9))[0])
    zero = torch.zeros(9).double()
    found = frechet_distance(zero, q @ torch.diag(s1**2) @ q.T, zero, q @ torch.diag(s2**2) @ q.T)
    assert found == pytest.approx(float((s1 - s2).square().sum()), rel=1e-7)


@pytest.mark.parametrize("split", [1, 7, 1024, 5000])
def test_moments_are_those_of_all_rows_however_they_come(split):
    x = samples(2100, 6).float() + 1000
    found, expected = Moments.of(x.split(split)), Moments.of(iter([x]))
    assert found.count == 2100
    assert torch.equal(found.mean, expected.mean) and torch.equal(found.scatter, expected.scatter)
    torch.testing.assert_close(found.mean, x.double().mean(0))
    covariance = torch.from_numpy(np.cov(x.double().numpy(), rowvar=False))
    torch.testing.assert_close(found.covariance(1), covariance, rtol=1e-10, atol=1e-10)


@settings(max_examples=20)
@given(st.integers(1, 30), st.integers(1, 30), st.floats(-1e3, 1e3))
def test_moments_without_a_part_are_those_of_the_rest(n, m, shift):
    x, y = samples(n, 5) + shift, samples(m, 5, seed=1)
    found, expected = Moments.of([x, y]).without(Moments.of([x])), Moments.of([y])
    assert found.count == m
    torch.testing.assert_close(found.mean, expected.mean, rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(found.scatter, expected.scatter, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_time_at_the_dimensions_of_inception():
    a, b = (Moments.of([torch.randn(4096, 2048) * torch.arange(1, 2049) ** -0.5]) for _ in range(2))
    start = time.process_time()
    frechet(a, b)
    assert time.process_time() - start < 10  # of processors; 1.4 where nothing else runs
