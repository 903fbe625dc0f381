import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from metrics.frechet import frechet_distance, frechet_of_samples


def samples(n, d, seed=0, rank=None):
    rng = np.random.RandomState(seed)
    return torch.from_numpy(rng.randn(n, rank or d) @ rng.randn(rank or d, d) + rng.randn(d))


def moments(x):
    return x.mean(0), torch.from_numpy(np.cov(x.numpy(), rowvar=False, bias=True))


def by_sqrtm(x, y):
    (m1, s1), (m2, s2) = moments(x), moments(y)
    root = scipy.linalg.sqrtm(s1.numpy() @ s2.numpy()).real
    return float((m1 - m2).square().sum() + s1.trace() + s2.trace()) - 2 * np.trace(root)


@settings(max_examples=20)
@given(st.lists(st.tuples(*[st.floats(0, 10)] * 4), min_size=1, max_size=5))
def test_independent_dimensions_add_up(dimensions):
    m1, m2, s1, s2 = torch.tensor(dimensions, dtype=torch.float64).T
    expected = float(((m1 - m2) ** 2 + (s1 - s2) ** 2).sum())
    actual = frechet_distance(m1, torch.diag(s1**2), m2, torch.diag(s2**2))
    assert actual == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("n", "m"), [(200, 300), (300, 200), (500, 20)])
def test_distance_is_that_of_the_general_matrix_root(n, m):
    x, y = samples(n, 8), samples(m, 8, seed=1)
    assert frechet_of_samples(x, y) == pytest.approx(by_sqrtm(x, y), rel=1e-6)


@pytest.mark.parametrize(("n", "m"), [(5, 5), (2, 30), (29, 30)])
def test_few_samples_give_what_their_covariances_give(n, m):
    x, y = samples(n, 30), samples(m, 30, seed=1)
    expected = frechet_distance(*moments(x), *moments(y))
    assert frechet_of_samples(x, y) == pytest.approx(expected, rel=1e-6)


def test_distance_does_not_see_rotation_or_which_set_is_first():
    x, y = samples(100, 6), samples(90, 6, seed=1)
    rotation = torch.from_numpy(np.linalg.qr(np.random.RandomState(2).randn(6, 6))[0])
    expected = frechet_of_samples(x, y)
    assert frechet_of_samples(x @ rotation, y @ rotation) == pytest.approx(expected)
    assert frechet_of_samples(y, x) == pytest.approx(expected)


@pytest.mark.parametrize("shape", [(10, 40), (100, 6)])
def test_equal_sets_are_at_zero_and_a_shift_is_its_square(shape):
    x = samples(*shape)
    assert frechet_of_samples(x, x) == pytest.approx(0, abs=1e-6)
    assert frechet_of_samples(x, x + 3) == pytest.approx(9 * shape[1], rel=1e-9)


def test_dimensions_without_variance_are_no_obstacle():
    x, y = samples(200, 10, rank=4), samples(200, 10, seed=1, rank=4)
    assert frechet_of_samples(x, y) == pytest.approx(by_sqrtm(x, y), rel=1e-4)
