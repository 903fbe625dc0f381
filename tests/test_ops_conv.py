import pytest
import torch
import torch.nn.functional as F
from golden_data import Golden
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck, gradgradcheck

from torch_utils.ops import modulated_conv
from torch_utils.ops.conv2d_resample import conv2d_resample
from torch_utils.ops.modulated_conv import modulated_conv2d
from torch_utils.ops.upfirdn2d import down_padding, setup_filter, up_padding, upfirdn2d

GOLDEN = Golden("conv2d_resample")
FILTER = setup_filter([1, 3, 3, 1])


def in_plain_order(x, w, f, up, down, padding, groups=1, flip_weight=True):
    """Upsample, convolve, downsample, one after the other."""
    pad = [padding] * 4
    if up > 1:
        pad = [a + b for a, b in zip(pad, up_padding(f, up), strict=True)]
    if down > 1:
        pad = [a + b for a, b in zip(pad, down_padding(f, down), strict=True)]
    x = upfirdn2d(x, f if up > 1 else None, up=up, padding=pad, gain=up**2)
    x = F.conv2d(x, w if flip_weight else w.flip([2, 3]), groups=groups)
    return upfirdn2d(x, f if down > 1 else None, down=down)


@pytest.mark.parametrize("i", range(len(GOLDEN.meta["cases"])))
def test_golden(i):
    case = dict(GOLDEN.meta["cases"][i])
    case.pop("kernel")
    x, w = (GOLDEN[f"in/{i}/{name}"].requires_grad_() for name in ("x", "w"))
    y = conv2d_resample(x, w, FILTER, **case)
    dx, dw = torch.autograd.grad(y, [x, w], GOLDEN[f"in/{i}/dy"])
    for name, value in {"y": y, "dx": dx, "dw": dw}.items():
        torch.testing.assert_close(value, GOLDEN[f"out/{i}/{name}"], rtol=0, atol=1e-9)


