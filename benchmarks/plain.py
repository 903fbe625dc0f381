"""The operators written plainly with torch functions, one after the other: what the native ones are measured against.

FIR filters are convolutions of the image with its zeros put in, each channel with the whole two-dimensional filter.
"""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.grad import conv2d_weight


def bias_act(x: Tensor, b: Tensor | None, dim: int, alpha: float, gain: float, clamp: float | None) -> Tensor:
    if b is not None:
        x = x + b.reshape([-1 if i == dim else 1 for i in range(x.ndim)])
    y = F.leaky_relu(x, alpha) * gain
    return y if clamp is None else y.clamp(-clamp, clamp)


def bias_act_grad(dy: Tensor, y: Tensor, alpha: float, gain: float, clamp: float | None) -> Tensor:
    dx = torch.where(y > 0, dy, dy * alpha) * gain
    return dx if clamp is None else torch.where(y.abs() < clamp, dx, 0)


def upfirdn2d(
    x: Tensor, f: Tensor, up: list[int], down: list[int], padding: list[int], flip_filter: bool, gain: float
) -> Tensor:
    n, c, h, w = x.shape
    f = f.outer(f) if f.ndim == 1 else f
    x = F.pad(x.reshape(n, c, h, 1, w, 1), [0, up[0] - 1, 0, 0, 0, up[1] - 1]).reshape(n, c, h * up[1], w * up[0])
    x = F.pad(x, padding)
    f = (f * gain).to(x.dtype)
    f = f if flip_filter else f.flip([0, 1])
    return F.conv2d(x, f.expand(c, 1, *f.shape), groups=c)[:, :, :: down[1], :: down[0]]


def synthesis_act(
    x: Tensor, scale: Tensor | None, noise: Tensor | None, strength: Tensor | None, b: Tensor | None,
    alpha: float, gain: float, clamp: float | None,
) -> Tensor:  # fmt: skip
    if scale is not None:
        x = x * scale[:, :, None, None].to(x.dtype)
    if noise is not None and strength is not None:
        x = x + (noise * strength).to(x.dtype)
    return bias_act(x, None if b is None else b.to(x.dtype), 1, alpha, gain, clamp)


def synthesis_act_grad(
    dy: Tensor, y: Tensor, x: Tensor | None, scale: Tensor | None, noise: Tensor | None, with_sum: bool,
    alpha: float, gain: float, clamp: float | None,
) -> tuple[Tensor, ...]:  # fmt: skip
    g = bias_act_grad(dy, y, alpha, gain, clamp)
    sums = [(g if factor is None else g * factor.to(g.dtype)).sum([2, 3])
            for factor, wanted in ((x, x is not None), (noise, noise is not None), (None, with_sum)) if wanted]
    return (g if scale is None else g * scale[:, :, None, None].to(g.dtype), *sums)


def energy(weight: Tensor) -> Tensor:
    return (weight * weight).sum([2, 3])


def winograd(x: Tensor, w: Tensor, stride: int, transpose: bool) -> Tensor:
    padding = 1 if stride == 1 else 0
    return (F.conv_transpose2d if transpose else F.conv2d)(x, w, stride=stride, padding=padding)


def winograd_weight_grad(dy: Tensor, x: Tensor, stride: int) -> Tensor:
    padding = 1 if stride == 1 else 0
    return conv2d_weight(x, (dy.shape[1], x.shape[1], 3, 3), dy, stride=stride, padding=padding)
