import pytest
import torch
from kernels import registration_is_sound
from torch.autograd import gradcheck, gradgradcheck

from torch_utils.ops.bias_act import bias_act
from torch_utils.ops.synthesis_act import synthesis_act

SETTINGS = [{"act": "lrelu", "clamp": 1.1}, {"act": "linear", "gain": 0.5}, {"act": "relu"}, {"act": "tanh"},
            {"act": "lrelu", "alpha": -0.2}]  # fmt: skip
PARTS = [("scale", "noise", "strength", "b"), ("scale",), ("b",), ("noise", "strength"), ("noise", "b"), ()]


def inputs(parts, dtype=torch.float64, layout=torch.contiguous_format, noise_batch=3):
    """x and those of scale, noise, strength and b that are named, all but the noise with gradients."""
    shapes = {"scale": [3, 4], "noise": [noise_batch, 1, 5, 6], "strength": [], "b": [4]}
    leaves = {name: torch.randn(shapes[name], dtype=torch.float64).requires_grad_(name != "noise") for name in parts}
    x = torch.randn(3, 4, 5, 6, dtype=dtype).contiguous(memory_format=layout).requires_grad_()
    return {"x": x} | leaves


def composed(x, scale=None, noise=None, strength=None, b=None, **setting):
    t = x if scale is None else x * scale[:, :, None, None]
    t = t if noise is None else t + (noise if strength is None else noise * strength)
    return bias_act(t, b, **setting)


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
@pytest.mark.parametrize("parts", PARTS, ids="-".join)
def test_equals_the_composition_to_the_second_order(setting, parts):
    found = []
    torch.manual_seed(1)
    given = inputs(parts)
    leaves = [t for t in given.values() if t.requires_grad]
    dy = torch.randn(3, 4, 5, 6, dtype=torch.float64, requires_grad=True)
    for function in (composed, synthesis_act):
        y = function(**given, **setting)
        first = torch.autograd.grad((y * dy).sum(), leaves, create_graph=True)
        penalty = sum(g.square().sum() for g in first)
        found.append([y, *first, *torch.autograd.grad(penalty, [dy, *leaves], materialize_grads=True)])
    for expected, actual in zip(*found, strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("parts", [PARTS[0], PARTS[1], PARTS[2]], ids="-".join)
def test_derivatives(parts):
    given = inputs(parts)
    names = [name for name, t in given.items() if t.requires_grad]

    def function(*leaves):
        return synthesis_act(**given | dict(zip(names, leaves, strict=True)), act="lrelu", clamp=1.5)

    leaves = [given[name] for name in names]
    assert gradcheck(function, leaves, fast_mode=True)
    assert gradgradcheck(function, leaves, fast_mode=True)


def test_one_noise_for_all_images():
    given = inputs(PARTS[0], noise_batch=1)
    expected = composed(**given, act="lrelu")
    torch.testing.assert_close(synthesis_act(**given, act="lrelu"), expected)
    flat = given | {"noise": given["noise"][0, 0]}
    torch.testing.assert_close(synthesis_act(**flat, act="lrelu"), expected)


def test_noise_may_have_a_gradient():
    given = inputs(PARTS[0])
    given["noise"].requires_grad_()
    (expected,) = torch.autograd.grad(composed(**given, act="lrelu").sum(), given["noise"])
    (actual,) = torch.autograd.grad(synthesis_act(**given, act="lrelu").sum(), given["noise"])
    torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_types_and_memory_formats(dtype, layout):
    given = inputs(PARTS[0], dtype, layout)
    y = synthesis_act(**given, act="lrelu", clamp=1.25)
    assert y.dtype == dtype and y.stride() == given["x"].stride()
    exact = synthesis_act(**given | {"x": given["x"].double()}, act="lrelu", clamp=1.25)
    eps = torch.finfo(dtype).eps
    assert (y.double() - exact).abs().max() < 20 * eps
    leaves = [given[name] for name in ("x", "scale", "strength", "b")]
    for actual, expected in zip(*(torch.autograd.grad(t.double().square().sum(), leaves) for t in (y, exact)),
                                strict=True):
        assert (actual - expected).abs().max() < 60 * max(eps, 1e-7) * expected.abs().max()


def test_nothing_to_do_returns_the_input():
    x = torch.randn(2, 3, 4, 4)
    assert synthesis_act(x) is x


def test_registrations_are_sound():
    from torch_utils.ops.native import OPERATORS

    for name in ("synthesis_act", "synthesis_act_grad"):
        for args in OPERATORS[name].examples(torch.device("cpu"), torch.float32):
            registration_is_sound(name, *args)
