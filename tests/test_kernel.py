"""The kernel distance: its formula, that it has no bias, its subsets, its interval and its alarm."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from image_sets import FeatureSet, feature_inputs

from metrics import kernel as module
from metrics.inputs import MetricInputs, Request
from metrics.kernel import distance, draws, kid
from torch_utils.errors import UserError

D = 6


def rows(n, seed=0, scale=1.0, shift=0.0):
    return np.random.RandomState(seed).randn(n, D) * scale + shift


def measure(real, fake, seed=0, count=50000):
    return kid(feature_inputs(real, fake, seed=seed), Request("kid50k_full", count))


@settings(max_examples=20)
@given(st.integers(2, 9), st.integers(2, 9), st.integers(0, 5))
def test_distance_is_its_formula(n, m, seed):
    x, y = rows(n, seed), rows(m, seed + 50)
    k = lambda a, b: (a @ b / D + 1) ** 3  # noqa: E731
    expected = (np.mean([k(x[i], x[j]) for i in range(n) for j in range(n) if i != j])
                + np.mean([k(y[i], y[j]) for i in range(m) for j in range(m) if i != j])
                - 2 * np.mean([k(a, b) for a in x for b in y]))
    assert float(distance(torch.from_numpy(x), torch.from_numpy(y))) == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_equal_distributions_are_at_zero_on_average_even_with_few_images():
    found = np.array([float(distance(torch.from_numpy(rows(5, 2 * i)), torch.from_numpy(rows(5, 2 * i + 1))))
                      for i in range(1000)])
    assert abs(found.mean()) < 3 * found.std() / 1000**0.5
    assert 0.3 < np.mean(found < 0) < 0.7


@pytest.mark.parametrize("count", [20, 100])
def test_number_of_images_does_not_move_the_expectation(count):
    """A shift of s in each of D dimensions; E k from 2000 of each."""
    expected = float(distance(torch.from_numpy(rows(2000, 1)), torch.from_numpy(rows(2000, 2, shift=0.5))))
    found = [measure(rows(count, 2 * i), rows(count, 2 * i + 1, shift=0.5)).results["kid50k_full"] for i in range(100)]
    assert np.mean(found) == pytest.approx(expected, abs=3 * np.std(found) / 10 + 0.1 * expected)


def test_keys_counts_subsets(monkeypatch):
    monkeypatch.setattr(module, "SUBSET_SIZE", 20)
    value = measure(rows(50), rows(30, 1, shift=0.3))
    assert set(value.results) == {"kid50k_full", "kid50k_full_std", "kid50k_full_floor"}
    assert value.counts == {"real": 50, "fake": 30, "floor": 25}
    assert value.about["subsets"] == 100 and value.about["subset_size"] == 20
    drawn = list(draws(50, 30, 0))
    assert all(len(set(i.tolist())) == len(set(j.tolist())) == 20 for i, j in drawn)
    assert max(int(i.max()) for i, _ in drawn) == 49 and max(int(j.max()) for _, j in drawn) == 29
    assert measure(rows(50), rows(30, 1, shift=0.3)) == value
    assert measure(rows(50), rows(30, 1, shift=0.3), seed=1).results != value.results


def test_subsets_that_hold_everything_are_one():
    value = measure(rows(30), rows(30, 1))
    x, y = (torch.from_numpy(rows(30, seed)).float().double() for seed in (0, 1))
    expected = float(distance(x, y))
    assert value.results["kid50k_full"] == pytest.approx(expected) and value.results["kid50k_full_std"] == 0
    assert value.about["subsets"] == 1


def test_batches_and_order_within_the_whole_do_not_matter():
    real, fake = FeatureSet({"inception": rows(30)}, batch=4), FeatureSet({"inception": rows(30, 1)}, batch=9)
    inputs = MetricInputs(real, fake, None)
    assert kid(inputs, Request("kid50k_full", 30)) == measure(rows(30), rows(30, 1))


@pytest.mark.parametrize(("size", "shift"), [(1000, 0.0), (1000, 0.4),
                                             pytest.param(25, 0.4, marks=pytest.mark.slow)])
def test_interval_holds_the_expected_distance(size, shift, monkeypatch):
    monkeypatch.setattr(module, "SUBSET_SIZE", size)
    found = [measure(rows(60, 2 * i), rows(60, 2 * i + 1, shift=shift)) for i in range(100)]
    expected = np.mean([value.results["kid50k_full"] for value in found])
    held = np.mean([low <= expected <= high for low, high in (value.intervals["kid50k_full"] for value in found)])
    assert held >= 0.9
    assert np.mean([bool(value.notes) for value in found]) < 0.05


def test_copies_are_an_alarm():
    real = rows(300)
    value = measure(real, real + 0.01 * rows(300, 1))
    assert value.results["kid50k_full"] < 0 and "copies" in value.notes[0]


def test_few_images_are_refused():
    with pytest.raises(UserError, match=r"kid50k_full takes at least 4 generated images; there are 3\. Raise --num"):
        measure(rows(50), rows(3))
