"""Convolution whose derivatives are convolutions, and its kernels with fewer products."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from kernels import registration_is_sound
from torch.autograd import gradcheck, gradgradcheck

from stylegan2_pipeline.layers import Conv2dLayer
from stylegan2_pipeline.networks import Discriminator
from torch_utils.ops import conv2d as conv2d_module
from torch_utils.ops import native, winograd
from torch_utils.ops.conv2d import conv2d, conv2d_transpose
from torch_utils.ops.layout import channels_last, suggested_format
from torch_utils.ops.native import OPERATORS

LAST = torch.channels_last
GEOMETRIES = [(1, (1, 1), 1), (2, (0, 0), 1), (2, (1, 0), 2), (1, (0, 2), 2), (3, (1, 1), 1)]
counts = st.integers(1, 40) | st.sampled_from([16, 32, 48, 64, 96, 128])


@pytest.mark.parametrize(("stride", "padding", "groups"), GEOMETRIES)
@pytest.mark.parametrize("layout", [torch.contiguous_format, LAST])
def test_equal_to_torch_to_the_second_order(stride, padding, groups, layout):
    def leaf(*shape):
        return torch.randn(shape, dtype=torch.float64).contiguous(memory_format=layout).requires_grad_()

    x, w = leaf(2, 4, 6, 7), leaf(6, 4 // groups, 3, 3)
    forward = lambda x, w: conv2d(x, w, stride, padding, groups)  # noqa: E731
    expected = F.conv2d(x, w, stride=stride, padding=padding, groups=groups)
    torch.testing.assert_close(forward(x, w), expected)
    assert forward(x, w).is_contiguous(memory_format=layout)
    for mine, theirs in zip(torch.autograd.grad(forward(x, w).sum(), [x, w]),
                            torch.autograd.grad(expected.sum(), [x, w]), strict=True):
        torch.testing.assert_close(mine, theirs)
    assert gradcheck(forward, (x, w), fast_mode=True) and gradgradcheck(forward, (x, w), fast_mode=True)
    y = leaf(2, 6, 3, 4)
    back = lambda y, w: conv2d_transpose(y, w, stride, padding, groups)  # noqa: E731
    torch.testing.assert_close(back(y, w), F.conv_transpose2d(y, w, stride=stride, padding=padding, groups=groups))
    assert gradcheck(back, (y, w), fast_mode=True) and gradgradcheck(back, (y, w), fast_mode=True)


def test_third_derivatives():
    x, w = torch.randn(1, 2, 4, 4, dtype=torch.float64), torch.randn(2, 2, 3, 3, dtype=torch.float64)
    x.requires_grad_()
    w.requires_grad_()

    def second(x, w):
        dx, = torch.autograd.grad(conv2d(x.square(), w, 1, (1, 1)).square().sum(), x, create_graph=True)
        return dx

    assert gradgradcheck(second, (x, w), fast_mode=True)


@pytest.mark.parametrize("name", ["winograd", "winograd_weight_grad"])
def test_registrations_of_the_kernels_are_sound(name):
    for args in OPERATORS[name].examples(torch.device("cpu"), torch.float32):
        registration_is_sound(name, *args)


@settings(max_examples=150)
@given(seed=st.integers(0, 2**31), n=st.integers(0, 3), size=st.tuples(st.integers(3, 21), st.integers(3, 21)),
       channels=st.tuples(counts, counts), stride=st.sampled_from([1, 2]), transpose=st.booleans(),
       last_weights=st.booleans())
def test_kernels_are_as_exact_as_sums_in_float32(seed, n, size, channels, stride, transpose, last_weights):
    random = torch.Generator().manual_seed(seed)
    x = channels_last(torch.randn(n, channels[0], *size, generator=random))
    w = torch.randn(*(channels if transpose else channels[::-1]), 3, 3, generator=random)
    w = w.contiguous(memory_format=LAST) if last_weights else w
    y = torch.ops.stylegan2.winograd(x, w, stride, transpose)
    exact = OPERATORS["winograd"].reference(x.double(), w.double(), stride, transpose)
    assert y.is_contiguous(memory_format=LAST) and y.shape == exact.shape
    torch.testing.assert_close(y.double(), exact, rtol=0, atol=2e-6 * (9 * channels[0]) ** 0.5 * 4)
    if transpose:
        return
    dy = channels_last(torch.randn(y.shape, generator=random))
    dw = torch.ops.stylegan2.winograd_weight_grad(dy, x, stride)
    exact = OPERATORS["winograd_weight_grad"].reference(dy.double(), x.double(), stride)
    torch.testing.assert_close(dw.double(), exact, rtol=0, atol=2e-6 * max(dy[:, 0].numel(), 1) ** 0.5 * 4)


def test_more_tiles_than_are_worked_on_at_a_time():
    x = channels_last(torch.randn(3, 64, 70, 66))
    w = torch.randn(64, 64, 3, 3)
    exact = F.conv2d(x.double(), w.double(), padding=1)
    assert (torch.ops.stylegan2.winograd(x, w, 1, False) - exact).abs().max() < 1e-5 * exact.abs().max()
    dy = channels_last(torch.randn(x.shape))
    exact = OPERATORS["winograd_weight_grad"].reference(dy.double(), x.double(), 1)
    assert (torch.ops.stylegan2.winograd_weight_grad(dy, x, 1) - exact).abs().max() < 1e-5 * exact.abs().max()


@pytest.mark.parametrize("stride", [1, 2])
def test_the_same_whatever_the_threads_and_the_batch(stride):
    threads = torch.get_num_threads()
    x, w = channels_last(torch.randn(5, 48, 33, 31)), torch.randn(80, 48, 3, 3)
    y = torch.ops.stylegan2.winograd(x, w, stride, False)
    dw = torch.ops.stylegan2.winograd_weight_grad(y, x, stride)
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            assert torch.equal(torch.ops.stylegan2.winograd(x, w, stride, False), y)
            assert torch.equal(torch.ops.stylegan2.winograd_weight_grad(y, x, stride), dw)
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(torch.ops.stylegan2.winograd(x[2:3], w, stride, False), y[2:3])  # an image is its own


def test_numbers_that_are_none_stay_with_their_image():
    x, w = channels_last(torch.randn(2, 16, 9, 9)), torch.randn(16, 16, 3, 3)
    x[0, 3, 4, 4] = float("nan")
    y = conv2d(x, w, 1, (1, 1))
    assert y[0, :, 4, 4].isnan().all() and y[1].isfinite().all()


def test_where_they_are_used():
    assert native.load("cpu")
    x, w = channels_last(torch.randn(1, 32, 8, 8)), torch.randn(32, 32, 3, 3)
    used = [(x, w, 1, (1, 1)), (x, w, 2, (0, 0))]
    not_used = [(x.double(), w.double(), 1, (1, 1)), (x.bfloat16(), w.bfloat16(), 1, (1, 1)), (x, w, 1, (0, 0)),
                (x, w, 2, (1, 1)), (x.contiguous(), w, 1, (1, 1)), (x, w[:, :, :1, :1], 1, (0, 0)),
                (x[:, :8], w[:, :8], 1, (1, 1))]
    for args, expected in [*((a, True) for a in used), *((a, False) for a in not_used)]:
        assert winograd.fits(args[0], 32, args[2], args[3], args[1].shape[2:], 1) is expected
        torch.testing.assert_close(conv2d(*args), F.conv2d(args[0], args[1], stride=args[2], padding=args[3]),
                                   rtol=1e-4, atol=2e-4 if args[0].dtype != torch.bfloat16 else 0.2)


def test_derivatives_that_a_pass_does_not_use_are_not_computed(monkeypatch):
    """As of all weights, where path lengths differentiate images by latents."""
    computed = set()
    for name in ("transposed", "weight_gradient"):
        function = getattr(conv2d_module, name)
        monkeypatch.setattr(conv2d_module, name, lambda *a, name=name, function=function: (
            computed.add(name), function(*a))[1])
    x, w, scale = torch.randn(1, 2, 4, 4), torch.randn(3, 2, 3, 3), torch.ones([])
    for t in (x, w, scale):
        t.requires_grad_()
    y = conv2d(x * scale, w * scale, 1, (1, 1)).square().sum()
    for asked, expected in [([x], {"transposed"}), ([w], {"weight_gradient"}),
                            ([x, w], {"transposed", "weight_gradient"})]:
        computed.clear()
        torch.autograd.grad(y, asked, retain_graph=True, create_graph=True)
        assert computed == expected
    computed.clear()
    y.backward()
    assert computed == {"transposed", "weight_gradient"}


def test_one_channel_lies_as_its_strides_say():
    gray = torch.randn(2, 1, 8, 8)
    assert suggested_format(gray) == torch.contiguous_format and suggested_format(channels_last(gray)) == LAST
    w = torch.randn(16, 1, 1, 1)
    assert conv2d(channels_last(gray), w).is_contiguous(memory_format=LAST)
    assert conv2d(gray, w).is_contiguous()
    assert torch.equal(channels_last(gray), gray)


def test_autocast_changes_nothing():
    x, w = torch.randn(2, 4, 8, 8), torch.randn(4, 4, 3, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = conv2d(x, w, 1, (1, 1))
    assert y.dtype == torch.float32 and torch.equal(y, conv2d(x, w, 1, (1, 1)))


def test_layers_compile_without_graph_breaks():
    torch._dynamo.reset()
    layer, x = Conv2dLayer(16, 16, 3, activation="lrelu", down=2), torch.randn(2, 16, 8, 8)
    for function in (layer, torch.compile(layer, fullgraph=True, backend="aot_eager")):
        y = function(x)
        found = [y, *torch.autograd.grad(y.square().sum(), list(layer.parameters()))]
        if function is layer:
            expected = found
    for f, e in zip(found, expected, strict=True):
        torch.testing.assert_close(f, e)


@pytest.mark.parametrize("channels", [1, 3])
def test_all_passes_of_r1_stay_channels_last(monkeypatch, channels):
    """The second begins with the gradient of images as they are loaded; a layer that took it so would hand it on so."""
    formats = []
    for name, count in (("convolved", 1), ("transposed", 1), ("weight_gradient", 2)):
        function = getattr(conv2d_module, name)
        monkeypatch.setattr(conv2d_module, name, lambda *a, count=count, function=function: (
            formats.extend(suggested_format(t) for t in a[:count]), function(*a))[1])
    D = Discriminator(0, 16, channels, channel_base=256, channel_max=16)
    real = torch.randn(4, channels, 16, 16, requires_grad=True)
    gradient, = torch.autograd.grad(D(real, None).sum(), real, create_graph=True)
    gradient.square().sum().backward()
    assert len(formats) > 60 and set(formats) == {torch.channels_last}
