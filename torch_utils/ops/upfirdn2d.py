"""Upsample, pad, filter and downsample images (StyleGAN2): one linear operator whose derivative is itself.

Here is the reference for every device: depthwise convolutions, strided to downsample and transposed to upsample, so
that neither inserted zeros nor discarded pixels are ever computed.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function

from torch_utils.ops import native
from torch_utils.ops.layout import memory_format
from torch_utils.ops.native import pattern

SEPARABLE_TAPS = 8  # a 1-D filter this long stays 1-D: two passes then beat one of its outer product


def setup_filter(
    f: Tensor | np.ndarray | Sequence | float | None,
    normalize: bool = True,
    flip_filter: bool = False,
    gain: float = 1.0,
) -> Tensor:
    """A float32 filter for upfirdn2d, [kh, kw] or (8 taps or more, given as one row) [k] to be used on both axes.

    f: taps in one or two dimensions, or None for the identity. normalize divides by their sum; gain scales the signal.
    """
    taps = torch.as_tensor(1 if f is None else f, dtype=torch.float32)
    taps = taps.reshape(1) if taps.ndim == 0 else taps
    assert taps.ndim in (1, 2) and taps.numel() > 0
    if taps.ndim == 1 and taps.numel() < SEPARABLE_TAPS:
        taps = taps.outer(taps)
    if normalize:
        taps = taps / taps.sum()
    if flip_filter:
        taps = taps.flip(list(range(taps.ndim)))
    return taps * gain ** (taps.ndim / 2)


def upfirdn2d(
    x: Tensor,
    f: Tensor | None,
    up: int | Sequence[int] = 1,
    down: int | Sequence[int] = 1,
    padding: int | Sequence[int] = 0,
    flip_filter: bool = False,
    gain: float = 1.0,
) -> Tensor:
    """Insert up-1 zeros after each pixel, pad, convolve with f * gain where f fits, and keep every down-th pixel.

    x [N,C,H,W] of any floating type; f from setup_filter (None: identity), [kh,kw] or [k] for both axes. up, down: one
    number or [x, y]. padding: one number, [x, y] or [left, right, top, bottom] at the upsampled size; negative crops.
    flip_filter correlates instead of convolving. Channels-last in gives channels-last out. Differentiable any number of
    times with respect to x; not with respect to f.
    """
    assert x.ndim == 4
    if f is None:
        f = torch.ones([1, 1], dtype=torch.float32, device=x.device)
    assert f.ndim in (1, 2) and not f.requires_grad
    return Upfirdn2d.apply(x, f, pair(up), pair(down), _four(padding), flip_filter, gain)


def filter2d(
    x: Tensor,
    f: Tensor | None,
    padding: int | Sequence[int] = 0,
    flip_filter: bool = False,
    gain: float = 1.0,
) -> Tensor:
    """Filter images [N,C,H,W], keeping their size (plus padding, at the output)."""
    fw, fh = filter_size(f)
    p = _plus(padding, [fw // 2, (fw - 1) // 2, fh // 2, (fh - 1) // 2])
    return upfirdn2d(x, f, padding=p, flip_filter=flip_filter, gain=gain)


def upsample2d(
    x: Tensor,
    f: Tensor | None,
    up: int | Sequence[int] = 2,
    padding: int | Sequence[int] = 0,
    flip_filter: bool = False,
    gain: float = 1.0,
) -> Tensor:
    """Upsample images [N,C,H,W] to [N,C,H*up,W*up] (plus padding, at the output's size), keeping their brightness."""
    ux, uy = pair(up)
    padding = _plus(padding, up_padding(f, up))
    return upfirdn2d(x, f, up=up, padding=padding, flip_filter=flip_filter, gain=gain * ux * uy)


def downsample2d(
    x: Tensor,
    f: Tensor | None,
    down: int | Sequence[int] = 2,
    padding: int | Sequence[int] = 0,
    flip_filter: bool = False,
    gain: float = 1.0,
) -> Tensor:
    """Downsample images [N,C,H,W] to [N,C,H/down,W/down] (padding at the input's size is added first)."""
    return upfirdn2d(x, f, down=down, padding=_plus(padding, down_padding(f, down)), flip_filter=flip_filter, gain=gain)


def pair(value: int | Sequence[int]) -> list[int]:
    """[x, y] of one number or two."""
    xy = [value, value] if isinstance(value, int) else list(value)
    assert len(xy) == 2
    return xy


def filter_size(f: Tensor | None) -> tuple[int, int]:
    """(width, height) of a filter from setup_filter."""
    return (1, 1) if f is None else (f.shape[-1], f.shape[0])


def up_padding(f: Tensor | None, up: int | Sequence[int]) -> list[int]:
    """The padding that centres f when upsampling."""
    return [p for k, u in zip(filter_size(f), pair(up), strict=True) for p in ((k + u - 1) // 2, (k - u) // 2)]


def down_padding(f: Tensor | None, down: int | Sequence[int]) -> list[int]:
    """The padding that centres f when downsampling."""
    return [p for k, d in zip(filter_size(f), pair(down), strict=True) for p in ((k - d + 1) // 2, (k - d) // 2)]


def _four(padding: int | Sequence[int]) -> list[int]:
    p = [padding] * 4 if isinstance(padding, int) else list(padding)
    p = [p[0], p[0], p[1], p[1]] if len(p) == 2 else p
    assert len(p) == 4
    return p


def _plus(padding: int | Sequence[int], centring: list[int]) -> list[int]:
    return [a + b for a, b in zip(_four(padding), centring, strict=True)]


def _examples(device: torch.device, dtype: torch.dtype) -> list[tuple]:
    x = pattern(2, 8, 13, 18, device=device, dtype=dtype)
    large, small = (pattern(1, 32, n, n, device=device, dtype=dtype) for n in (32, 8))  # rows of whole vectors
    shown = [image.contiguous(memory_format=layout) for image in (x, large, small)
             for layout in (torch.contiguous_format, torch.channels_last)]
    f4 = setup_filter([1, 3, 3, 1]).to(device)
    f12 = pattern(12, device=device, dtype=torch.float32)
    shapes = [(1, 1, [2, 1, 1, 2], 1.0), (2, 1, [2, 1, 2, 1], 4.0), (2, 1, [3, 0, 3, 0], 4.0),
              (1, 2, [1, 1, 1, 1], 1.0)]
    return [(image, f, [up, up], [down, down], [p + f.shape[0] - 4 for p in padding], down == 2, gain)
            for image in shown for f in (f4, f12) for up, down, padding, gain in shapes] + [
        (x[:, 1:4, ::2, 1:], f4[:3, :2], [3, 1], [2, 3], [-1, 2, 4, -2], True, 2.0)]


@native.operator("upfirdn2d", _examples)
def _upfirdn2d(
    x: Tensor, f: Tensor, up: list[int], down: list[int], padding: list[int], flip_filter: bool, gain: float
) -> Tensor:
    """f * gain is rounded to f's type, then to x's; a 1-D f is applied along x, then y, with sqrt(gain) each."""
    w, h = _output_size(x, f, up, down, padding)
    x_format = memory_format(x)
    if x.numel() == 0:
        return x.new_zeros([*x.shape[:2], h, w])
    if f.ndim == 2:
        y = _fir(x, f, up, down, padding, flip_filter, gain)
    else:
        y = _fir(x, f[None, :], [up[0], 1], [down[0], 1], [*padding[:2], 0, 0], flip_filter, gain**0.5)
        y = _fir(y, f[:, None], [1, up[1]], [1, down[1]], [0, 0, *padding[2:]], flip_filter, gain**0.5)
    return y.contiguous(memory_format=x_format)


@_upfirdn2d.register_fake
def _(
    x: Tensor, f: Tensor, up: list[int], down: list[int], padding: list[int], flip_filter: bool, gain: float
) -> Tensor:
    w, h = _output_size(x, f, up, down, padding)
    return x.new_empty([*x.shape[:2], h, w]).contiguous(memory_format=memory_format(x))


class Upfirdn2d(Function):
    """As the operator of that name, with its derivative, which is another such: up and down change places."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, f: Tensor, up: list[int], down: list[int], padding: list[int], flip_filter: bool,
                gain: float) -> Tensor:
        y = _upfirdn2d.call(x, f, up, down, padding, flip_filter, gain)
        back = []
        for i, (n, m, k) in enumerate(zip(x.shape[:1:-1], y.shape[:1:-1], filter_size(f), strict=True)):
            back += [k - padding[2 * i] - 1, n * up[i] - m * down[i] + padding[2 * i] - up[i] + 1]
        ctx.transpose = down, up, back, not flip_filter, gain
        ctx.save_for_backward(f)
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple:
        (f,) = ctx.saved_tensors
        return Upfirdn2d.apply(dy, f, *ctx.transpose), None, None, None, None, None, None


def _output_size(x: Tensor, f: Tensor, up: list[int], down: list[int], padding: list[int]) -> list[int]:
    size = []
    for i, (n, k) in enumerate(zip(x.shape[:1:-1], filter_size(f), strict=True)):
        full = n * up[i] + padding[2 * i] + padding[2 * i + 1]
        assert full >= k and up[i] >= 1 and down[i] >= 1, f"{n} pixels padded to {full} do not hold {k} taps"
        size.append((full - k) // down[i] + 1)
    return size


def _fir(
    x: Tensor, f: Tensor, up: list[int], down: list[int], padding: list[int], flip_filter: bool, gain: float
) -> Tensor:
    """The whole operation for a two-dimensional filter."""
    n = x.shape[0]
    if x.device.type == "cpu" and x.is_contiguous() and n > 1:
        x = x.flatten(0, 1)[None]  # [N,C,H,W] -> [1,NC,H,W]: oneDNN's depthwise kernels want many channels
    f = (f * gain).to(x.dtype)
    if flip_filter == (max(up) > 1):  # conv2d correlates, conv_transpose2d convolves
        f = f.flip([0, 1])
    weight = f.expand(x.shape[1], 1, *f.shape)
    if max(up) > 1:
        y = _fir_up(x, weight, up, padding)[:, :, :: down[1], :: down[0]]
    else:
        y = _fir_down(x, weight, down, padding)
    return y if y.shape[0] == n else y[0].unflatten(0, (n, -1))


def _fir_down(x: Tensor, weight: Tensor, down: list[int], padding: list[int]) -> Tensor:
    left, right, top, bottom = padding
    inside = [max(min(top, bottom), 0), max(min(left, right), 0)]
    rest = [left - inside[1], right - inside[1], top - inside[0], bottom - inside[0]]
    x = _pad_or_crop(x, rest)
    return F.conv2d(x, weight, stride=down[::-1], padding=inside, groups=x.shape[1])


def _fir_up(x: Tensor, weight: Tensor, up: list[int], padding: list[int]) -> Tensor:
    """The full convolution of x and its zeros, cropped (or padded) to what `padding` asks for."""
    kh, kw = weight.shape[2:]
    crop = [kw - 1 - padding[0], kw - up[0] - padding[1], kh - 1 - padding[2], kh - up[1] - padding[3]]
    inside = [max(min(crop[2:]), 0), max(min(crop[:2]), 0)]
    rest = [inside[1] - crop[0], inside[1] - crop[1], inside[0] - crop[2], inside[0] - crop[3]]
    y = F.conv_transpose2d(x, weight, stride=up[::-1], padding=inside, groups=x.shape[1])
    return _pad_or_crop(y, rest)


def _pad_or_crop(x: Tensor, amounts: list[int]) -> Tensor:
    """Pads before it crops: a side may lose more than x has, where the other side gains it."""
    for part in ([max(n, 0) for n in amounts], [min(n, 0) for n in amounts]):
        x = F.pad(x, part) if any(part) else x
    return x
