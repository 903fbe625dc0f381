import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_swd import inputs, textures

from metrics.frechet import frechet_distance, frechet_of_samples, pfd32, reduced_pixels
from torch_utils.errors import UserError


def samples(n, d, seed=0, rank=None):
    rng = np.random.RandomState(seed)
    return torch.from_numpy(rng.randn(n, rank or d) @ rng.randn(rank or d, d) + rng.randn(d))


def moments(x):
    return x.mean(0), torch.from_numpy(np.cov(x.numpy(), rowvar=False, bias=True))


def by_sqrtm(x, y):
    (m1, s1), (m2, s2) = moments(x), moments(y)
    root = scipy.linalg.sqrtm(s1.numpy() @ s2.numpy()).real
    return float((m1 - m2).square().sum() + s1.trace() + s2.trace()) - 2 * np.trace(root)


def measure(real, fake, count=10**6, **kwargs):
    return pfd32(inputs(real, fake, **kwargs), count).results


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


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_pixels_are_reduced_by_block_means(channels):
    images = np.random.RandomState(0).randint(0, 256, [2, channels, 128, 128], dtype=np.uint8)
    x = reduced_pixels(iter([images]), torch.device("cpu"))
    assert x.shape == (2, channels * 1024) and x.dtype == torch.float64
    assert float(x[1, 33]) == pytest.approx(images[1, 0, 4:8, 4:8].mean() / 255)
    small = np.ascontiguousarray(images[:, :, :16, :16])
    x = reduced_pixels(iter([small]), torch.device("cpu"))
    np.testing.assert_allclose(x, small.reshape(2, -1) / 255, rtol=1e-6)


def test_brightness_contrast_and_collapse_show_and_detail_does_not():
    real, other = textures(100) // 2 + 50, textures(100, seed=1) // 2 + 50
    clean = measure(real, other)
    assert 0.8 < clean["pfd32_ratio"] < 1.2
    assert measure(real, other + 20)["pfd32"] == pytest.approx(clean["pfd32"] + 1024 * (20 / 255) ** 2, rel=0.2)
    assert measure(real, (other * 0.7).astype(np.uint8))["pfd32"] > 1.5 * clean["pfd32"]
    assert measure(real, other[:5].repeat(20, axis=0))["pfd32_ratio"] > 1.3
    checkered = other + np.where(np.indices(other.shape)[2:].sum(0) % 2, 15, -15).astype(np.uint8)
    assert measure(real, checkered)["pfd32"] == pytest.approx(clean["pfd32"], rel=1e-6)


def test_equal_images_are_at_zero_and_batches_do_not_matter():
    real, fake = textures(9, 3), textures(9, 3, seed=1)
    assert measure(real, real)["pfd32"] == pytest.approx(0, abs=1e-6)
    assert measure(real, fake, batch=2) == measure(real, fake)


def test_counts_are_equal_and_told_and_one_image_is_refused():
    assert pfd32(inputs(textures(9), textures(6)), 6).counts == {"real": 6, "fake": 6, "floor": 3}
    with pytest.raises(UserError, match="--num"):
        measure(textures(4), textures(4), count=1)
