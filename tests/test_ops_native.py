"""Native kernels against the references: every type, layout, size and setting, to the second order."""

import pytest
import torch
from golden_data import Golden
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from kernels import KINDS, registration_is_sound, running
from torch.autograd import gradcheck, gradgradcheck

from torch_utils.ops import native
from torch_utils.ops.bias_act import bias_act, bias_act_grad_reference, bias_act_reference
from torch_utils.ops.layout import memory_format
from torch_utils.ops.native import OPERATORS
from torch_utils.ops.synthesis_act import synthesis_act
from torch_utils.ops.upfirdn2d import setup_filter, upfirdn2d

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
# of the largest value: native kernels round the short types once, at the end
TOLERANCE = {torch.float64: 1e-14, torch.float32: 2e-6, torch.float16: 2**-11, torch.bfloat16: 2**-8}
SOURCES = {"bias_act", "bias_act_grad", "upfirdn2d", "synthesis_act", "synthesis_act_grad"}
ON_CPU = SOURCES | {"winograd", "winograd_weight_grad", "energy"}  # tested in test_ops_conv2d.py, test_ops_energy.py


@pytest.fixture(params=KINDS)
def device(request):
    with running(request.param) as device:
        yield device


def exact(args):
    return tuple(arg.double() if isinstance(arg, torch.Tensor) else arg for arg in args)


def close(actual, expected, dtype, scale=1.0):
    """expected: of the reference in float64; scale: of the numbers that were added up."""
    assert actual.dtype == dtype and actual.shape == expected.shape
    bound = max(float(expected.abs().max()) if expected.numel() else 0.0, scale) * TOLERANCE[dtype]
    torch.testing.assert_close(actual.double(), expected, rtol=0, atol=bound)


def images(draw, seed, shape, dtype, device):
    """[N,C,H,W] as it may come: either layout, a slice, every other pixel, transposed, one image for all."""
    random = torch.Generator().manual_seed(seed)
    n, c, h, w = shape
    x = torch.randn(n, c + 2, 2 * h, 2 * w, generator=random, dtype=torch.float64).to(dtype).to(device)
    kind = draw(st.sampled_from(["dense", "last", "slice", "last slice", "strided", "transposed", "expanded"]))
    if "last" in kind:
        x = x.contiguous(memory_format=torch.channels_last)
    if kind == "strided":
        return x[:, 1 : c + 1, ::2, ::2]
    if kind == "transposed":
        return torch.randn(n, c, w, h, generator=random, dtype=torch.float64).to(dtype).to(device).mT
    if kind == "expanded":
        return x[:1, :c, :h, :w].expand(n, c, h, w)
    x = x[:, 1 : c + 1, 1 : h + 1, :w]
    return x if "slice" in kind else x.contiguous(memory_format=torch.channels_last if kind == "last" else
                                                  torch.contiguous_format)


seeds = st.integers(0, 2**31)
dtypes = st.sampled_from(DTYPES)
activations = st.tuples(st.sampled_from([1.0, 0.2, 0.0]), st.sampled_from([1.0, 1.4, 0.5]),
                        st.sampled_from([None, 0.5, 256.0]))
channels = st.sampled_from([1, 2, 3, 4, 8, 16, 17, 33])
widths = st.integers(1, 70) | st.sampled_from([8, 16, 32, 64])  # any, and rows of whole vectors
sizes = st.tuples(st.integers(0, 3), channels, st.integers(1, 40), widths)
few = settings(max_examples=150)


def test_every_operator_has_a_native_kernel():
    assert native.load("cpu") and set(native.operators()) == set(native.operators("cpu")) == ON_CPU
    assert set(native.operators("cuda")) == SOURCES
    for name in ON_CPU:
        assert torch._C._dispatch_has_kernel_for_dispatch_key(f"stylegan2::{name}", "CPU")
    with native.reference():
        assert not torch._C._dispatch_has_kernel_for_dispatch_key("stylegan2::bias_act", "CPU")


@pytest.mark.parametrize("kind", KINDS)
def test_bias_act_matrix(kind):
    with running(kind) as device:

        @few
        @given(st.data(), seeds, dtypes, sizes, activations, st.booleans())
        def check(data, seed, dtype, size, activation, with_bias):
            x = images(data.draw, seed, size, dtype, device)
            dim = data.draw(st.integers(0, 3))
            b = torch.linspace(-1, 1, x.shape[dim], device=device).to(dtype) if with_bias else None
            args = (x, b, dim, *activation)
            y = torch.ops.stylegan2.bias_act(*args)
            close(y, bias_act_reference(*exact(args)), dtype)
            assert y.stride() == torch.empty_like(x).stride()
            dy = images(data.draw, seed + 1, size, dtype, device)
            dx = torch.ops.stylegan2.bias_act_grad(dy, y, *activation)
            close(dx, bias_act_grad_reference(*exact((dy, y, *activation))), dtype)

        check()


