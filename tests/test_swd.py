import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from image_sets import ArraySet
from scipy import ndimage
from scipy.stats import wasserstein_distance

from metrics import swd as module
from metrics.inputs import MetricInputs, Request
from metrics.swd import channel_moments, laplacian_pyramid, patches_of, sliced_wasserstein, sorted_projections, swd
from torch_utils.errors import UserError

CPU = torch.device("cpu")


def textures(n, channels=1, resolution=64, seed=0):
    """Blobs of random places with a little texture: images with something to say at every scale."""
    rng = np.random.RandomState(seed)
    coarse = ndimage.gaussian_filter(rng.randn(n, channels, resolution, resolution), (0, 0, 8, 8)) * 700
    fine = ndimage.gaussian_filter(rng.randn(n, channels, resolution, resolution), (0, 0, 1, 1)) * 60
    return np.clip(128 + coarse + fine, 0, 255).astype(np.uint8)


def inputs(real, fake, batch=16, **kwargs):
    def no_detector(name):
        raise AssertionError(f"swd needs no {name}")

    return MetricInputs(ArraySet(real, batch=batch), ArraySet(fake, batch=batch), no_detector, **kwargs)


def measure(real, fake, count=10**6, **kwargs):
    return swd(inputs(real, fake, **kwargs), Request("swd", count)).results


def pyramid_by_scipy(image):
    kernel = np.outer([1, 4, 6, 4, 1], [1, 4, 6, 4, 1]) / 256
    levels = {}
    while len(image) > 16:
        smaller = ndimage.convolve(image, kernel, mode="mirror")[::2, ::2]
        spread = np.zeros_like(image)
        spread[::2, ::2] = smaller
        levels[len(image)] = image - ndimage.convolve(spread, kernel * 4, mode="mirror")
        image = smaller
    return levels | {len(image): image}


def test_pyramid_is_that_of_the_textbook():
    image = np.random.RandomState(0).rand(64, 64) * 255
    levels = laplacian_pyramid(torch.from_numpy(image)[None, None])
    assert list(levels) == [64, 32, 16]
    for res, expected in pyramid_by_scipy(image).items():
        np.testing.assert_allclose(levels[res][0, 0].numpy(), expected, atol=1e-9)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_patches_are_windows_of_the_pyramid(channels):
    images = textures(2, channels, 32)
    patches = patches_of(iter([images]), 2, CPU, seed=0)
    level = laplacian_pyramid(torch.from_numpy(images).float())[32].half()
    windows = level.unfold(2, 7, 1).unfold(3, 7, 1)[1]  # [C, 26, 26, 7, 7]
    known = {w.numpy().tobytes() for w in windows.permute(1, 2, 0, 3, 4).flatten(0, 1).contiguous()}
    of_second = patches[32][module.PATCHES_PER_IMAGE:]
    assert of_second.shape == (128, channels, 49)
    assert all(p.contiguous().numpy().tobytes() in known for p in of_second)
    assert len({p.contiguous().numpy().tobytes() for p in of_second}) > 60


@settings(max_examples=10)
@given(st.integers(0, 2**31), st.sampled_from([1, 3]), st.floats(-3, 3), st.floats(0.2, 5))
def test_distance_is_the_mean_of_scipys_wasserstein_distances(seed, channels, shift, gain):
    rng = np.random.RandomState(seed)
    a, b = rng.randn(2, 40, channels, 5)
    b = np.sign(b) * np.abs(b) ** gain + shift

    def normalise(x):
        return ((x - x.mean((0, 2), keepdims=True)) / x.std((0, 2), keepdims=True)).reshape(len(x), -1)

    expected = []
    for repeat in range(module.REPEATS):
        generator = torch.Generator().manual_seed(module.derive_seed(seed, "swd directions", repeat))
        for direction in torch.randn([channels * 5, module.DIRECTIONS], generator=generator).numpy().T:
            unit = direction / np.linalg.norm(direction)
            expected.append(wasserstein_distance(normalise(a) @ unit, normalise(b) @ unit))
    actual = sliced_wasserstein(torch.from_numpy(a), torch.from_numpy(b), CPU, seed)
    assert actual == pytest.approx(np.mean(expected), rel=1e-4, abs=1e-6)


def test_projections_are_of_unit_variance_whatever_the_gain_of_a_channel():
    patches = torch.randn(20000, 2, 4) * torch.tensor([[3.0], [80.0]]) + torch.tensor([[1.0], [-50.0]])
    mean, std = channel_moments(patches)
    np.testing.assert_allclose(std.flatten(), [3, 80], rtol=0.02)
    projected = sorted_projections(patches, (mean, std), torch.eye(8)[:, :3])
    np.testing.assert_allclose(projected.std(dim=1), 1, rtol=0.03)
    assert (projected.diff(dim=1) >= 0).all()


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_equal_sets_are_at_distance_zero_in_any_number_of_channels(channels):
    images = textures(8, channels, 32)
    results = measure(images, images)
    assert set(results) == {"swd", "swd_32", "swd_16", "swd_floor", "swd_ratio"}
    assert results["swd"] == results["swd_32"] == results["swd_16"] == 0
    assert results["swd_floor"] > 0 and results["swd_ratio"] == 0


def test_an_opaque_alpha_channel_adds_nothing_but_is_no_obstacle():
    real, fake = textures(8, 3, 32), textures(8, 3, 32, seed=1)
    opaque = np.full([8, 1, 32, 32], 255, np.uint8)
    results = measure(np.concatenate([real, opaque], 1), np.concatenate([fake, opaque], 1))
    assert math.isfinite(results["swd"]) and results["swd"] > 0


