"""VGG16 as precision and recall use it; numbers of torch-fidelity for the same weights stand in golden/vgg16.npz."""

import numpy as np
import pytest
import torch
from seeded_weights import (
    HIDDEN,
    golden_cases,
    seeded_images,
    shapes_of,
    small_vgg16,
    vgg16_images,
    weights_file,
)

from metrics.detectors import vgg16
from metrics.detectors.base import as_rgb
from metrics.detectors.tf1_resize import tf1_resize
from metrics.detectors.vgg16 import VGG16, open_vgg16
from torch_utils.errors import UserError

CPU = torch.device("cpu")


@pytest.fixture
def opened(tmp_path):
    return open_vgg16(weights_file(tmp_path, "vgg16", small_vgg16()), CPU)


@pytest.mark.parametrize("size, expected", golden_cases("vgg16"))
def test_features_are_those_of_torch_fidelity(opened, size, expected):
    rows = opened.rows(vgg16_images(size))
    assert rows.dtype == torch.float32 and rows.shape == (2, HIDDEN)
    assert expected.std() > 0.1
    np.testing.assert_allclose(rows, expected, atol=1e-5 * expected.std())


def test_names_and_shapes_are_those_of_the_public_file():
    with torch.device("meta"):
        shapes = shapes_of(VGG16())
    convolutions = [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28]
    assert set(shapes) == ({f"features.{i}.{kind}" for i in convolutions for kind in ("weight", "bias")}
                           | {f"classifier.{i}.{kind}" for i in (0, 3) for kind in ("weight", "bias")})
    assert shapes["features.28.weight"] == (512, 512, 3, 3) and shapes["classifier.0.weight"] == (4096, 25088)
    last_layer = 1000 * 4096 + 1000
    assert sum(shape.numel() for shape in shapes.values()) + last_layer == 138_357_544  # as published


def test_the_last_layer_may_be_absent(opened, tmp_path):
    state = {name: tensor for name, tensor in small_vgg16().items() if not name.startswith("classifier.6")}
    images = seeded_images((1, 3, 32, 32), seed=3)
    other = open_vgg16(weights_file(tmp_path, "without", state), CPU)
    assert torch.equal(other.rows(images), opened.rows(images))


def test_an_image_alone_gives_its_row(opened):
    images = seeded_images((3, 3, 48, 48), seed=4)
    rows = opened.rows(images)
    assert (rows >= 0).all() and (rows > 0).any()
    torch.testing.assert_close(torch.cat([opened.rows(image[None]) for image in images]), rows, atol=1e-5, rtol=1e-5)


def test_gray_is_repeated_and_alpha_multiplied(opened):
    gray, color = seeded_images((2, 1, 40, 40), seed=5), seeded_images((2, 4, 40, 40), seed=6)
    torch.testing.assert_close(opened.rows(gray), opened.rows(gray.expand(-1, 3, -1, -1)))
    torch.testing.assert_close(opened.rows(color), opened.rows(as_rgb(color)))


def test_what_is_recorded(opened):
    assert opened.name == "vgg16" and opened.digest == "sha256:" + "0" * 64
    assert opened.about["layer"] == "fc2 after ReLU" and "224" in opened.about["resize"]


def test_weights_are_not_trained_and_not_held_twice(opened):
    assert not any(p.requires_grad for p in opened.module.parameters()) and not opened.module.training
    assert all(p.device.type == "cpu" for p in opened.module.parameters())


@pytest.mark.parametrize("change", [
    lambda state: state.pop("features.28.weight"),
    lambda state: state.pop("features.0.weight"),
    lambda state: state.pop("classifier.0.bias"),
    lambda state: state.update({"features.99.weight": torch.zeros(1)}),
    lambda state: state.update({"features.2.bias": torch.zeros(3)}),
])
def test_other_weights_are_refused_in_words(tmp_path, change):
    state = small_vgg16()
    change(state)
    with pytest.raises(UserError, match=r"other\.pth does not hold the weights .* published file"):
        open_vgg16(weights_file(tmp_path, "other", state), CPU)


def test_resize_of_tensorflow_by_hand():
    ramp = torch.tensor([[0, 30, 60], [90, 120, 150], [180, 210, 240]], dtype=torch.uint8)[None, None]
    # 3 pixels on 4 places: 0, 0.75, 1.5, 2.25, of which the last has nothing to its right
    places = torch.tensor([0, 0.75, 1.5, 2.0])
    assert torch.equal(tf1_resize(ramp, 4)[0, 0], places[:, None] * 90 + places * 30)
    assert torch.equal(tf1_resize(ramp, 3), ramp.float())


def test_resize_does_not_look_between_its_places():
    """Every second pixel is seen when an image is halved, whatever lies between: it aliases."""
    stripes = torch.zeros(1, 1, 8, 8)
    stripes[..., 1::2] = 255
    assert torch.equal(tf1_resize(stripes, 4), torch.zeros(1, 1, 4, 4))


def test_normalisation_is_that_of_imagenet():
    mean = torch.tensor(vgg16.MEAN)[:, None, None] * 255
    assert vgg16.normalized(mean[None]).abs().max() < 1e-6
    torch.testing.assert_close(vgg16.normalized((mean + 255 * torch.tensor(vgg16.STD)[:, None, None])[None]),
                               torch.ones(1, 3, 1, 1))
