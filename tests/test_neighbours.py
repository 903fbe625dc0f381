"""Precision, recall, density, coverage, authenticity, the two-sample test and realism: closed forms, and a plain
formulation.
"""

import numpy as np
import pytest
import torch
from image_sets import FeatureSet, feature_inputs
from test_train import make_archive

from metrics.inputs import MetricInputs, Request
from metrics.nearest import nearest
from metrics.neighbours import density_coverage, overlap, prdc, precision_recall, realism
from stylegan2_pipeline.dataset import ImageDataset
from stylegan2_pipeline.report.nearest import compare, rows_of
from torch_utils.errors import UserError


def points(n=40, seed=0, shift=0.0):
    return torch.from_numpy(np.random.RandomState(seed).randn(n, 4)) + shift


def test_a_set_against_itself():
    found = overlap(points(), points())
    assert (found.precision, found.recall, found.coverage) == (1, 1, 1) and found.density == 1
    assert found.told_apart == 0  # everything has its copy in the other set


def test_sets_far_apart():
    found = overlap(points(), points(seed=1, shift=100.0))
    assert (found.precision, found.recall, found.density, found.coverage) == (0, 0, 0, 0) and found.told_apart == 1


def test_equal_distributions_cannot_be_told_apart():
    found = overlap(points(600), points(600, seed=1))
    assert found.told_apart == pytest.approx(0.5, abs=0.06) and found.density == pytest.approx(1, abs=0.1)
    assert found.precision > 0.9 and found.recall > 0.9 and found.coverage > 0.9


def test_collapse_keeps_precision_and_loses_recall():
    fake = points(60)[:1].repeat(60, 1) + 1e-3 * points(60, seed=2)
    found = overlap(points(60), fake)
    assert found.precision == 1 and found.recall < 0.1 and found.coverage < 0.2


def test_counts_may_differ_and_edges_count_for_precision_alone():
    """On a line, k = 1: real 0, 1, 4 reach 1, 1, 3; generated 2, -1 and a copy of 4 lie on two edges and in one."""
    real, fake = torch.tensor([[0.0], [1], [4]]), torch.tensor([[2.0], [-1], [4]])
    found = prdc(real, fake, 1)
    assert found.precision == 1 and found.coverage == pytest.approx(1 / 3)
    assert found.density == pytest.approx(2 / 3)  # 2 and 4 lie within 3 of 4
    assert found.recall == 1  # generated 2, -1, 4 reach 2, 3, 2: they hold 0, 1 and 4
    wide = prdc(points(50), points(31, seed=1), 3)
    for name in ("precision", "recall", "density", "coverage"):
        low, high = wide.intervals[name]
        assert low <= getattr(wide, name) <= high


@pytest.mark.slow
@pytest.mark.parametrize(("n", "m"), [(100, 100), (200, 100), (100, 200)])
def test_intervals_hold_the_expected_figures(n, m):
    """Wilson's alone hold them in two thirds of draws where the other set is smaller."""
    found = [prdc(points(n, 2 * seed), points(m, 2 * seed + 1, 0.4), 5) for seed in range(100)]
    for name in ("precision", "recall", "density", "coverage"):
        expected = np.mean([getattr(value, name) for value in found])
        assert np.mean([low <= expected <= high for low, high in (value.intervals[name] for value in found)]) >= 0.85


@pytest.mark.parametrize("k", [1, 3, 5])
def test_is_the_plain_formulation(k):
    real, fake = points(30).numpy(), points(30, seed=1, shift=0.5).numpy()
    distance = lambda a, b: np.linalg.norm(a - b)  # noqa: E731
    reach = [[sorted(distance(x, y) for y in own)[k] for x in own] for own in (real, fake)]  # itself comes first
    found = overlap(torch.from_numpy(real), torch.from_numpy(fake), k)
    assert found.precision == np.mean([any(distance(f, r) <= reach[0][i] for i, r in enumerate(real)) for f in fake])
    assert found.recall == np.mean([any(distance(f, r) <= reach[1][j] for j, f in enumerate(fake)) for r in real])
    inside = [[distance(f, r) <= reach[0][i] for f in fake] for i, r in enumerate(real)]
    assert found.density == pytest.approx(np.sum(inside) / (k * 30))
    assert found.coverage == np.mean(np.any(inside, 1))
    everything, side = np.concatenate([real, fake]), np.arange(60) < 30
    same = [side[min((j for j in range(60) if j != i), key=lambda j: distance(everything[i], everything[j]))] == side[i]
            for i in range(60)]
    assert found.told_apart == pytest.approx(np.mean(same))


