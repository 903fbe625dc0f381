"""Precision, recall, density, coverage, the two-sample test and realism: closed forms, and a plain formulation."""

import numpy as np
import pytest
import torch
from test_train import make_archive

from metrics.nearest import nearest
from metrics.neighbours import overlap, realism
from stylegan2_pipeline.dataset import ImageDataset
from stylegan2_pipeline.report.nearest import compare, rows_of


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
