"""FID as a metric: what it reports, what it warns of, and what it is at infinity."""

import numpy as np
import pytest
import torch
from image_sets import FeatureSet, feature_inputs

from metrics import fid as module
from metrics.fid import Sample, fid, fid_inf, intercept_weights
from metrics.frechet import Moments, frechet_of_samples
from metrics.inputs import MetricInputs, Request
from torch_utils.errors import UserError

D = 8


def rows(n, seed=0, scale=1.0, shift=0.0):
    return np.random.RandomState(seed).randn(n, D) * np.arange(1, D + 1) ** -0.5 * scale + shift


def measure(real, fake, name="fid50k_full", count=50000, **kwargs):
    return fid(feature_inputs(real, fake, **kwargs), Request(name, count))


def as_rows(array):
    return torch.from_numpy(array).float()


def test_keys_counts_and_conventions():
    real, fake = rows(101), rows(60, 1, 1.2)
    value = measure(real, fake)
    assert value.results == {
        "fid50k_full": pytest.approx(frechet_of_samples(as_rows(real), as_rows(fake)), rel=1e-9),
        "fid50k_full_floor": pytest.approx(frechet_of_samples(as_rows(real[:50]), as_rows(real[50:100])), rel=1e-9),
        "fid50k_full_ratio": pytest.approx(frechet_of_samples(as_rows(real[:50]), as_rows(fake[:50]))
                                           / frechet_of_samples(as_rows(real[:50]), as_rows(real[50:100])), rel=1e-9)}
    assert value.counts == {"real": 101, "fake": 60, "floor": 50} and value.about["ddof"] == 0
    low, high = value.intervals["fid50k_full"]
    assert 0 <= low < value.results["fid50k_full"] < high
    assert measure(real, fake, count=20).counts == {"real": 101, "fake": 20, "floor": 20}
    request = Request("fid50k", 50000, real_most=30)
    assert fid(feature_inputs(real, fake), request).counts == {"real": 30, "fake": 60, "floor": 15}


def test_other_features():
    real, fake = rows(40), rows(40, 1)
    value = fid(feature_inputs(real, fake, detector="dinov2"), Request("fd_dinov2", 50000), detector="dinov2")
    assert value.results["fd_dinov2"] == pytest.approx(frechet_of_samples(as_rows(real), as_rows(fake)), rel=1e-9)


@pytest.mark.parametrize("most", [30, 90])
def test_many_images_are_streamed_with_the_same_result(most, monkeypatch):
    """Above MOST images only their moments are held, and influence is that of some of them."""
    real, fake = rows(101), rows(100, 1, 1.2)
    expected = measure(real, fake)
    monkeypatch.setattr(module, "MOST", most)
    found = measure(real, fake)
    assert found.results == pytest.approx(expected.results, rel=1e-9)
    assert found.intervals["fid50k_full"][1] == pytest.approx(expected.intervals["fid50k_full"][1], rel=0.3)


def test_never_more_than_some_rows_of_a_stream_that_is_not_kept(monkeypatch):
    class Stream(FeatureSet):
        def features(self, detector, count):
            assert count <= 64
            return super().features(detector, count)

        def _keep(self, detector, rows):
            pass

    monkeypatch.setattr(module, "MOST", 64)
    sets = [Stream({"inception": x}) for x in (rows(300), rows(200, 1))]
    expected = frechet_of_samples(as_rows(rows(300)), as_rows(rows(200, 1)))
    value = fid(MetricInputs(*sets, None), Request("fid", 1000))
    assert value.results["fid"] == pytest.approx(expected, rel=1e-9)


def test_batches_do_not_matter():
    real, fake = FeatureSet({"inception": rows(50)}, batch=3), FeatureSet({"inception": rows(40, 1)}, batch=7)
    assert fid(MetricInputs(real, fake, None), Request("fid", 40)) == measure(rows(50), rows(40, 1), "fid")


def test_bias_of_few_images_is_told_and_about_right():
    """Both sets are alike, so that all of the distance is bias."""
    found = [measure(rows(300, 2 * i), rows(200, 2 * i + 1)) for i in range(20)]
    assert all("300 real and 200 generated images would be" in value.notes[0] for value in found)
    told = np.mean([float(value.notes[0].split()[1]) for value in found])
    assert told == pytest.approx(np.mean([value.results["fid50k_full"] for value in found]), rel=0.15)