def test_brightness_and_contrast_are_not_seen():
    real = textures(16) // 4
    assert measure(real, 3 * real + 20)["swd"] < 0.01 * measure(real, textures(16, seed=1))["swd"]


def test_each_damage_moves_the_levels_that_it_touches():
    real, other = textures(64), textures(64, seed=1)
    noise = np.random.RandomState(2).randn(*other.shape) * 20
    noisy = np.clip(other + noise, 0, 255).astype(np.uint8)
    blurred = ndimage.gaussian_filter(other, (0, 0, 1.5, 1.5))
    clean, noisy, blurred = (measure(real, images) for images in (other, noisy, blurred))
    assert noisy["swd_64"] > 3 * clean["swd_64"] and noisy["swd_16"] < 1.5 * clean["swd_16"]
    assert blurred["swd_64"] > 3 * clean["swd_64"] and blurred["swd_16"] < 1.5 * clean["swd_16"]
    assert 0.5 < clean["swd_ratio"] < 1.5 and noisy["swd_ratio"] > 1.5


def test_collapse_to_few_images_shows_at_the_coarse_level():
    real, few = textures(64), textures(2, seed=1).repeat(32, axis=0)
    results, clean = measure(real, few), measure(real, textures(64, seed=1))
    assert results["swd_16"] > 2 * clean["swd_16"]


def test_result_depends_on_seed_and_images_but_not_on_batches():
    real, fake = textures(11, 3, 32), textures(11, 3, 32, seed=1)
    results = measure(real, fake)
    assert measure(real, fake) == results
    assert measure(real, fake, batch=1) == results
    assert measure(real, fake, batch=7) == results
    other = measure(real, fake, seed=1)
    assert other != results and other["swd"] == pytest.approx(results["swd"], rel=0.2)


def test_counts_are_equal_and_told():
    value = swd(inputs(textures(9, resolution=16), textures(6, resolution=16)), Request("swd", 100))
    assert value.counts == {"real": 6, "fake": 6, "floor": 3}
    value = swd(inputs(textures(5, resolution=16), textures(6, resolution=16)), Request("swd", 6))
    assert value.counts == {"real": 5, "fake": 5, "floor": 2}
    few = swd(inputs(textures(9, resolution=16), textures(9, resolution=16, seed=1)), Request("swd3", 9, real_most=3))
    assert few.counts == {"real": 3, "fake": 3, "floor": 1}
    assert list(few.results) == ["swd3", "swd3_16", "swd3_floor", "swd3_ratio"]
    mirrored = swd(inputs(textures(9, resolution=16), textures(6, resolution=16)), Request("swd", 6, mirror=True))
    assert list(mirrored.results) == ["swd", "swd_16"] and mirrored.counts["floor"] == 0


def test_images_smaller_than_the_smallest_level_are_one_level():
    assert set(measure(textures(4, resolution=8), textures(4, resolution=8, seed=1))) >= {"swd_8", "swd"}


@pytest.mark.parametrize("shape", [(1, 16, 32), (1, 24, 24), (3, 4, 4)])
def test_images_without_a_pyramid_are_refused(shape):
    images = np.zeros([4, *shape], np.uint8)
    with pytest.raises(UserError, match=f"these are {shape[2]}x{shape[1]}"):
        measure(images, images)


@pytest.mark.parametrize("other", [(3, 32), (1, 16)])
def test_images_of_other_size_or_channels_are_refused(other):
    with pytest.raises(UserError, match=r"the real ones are 32x32 with 1.*the others 16x16 with 1|with 3"):
        measure(textures(4, 1, 32), textures(4, *other))


def test_images_of_several_sizes_are_refused():
    mixed = ArraySet(textures(4))
    mixed.images = lambda count: iter([textures(2), textures(2, resolution=32)])
    with pytest.raises(UserError, match="64x64 with 1 channels and 32x32 with 1 channels"):
        swd(MetricInputs(mixed, mixed, {}.__getitem__), Request("swd", 4))


def test_a_single_image_is_refused():
    with pytest.raises(UserError, match="--num"):
        measure(textures(4, resolution=16), textures(4, resolution=16), count=1)


def test_sets_of_one_kind_are_as_near_as_halves_of_one():
    """On average: the ratio is fair, and chance is about what it is said to be."""
    found = [swd(inputs(textures(48, resolution=16, seed=2 * i), textures(48, resolution=16, seed=2 * i + 1)),
                 Request("swd", 48)) for i in range(10)]
    assert np.mean([value.results["swd_ratio"] for value in found]) == pytest.approx(1, abs=0.08)
    mean = np.mean([value.results["swd"] for value in found])
    held = [low <= mean <= high for low, high in (value.intervals["swd"] for value in found)]
    assert sum(held) >= 7 and sum(bool(value.notes) for value in found) <= 1


def test_copies_raise_the_alarm():
    images = textures(96, resolution=16)
    copies = np.clip(images + np.random.RandomState(0).normal(0, 2, images.shape), 0, 255).astype(np.uint8)
    found = swd(inputs(images, copies), Request("swd", 96))
    assert "copies of training images" in found.notes[0] and found.results["swd_ratio"] < 0.5
    assert not swd(inputs(images[:12], copies[:12]), Request("swd", 12)).intervals  # too few to say
