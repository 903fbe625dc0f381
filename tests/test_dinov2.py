"""DINOv2 and the resize before it; numbers of the published code for the same weights stand in golden/dinov2.npz."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from seeded_weights import DINOV2, dinov2_inputs, golden_cases, seeded_images, shapes_of, small_dinov2, weights_file

from metrics.detectors.base import as_rgb
from metrics.detectors.bicubic import pillow_bicubic
from metrics.detectors.dinov2 import DINOv2, open_dinov2
from metrics.detectors.vgg16 import normalized
from torch_utils.errors import UserError

CPU = torch.device("cpu")


def small_network(sizes=DINOV2):
    network = DINOv2(*sizes).eval().requires_grad_(False)
    network.load_state_dict({name: tensor for name, tensor in small_dinov2(sizes).items() if name != "mask_token"})
    return network


@pytest.mark.parametrize("size, expected", golden_cases("dinov2"))
def test_features_are_those_of_the_published_code(size, expected):
    assert expected.shape == (2, DINOV2[0]) and expected.std() > 0.1
    np.testing.assert_allclose(small_network()(dinov2_inputs(size)), expected, atol=1e-5)


def test_names_and_shapes_are_those_of_the_public_file():
    with torch.device("meta"):
        shapes = shapes_of(DINOv2())
    block = {f"{layer}.{kind}" for layer in ("norm1", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2")
             for kind in ("weight", "bias")} | {"ls1.gamma", "ls2.gamma"}
    around = {"cls_token", "pos_embed", "patch_embed.proj.weight", "patch_embed.proj.bias", "norm.weight", "norm.bias"}
    assert set(shapes) == around | {f"blocks.{i}.{name}" for i in range(24) for name in block}
    assert shapes["pos_embed"] == (1, 1370, 1024) and shapes["blocks.23.mlp.fc1.weight"] == (4096, 1024)
    assert sum(shape.numel() for shape in shapes.values()) + 1024 == 304_368_640  # with mask_token, as published


def test_positions_are_stored_ones_at_the_size_of_training_and_close_to_them_elsewhere():
    network = small_network()
    stored = network.pos_embed[:, 1:].transpose(1, 2).reshape(1, 48, 37, 37)
    assert torch.equal(network.positions(37, 37), stored)
    ramp = torch.linspace(0, 1, 37).expand(37, 37)  # over columns
    network.pos_embed[:, 1:] = ramp.reshape(1, -1, 1)
    found = network.positions(16, 16)[0, 0]
    # the places of 16 patches lie 37 / 16.1 apart, which is the published oddity, and begin half of that in
    places = ((torch.arange(16) + 0.5) * 37 / 16.1 - 0.5) / 36
    assert (found - places)[:, 1:-1].abs().max() < 2e-3  # torch's cubic bends straight lines by as much
    assert (found - places * 16.1 / 16)[:, 1:-1].abs().max() > 5e-3


def test_the_opener_reads_sizes_from_the_file(tmp_path):
    sizes = (128, 2, 2, 16, 14)
    opened = open_dinov2(weights_file(tmp_path, "dinov2", small_dinov2(sizes)), CPU)
    images = seeded_images((3, 3, 64, 64), seed=3)
    rows = opened.rows(images)
    assert rows.shape == (3, 128) and rows.dtype == torch.float32
    expected = small_network(sizes)(normalized(pillow_bicubic(images, 224).float()))
    torch.testing.assert_close(rows, expected)
    assert opened.name == "dinov2" and opened.digest.startswith("sha256:") and "Pillow" in opened.about["resize"]


def test_rows_of_any_images(tmp_path):
    opened = open_dinov2(weights_file(tmp_path, "dinov2", small_dinov2((64, 1, 1, 4, 14))), CPU)
    gray, color = seeded_images((2, 1, 20, 20), seed=4), seeded_images((2, 4, 20, 20), seed=5)
    torch.testing.assert_close(opened.rows(gray), opened.rows(gray.expand(-1, 3, -1, -1)))
    torch.testing.assert_close(opened.rows(color), opened.rows(as_rgb(color)))
    torch.testing.assert_close(torch.cat([opened.rows(image[None]) for image in color]), opened.rows(color),
                               atol=1e-5, rtol=1e-5)
    assert (opened.rows(color)[0] - opened.rows(color)[1]).abs().max() > 0.01


@pytest.mark.parametrize("change", [
    lambda state: state.pop("norm.weight"),
    lambda state: state.pop("pos_embed"),
    lambda state: state.pop("patch_embed.proj.weight"),
    lambda state: state.pop("blocks.0.ls1.gamma"),
    lambda state: state.update({"register_tokens": torch.zeros(1, 4, 64)}),
])
def test_other_weights_are_refused_in_words(tmp_path, change):
    state = small_dinov2((64, 1, 1, 4, 14))
    change(state)
    with pytest.raises(UserError, match=r"other\.pth does not hold the weights"):
        open_dinov2(weights_file(tmp_path, "other", state), CPU)


def by_pillow(images, size):
    resized = [Image.fromarray(image.permute(1, 2, 0).numpy()).resize((size, size), Image.Resampling.BICUBIC)
               for image in images]
    return torch.from_numpy(np.stack(resized)).permute(0, 3, 1, 2)


@settings(max_examples=25)
@given(length=st.integers(1, 300), size=st.integers(1, 120), black_and_white=st.booleans(), seed=st.integers(0, 999))
def test_resize_is_pillows_to_the_last_bit(length, size, black_and_white, seed):
    images = torch.from_numpy(np.random.RandomState(seed).randint(0, 256, (1, 3, length, length)).astype(np.uint8))
    images = (images > 127).to(torch.uint8) * 255 if black_and_white else images  # overshoots on both sides
    assert torch.equal(pillow_bicubic(images, size), by_pillow(images, size))


@pytest.mark.parametrize("length", [16, 64, 224, 256, 512, 1024])
def test_resize_is_pillows_at_the_sizes_in_use(length):
    images = seeded_images((1, 3, length, length), seed=6)
    assert torch.equal(pillow_bicubic(images, 224), by_pillow(images, 224))


@pytest.mark.slow
def test_the_published_size_runs():
    """1.2 GB: as large as the public file; its features differ between images, and follow from each alone."""
    with torch.device("meta"):
        network = DINOv2().eval().requires_grad_(False)
    network.to_empty(device="cpu")
    for name, parameter in network.named_parameters():
        if name.endswith(("weight", "pos_embed")) and "norm" not in name:
            parameter.normal_(0, 0.02)
        else:
            parameter.fill_(0.1)
    x = dinov2_inputs((224, 224))
    rows = network(x)
    assert rows.shape == (2, 1024) and (rows[0] - rows[1]).abs().max() > 0.01
    torch.testing.assert_close(network(x[1:]), rows[1:], atol=1e-4, rtol=1e-4)
