"""Inception 2015: its keys, its resize, its features, and the files that it is read from."""

import dataclasses

import numpy as np
import pytest
import torch
from golden_data import Golden
from hypothesis import given
from hypothesis import strategies as st
from inception_weights import images, seeded_state_dict
from torch import nn

from metrics.detectors.inception import in_our_names, open_inception
from metrics.detectors.inception_network import SIZE, STAGES, TAPS, Inception, Mixed
from metrics.detectors.tf1_resize import tf1_resize
from metrics.weights import WeightsFile
from torch_utils.errors import UserError

CPU = torch.device("cpu")
GOLDEN = Golden("inception")


def saved(state, path):
    torch.save(state, path)
    return WeightsFile("inception", path, "0" * 64, False)


@pytest.fixture(scope="module")
def state():
    return seeded_state_dict(0)


@pytest.fixture(scope="module")
def file(state, tmp_path_factory):
    return saved(state, tmp_path_factory.mktemp("weights") / "inception.pth")


@pytest.fixture(scope="module")
def detector(file):
    return open_inception(file, CPU)


@pytest.fixture(scope="module")
def exact(file):
    return open_inception(file, CPU, fused=False)


def by_hand(image):
    """The resize of one channel [H,W] as its definition says, in float64, a pixel at a time."""
    height, width = image.shape
    result = np.empty([299, 299])
    for i in range(299):
        for j in range(299):
            y, x = i * height / 299, j * width / 299
            top, left = int(y), int(x)
            bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
            row = [(1 - x + left) * image[k, left] + (x - left) * image[k, right] for k in (top, bottom)]
            result[i, j] = (1 - y + top) * row[0] + (y - top) * row[1]
    return result


@pytest.mark.parametrize("size", [(3, 3), (40, 700)])
def test_resize_by_hand(size):
    image = images(1, 1, *size)
    rounding = 255 * max(size) * 2**-23  # of places in float32, as in TensorFlow
    expected = by_hand(image[0, 0].double().numpy())
    np.testing.assert_allclose(tf1_resize(image, SIZE)[0, 0].numpy(), expected, rtol=0, atol=rounding)


@given(st.integers(1, 400), st.integers(1, 400), st.integers(0, 255))
def test_resize_of_a_constant_is_constant(height, width, value):
    image = torch.full([1, 1, height, width], value, dtype=torch.uint8)
    assert (tf1_resize(image, SIZE) == value).all()


def test_resize_keeps_images_of_the_right_size():
    image = images(1, 3, 299, 299)
    assert torch.equal(tf1_resize(image, SIZE), image.float())


def test_keys():
    """566 as published: six of each of 94 convolutions, and two of the last layer."""
    with torch.device("meta"):
        state = Inception().state_dict()
    assert sorted(f"{name} {tuple(t.shape)}" for name, t in state.items()) == sorted(GOLDEN.meta["keys"])
    assert len(state) == 94 * 6 + 2 == 566


def test_golden_features(detector, exact):
    """Those of torch-fidelity 0.4.0 for the same weights, at every tap."""
    for size in GOLDEN.meta["sizes"]:
        x = images(1, 3, *size)
        with torch.no_grad():
            found = {False: exact.module(x, TAPS), True: detector.module(x, TAPS)}
        for tap in TAPS:
            expected = GOLDEN[f"{size[0]}x{size[1]}/{tap}"]
            step = GOLDEN.meta["every"][tap]
            for fused, features in found.items():
                torch.testing.assert_close(features[tap][0, ::step], expected, rtol=0, atol=1e-5, msg=f"{tap} {fused}")


def test_fused_is_the_same_within_rounding(detector, exact):
    x = images(2, 3, 64, 80, seed=1)
    torch.testing.assert_close(detector.rows(x), exact.rows(x), rtol=0, atol=1e-5)
    units = sum(isinstance(module, nn.BatchNorm2d) for module in exact.module.modules())
    assert units == 94 and not any(isinstance(module, nn.BatchNorm2d) for module in detector.module.modules())


def test_rows(detector):
    x = images(9, 3, 40, 24, seed=2)
    rows = detector.rows(x)
    assert rows.shape == (9, 2048) and rows.dtype == torch.float32 and not rows.requires_grad
    torch.testing.assert_close(rows[4:5], detector.rows(x[4:5]), rtol=0, atol=1e-5)  # each depends on its image alone
    assert (rows[0] - rows[1]).abs().max() > 1e-2
    assert detector.digest == "sha256:" + "0" * 64 and detector.name == "inception-2015-12-05"


def test_gray_and_transparent_images(detector):
    gray = images(1, 1, 50, 60, seed=3)
    rows = detector.rows(gray)
    torch.testing.assert_close(rows, detector.rows(gray.repeat(1, 3, 1, 1)), rtol=0, atol=1e-5)
    opaque = torch.cat([gray.repeat(1, 3, 1, 1), torch.full_like(gray, 255)], dim=1)
    torch.testing.assert_close(rows, detector.rows(opaque), rtol=0, atol=1e-5)


def test_logits_follow_from_rows(exact):
    x = images(1, 3, 32, 32)
    with torch.no_grad():
        found = exact.module(x, ["2048", "logits_unbiased", "logits"])
        only = exact.module(x, ["64"])
    torch.testing.assert_close(found["2048"] @ exact.module.fc.weight.T, found["logits_unbiased"])
    torch.testing.assert_close(found["logits"] - found["logits_unbiased"], exact.module.fc.bias[None])
    assert list(only) == ["64"]