@pytest.mark.parametrize("kind", KINDS)
def test_upfirdn2d_matrix(kind):
    reference = OPERATORS["upfirdn2d"].reference
    with running(kind) as device:

        @few
        @given(st.data(), seeds, dtypes, sizes, st.booleans(), st.sampled_from([1.0, 4.0, 0.3]))
        def check(data, seed, dtype, size, flip, gain):
            x = images(data.draw, seed, size, dtype, device)
            pairs = st.sampled_from([[1, 1], [1, 1], [2, 2], [2, 1], [1, 2], [3, 2]])
            up, down = data.draw(st.sampled_from([([1, 1], [1, 1]), ([2, 2], [1, 1]), ([1, 1], [2, 2])]) |
                                 st.tuples(pairs, pairs))
            usual = [[2, 1, 2, 1], [3, 0, 3, 0], [1, 1, 1, 1], [2, 1, 1, 2], [6, 5, 6, 5], [5, 5, 5, 5], [6, 5, 5, 6]]
            padding = data.draw(st.sampled_from(usual) | st.lists(st.integers(-3, 13), min_size=4, max_size=4))
            shape = data.draw(st.sampled_from([(4, 4), (12,), (4,), (1, 1), (2, 3), (9,), (5, 5), (16,), (4, 1)]))
            f = torch.rand(shape, generator=torch.Generator().manual_seed(seed)).to(device)
            f = f.outer(f) if shape == (4,) else f
            f = f / f.sum()
            kw, kh = f.shape[-1], f.shape[0]
            for n, u, k, p in ((size[3], up[0], kw, padding[:2]), (size[2], up[1], kh, padding[2:])):
                assume(n * u + sum(p) >= k)
            y = torch.ops.stylegan2.upfirdn2d(x, f, up, down, padding, flip, gain)
            close(y, reference(x.double(), f, up, down, padding, flip, gain), dtype, scale=4 * gain)
            assert y.is_contiguous(memory_format=memory_format(x))

        check()


@pytest.mark.parametrize("kind", KINDS)
def test_synthesis_act_matrix(kind):
    forward, grad = (OPERATORS[name].reference for name in ("synthesis_act", "synthesis_act_grad"))
    with running(kind) as device:

        @few
        @given(st.data(), seeds, dtypes, sizes, activations)
        def check(data, seed, dtype, size, activation):
            x, dy = (images(data.draw, seed + i, size, dtype, device) for i in range(2))
            n, c, h, w = size
            sums = torch.promote_types(dtype, torch.float32)
            random = torch.Generator().manual_seed(seed)

            def maybe(*shape):
                t = torch.randn(shape, generator=random, dtype=torch.float64).to(sums).to(device)
                return t if data.draw(st.booleans()) else None

            scale, noise, b = maybe(n, c), maybe(data.draw(st.sampled_from([n, 1])), 1, h, w), maybe(c)
            strength = None if noise is None else torch.tensor(0.7, dtype=sums, device=device)
            args = (x, scale, noise, strength, b, *activation)
            y = torch.ops.stylegan2.synthesis_act(*args)
            close(y, forward(*exact(args)), dtype, scale=5.0)
            args = (dy, y, x if data.draw(st.booleans()) else None, scale, noise, data.draw(st.booleans()), *activation)
            (dx, *totals), (dx_exact, *totals_exact) = torch.ops.stylegan2.synthesis_act_grad(*args), grad(*exact(args))
            close(dx, dx_exact, dtype)
            for actual, expected in zip(totals, totals_exact, strict=True):
                close(actual, expected, sums, scale=float(h * w))

        check()


def gradients(function, leaves, direction):
    """The value, the first and the second derivatives, so that each derivative operator is used in each role."""
    y = function(*leaves)
    first = torch.autograd.grad((y * direction).sum(), leaves, create_graph=True)
    second = torch.autograd.grad(sum(g.square().sum() for g in first), [direction, *leaves], materialize_grads=True)
    return [y, *first, *second]


