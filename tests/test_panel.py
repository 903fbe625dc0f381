import numpy as np
import pytest
import torch
from image_sets import ArraySet
from test_swd import textures

from metrics.detectors.pixels32 import open_pixels32, reduced_pixels
from metrics.inputs import MetricInputs, Request
from metrics.panel import pfd32
from torch_utils.errors import UserError

CPU = torch.device("cpu")
DETECTORS = {"pixels32": open_pixels32(CPU)}


def inputs(real, fake, batch=7, **kwargs):
    sets = (ArraySet(images, DETECTORS, batch) for images in (real, fake))
    return MetricInputs(*sets, DETECTORS.__getitem__, **kwargs)


def measure(real, fake, count=10**6, **kwargs):
    return pfd32(inputs(real, fake, **kwargs), Request("pfd32", count)).results


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
    real, fake = textures(9, 3), textures(9, 3, seed=1)
    assert measure(real, real)["pfd32"] == pytest.approx(0, abs=1e-6)
    assert measure(real, fake, batch=2) == measure(real, fake)


def test_counts_are_equal_and_told_and_one_image_is_refused():
    value = pfd32(inputs(textures(9), textures(6)), Request("pfd32", 6))
    assert value.counts == {"real": 6, "fake": 6, "floor": 3}
    with pytest.raises(UserError, match="--num"):
        measure(textures(4), textures(4), count=1)
