"""VGG16, LPIPS and DINOv2 against the packages that published figures come from, with the same seeded weights.

The expected numbers in golden/vgg16.npz, golden/lpips.npz and golden/dinov2.npz are theirs, which is shown here.
"""

import types

import numpy as np
import pytest
import torch
from parity import torch_fidelity
from seeded_weights import (
    DINOV2,
    HIDDEN,
    WIDTHS,
    dinov2_inputs,
    golden_cases,
    lpips_images,
    seeded_images,
    seeded_state,
    shapes_of,
    small_dinov2,
    small_heads,
    small_vgg16,
    vgg16_images,
    weights_file,
)

from benchmarks.peers import let_torchvision_load
from metrics.detectors.vgg16 import VGG16, open_vgg16

CPU = torch.device("cpu")


def reduced_vgg():
    """torchvision's VGG16, as narrow as the small one."""
    from torchvision.models import vgg

    narrow = dict(zip((64, 128, 256, 512), WIDTHS, strict=False))
    layers = vgg.make_layers([item if item == "M" else narrow[item] for item in vgg.cfgs["D"]])
    network = vgg.VGG(layers, init_weights=False)
    network.classifier[0] = torch.nn.Linear(WIDTHS[-1] * 49, HIDDEN)
    network.classifier[3] = torch.nn.Linear(HIDDEN, HIDDEN)
    network.classifier[6] = torch.nn.Linear(HIDDEN, 10)
    return network


def reduced_head(width, use_dropout):
    """LPIPS's head of a stage that is 16 times narrower."""
    head = torch.nn.Module()
    head.model = torch.nn.Sequential(torch.nn.Dropout(), torch.nn.Conv2d(width // 16, 1, 1, bias=False))
    return head


def extractor(path):
    from torch_fidelity.feature_extractor_vgg16 import FeatureExtractorVGG16

    return FeatureExtractorVGG16("vgg16", ["fc2_relu"], feature_extractor_weights_path=str(path))


def test_vgg16(tmp_path, monkeypatch):
    torch_fidelity()
    import torchvision

    monkeypatch.setattr(torchvision.models, "vgg16", reduced_vgg)
    file = weights_file(tmp_path, "vgg16", small_vgg16())
    theirs = extractor(file.path)
    for size, golden in golden_cases("vgg16"):
        expected, = theirs(vgg16_images(size))
        tolerance = 1e-5 * float(expected.std())
        np.testing.assert_allclose(golden, expected, atol=tolerance)
        np.testing.assert_allclose(open_vgg16(file, CPU).rows(vgg16_images(size)), expected, atol=tolerance)


@pytest.mark.slow  # 550 MB of weights
def test_vgg16_as_wide_as_published(tmp_path):
    torch_fidelity()
    shapes = shapes_of(VGG16()) | {"classifier.6.weight": (1000, 4096), "classifier.6.bias": (1000,)}
    file = weights_file(tmp_path, "vgg16", seeded_state(shapes, seed=1))
    images = seeded_images((2, 3, 100, 100), seed=2)
    ours = open_vgg16(file, CPU).rows(images)
    expected, = extractor(file.path)(images)
    file.path.unlink()  # pytest keeps the folders of several runs
    np.testing.assert_allclose(ours, expected, atol=1e-5 * float(expected.max()))


def test_lpips(monkeypatch):
    torch_fidelity()
    from torch_fidelity import sample_similarity_lpips as module

    network = reduced_vgg()
    network.load_state_dict(small_vgg16())
    features = types.SimpleNamespace(features=network.features)
    monkeypatch.setattr(module, "torchvision_load_pretrained_vgg16", lambda: features)
    monkeypatch.setattr(module, "NetLinLayer", reduced_head)
    monkeypatch.setattr(module, "load_state_dict_from_url", lambda *args, **kwargs: small_heads())
    theirs = module.SampleSimilarityLPIPS("lpips")
    for size, golden in golden_cases("lpips"):
        np.testing.assert_allclose(golden, theirs(*lpips_images(size)), rtol=1e-5)


def test_dinov2():
    """Against the code that the weights were published with; the package dinov2 on PyPI holds it."""
    let_torchvision_load()
    published = pytest.importorskip("dinov2.models.vision_transformer", reason="the package dinov2 is not installed")
    width, depth, heads, grid, patch = DINOV2
    theirs = published.DinoVisionTransformer(img_size=grid * patch, patch_size=patch, embed_dim=width, depth=depth,
                                             num_heads=heads, init_values=1.0, block_chunks=0).eval()
    theirs.load_state_dict(small_dinov2())
    with torch.no_grad():
        for size, golden in golden_cases("dinov2"):
            np.testing.assert_allclose(golden, theirs(dinov2_inputs(size)), atol=1e-5)
