import itertools
import math

import numpy as np
import pytest
import scipy.ndimage
import torch
from image_sets import image_inputs

from metrics import diversity
from metrics.diversity import (
    copy_threshold,
    distinct,
    embed,
    luminance,
    mean_pair_ms_ssim,
    mirrored,
    ms_ssim,
    msssim,
    num_scales,
    two_nn_dimension,
    vendi,
    vendi_and_error,
    vendi_score,
)
from metrics.inputs import Request
from torch_utils.errors import UserError


def pictures(n, channels=1, size=64, seed=0):
    """Smooth random images with some noise, uint8."""
    random = np.random.RandomState(seed)
    x = scipy.ndimage.gaussian_filter(random.randn(n, channels, size, size), [0, 0, size / 16, size / 16])
    x = 127 + 50 * x / x.std() + 5 * random.randn(*x.shape)
    return x.clip(0, 255).astype(np.uint8)


def unit_rows(n, d, seed=0):
    x = torch.from_numpy(np.random.RandomState(seed).randn(n, d))
    return x / x.norm(dim=1, keepdim=True)


def ms_ssim_by_the_book(a, b):
    """Wang et al. 2003, equation 7, of one gray image, with another library's filters."""
    scales = num_scales(len(a))
    weights = np.array(diversity.SCALE_WEIGHTS[:scales]) / sum(diversity.SCALE_WEIGHTS[:scales])
    value = 1.0
    for scale in range(scales):
        def blur(x):
            return scipy.ndimage.gaussian_filter(x, 1.5, radius=5)[5:-5, 5:-5]

        c1, c2 = 2.55**2, 7.65**2
        ma, mb = blur(a), blur(b)
        va, vb, cov = blur(a * a) - ma**2, blur(b * b) - mb**2, blur(a * b) - ma * mb
        term = (2 * cov + c2) / (va + vb + c2)
        if scale == scales - 1:
            term *= (2 * ma * mb + c1) / (ma**2 + mb**2 + c1)
        value *= max(term.mean(), 0) ** weights[scale]
        a, b = (x.reshape(len(x) // 2, 2, -1, 2).mean(axis=(1, 3)) for x in (a, b))
    return value


@pytest.mark.parametrize("size", [16, 64, 256])
def test_ms_ssim_is_that_of_the_paper(size):
    a, b = pictures(2, size=size).astype(np.float64)[:, 0]
    similar = 0.7 * a + 0.3 * b
    actual = ms_ssim(torch.from_numpy(a)[None, None], torch.from_numpy(similar)[None, None])
    assert float(actual) == pytest.approx(ms_ssim_by_the_book(a, similar), abs=1e-9)
    assert 0.2 < float(actual) < 0.99


@pytest.mark.parametrize(("size", "scales"), [(8, 1), (16, 1), (32, 2), (64, 3), (175, 4), (176, 5), (1024, 5)])
def test_small_images_have_fewer_scales(size, scales):
    assert num_scales(size) == scales


@pytest.mark.parametrize("size", [8, 9, 16, 64])
def test_ms_ssim_of_equal_images_is_one_and_falls_with_noise(size):
    x = torch.from_numpy(pictures(3, 3, size)).double()
    noise = torch.randn(x.shape, dtype=torch.float64)
    values = [ms_ssim(x, x + sd * noise) for sd in (0, 5, 20, 80)]
    torch.testing.assert_close(values[0], torch.ones(3, dtype=torch.float64))
    assert all((after < before).all() for before, after in itertools.pairwise(values))
    y = torch.from_numpy(pictures(3, 3, size, seed=1)).double()
    torch.testing.assert_close(ms_ssim(x, y), ms_ssim(y, x))
    assert ms_ssim(x, 255 - x).max() < 0.1  # negative correlation counts as none


def test_pairs_do_not_depend_on_batches():
    x = pictures(9, size=32)
    expected = ms_ssim(torch.from_numpy(x[0:8:2]), torch.from_numpy(x[1:8:2]))
    for sizes in ([9], [1] * 9, [3, 3, 3], [2, 5, 2]):
        value, pairs = mean_pair_ms_ssim(np.split(x, np.cumsum(sizes)[:-1]))
        assert pairs == 4 and value == pytest.approx(float(expected.mean()), rel=1e-12)
    assert math.isnan(mean_pair_ms_ssim([x[:1]])[0])


def test_sets_that_are_alike_have_the_higher_ms_ssim():
    base, others = pictures(1), pictures(20)
    alike = (0.7 * base + 0.3 * others).astype(np.uint8)
    assert mean_pair_ms_ssim([alike])[0] > mean_pair_ms_ssim([others])[0] + 0.3


def test_luminance_of_colour_gray_and_transparent():
    red = np.zeros([1, 4, 2, 2], np.uint8)
    red[:, 0], red[:, 3, 0] = 200, 255
    torch.testing.assert_close(luminance(red)[0, 0, :, 0], torch.tensor([200 * 0.299, 0], dtype=torch.float64))
    gray = pictures(1, size=16)
    torch.testing.assert_close(luminance(np.repeat(gray, 3, axis=1)), luminance(gray))


@pytest.mark.parametrize("n", [1, 7, 40])
def test_vendi_of_equal_images_is_1_and_of_n_orthogonal_ones_n(n):
    assert vendi_score(unit_rows(1, 50).expand(n, 50)) == pytest.approx(1)
    orthogonal = torch.linalg.qr(torch.randn(50, 50, dtype=torch.float64))[0]
    assert vendi_score(orthogonal[:n]) == pytest.approx(n)


def test_vendi_counts_modes_by_their_shares():
    rows = torch.eye(4, dtype=torch.float64)[[0] * 10 + [1] * 30 + [2] * 60]
    shares = np.array([0.1, 0.3, 0.6])
    assert vendi_score(rows) == pytest.approx(np.exp(-(shares * np.log(shares)).sum()))


def test_vendi_is_the_same_from_either_matrix():
    rows = unit_rows(30, 20)
    values = np.linalg.eigvalsh((rows @ rows.T).numpy() / 30)
    values = values[values > 1e-12]
    assert vendi_score(rows) == pytest.approx(np.exp(-(values * np.log(values)).sum()))
    wide = torch.cat([rows, torch.zeros(30, 20)], dim=1)
    assert vendi_score(wide) == pytest.approx(vendi_score(rows))


@pytest.mark.parametrize("d", [1, 2, 5])
def test_two_nn_finds_the_dimension_of_a_cube_in_any_space(d):
    cube = torch.from_numpy(np.random.RandomState(0).rand(2000, d))
    turned = cube @ torch.linalg.qr(torch.randn(30, 30, dtype=torch.float64))[0][:d] + 100
    assert two_nn_dimension(turned) == pytest.approx(d, rel=0.1)
    assert two_nn_dimension(1e-3 * cube) == pytest.approx(two_nn_dimension(cube), rel=1e-6)


def test_two_nn_agrees_with_all_distances(monkeypatch):
    monkeypatch.setattr(diversity, "_ROWS", 7)
    rows = unit_rows(50, 6)
    nearest = torch.cdist(rows, rows).sort(dim=1).values.numpy()
    x = np.sort(np.log(nearest[:, 2] / nearest[:, 1]))[:45]
    y = -np.log(1 - np.arange(1, 46) / 50)
    assert two_nn_dimension(rows) == pytest.approx((x @ y) / (x @ x), rel=1e-9)


def test_two_nn_leaves_copies_out():
    rows = unit_rows(300, 4)
    with_copies = torch.cat([rows, rows[:100]])
    assert two_nn_dimension(with_copies) == pytest.approx(two_nn_dimension(rows), rel=0.2)
    assert math.isnan(two_nn_dimension(rows[:1].expand(10, 4))) and math.isnan(two_nn_dimension(rows[:2]))


@pytest.mark.parametrize("channels", [1, 3])
def test_products_of_embedded_images_are_their_correlations(channels):
    x = pictures(4, channels, 32).reshape(4, -1) / 255
    rows = embed(torch.from_numpy(x))
    np.testing.assert_allclose(rows @ rows.T, np.corrcoef(x), atol=1e-12)
    brighter = embed(torch.from_numpy(0.5 * x + 0.2))
    torch.testing.assert_close(brighter, rows)


def test_constant_images_are_alike_and_like_no_other():
    x = torch.cat([torch.zeros(1, 64), torch.full((1, 64), 0.7), torch.rand(1, 64)]).double()
    rows = embed(x)
    torch.testing.assert_close(rows @ rows.T, torch.tensor([[1, 1, 0], [1, 1, 0], [0, 0, 1]]).double())


def test_copies_are_found_also_mirrored_and_across_blocks(monkeypatch):
    monkeypatch.setattr(diversity, "_ROWS", 4)
    x = pictures(10, 3, 32)
    noisy = (x[2] + np.random.RandomState(1).randint(-2, 3, x[2].shape)).clip(0, 255).astype(np.uint8)
    everything = np.stack([*x, x[0], x[1][:, :, ::-1], noisy, (0.8 * x[3] + 10).astype(np.uint8)])
    rows = embed(torch.from_numpy(everything.reshape(14, -1) / 255))
    near = copy_threshold(rows)
    assert 0.94 < near < 0.97 and distinct(rows, mirrored(rows, 3), near).tolist() == [True] * 10 + [False] * 4


def test_copies_must_be_closer_where_all_images_are_alike():
    base, own = torch.rand(1, 1024).double(), torch.rand(50, 1024).double()
    thresholds = [copy_threshold(embed(base + spread * own)) for spread in (10, 1, 0.3, 0.1, 0)]
    assert thresholds == sorted(thresholds) and 0.95 < thresholds[0] < 0.96 and thresholds[-1] == 0.998
    rows = embed(base + 0.3 * own)
    assert distinct(rows, torch.zeros_like(rows), thresholds[2]).all()


def test_a_chain_of_small_steps_is_more_than_one_image():
    angles = torch.arange(0, 90, 5) * math.pi / 180
    rows = torch.stack([angles.cos(), angles.sin()], dim=1)
    kept = distinct(rows, torch.zeros_like(rows), near=math.cos(math.radians(7)))
    assert kept.tolist() == [True, False] * 9


def test_msssim_is_the_mean_of_generated_pairs_beside_that_of_real_ones():
    real, fake = pictures(12, 3), pictures(9, 3, seed=1)
    value = msssim(image_inputs(real, fake), Request("msssim", 8))
    for end, images, pairs in (("", fake, 4), ("_real", real, 4)):
        assert value.results[f"msssim{end}"] == pytest.approx(mean_pair_ms_ssim([images[:2 * pairs]])[0])
        low, high = value.intervals[f"msssim{end}"]
        assert low < value.results[f"msssim{end}"] < high
    assert value.counts == {"real": 8, "fake": 8} and value.notes == ()
    assert value.results["msssim_ratio"] == pytest.approx(value.results["msssim"] / value.results["msssim_real"])
    with pytest.raises(UserError, match="--images"):
        msssim(image_inputs(real, fake[:1]), Request("msssim", 8))


def test_collapse_is_told_by_both_and_noise_too():
    real, alike = pictures(60), (0.8 * pictures(1) + 0.2 * pictures(60, seed=1)).astype(np.uint8)
    noise = np.random.RandomState(3).randint(0, 256, real.shape).astype(np.uint8)
    few = pictures(3, seed=4).repeat(20, axis=0)[np.random.RandomState(5).permutation(60)]
    for metric, images, words, above in (
        (msssim, alike, "more alike", True), (msssim, noise, "less alike", False),
        (vendi, few, "less varied", False), (vendi, noise, "more varied", True),
    ):
        value = metric(image_inputs(real, images), Request(metric.__name__, 60))
        assert len(value.notes) == 1 and words in value.notes[0]
        assert (value.results[f"{metric.__name__}_ratio"] > 1) == above
        assert metric(image_inputs(real, pictures(60, seed=1)), Request(metric.__name__, 60)).notes == ()


def test_vendi_is_that_of_correlations_at_equal_counts():
    real, fake = pictures(12), pictures(9, seed=1)
    value = vendi(image_inputs(real, fake), Request("vendi", 100))
    for end, images in (("", fake), ("_real", real[:9])):
        correlations = np.corrcoef(images.reshape(9, 1, 32, 2, 32, 2).mean(axis=(1, 3, 5)).reshape(9, -1))
        eigenvalues = np.linalg.eigvalsh(correlations / 9)
        assert value.results[f"vendi{end}"] == pytest.approx(np.exp(-(eigenvalues * np.log(eigenvalues)).sum()))
    assert value.counts == {"real": 9, "fake": 9}


@pytest.mark.parametrize(("n", "d"), [(200, 20), (40, 60)])
def test_error_of_vendi_is_the_spread_over_samples(n, d):
    """40 samples of n rows; the spread itself is known to about a tenth."""
    generator = torch.Generator().manual_seed(n)
    scales = torch.arange(1, d + 1, dtype=torch.float64) ** -1.0
    found = []
    for _ in range(40):
        x = torch.randn([n, d], generator=generator, dtype=torch.float64) * scales
        found.append(vendi_and_error(x / x.norm(dim=1, keepdim=True)))
    scores, errors = np.array(found).T
    assert 0.7 < errors.mean() / np.log(scores).std(ddof=1) < 1.6


def test_score_with_its_error_is_the_score():
    for rows in (unit_rows(30, 20), unit_rows(10, 20), unit_rows(1, 5).expand(6, 5)):
        assert vendi_and_error(rows)[0] == pytest.approx(vendi_score(rows))
    assert vendi_and_error(unit_rows(1, 5).expand(6, 5))[1] == pytest.approx(0, abs=1e-9)