FILTERS = {"4x4": setup_filter([1, 3, 3, 1]), "12": setup_filter([1.0, 2, 4, 7, 9, 11, 12, 8, 5, 3, 2, 1])}
NOISE = native.pattern(30, 30, device=torch.device("cpu"), dtype=torch.float32)
FUNCTIONS = {
    "bias_act": (lambda x, b: bias_act(x, b, act="lrelu", clamp=0.8), [(6,)]),
    "up": (lambda x: upfirdn2d(x, FILTERS["4x4"].to(x.device), 2, 1, [2, 1, 2, 1], gain=4), []),
    "down": (lambda x: upfirdn2d(x, FILTERS["4x4"].to(x.device), 1, 2, 1, flip_filter=True), []),
    "blur": (lambda x: upfirdn2d(x, FILTERS["4x4"].to(x.device), padding=[2, 1, 1, 2]), []),
    "wide up": (lambda x: upfirdn2d(x, FILTERS["12"].to(x.device), 2, 1, [6, 5, 6, 5]), []),
    "wide down": (lambda x: upfirdn2d(x, FILTERS["12"].to(x.device), 1, 2, 5), []),
    "synthesis": (lambda x, s, k, b: synthesis_act(x, s, NOISE[: x.shape[2], : x.shape[3]].to(x), k, b, act="lrelu",
                                                   clamp=1.0), [(2, 6), (), (6,)]),
}  # fmt: skip


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize(("dtype", "error"), [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.float16, 0.25),
                                              (torch.bfloat16, 0.25)])  # as signs and clamps may differ in short types
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["NCHW", "NHWC"])
def test_both_orders_of_gradients(device, name, dtype, error, layout):
    function, shapes = FUNCTIONS[name]
    x = torch.randn(2, 6, 19, 26, device=device).to(dtype).contiguous(memory_format=layout)
    kind = dtype if name == "bias_act" else torch.promote_types(dtype, torch.float32)
    leaves = [t.requires_grad_() for t in (x, *(torch.randn(shape, device=device).to(kind) for shape in shapes))]
    direction = torch.randn_like(function(*leaves)).requires_grad_()
    found = gradients(function, leaves, direction)
    *leaves, direction = (t.detach().double().requires_grad_() for t in (*leaves, direction))
    with native.reference():
        expected = gradients(function, leaves, direction)
    for actual, wanted in zip(found, expected, strict=True):
        assert (actual.double() - wanted).norm() <= error * wanted.norm()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_gradgradcheck(device, name):
    function, shapes = FUNCTIONS[name]
    leaves = [torch.randn(shape, dtype=torch.float64, device=device, requires_grad=True)
              for shape in [(2, 6, 9, 10), *shapes]]
    assert gradcheck(function, leaves, fast_mode=True)
    assert gradgradcheck(function, leaves, fast_mode=True)


@pytest.mark.parametrize("name", sorted(SOURCES))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_registrations_are_sound(device, name, dtype):
    for args in OPERATORS[name].examples(device, dtype):
        registration_is_sound(name, *args)


@pytest.mark.parametrize("name", sorted(SOURCES))
def test_the_same_from_run_to_run_whatever_the_threads(device, name):
    def flat(outputs):
        return [outputs] if isinstance(outputs, torch.Tensor) else outputs

    threads = torch.get_num_threads()
    op = getattr(torch.ops.stylegan2, name)
    x = torch.randn(3, 20, 65, 130, device=device)
    scale, noise, b = x[:, :, 0, 0].contiguous(), x[:, :1].contiguous(), x[0, :, 0, 0].contiguous()
    large = {"bias_act": (x, b, 1, 0.2, 1.0, None), "bias_act_grad": (x, x, 0.2, 1.0, None),
             "upfirdn2d": (x, FILTERS["4x4"].to(device), [2, 2], [1, 1], [2, 1, 2, 1], False, 4.0),
             "synthesis_act": (x, scale, noise, b[0], b, 0.2, 1.0, None),
             "synthesis_act_grad": (x, x, x, scale, noise, True, 0.2, 1.0, None)}
    try:
        for args in [large[name], *OPERATORS[name].examples(device, torch.float32)]:
            first = flat(op(*args))
            for count in (1, 2, 3, 2):
                torch.set_num_threads(count)
                for a, b in zip(first, flat(op(*args)), strict=True):
                    assert torch.equal(a, b)
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("golden", ["bias_act", "upfirdn2d"])
@pytest.mark.parametrize("kind", ["reference", *KINDS])
def test_golden(kind, golden):
    """As test_ops_*.py has them, on these kernels."""
    with running(kind) as device:
        check_golden(device, golden)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_examples_of_every_kernel(kind, dtype):
    """Those of the self-test, which include rows of whole vectors and sums in several chunks."""
    with running(kind) as device:
        for name in SOURCES:
            op = OPERATORS[name]
            for args in op.examples(device, dtype):
                found, expected = getattr(torch.ops.stylegan2, name)(*args), op.reference(*exact(args))
                for a, e in zip(*([t] if isinstance(t, torch.Tensor) else t for t in (found, expected)), strict=True):
                    error = (a.double() - e.double()).abs().max() if a.numel() else 0
                    assert error <= 4 * TOLERANCE[dtype] * (e.abs().max() if e.numel() else 1)


