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


def test_a_half_gathered_tick_goes_on_to_the_last_bit():
    values = torch.randn(6, 50)
    whole, first, second = Collector(), Collector(), Collector()
    for i, row in enumerate(values):
        for collector in (whole, first if i < 3 else second):
            if i == 3 and collector is second:
                second.load(*first.moments(), mine=True)
            collector.add("tensors", row)
            collector.add("numbers", float(row[0]) / 3)
    assert second.harvest() == whole.harvest()


def test_what_ranks_had_gathered_together_is_counted_once():
    names, moments = ["a", "b"], torch.tensor([2.0, 6.0, 20.0, 1.0, 5.0, 25.0], dtype=torch.float64)
    ranks = [Collector(), Collector(), Collector()]
    for i, collector in enumerate(ranks):
        collector.load(names, moments, mine=i == 0)
        collector.add("a", torch.tensor([9.0]))
    others = [collector.moments()[1] for collector in ranks[1:]]
    merged = ranks[0].harvest(all_reduce=lambda total: total.add_(sum(others)))
    assert merged["a"].num == 5 and merged["a"].mean == pytest.approx((6 + 27) / 5)
    assert merged["b"] == Stat(1, 5.0, 0.0)
