import numpy as np
import pytest
import scipy.signal
import torch
from golden_data import Golden
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from kernels import registration_is_sound
from torch.autograd import gradcheck, gradgradcheck

from torch_utils.ops.upfirdn2d import downsample2d, filter2d, setup_filter, upfirdn2d, upsample2d

GOLDEN = Golden("upfirdn2d")
TAPS12 = GOLDEN.meta["cases"][7]["f"]


def oracle(x, f, up, down, padding, flip_filter, gain):
    """The definition, step by step, for one image [H,W]."""
    f = np.outer(f, f) if f.ndim == 1 else f
    f = f if not flip_filter else f[::-1, ::-1]
    h, w = x.shape
    z = np.zeros([h * up[1], w * up[0]])
    z[:: up[1], :: up[0]] = x
    left, right, top, bottom = padding
    z = np.pad(z, [(max(top, 0), max(bottom, 0)), (max(left, 0), max(right, 0))])
    z = z[max(-top, 0) : z.shape[0] - max(-bottom, 0), max(-left, 0) : z.shape[1] - max(-right, 0)]
    return scipy.signal.convolve2d(z, f * gain, mode="valid")[:: down[1], :: down[0]]


@pytest.mark.parametrize("i", range(len(GOLDEN.meta["cases"])))
def test_golden(i):
    case = dict(GOLDEN.meta["cases"][i])
    f = setup_filter(case.pop("f"))
    assert torch.equal(f, GOLDEN[f"out/{i}/filter"])
    x = GOLDEN[f"in/{i}/x"].requires_grad_()
    y = upfirdn2d(x, f, **case)
    (dx,) = torch.autograd.grad(y, x, GOLDEN[f"in/{i}/dy"])
    torch.testing.assert_close(y, GOLDEN[f"out/{i}/y"], rtol=0, atol=1e-9)
    torch.testing.assert_close(dx, GOLDEN[f"out/{i}/dx"], rtol=0, atol=1e-9)


@settings(max_examples=120)
@given(st.data())
def test_equals_the_definition(data):
    pick = lambda low, high, n: data.draw(st.lists(st.integers(low, high), min_size=n, max_size=n))  # noqa: E731
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    n, c, h, w = *pick(1, 3, 2), *pick(1, 9, 2)
    f = rng.normal(size=data.draw(st.sampled_from([(1, 1), (4, 4), (3, 2), (1, 5), (9,), (12,)])))
    up, down, padding = pick(1, 3, 2), pick(1, 3, 2), pick(-2, 9, 4)
    flip, gain = data.draw(st.booleans()), data.draw(st.sampled_from([1.0, 4.0]))
    f = f.astype(np.float32)
    taps_w, taps_h = f.shape[-1], f.shape[0]
    assume(w * up[0] + padding[0] + padding[1] >= taps_w and h * up[1] + padding[2] + padding[3] >= taps_h)
    assume(all(size * u + min(p, 0) > 0 for size, u, p in zip([w, w, h, h], np.repeat(up, 2), padding, strict=True)))
    x = rng.normal(size=[n, c, h, w])
    x_torch = torch.from_numpy(x)
    if data.draw(st.booleans()):
        x_torch = x_torch.contiguous(memory_format=torch.channels_last)
    y = upfirdn2d(x_torch, torch.from_numpy(f), up, down, padding, flip, gain)
    expected = [[oracle(image, f.astype(np.float64), up, down, padding, flip, gain) for image in row] for row in x]
    np.testing.assert_allclose(y.numpy(), np.array(expected), rtol=0, atol=1e-9)


@pytest.mark.parametrize("f", [[1, 3, 3, 1], [[1, 2, 3], [4, 5, 6]], TAPS12], ids=["4x4", "2x3", "12"])
@pytest.mark.parametrize(("up", "down"), [(1, 1), (2, 1), (1, 2), ([2, 1], [1, 3])], ids=str)
def test_derivatives_of_three_orders(f, up, down):
    f = setup_filter(f)
    x = torch.randn(2, 2, 5, 4, dtype=torch.float64, requires_grad=True)

    def cubic(x):  # a non-linear function, so that the higher orders do not vanish
        return upfirdn2d(upfirdn2d(x, f, up, down, [6, 6, 7, 5]) ** 3, f, padding=6)

    def gradient(x):
        return torch.autograd.grad(cubic(x).sum(), x, create_graph=True)[0]

    assert gradcheck(cubic, x, fast_mode=True)
    assert gradgradcheck(cubic, x, fast_mode=True)
    assert gradgradcheck(gradient, x, fast_mode=True)


