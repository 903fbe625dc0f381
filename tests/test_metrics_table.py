import numpy as np
import pytest

from metrics.inputs import MetricInputs, take
from metrics.table import METRICS, compute, split_available
from torch_utils.errors import UserError


def some_inputs(**kwargs):
    images = np.random.RandomState(0).randint(0, 256, [8, 1, 16, 16], dtype=np.uint8)
    return MetricInputs(lambda: iter([images]), 8, lambda count: iter([images[:count]]), **kwargs)


def test_a_result_records_what_it_depends_on():
    result = compute("swd", some_inputs(seed=3, num=4, snapshot="network.pkl", about={"dataset": "abc", "psi": 1.0}))
    assert result["metric"] == "swd" and set(result["results"]) >= {"swd", "swd_16"}
    assert set(result) >= {"total_time", "total_time_str", "timestamp", "versions"}
    assert result["num_gpus"] == 1 and result["snapshot_pkl"] == "network.pkl" and result["seed"] == 3
    assert result["counts"] == {"real": 4, "fake": 4, "floor": 2}
    assert result["dataset"] == "abc" and result["psi"] == 1.0


def test_the_ecosystems_names_are_known_and_say_what_they_lack():
    usable, sentences = split_available(["fid50k_full", "swd", "ppl2_wend"])
    assert usable == ["swd"]
    assert len(sentences) == 2 and "fid50k_full" in sentences[0] and "weights of Inception" in sentences[0]
    with pytest.raises(UserError, match=r"fid50k_full needs the weights.*Available: swd, pfd32"):
        compute("fid50k_full", some_inputs())


def test_an_unknown_name_lists_those_there_are():
    with pytest.raises(UserError, match="'fid'") as error:
        split_available(["swd", "fid"])
    assert all(name in error.value.message for name in METRICS)


def test_take_stops_within_a_batch_and_misses_nothing():
    batches = [np.full([3, 1, 2, 2], i, np.uint8) for i in range(3)]
    assert [len(b) for b in take(iter(batches), 7)] == [3, 3, 1]
    with pytest.raises(AssertionError, match="1 of 10"):
        list(take(iter(batches), 10))
