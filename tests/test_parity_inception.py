"""Features equal to those of torch-fidelity, from one set of random weights in both. Its numbers are frozen in
tests/golden/inception.npz, which test_inception.py compares with where the package is not installed."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from inception_weights import images, seeded_state_dict
from parity import torch_fidelity

from metrics.detectors.inception import open_inception
from metrics.detectors.inception_network import SIZE, TAPS
from metrics.detectors.tf1_resize import tf1_resize
from metrics.weights import WeightsFile

CPU = torch.device("cpu")
SIZES = [[32, 32], [299, 299], [512, 512], [500, 333]]


def extractor(path):
    """images to {tap: features} by torch-fidelity, and the names and shapes of its weights."""
    torch_fidelity()
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    module = FeatureExtractorInceptionV3("inception", list(TAPS), feature_extractor_weights_path=str(path)).eval()
    keys = [f"{name} {tuple(t.shape)}" for name, t in module.state_dict().items()]
    return torch.no_grad()(lambda x: dict(zip(TAPS, module(x), strict=True))), keys


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    torch_fidelity()
    path = tmp_path_factory.mktemp("weights") / "inception.pth"
    torch.save(seeded_state_dict(0), path)
    return path


@pytest.fixture(scope="module")
def theirs(path):
    return extractor(path)[0]


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "fused"])
def ours(request, path):
    return request.param, open_inception(WeightsFile("inception", path, "0" * 64, False), CPU, request.param).module


@pytest.mark.slow
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_features(theirs, ours, size):
    x = images(2, 3, *size, seed=5)
    fused, module = ours
    with torch.no_grad():
        found, expected = module(x, TAPS), theirs(x)
    for tap in TAPS:
        torch.testing.assert_close(found[tap], expected[tap], rtol=0, atol=1e-5 if fused else 0)


@pytest.mark.parametrize("size", [*SIZES, [1, 1], [2, 700]], ids=str)
def test_resize_is_equal_to_the_bit(size):
    torch_fidelity()
    from torch_fidelity.interpolate_compat_tensorflow import interpolate_bilinear_2d_like_tensorflow1x

    x = images(1, 3, *size)
    expected = interpolate_bilinear_2d_like_tensorflow1x(x.float(), size=(299, 299), align_corners=False)
    assert torch.equal(tf1_resize(x, SIZE), expected)


def freeze(folder):
    """Writes inception.npz: a part of the features of every tap, and the names and shapes of the weights."""
    weights = Path(folder) / "seed0.pth"
    torch.save(seeded_state_dict(0), weights)
    theirs, keys = extractor(weights)
    every = {"64": 1, "192": 3, "768": 7, "2048": 13, "logits_unbiased": 11, "logits": 11}
    arrays = {"meta": np.array(json.dumps({"sizes": SIZES, "every": every, "keys": keys}))}
    for size in SIZES:
        for tap, features in theirs(images(1, 3, *size)).items():
            arrays[f"{size[0]}x{size[1]}/{tap}"] = features[0, ::every[tap]].numpy()
    np.savez_compressed(Path(__file__).parent / "golden" / "inception.npz", **arrays)