@settings(max_examples=100)
@given(
    kernel=st.sampled_from([1, 2, 3, 5]), up=st.integers(1, 3), down=st.integers(1, 3), padding=st.integers(0, 3),
    groups=st.sampled_from([1, 2]), flip_weight=st.booleans(),
    taps=st.sampled_from([None, [1, 1], [1, 3, 3, 1], [1, 2, 4]]),
)  # fmt: skip
def test_cheap_orders_equal_the_plain_order(kernel, up, down, padding, groups, flip_weight, taps):
    x = torch.randn(2, 4, 7, 9, dtype=torch.float64)
    w = torch.randn(6, 4 // groups, kernel, kernel, dtype=torch.float64)
    f = setup_filter(taps)
    args = {"up": up, "down": down, "padding": padding, "groups": groups, "flip_weight": flip_weight}
    torch.testing.assert_close(conv2d_resample(x, w, f, **args), in_plain_order(x, w, f, **args), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("kernel", "up", "down"), [(3, 1, 1), (3, 2, 1), (3, 1, 2), (1, 2, 1), (1, 1, 2), (3, 2, 2)])
def test_conv2d_resample_is_twice_differentiable(kernel, up, down):
    x = torch.randn(2, 2, 4, 4, dtype=torch.float64, requires_grad=True)
    w = torch.randn(3, 2, kernel, kernel, dtype=torch.float64, requires_grad=True)
    function = lambda x, w: conv2d_resample(x, w, FILTER, up, down, kernel // 2)  # noqa: E731
    assert gradcheck(function, (x, w), fast_mode=True)
    assert gradgradcheck(function, (x, w), fast_mode=True)


def by_definition(x, weight, styles, demodulate, **args):
    """One sample after the other, with the weights of the paper's equations 1 and 3."""
    images = []
    for image, s in zip(x, styles, strict=True):
        w = weight * s[None, :, None, None]
        if demodulate:
            w = w / (w.square().sum([1, 2, 3], keepdim=True) + 1e-8).sqrt()
        images.append(conv2d_resample(image[None], w, FILTER, **args))
    return torch.cat(images)


@pytest.mark.parametrize("demodulate", [True, False])
@pytest.mark.parametrize(("kernel", "up", "down"), [(3, 1, 1), (3, 2, 1), (3, 1, 2), (1, 1, 1)])
@pytest.mark.parametrize("flip_weight", [True, False])
def test_modulated_conv_is_the_definition(kernel, up, down, demodulate, flip_weight):
    x = torch.randn(3, 4, 6, 6, dtype=torch.float64)
    weight, styles = torch.randn(5, 4, kernel, kernel, dtype=torch.float64), torch.randn(3, 4, dtype=torch.float64)
    args = {"up": up, "down": down, "padding": kernel // 2, "flip_weight": flip_weight}
    expected = by_definition(x, weight, styles, demodulate, **args)
    noise = torch.randn(3, 1, *expected.shape[2:], dtype=torch.float64)
    y = modulated_conv2d(x, weight, styles, noise, resample_filter=FILTER, demodulate=demodulate, **args)
    torch.testing.assert_close(y, expected + noise, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("up", "demodulate"), [(1, True), (2, True), (1, False)])
def test_modulated_conv_is_twice_differentiable(up, demodulate):
    shapes = [(2, 2, 3, 3), (3, 2, 3, 3), (2, 2)]
    inputs = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    function = lambda x, w, s: modulated_conv2d(x, w, s, None, up, 1, 1, FILTER, demodulate)  # noqa: E731
    assert gradcheck(function, inputs, fast_mode=True)
    assert gradgradcheck(function, inputs, fast_mode=True)


@pytest.mark.parametrize("style_scale", [1e-6, 1.0, 1e6])
def test_float16_does_not_overflow(style_scale):
    x = torch.randn(2, 256, 8, 8) * 200
    weight, styles = torch.randn(8, 256, 3, 3) * 1e3, torch.randn(2, 256).abs() * style_scale
    expected = modulated_conv2d(x.double(), weight.double(), styles.double(), padding=1)
    y = modulated_conv2d(x.half(), weight, styles, padding=1)
    assert y.dtype == torch.float16
    assert (y - expected).abs().max() < 2e-2 * expected.abs().max()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_short_types_have_the_same_gradients(dtype):
    x, weight, styles = torch.randn(2, 8, 6, 6), torch.randn(4, 8, 3, 3), torch.randn(2, 8)
    direction = torch.randn(2, 4, 12, 12)
    gradients = []
    for x_type in (torch.float32, dtype):
        leaves = [t.clone().requires_grad_() for t in (x, weight, styles)]
        y = modulated_conv2d(leaves[0].to(x_type), *leaves[1:], up=2, padding=1, resample_filter=FILTER)
        gradients.append(torch.autograd.grad(y, leaves, direction.to(x_type)))
    for expected, actual in zip(*gradients, strict=True):
        assert actual.dtype == torch.float32
        assert (actual - expected).abs().max() < 10 * torch.finfo(dtype).eps * expected.abs().max()


@pytest.mark.parametrize("demodulate", [True, False])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_both_forms_of_a_1x1_convolution_agree_to_second_order(monkeypatch, demodulate, layout):
    x = torch.randn(2, 6, 4, 4, dtype=torch.float64).to(memory_format=layout).requires_grad_(True)
    weight = torch.randn(3, 6, 1, 1, dtype=torch.float64, requires_grad=True)
    styles = torch.randn(2, 6, dtype=torch.float64, requires_grad=True)
    noise, direction = torch.randn(2, 1, 4, 4, dtype=torch.float64), torch.randn(2, 3, 4, 4, dtype=torch.float64)
    found = []
    for choice in (False, True):
        monkeypatch.setattr(modulated_conv, "prefer_per_sample_weights", lambda *_, choice=choice: choice)
        y = modulated_conv2d(x, weight, styles, noise, demodulate=demodulate)
        first = torch.autograd.grad((y * direction).sum(), (x, weight, styles), create_graph=True)
        second = torch.autograd.grad(sum(g.square().sum() for g in first), (x, weight, styles))
        found.append((y, *first, *second))
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


def test_the_form_follows_the_shape():
    wide, narrow = torch.zeros(4, 512, 8, 8), torch.zeros(4, 64, 128, 128)
    assert not modulated_conv.prefer_per_sample_weights(wide, torch.zeros(512, 512, 1, 1))
    assert not modulated_conv.prefer_per_sample_weights(narrow, torch.zeros(64, 64, 3, 3))
    assert modulated_conv.prefer_per_sample_weights(narrow, torch.zeros(3, 64, 1, 1))
