import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from image_sets import ArraySet, FeatureSet

from metrics.inputs import MetricInputs, Request
from metrics.path_length import ppl, trimmed_mean, within
from torch_utils.errors import UserError


class Network(FeatureSet):
    """Makes as many as wanted."""

    def stream(self, detector, count):
        yield from self.rows[detector][:count].split(self.batch)


def measured(distances, count=None, name="ppl2_wend", **kwargs):
    fake = Network({name: np.reshape(distances, [-1, 1])})
    fake.size = None
    inputs = MetricInputs(ArraySet(np.zeros([3, 1, 8, 8], np.uint8)), fake, lambda name: None)
    return ppl(inputs, Request(name, count or len(distances)), **kwargs)


def test_the_mean_without_the_tails():
    value = measured(np.arange(101.0))
    assert value.results == {"ppl2_wend": 50.0}
    assert value.counts == {"fake": 101, "kept": 99}
    assert value.about["path"] == "ppl2_wend"


def test_rare_jumps_do_not_count():
    distances = np.full(1000, 5.0)
    distances[::200] = 1e9
    assert measured(distances).results["ppl2_wend"] == 5.0


@given(st.lists(st.floats(0, 1000), min_size=1, max_size=300))
def test_quantiles_are_the_published_ones(values):
    low, high = np.percentile(values, 1, method="lower"), np.percentile(values, 99, method="higher")
    expected = sorted(x for x in values if low <= x <= high)
    assert within(torch.tensor(values, dtype=torch.float64)).tolist() == expected


def test_the_interval_holds_the_truth_about_as_often_as_it_says():
    rng = np.random.RandomState(0)
    truth = float(trimmed_mean(torch.from_numpy(rng.lognormal(0, 1, 1_000_000))))
    held = 0
    for _ in range(15):
        low, high = measured(rng.lognormal(0, 1, 200)).intervals["ppl2_wend"]
        assert low < high
        held += low <= truth <= high
    assert held >= 11


def test_as_many_pairs_as_asked_for_and_another_path():
    value = measured(np.arange(50.0), count=10, name="ppl_zfull", kind="ppl_zfull")
    assert value.results == {"ppl_zfull": 4.5} and value.counts["fake"] == 10


def test_one_pair():
    assert measured([3.0]).results == {"ppl2_wend": 3.0}


def test_images_have_no_paths():
    images = ArraySet(np.zeros([3, 1, 8, 8], np.uint8))
    with pytest.raises(UserError, match=r"ppl2_wend follows paths .* --network"):
        ppl(MetricInputs(images, images, lambda name: None), Request("ppl2_wend", 3))


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_images_that_are_not_numbers_are_told(wrong):
    with pytest.raises(UserError, match="1 of 3 path lengths are not finite"):
        measured([1.0, wrong, 2.0])
