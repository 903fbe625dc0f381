import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stylegan2_pipeline.statistics import Collector, Stat

floats = st.floats(-100, 100, width=32)


@given(st.lists(st.lists(floats, min_size=1, max_size=5), min_size=1, max_size=4), st.lists(floats, max_size=3))
def test_collector_is_numpy_over_everything_added(tensors, scalars):
    collector = Collector()
    for values in tensors:
        collector.add("x", torch.tensor(values))
    for value in scalars:
        collector.add("x", value)
    everything = np.concatenate([*tensors, scalars]).astype(np.float64)
    stat = collector.harvest()["x"]
    assert stat.num == everything.size
    assert stat.mean == pytest.approx(everything.mean(), abs=1e-9)
    assert stat.std == pytest.approx(everything.std(), abs=1e-4)


def test_harvest_starts_again_and_an_idle_tick_has_no_statistics():
    collector = Collector()
    collector.add("x", 5.0)
    assert collector.harvest() == {"x": Stat(1, 5.0, 0.0)}
    assert collector.harvest() == {}
    collector.add("x", torch.tensor([1.0, 3.0]))
    assert collector.harvest() == {"x": Stat(2, 2.0, 1.0)}


def test_moments_of_ranks_add_up_to_those_of_one():
    ranks, whole = [Collector(), Collector()], Collector()
    for i, values in enumerate([torch.randn(3, 2), torch.randn(5)]):
        for collector in (ranks[i], whole):
            collector.add("b", values)
            collector.add("a", 1.5 + i)
    names, other = ranks[1].moments()
    assert names == ["a", "b"] and other.shape == (6,)
    merged = ranks[0].harvest(all_reduce=lambda moments: moments.add_(other))
    for name, stat in whole.harvest().items():
        assert merged[name] == pytest.approx(stat)


def test_a_value_that_is_not_finite_shows():
    collector = Collector()
    collector.add("x", torch.tensor([1.0, float("nan")]))
    assert np.isnan(collector.harvest()["x"].mean)


def test_gathering_keeps_no_graph():
    collector = Collector()
    collector.add("x", torch.ones(2, requires_grad=True) * 2)
    assert not collector.moments()[1].requires_grad
