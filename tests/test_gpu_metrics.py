"""Metrics on a CUDA device give what they give on the CPU: `pytest -m gpu` runs all of it."""

import numpy as np
import pytest
import torch
from brains import alike
from image_sets import feature_inputs, image_inputs
from inception_weights import seeded_state_dict
from seeded_weights import small_dinov2, small_heads, small_vgg16, weights_file

from metrics.detectors.dinov2 import open_dinov2
from metrics.detectors.inception import open_inception
from metrics.detectors.lpips import open_lpips
from metrics.detectors.pixels32 import open_pixels32
from metrics.detectors.random_features import open_random_features
from metrics.detectors.registry import full_precision
from metrics.detectors.vgg16 import open_vgg16
from metrics.names import parse
from metrics.table import compute
from metrics.weights import WeightsFile

pytestmark = pytest.mark.gpu
CPU, CUDA = torch.device("cpu"), torch.device("cuda")
IMAGES = torch.from_numpy(np.random.RandomState(0).randint(0, 256, [5, 3, 96, 96], dtype=np.uint8))


def inception(folder, device):
    path = folder / "inception.pth"
    if not path.exists():
        torch.save({name: torch.as_tensor(value) for name, value in seeded_state_dict().items()}, path)
    return open_inception(WeightsFile("inception", path, "0" * 64, False), device)


OPENERS = {
    "pixels32": lambda folder, device: open_pixels32(device),
    "random_v1": lambda folder, device: open_random_features(device),
    "inception": inception,
    "vgg16": lambda folder, device: open_vgg16(weights_file(folder, "vgg16", small_vgg16()), device),
    "dinov2": lambda folder, device: open_dinov2(weights_file(folder, "dinov2", small_dinov2()), device),
}


@pytest.mark.parametrize("name", OPENERS)
def test_features_are_those_of_the_cpu(tmp_path, name):
    with full_precision(), torch.no_grad():
        expected = OPENERS[name](tmp_path, CPU).rows(IMAGES)
        found = OPENERS[name](tmp_path, CUDA).rows(IMAGES.cuda())
    assert found.is_cuda and (found.cpu() - expected).abs().max() <= 1e-4 * expected.abs().max()


def test_lpips_is_that_of_the_cpu(tmp_path):
    files = weights_file(tmp_path, "vgg16", small_vgg16()), weights_file(tmp_path, "lpips", small_heads())
    a, b = IMAGES.float(), IMAGES.flip(3).float()
    with full_precision(), torch.no_grad():
        torch.testing.assert_close(open_lpips(*files, CUDA)(a.cuda(), b.cuda()).cpu(), open_lpips(*files, CPU)(a, b),
                                   rtol=1e-4, atol=0)


@pytest.mark.parametrize("name", ["fid300_full", "kid300_full", "pr3003_full", "dc3005_full", "fid300_inf"])
def test_arithmetic_is_that_of_the_cpu(name):
    random = np.random.RandomState(0)
    real, fake = random.randn(400, 64), 0.9 * random.randn(300, 64) + 0.1
    features = "vgg16" if name.startswith("pr") else "inception"
    found = [compute(parse(name), feature_inputs(real, fake, features, device=device))[0] for device in (CPU, CUDA)]
    assert found[1]["results"] == pytest.approx(found[0]["results"], rel=1e-6)


@pytest.mark.parametrize("name", ["swd", "rfd", "pfd32", "prdc32", "msssim", "vendi", "memorization"])
def test_images_are_measured_as_on_the_cpu(name):
    real, fake = alike(60, seed=1, size=64), alike(60, seed=2, size=64)
    found = [compute(parse(name), image_inputs(real, fake, device=device))[0]["results"] for device in (CPU, CUDA)]
    assert found[1] == pytest.approx(found[0], rel=1e-3, abs=1e-3)