def published_script_names(state):
    """The tensors under the names of the public TorchScript file, spelled out; its normalisation has no scale."""
    places = dict(zip(["Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "Conv2d_3b_1x1", "Conv2d_4a_3x3"],
                      ["conv", "conv_1", "conv_2", "conv_3", "conv_4"], strict=True))
    blocks = {step.name: f"mixed_{i}" if i else "mixed" for i, step in enumerate(
        step for steps in STAGES.values() for step in steps if isinstance(step, Mixed))}
    line = ["conv", "conv_1", "conv_2", "conv_3", "conv_4"]
    kinds = {
        "5": {"branch1x1": "conv", "branch5x5_": "tower", "branch3x3dbl_": "tower_1", "branch_pool": "tower_2.conv"},
        "6a": {"branch3x3": "conv", "branch3x3dbl_": "tower"},
        "6": {"branch1x1": "conv", "branch7x7_": "tower", "branch7x7dbl_": "tower_1", "branch_pool": "tower_2.conv"},
        "7a": {"branch3x3_": "tower", "branch7x7x3_": "tower_1"},
    }
    last = {"branch1x1": "conv", "branch3x3_1": "tower_conv", "branch3x3_2a": "tower_mixed_conv",
            "branch3x3_2b": "tower_mixed_conv_1", "branch3x3dbl_1": "tower_1_conv", "branch3x3dbl_2": "tower_1_conv_1",
            "branch3x3dbl_3a": "tower_1_mixed_conv", "branch3x3dbl_3b": "tower_1_mixed_conv_1",
            "branch_pool": "tower_2_conv"}

    def place(unit):
        if unit in places:
            return places[unit]
        block, branch = unit.split(".")
        kind = block.removeprefix("Mixed_")
        if kind in ("7b", "7c"):
            return f"{blocks[block]}.{last[branch]}"
        table = kinds[kind if kind in kinds else kind[0]]
        if branch in table:
            return f"{blocks[block]}.{table[branch]}"
        stem, number = branch[:-1], int(branch[-1])
        return f"{blocks[block]}.{table[stem]}.{line[number - 1]}"

    found = {"output.weight": state["fc.weight"], "output.bias": state["fc.bias"]}
    parts = {"conv.weight": "weight", "bn.bias": "beta", "bn.running_mean": "mean", "bn.running_var": "var"}
    for name, tensor in state.items():
        unit, part = name.rsplit(".", 2)[0], ".".join(name.rsplit(".", 2)[1:])
        if part in parts:
            found[f"layers.{place(unit)}.{parts[part]}"] = tensor
    return found


def without_scale(state):
    return {name: torch.ones_like(t) if name.endswith("bn.weight") else t for name, t in state.items()}


def test_names_of_the_public_torchscript_file(state):
    names = published_script_names(state)
    assert len(names) == 94 * 4 + 2 and "layers.mixed_9.tower_1_mixed_conv_1.weight" in names
    found, expected = in_our_names(names), without_scale(state)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert in_our_names(state) == state


class Tree(nn.Module):
    """Modules with tensors at dotted names, and code of its own that must not run."""

    def __init__(self, tensors):
        super().__init__()
        for name in dict.fromkeys(name.split(".")[0] for name in tensors):
            inner = {key.split(".", 1)[1]: t for key, t in tensors.items() if key.startswith(f"{name}.")}
            if inner:
                self.add_module(name, Tree(inner))
            else:
                self.register_buffer(name, tensors[name])

    def forward(self, x):
        assert bool(x.sum() < 0), "this code is not to be run"
        return x


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_torchscript_file(state, tmp_path):
    path = tmp_path / "inception.pt"
    torch.jit.save(torch.jit.script(Tree(published_script_names(state))), path)
    opened = open_inception(WeightsFile("inception", path, "1" * 64, False), CPU, fused=False)
    expected = without_scale(state)
    assert all(torch.equal(t, expected[name]) for name, t in opened.module.state_dict().items())


@pytest.mark.parametrize("change, what", [
    (lambda state: state.pop("Mixed_6c.branch7x7_2.conv.weight"), "Mixed_6c.branch7x7_2.conv.weight"),
    (lambda state: state.update({"AuxLogits.fc.bias": torch.zeros(1000)}), "AuxLogits.fc.bias"),
    (lambda state: state.update({"fc.weight": torch.zeros(1000, 2048)}), "fc.weight"),
])
def test_other_weights_are_refused(state, tmp_path, change, what):
    changed = dict(state)
    change(changed)
    small = {name: t if name == what else t.new_zeros(()).expand(t.shape) for name, t in changed.items()}
    with pytest.raises(UserError) as error:
        open_inception(saved(small, tmp_path / "other.pth"), CPU)
    assert "other.pth" in error.value.message and what in error.value.message


def test_half_precision_weights_are_read(state, tmp_path):
    half = {name: t.half() if t.is_floating_point() else t for name, t in state.items()}
    opened = open_inception(dataclasses.replace(saved(half, tmp_path / "half.pth"), sha256="2" * 64), CPU, fused=False)
    assert all(t.dtype == torch.float32 for t in opened.module.parameters())