def test_mirrored_copies_leave_no_halves_to_compare():
    """A copy and its image are no two samples; the bias is warned of all the same."""
    inputs = feature_inputs(rows(100), rows(100, 1))
    value = fid(inputs, Request("fid50k", 50000, mirror=True))
    assert set(value.results) == {"fid50k"} and value.counts["floor"] == 0
    assert value.notes[0].startswith("Part of this distance is bias")
    assert "bias of the 100 real images is left" in fid_inf(inputs, Request("fid_inf", 100, mirror=True)).notes[-1]


def test_more_of_everything_moves_the_distance():
    """Collapse to a few images, blurred features, shifted ones: each is further away than chance allows."""
    real, fake = rows(400), rows(400, 1)
    plain = measure(real, fake).intervals["fid50k_full"][1]
    for worse in (fake[:5].repeat(80, axis=0), fake * 0.5, fake + 0.5):
        assert measure(real, worse).intervals["fid50k_full"][0] > plain


def test_many_images_need_no_warning(monkeypatch):
    monkeypatch.setattr(module, "FEW", 200)
    assert measure(rows(300), rows(200, 1)).notes == ()


def test_copies_are_an_alarm_and_others_are_none():
    real = rows(400)
    copies = real + 0.01 * rows(400, 1)
    value = measure(real, copies)
    assert value.results["fid50k_full_ratio"] < 0.7 and "copies" in value.notes[-1]
    assert not any("copies" in note for seed in range(1, 30) for note in measure(real, rows(400, seed)).notes)


@pytest.mark.parametrize(("n", "m", "what"), [(1, 50, "real images; there is 1.*--data"),
                                              (50, 1, "generated images; there is 1.*--num")])
def test_one_image_is_refused(n, m, what):
    with pytest.raises(UserError, match=f"fid50k_full takes at least 2 {what}"):
        measure(rows(n), rows(m))


def test_two_images_have_a_distance_and_no_floor():
    value = measure(rows(2), rows(2, 1))
    assert set(value.results) == {"fid50k_full"} and value.counts["floor"] == 0


def test_line_is_the_least_squares_one():
    x = torch.tensor([0.5, 1.0, 1.5, 4.0]).double()
    y = torch.tensor([3.0, -1.0, 2.0, 5.0]).double()
    assert float(intercept_weights(x) @ y) == pytest.approx(np.polyfit(x, y, 1)[1])


def test_infinity_holds_the_truth_where_the_finite_distance_does_not():
    """Scales 1 and 1.2: the distance is the sum of squared differences of deviations."""
    truth = float(np.square(0.2 * np.arange(1, D + 1) ** -0.5).sum())
    held, finite, infinite = 0, [], []
    for seed in range(20):
        inputs = feature_inputs(rows(20000, seed), rows(400, 100 + seed, 1.2), seed=seed)
        value = fid_inf(inputs, Request("fid_inf", 50000))
        low, high = value.intervals["fid_inf"]
        held += low <= truth <= high
        finite.append(value.results["fid_inf_measured"])
        infinite.append(value.results["fid_inf"])
    assert held >= 17
    assert abs(np.mean(infinite) - truth) < 0.5 * abs(np.mean(finite) - truth)
    assert value.counts == {"real": 20000, "fake": 400} and len(value.about["sizes"]) == 15
    assert "400 generated images are few" in value.notes[0]


def test_infinity_tells_the_bias_of_the_real_images_and_repeats_itself():
    inputs = feature_inputs(rows(100), rows(200, 1))
    value = fid_inf(inputs, Request("fid_inf", 200))
    assert value == fid_inf(inputs, Request("fid_inf", 200))
    expected = frechet_of_samples(as_rows(rows(100)), as_rows(rows(200, 1)))
    assert value.results["fid_inf_measured"] == pytest.approx(expected)
    assert "bias of the 100 real images" in value.notes[-1]
    with pytest.raises(UserError, match="fid_inf takes at least 30 generated"):
        fid_inf(feature_inputs(rows(100), rows(20)), Request("fid_inf", 200))


def test_a_sample_of_all_and_of_some_rows_have_one_distance():
    x, y = as_rows(rows(6)), as_rows(rows(5, 1))
    some = Sample(Moments.of([x]), x[:3])
    assert some.distance(Sample.of_rows(y)) == pytest.approx(Sample.of_rows(x).distance(Sample.of_rows(y)), rel=1e-9)
