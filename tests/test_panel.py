import numpy as np
import pytest
import torch
from image_sets import ArraySet
from test_swd import textures

from metrics.detectors.pixels32 import open_pixels32, reduced_pixels
from metrics.detectors.random_features import open_random_features
from metrics.fid import fid
from metrics.inputs import MetricInputs, Request
from metrics.neighbours import overlap
from metrics.panel import pfd32, prdc32, rfd
from torch_utils.errors import UserError

CPU = torch.device("cpu")
DETECTORS = {"pixels32": open_pixels32(CPU), "random_v1": open_random_features(CPU)}


def inputs(real, fake, batch=7, **kwargs):
    sets = (ArraySet(images, DETECTORS, batch) for images in (real, fake))
    return MetricInputs(*sets, DETECTORS.__getitem__, **kwargs)


def measure(real, fake, count=10**6, metric=pfd32, **kwargs):
    with torch.no_grad():
        return metric(inputs(real, fake, **kwargs), Request(metric.__name__, count)).results


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_pixels_are_reduced_by_block_means(channels):
    images = np.random.RandomState(0).randint(0, 256, [2, channels, 128, 128], dtype=np.uint8)
    x = reduced_pixels(iter([images]), CPU)
    assert x.shape == (2, channels * 1024) and x.dtype == torch.float64
    assert float(x[1, 33]) == pytest.approx(images[1, 0, 4:8, 4:8].mean() / 255)
    small = np.ascontiguousarray(images[:, :, :16, :16])
    x = reduced_pixels(iter([small]), CPU)
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
    real, fake = textures(9, 3, 16), textures(9, 3, 16, seed=1)
    assert measure(real, real)["pfd32"] == pytest.approx(0, abs=1e-6)
    assert measure(real, fake, batch=2) == measure(real, fake)


def test_counts_are_equal_and_told_and_one_image_is_refused():
    for metric in (pfd32, rfd):
        value = metric(inputs(textures(9), textures(6)), Request("name", 6))
        assert value.counts == {"real": 6, "fake": 6, "floor": 3}
        value = metric(inputs(textures(9), textures(12)), Request("name", 100, real_most=8))
        assert value.counts == {"real": 8, "fake": 8, "floor": 4}
        assert list(value.results) == ["name", "name_floor", "name_ratio"] and set(value.intervals) == {"name"}
        with pytest.raises(UserError, match="--num"):
            measure(textures(4), textures(4), count=1, metric=metric)


def test_distances_are_those_of_the_features_between_equally_many():
    real, fake = textures(12), textures(8, seed=1)
    both = inputs(real[:8], fake)
    for metric, detector in ((rfd, "random_v1"), (pfd32, "pixels32")):
        expected = fid(both, Request("fid", 8), detector=detector).results
        found = measure(real, fake, metric=metric)
        assert found[metric.__name__] == pytest.approx(expected["fid"], rel=1e-6)
        assert found[f"{metric.__name__}_floor"] == pytest.approx(expected["fid_floor"], rel=1e-6)


def test_prdc32_is_that_of_pixels_at_equal_counts():
    real, fake = textures(30), np.concatenate([textures(5, seed=1).repeat(3, axis=0), textures(5, seed=2)])
    results = measure(real, fake, metric=prdc32)
    rows = [DETECTORS["pixels32"].rows(torch.from_numpy(x)) for x in (real[:20], fake)]
    expected = overlap(*rows)
    for name in ("precision", "recall", "density", "coverage"):
        assert results[f"prdc32_{name}"] == getattr(expected, name)
        assert {f"prdc32_{name}_floor", f"prdc32_{name}_ratio"} <= set(results)
    with pytest.raises(UserError, match="at least 6 real"):
        measure(textures(5), textures(9), metric=prdc32)


def test_images_of_other_channels_or_sizes_are_refused_in_words():
    gray, colour, small = textures(8), textures(8, 3), textures(8, resolution=16)
    for other in (colour, small):
        for metric in (pfd32, prdc32):
            with pytest.raises(UserError, match=r"1024 numbers.*the others (3072|256)"):
                measure(gray, other, metric=metric)
    assert measure(gray, colour, metric=rfd)["rfd"] > 0


def test_random_features_see_detail_and_not_place():
    real, other = textures(60), textures(60, seed=1)
    clean = measure(real, other, metric=rfd)
    assert 0.7 < clean["rfd_ratio"] < 1.4
    noise = 15 * np.random.RandomState(2).randn(*other.shape)
    noisy = np.clip(other + noise, 0, 255).astype(np.uint8)
    assert measure(real, noisy, metric=rfd)["rfd_ratio"] > 3
    assert measure(real, other[..., ::-1].copy(), metric=rfd)["rfd_ratio"] < 1.6
    board = (np.indices(other.shape)[2:].sum(0) % 2 * 16).astype(np.uint8)
    assert measure(real, other // 2 + board, metric=rfd)["rfd_ratio"] > 10


@pytest.mark.parametrize("metric", [pfd32, rfd])
def test_copies_of_the_data_raise_an_alarm_and_new_images_do_not(metric):
    real = textures(80)
    for fake, alarmed in ((real, True), (textures(80, seed=1), False)):
        notes = metric(inputs(real, fake), Request("name", 1000)).notes
        assert any("measure memorization" in note for note in notes) == alarmed