@pytest.mark.parametrize("shape", [(2, 0, 5, 5), (2, 3, 0, 5), (0, 3, 5, 5)])
def test_empty_images(device, shape):
    """Padding makes zeros even of nothing, on every kernel alike."""
    x = torch.randn(shape, device=device)
    y = upfirdn2d(x, FILTERS["4x4"].to(device), padding=4)
    assert y.shape == (*shape[:2], shape[2] + 5, shape[3] + 5) and not y.any()
    with native.reference():
        assert upfirdn2d(x, FILTERS["4x4"].to(device), padding=4).shape == y.shape


def test_autocast_changes_nothing(device):
    x = torch.randn(2, 16, 8, 8, device=device)
    plain = upfirdn2d(x, FILTERS["4x4"].to(device), padding=2)
    with torch.autocast(device.type, torch.bfloat16):
        assert torch.equal(upfirdn2d(x, FILTERS["4x4"].to(device), padding=2), plain)
        with native.reference():
            assert upfirdn2d(x, FILTERS["4x4"].to(device), padding=2).dtype == torch.float32


def check_golden(device, golden):
    data = Golden(golden)
    for i, case in enumerate(data.meta["cases"]):
        case = dict(case)
        if golden == "upfirdn2d":
            f = setup_filter(case.pop("f")).to(device)
            x = data[f"in/{i}/x"].to(device).requires_grad_()
            y = upfirdn2d(x, f, **case)
            wanted = {"y": y, "dx": torch.autograd.grad(y, x, data[f"in/{i}/dy"].to(device))[0]}
        else:
            x, b, dy, v = (data[f"in/{i}/{name}"].to(device).requires_grad_() for name in ("x", "b", "dy", "v"))
            y = bias_act(x, b, **case)
            dx, db = torch.autograd.grad(y, [x, b], dy, create_graph=True)
            wanted = {"y": y, "dx": dx, "db": db, "ddy": torch.autograd.grad((dx * v).sum(), dy)[0]}
        for name, value in wanted.items():
            torch.testing.assert_close(value.cpu(), data[f"out/{i}/{name}"], rtol=0, atol=1e-9)


def test_not_a_number_stays(device):
    x = torch.tensor([[[[float("nan"), 2.0, -2.0, float("inf")]]]], device=device)
    for y in (bias_act(x, act="lrelu", clamp=1.0), synthesis_act(x, x.new_ones(1, 1), act="lrelu", clamp=1.0)):
        assert y.isnan().flatten().tolist() == [True, False, False, False]
        assert y[0, 0, 0, 3] == 1
    assert upfirdn2d(x[:, :, :, :3], FILTERS["4x4"].to(device), padding=[2, 1, 2, 1]).isnan().any()


@pytest.mark.parametrize("call", [
    lambda x: torch.ops.stylegan2.bias_act(x, x[0, :, 0, 0][:2], 1, 0.2, 1.0, None),
    lambda x: torch.ops.stylegan2.bias_act_grad(x, x[:1], 0.2, 1.0, None),
    lambda x: torch.ops.stylegan2.upfirdn2d(x, x[0, 0], [1, 1], [1, 1], [-3, -3, 0, 0], False, 1.0),
    lambda x: torch.ops.stylegan2.synthesis_act(x, x[:1, :1, 0, 0], None, None, None, 0.2, 1.0, None)])  # fmt: skip
def test_arguments_that_do_not_fit_are_refused(device, call):
    with pytest.raises((RuntimeError, AssertionError)):
        call(torch.randn(2, 3, 5, 5, device=device))


def test_compiles_without_graph_breaks(device):
    """The operators are opaque to torch.compile; what surrounds them is traced with their fake kernels."""
    torch._dynamo.reset()

    def layer(x, s, b):
        x = upfirdn2d(x, FILTERS["4x4"].to(x.device), 2, 1, [2, 1, 2, 1], gain=4)
        return bias_act(synthesis_act(x, s, None, None, b, act="lrelu") * 2, b, act="lrelu", clamp=3.0)

    x, s, b = (torch.randn(shape, device=device, requires_grad=True) for shape in [(2, 6, 8, 9), (2, 6), (6,)])
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    for function in (layer, compiled):
        y = function(x, s, b)
        grads = torch.autograd.grad(y.square().sum(), [x, s, b])
        if function is layer:
            expected = [y, *grads]
    for actual, wanted in zip([y, *grads], expected, strict=True):
        torch.testing.assert_close(actual, wanted)


@pytest.mark.parametrize("up_down", [(1, 1), (2, 1), (1, 2)], ids=str)
def test_images_larger_than_the_caches(device, up_down):
    """Results that large are written past the caches."""
    up, down = up_down
    x = torch.randn(1, 64, 330 // up * down, 301 // up * down, device=device).contiguous(
        memory_format=torch.channels_last)
    y = upfirdn2d(x, FILTERS["4x4"].to(device), up, down, 2)
    assert y.numel() * 4 > 2**24
    with native.reference():
        close(y, upfirdn2d(x.double(), FILTERS["4x4"].to(device), up, down, 2), torch.float32)