@pytest.mark.parametrize("taps", [[1, 1], [1, 3, 3, 1], [1, 4, 6, 4, 1]], ids=len)
@pytest.mark.parametrize(("function", "size"), [(filter2d, 32), (upsample2d, 64), (downsample2d, 16)])
def test_constant_images_stay_constant_inside(taps, function, size):
    y = function(torch.full([1, 2, 32, 32], 3.0), setup_filter(taps))
    assert y.shape == (1, 2, size, size)
    inner = y[:, :, 4:-4, 4:-4]
    torch.testing.assert_close(inner, torch.full_like(inner, 3))


@pytest.mark.parametrize(("function", "scale"), [(filter2d, 1), (upsample2d, 2), (downsample2d, 0.5)])
def test_images_do_not_shift(function, scale):
    """The centre of mass of a blob, in units of the image's size, stays where it was under a symmetric filter."""
    x = torch.zeros(1, 1, 32, 32, dtype=torch.float64)
    x[0, 0, 10:14, 16:22] = 1
    x = filter2d(x, setup_filter([1, 2, 1]))
    centres = []
    for image in (x, function(x, setup_filter([1, 3, 3, 1] if scale != 1 else [1, 2, 1]))):
        grid = (torch.arange(image.shape[-1]) + 0.5) / image.shape[-1]
        centres.append([(image.sum(dim).flatten() * grid).sum() / image.sum() for dim in (2, 3)])
    torch.testing.assert_close(centres[0], centres[1], rtol=0, atol=1e-6)


def test_setup_filter():
    assert torch.equal(setup_filter(None), torch.ones(1, 1))
    assert setup_filter([1] * 7).shape == (7, 7)
    assert setup_filter([1] * 8).shape == (8,)
    assert setup_filter([1, 2, 3], normalize=False, flip_filter=True)[0].tolist() == [9, 6, 3]
    assert setup_filter([1, 3], gain=4.0).sum() == 4
    assert setup_filter([1.0] * 8, gain=4.0).sum() == 2  # and 4 over both axes


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("function", [upsample2d, downsample2d, filter2d])
def test_types_and_memory_formats(dtype, channels_last, function):
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    exact = torch.randint(-3, 4, [2, 3, 16, 16]).to(torch.float64)
    x = exact.to(dtype).contiguous(memory_format=memory_format).requires_grad_()
    f = setup_filter([1, 3, 3, 1])
    y = function(x, f)
    (dx,) = torch.autograd.grad(y, x, torch.ones_like(y))
    assert y.dtype == dx.dtype == dtype
    assert y.is_contiguous(memory_format=memory_format) and dx.is_contiguous(memory_format=memory_format)
    torch.testing.assert_close(y.double(), function(exact, f), rtol=2 * torch.finfo(dtype).eps, atol=1e-12)


def test_an_empty_batch_passes():
    assert upsample2d(torch.zeros(0, 3, 8, 8), setup_filter([1, 3, 3, 1])).shape == (0, 3, 16, 16)


def test_a_filter_larger_than_the_image_is_refused():
    with pytest.raises((AssertionError, RuntimeError), match="do not hold 4 taps"):
        upfirdn2d(torch.zeros(1, 1, 3, 3), setup_filter([1, 3, 3, 1]))


def test_registration_is_sound():
    x, last = torch.randn(2, 3, 8, 8), torch.channels_last
    x_last = torch.randn(2, 3, 8, 8).contiguous(memory_format=last)
    f4, f12 = setup_filter([1, 3, 3, 1]), setup_filter(TAPS12)
    for args in [
        (x, f4, [2, 2], [1, 1], [2, 1, 2, 1], False, 4.0),
        (x_last, f4, [1, 1], [2, 2], [1, 1, 1, 1], True, 1.0),
        (x_last, f12, [2, 1], [1, 2], [6, 5, 6, 5], False, 1.0),
        (x[:, :, 1:7, 1:7], f4, [1, 1], [1, 1], [-1, 2, 0, 2], False, 1.0),
    ]:
        registration_is_sound("upfirdn2d", *args)


@pytest.mark.parametrize(("width", "up", "padding"),
                         [(1, 3, [-2, 0, 0, 0]), (1, 1, [-1, 3, 0, 0]), (2, 1, [4, -3, 0, 0])])
def test_one_side_may_crop_all_that_there_is(width, up, padding):
    """What is left are the inserted or padded zeros, and the pixels that survive."""
    x = torch.arange(1.0, 1 + width, dtype=torch.float64).reshape(1, 1, 1, width)
    row = np.zeros(width * up)
    row[::up] = x.numpy().ravel()
    row = np.pad(row, [max(p, 0) for p in padding[:2]])
    row = row[max(-padding[0], 0) : len(row) - max(-padding[1], 0)]
    assert upfirdn2d(x, None, [up, 1], padding=padding).flatten().tolist() == row.tolist()