def test_realism_is_one_at_the_edge_and_falls_with_distance():
    real = points(50)
    reach = nearest(real, None, 5)[0][:, -1]
    inner = reach.argmin()
    direction = torch.nn.functional.normalize(real[inner] - real.mean(0), dim=0)
    far = real[inner] + direction * 50
    values = realism(real, torch.stack([real[inner] + 1e-9, far, far + direction * 50]))
    assert values[0] > 100 and 1 > values[1] > values[2]


def test_copies_of_training_images_are_found_mirrored_ones_too(tmp_path):
    """Of 24 discs that all differ, two come back, one of them mirrored."""
    data = ImageDataset(make_archive(tmp_path / "discs.zip", channels=3, size=32))
    training = np.stack([data.image(i) for i in range(data.n_raw)])
    others = np.random.RandomState(0).randint(0, 255, [10, 3, 32, 32]).astype(np.uint8)
    fake = np.concatenate([others, training[5][None], training[7][None, ..., ::-1]])
    pairs, words = compare(fake, training, 24)
    assert words.startswith("2 of 12 generated images are nearer") and "all 24 training images" in words
    assert words[words.index("shown have"):].startswith("shown have 0.00, 0.00, ")
    assert pairs.width == 6 * 32 and pairs.height == 2 * 32


def test_rows_do_not_see_brightness_and_contrast():
    image = np.random.RandomState(0).randint(60, 180, [1, 1, 32, 32]).astype(np.uint8)
    assert torch.cdist(rows_of(image), rows_of(image // 2 + 30)).item() < 0.05


def measure(function, real, fake, name, detector, count=50000, **kwargs):
    return function(feature_inputs(real, fake, detector=detector), Request(name, count), **kwargs)


def test_precision_and_recall_as_a_metric():
    real, fake = points(101), points(60, 1, 0.5)
    value = measure(precision_recall, real, fake, "pr50k3_full", "vgg16")
    whole, floor, same = (prdc(a.float(), b.float(), 3) for a, b in
                          ((real, fake), (real[:50], real[50:100]), (real[:50], fake[:50])))
    assert value.results == {
        "pr50k3_full_precision": whole.precision, "pr50k3_full_recall": whole.recall,
        "pr50k3_full_precision_floor": floor.precision, "pr50k3_full_recall_floor": floor.recall,
        "pr50k3_full_precision_ratio": same.precision / floor.precision,
        "pr50k3_full_recall_ratio": same.recall / floor.recall}
    assert value.counts == {"real": 101, "fake": 60, "floor": 50}
    assert set(value.intervals) == {"pr50k3_full_precision", "pr50k3_full_recall"}
    assert "precision would be lower at equal numbers" in value.notes[0]
    assert "recall would" in measure(precision_recall, fake, real, "pr50k3_full", "vgg16").notes[0]
    request = Request("pr50k3", 50000, real_most=30)
    assert precision_recall(feature_inputs(real, fake, detector="vgg16"), request).counts["real"] == 30


def test_density_coverage_and_authenticity_as_a_metric():
    real, fake = points(400), points(400, 1)
    value = measure(density_coverage, real, fake, "dc50k5_full", "inception")
    found = prdc(real.float(), fake.float(), 5)
    assert value.results["dc50k5_full_density"] == found.density
    assert value.results["dc50k5_full_coverage"] == found.coverage == pytest.approx(1 - 2**-5, abs=0.03)
    own = torch.cdist(real, real).fill_diagonal_(torch.inf).amin(1)
    between = torch.cdist(fake, real)
    authentic = (own[between.argmin(1)] < between.amin(1)).double().mean().item()
    assert value.results["dc50k5_full_authenticity"] == pytest.approx(authentic) == pytest.approx(0.55, abs=0.1)
    assert value.notes == ()


def test_copies_lack_authenticity():
    real = points(200)
    value = measure(density_coverage, real, real + 1e-4 * points(200, 1), "dc50k5_full", "inception")
    assert value.results["dc50k5_full_authenticity"] == 0 and "measure memorization" in value.notes[-1]


def test_batches_do_not_matter():
    sets = [FeatureSet({"inception": points(50, seed)}, batch=batch) for seed, batch in ((0, 7), (1, 11))]
    found = density_coverage(MetricInputs(*sets, None), Request("dc50k5_full", 50))
    assert found == measure(density_coverage, points(50), points(50, 1), "dc50k5_full", "inception")


@pytest.mark.parametrize(("n", "m", "what"), [(3, 50, "real"), (50, 1, "generated")])
def test_fewer_images_than_neighbours_are_refused(n, m, what):
    with pytest.raises(UserError, match=f"pr50k3_full takes at least 4 {what} images; there"):
        measure(precision_recall, points(n), points(m), "pr50k3_full", "vgg16")
