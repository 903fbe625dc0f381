import math

import numpy as np
import pytest
import torch
from image_sets import ArraySet
from scipy import ndimage
from scipy.stats import wasserstein_distance
from test_swd import textures

from metrics.inputs import MetricInputs, Request
from metrics.plain import histograms, radial_spectra, radial_spectrum, spectrum, tone
from torch_utils.errors import UserError


def measure(metric, real, fake, count=10**6, batch=7):
    value = metric(MetricInputs(ArraySet(real, batch=batch), ArraySet(fake, batch=batch), {}.__getitem__),
                   Request(metric.__name__, count))
    return value.results


def test_tone_is_the_wasserstein_distance_of_all_pixels():
    real, fake = textures(6), (textures(5, seed=1) * 0.7).astype(np.uint8) + 20
    results = measure(tone, real, fake)
    assert results["tone"] == pytest.approx(wasserstein_distance(real.ravel(), fake.ravel()), rel=1e-5)
    for end, images in (("", fake), ("_real", real)):
        assert results[f"tone_mean{end}"] == pytest.approx(images.mean(), rel=1e-5)
        assert results[f"tone_std{end}"] == pytest.approx(images.std(), rel=1e-4)
    assert results["tone_floor"] == pytest.approx(wasserstein_distance(real[:3].ravel(), real[3:].ravel()), rel=1e-5)


def test_tone_sees_brightness_and_contrast_and_not_what_is_where():
    real, other = textures(40) // 2 + 60, textures(40, seed=1) // 2 + 60
    clean = measure(tone, real, other)
    assert measure(tone, real, real + 12)["tone"] == pytest.approx(12, abs=1e-4)
    flat = (128 + 0.6 * (other - 128.0)).astype(np.uint8)
    assert measure(tone, real, flat)["tone_ratio"] > 2 * clean["tone_ratio"]
    shuffled = np.random.RandomState(0).permutation(other.reshape(40, -1).T).T.reshape(other.shape)
    assert measure(tone, real, shuffled)["tone"] == pytest.approx(clean["tone"], rel=1e-6)


def test_histograms_are_of_luminance():
    colour = np.zeros([1, 3, 2, 2], np.uint8)
    colour[0, :, 0, 0] = 200, 100, 50
    found = histograms(colour)[0]
    level = round(0.299 * 200 + 0.587 * 100 + 0.114 * 50)
    assert float(found[level]) == 0.25 and float(found[0]) == 0.75 and float(found.sum()) == 1


def test_white_noise_has_its_variance_at_every_frequency():
    noise = np.random.RandomState(0).normal(128, 20, [200, 1, 32, 32]).clip(0, 255).astype(np.uint8)
    spectrum = radial_spectrum(iter([noise[:50], noise[50:]]))
    assert len(spectrum) == 16 and spectrum[1:] == pytest.approx([400] * 15, rel=0.1)


@pytest.mark.parametrize("cycles", [3, 7, 12])
def test_a_wave_stands_at_its_frequency(cycles):
    wave = 128 + 100 * np.sin(2 * np.pi * cycles * np.arange(32) / 32)
    images = np.broadcast_to(wave.astype(np.uint8), [2, 3, 32, 32])
    spectrum = radial_spectrum(iter([images.copy()]))
    assert int(np.argmax(spectrum)) == cycles - 1 and max(spectrum) > 1e3 * spectrum[(cycles + 6) % 16]


def test_power_of_a_real_gray_image_does_not_depend_on_its_form_or_batch():
    images = textures(3, 1, 64)
    found = radial_spectra(images)
    assert found.shape == (3, 45)
    torch.testing.assert_close(radial_spectra(images[1:2])[0], found[1])
    torch.testing.assert_close(radial_spectra(np.pad(images, [(0, 0), (0, 0), (0, 0), (8, 8)])), found)
    torch.testing.assert_close(radial_spectra(images.repeat(3, axis=1)), found)


def test_spectrum_tells_blur_from_noise_in_decibels():
    real, other = textures(40), textures(40, seed=1)
    clean = measure(spectrum, real, other)
    assert clean["spectrum"] < 1 and 0.3 < clean["spectrum_ratio"] < 3
    blurred = measure(spectrum, real, ndimage.gaussian_filter(other, (0, 0, 1, 1)))
    noisy = np.clip(other + 10 * np.random.RandomState(2).randn(*other.shape), 0, 255).astype(np.uint8)
    noisy = measure(spectrum, real, noisy)
    assert blurred["spectrum_fine"] < -5 < 5 < noisy["spectrum_fine"]
    assert min(blurred["spectrum_ratio"], noisy["spectrum_ratio"]) > 10
    flat = other // 2 + 50
    board = flat + (np.indices(other.shape)[2:].sum(0) % 2 * 10).astype(np.uint8)  # at the last frequencies alone
    assert measure(spectrum, real, board)["spectrum_fine"] > 1 + measure(spectrum, real, flat)["spectrum_fine"]
    half = (128 + (real - 128.0) / 2).astype(np.uint8)  # half the amplitude is a quarter of the power: 6 decibels
    assert measure(spectrum, real, half)["spectrum"] == pytest.approx(20 * math.log10(2), abs=1.5)
    assert measure(spectrum, real, other[..., ::-1, :].copy())["spectrum"] == pytest.approx(clean["spectrum"], rel=0.05)


@pytest.mark.parametrize("metric", [tone, spectrum])
def test_equal_sets_are_at_zero_batches_do_not_matter_and_counts_are_kept(metric):
    real, fake, name = textures(9, 3, 16), textures(7, 3, 16, seed=1), metric.__name__
    assert measure(metric, real, real)[name] == 0
    assert measure(metric, real, fake, batch=2) == pytest.approx(measure(metric, real, fake), rel=1e-6)
    value = metric(MetricInputs(ArraySet(real), ArraySet(fake), {}.__getitem__), Request(name, 6))
    assert value.counts == {"real": 6, "fake": 6, "floor": 3}
    constant = np.full([4, 1, 16, 16], 7, np.uint8)
    assert measure(metric, constant, constant)[name] == 0
    assert math.isnan(measure(metric, constant, constant)[f"{name}_ratio"])
    with pytest.raises(UserError, match="--data"):
        measure(metric, real[:1], fake)


def test_spectra_of_other_sizes_are_refused_and_tones_are_not():
    with pytest.raises(UserError, match="the real ones have 45 frequencies, the others 23"):
        measure(spectrum, textures(4), textures(4, resolution=32))
    assert measure(tone, textures(4), textures(4, resolution=32))["tone"] > 0
