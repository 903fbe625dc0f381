"""Intervals hold the truth about as often as they say."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from metrics.bootstrap import bootstrap, mean_interval, wilson


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_is_the_textbook_one(hits_of):
    hits, n = hits_of
    expected = stats.binomtest(hits, n).proportion_ci(0.95, method="wilson")
    assert wilson(hits, n) == pytest.approx((expected.low, expected.high), abs=1e-6)
    assert 0 <= wilson(hits, n)[0] <= hits / n <= wilson(hits, n)[1] <= 1


def test_mean_interval_is_students():
    x = torch.from_numpy(np.random.RandomState(0).randn(9))
    expected = stats.t.interval(0.95, 8, loc=x.mean(), scale=stats.sem(x))
    assert mean_interval(x) == pytest.approx(expected)
    assert mean_interval(x[:1]) == (-math.inf, math.inf)


def test_bootstrap_holds_the_truth_and_repeats_itself():
    """The median of a skewed distribution, in 100 draws of 80."""
    held = 0
    for seed in range(100):
        x = torch.from_numpy(np.random.RandomState(seed).exponential(size=80))
        low, high = bootstrap(x, lambda values: float(values.median()), seed, repeats=200)
        held += low <= math.log(2) <= high
    assert 87 <= held <= 100
    assert bootstrap(x, lambda values: float(values.mean()), 1) == bootstrap(x, lambda values: float(values.mean()), 1)
