import pytest
import torch
from golden_data import Golden
from kernels import registration_is_sound
from torch.autograd import gradcheck, gradgradcheck

from torch_utils.ops.bias_act import ACTIVATIONS, bias_act

GOLDEN = Golden("bias_act")
SETTINGS = [
    {"act": "linear", "clamp": 0.7},
    {"act": "relu"},
    {"act": "lrelu"},
    {"act": "lrelu", "alpha": 0.1, "gain": 2.0, "clamp": 1.3},
    {"act": "lrelu", "alpha": -0.3, "clamp": 0.9},
    {"act": "lrelu", "gain": -1.5, "clamp": 0.9},
    {"act": "relu", "gain": 0.0},
    *[{"act": act, "clamp": 1.1} for act, spec in ACTIVATIONS.items() if spec.fn],
]


@pytest.mark.parametrize("i", range(len(GOLDEN.meta["cases"])))
def test_golden(i):
    x, b, dy, v = (GOLDEN[f"in/{i}/{name}"].requires_grad_() for name in ("x", "b", "dy", "v"))
    y = bias_act(x, b, **GOLDEN.meta["cases"][i])
    dx, db = torch.autograd.grad(y, [x, b], dy, create_graph=True)
    ddy, ddx = torch.autograd.grad((dx * v).sum(), [dy, x], materialize_grads=True)
    for name, value in {"y": y, "dx": dx, "db": db, "ddy": ddy, "ddx": ddx}.items():
        torch.testing.assert_close(value, GOLDEN[f"out/{i}/{name}"], rtol=0, atol=1e-9)


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
@pytest.mark.parametrize("with_bias", [True, False])
def test_derivatives(setting, with_bias):
    x = torch.randn(3, 4, 2, dtype=torch.float64, requires_grad=True)
    b = torch.randn(4, dtype=torch.float64, requires_grad=True)
    inputs = (x, b) if with_bias else (x,)
    assert gradcheck(lambda *a: bias_act(*a, **setting), inputs, fast_mode=True)
    assert gradgradcheck(lambda *a: bias_act(*a, **setting), inputs, fast_mode=True)


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_formula(setting):
    x, b = torch.randn(2, 5, 3, dtype=torch.float64), torch.randn(3, dtype=torch.float64)
    act = setting["act"]
    t = (x + b).numpy()
    slope = {"linear": 1, "relu": 0, "lrelu": setting.get("alpha", 0.2)}
    if act in slope:
        expected = torch.from_numpy(t.clip(min=0) + slope[act] * t.clip(max=0))
    else:
        expected = ACTIVATIONS[act].fn(x + b)
    expected = expected * setting.get("gain", ACTIVATIONS[act].gain)
    if "clamp" in setting:
        expected = expected.clamp(-setting["clamp"], setting["clamp"])
    torch.testing.assert_close(bias_act(x, b, dim=2, **setting), expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_no_gradient_where_the_clamp_holds_in_any_type(dtype):
    clamp = 181.0176  # not a number of float16 or bfloat16
    x = torch.tensor([[-4e3, -clamp, -1.0, 1.0, clamp, 4e3]], dtype=dtype, requires_grad=True)
    y = bias_act(x, act="linear", clamp=clamp)
    y.sum().backward()
    assert x.grad.tolist() == [[0, 0, 1, 1, 0, 0]]
    assert y.dtype == dtype


def test_zero_bound_of_smooth_activations_is_closed():
    x = torch.tensor([0.5], requires_grad=True)
    (dx,) = torch.autograd.grad(bias_act(x, dim=0, act="elu", clamp=0.5).sum(), x)
    assert dx.item() == 0


def test_nothing_to_do_returns_the_input():
    x = torch.randn(2, 3)
    assert bias_act(x) is x
    assert bias_act(x, clamp=1.0) is not x


@pytest.mark.parametrize("channels_last", [False, True])
def test_memory_format_is_kept(channels_last):
    x = torch.randn(2, 8, 4, 4)
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    x.requires_grad_()
    y = bias_act(x, torch.randn(8), act="lrelu", clamp=1.0)
    (dx,) = torch.autograd.grad(y, x, torch.ones_like(y))
    assert y.stride() == dx.stride() == x.stride()


def test_registrations_are_sound():
    x, b, y = torch.randn(2, 3, 4, 4), torch.randn(3), torch.randn(2, 3, 4, 4)
    for args in [(x, b, 1, 0.2, 1.4, 0.5), (x, None, 0, 0.0, 1.0, None), (x, b, 1, 1.0, 1.0, 0.5)]:
        registration_is_sound("bias_act", *args)
    for args in [(x, y, 0.2, 1.4, 0.5), (x, y, 1.0, 1.0, None)]:
        registration_is_sound("bias_act_grad", *args)
