"""Convolution, its transpose and its gradient by the weights: three operators that are each other's derivatives.

torch's own second derivative computes the gradient by the weights as a convolution with kernels as large as the image,
which takes several times as long; R1 and path length regularisation are made of such derivatives.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from torch_utils.ops import winograd
from torch_utils.ops.layout import suggested_format
from torch_utils.ops.native import no_autocast
from torch_utils.ops.wanted import wanted


def conv2d(x: Tensor, w: Tensor, stride: int = 1, padding: Sequence[int] = (0, 0), groups: int = 1) -> Tensor:
    """Correlate x [N,I,H,W] with w [O,I/groups,kh,kw]; padding [y, x] is zeros. Differentiable any number of times."""
    return torch.ops.stylegan2.conv2d(x, w, stride, list(padding), groups)


def conv2d_transpose(y: Tensor, w: Tensor, stride: int = 1, padding: Sequence[int] = (0, 0),
                     groups: int = 1) -> Tensor:
    """The transpose of conv2d: y [N,O,H,W], w [O,I/groups,kh,kw] -> the smallest [N,I,H',W'] that conv2d makes y of."""
    size = [(n - 1) * stride - 2 * p + k for n, p, k in zip(y.shape[2:], padding, w.shape[2:], strict=True)]
    return torch.ops.stylegan2.conv2d_transpose(y, w, stride, list(padding), groups, size)


@torch.library.custom_op("stylegan2::conv2d", mutates_args=())
def _conv(x: Tensor, w: Tensor, stride: int, padding: Sequence[int], groups: int) -> Tensor:
    if winograd.fits(x, w.shape[0], stride, padding, w.shape[2:], groups):
        return torch.ops.stylegan2.winograd(x, w, stride, False)
    with no_autocast(x.device.type):
        y = torch.ops.aten.convolution(x, w, None, [stride] * 2, padding, [1, 1], False, [0, 0], groups)
    return y.contiguous(memory_format=suggested_format(x))


@torch.library.custom_op("stylegan2::conv2d_transpose", mutates_args=())
def _transpose(y: Tensor, w: Tensor, stride: int, padding: Sequence[int], groups: int, size: Sequence[int]) -> Tensor:
    """To images of `size` [H,W]."""
    least = [(n - 1) * stride - 2 * p + k for n, p, k in zip(y.shape[2:], padding, w.shape[2:], strict=True)]
    owed = [n - m for n, m in zip(size, least, strict=True)]
    if not any(owed) and winograd.fits(y, w.shape[1], stride, padding, w.shape[2:], groups):
        return torch.ops.stylegan2.winograd(y, w, stride, True)
    with no_autocast(y.device.type):
        x = torch.ops.aten.convolution(y, w, None, [stride] * 2, padding, [1, 1], True, owed, groups)
    return x.contiguous(memory_format=suggested_format(y))


@torch.library.custom_op("stylegan2::conv2d_weight_grad", mutates_args=())
def _weight_grad(dy: Tensor, x: Tensor, stride: int, padding: Sequence[int], groups: int,
                 kernel: Sequence[int]) -> Tensor:
    """[O,I/groups,*kernel] of dy [N,O,H',W'] and x [N,I,H,W]."""
    o, i = dy.shape[1], x.shape[1] // groups
    if winograd.fits(x, o, stride, padding, kernel, groups):
        return torch.ops.stylegan2.winograd_weight_grad(dy, x, stride)
    like = x.new_empty([o, i, *kernel])  # only its size counts
    with no_autocast(x.device.type):
        _, dw, _ = torch.ops.aten.convolution_backward(dy, x, like, None, [stride] * 2, padding, [1, 1], False, [0, 0],
                                                       groups, [False, True, False])
    return dw.contiguous()  # as weights are


@_conv.register_fake
def _(x: Tensor, w: Tensor, stride: int, padding: Sequence[int], groups: int) -> Tensor:
    size = [(n + 2 * p - k) // stride + 1 for n, p, k in zip(x.shape[2:], padding, w.shape[2:], strict=True)]
    return x.new_empty([x.shape[0], w.shape[0], *size]).contiguous(memory_format=suggested_format(x))


@_transpose.register_fake
def _(y: Tensor, w: Tensor, stride: int, padding: Sequence[int], groups: int, size: Sequence[int]) -> Tensor:
    return y.new_empty([y.shape[0], w.shape[1] * groups, *size]).contiguous(memory_format=suggested_format(y))


@_weight_grad.register_fake
def _(dy: Tensor, x: Tensor, stride: int, padding: Sequence[int], groups: int, kernel: Sequence[int]) -> Tensor:
    return x.new_empty([dy.shape[1], x.shape[1] // groups, *kernel])


def _save(ctx: Any, inputs: tuple, output: Tensor) -> None:
    a, b, *ctx.geometry = inputs
    ctx.save_for_backward(a, b)


def _conv_backward(ctx: Any, dy: Tensor) -> tuple:
    x, w = ctx.saved_tensors
    ops, where = torch.ops.stylegan2, ctx.geometry
    dx = ops.conv2d_transpose(dy, w, *where, x.shape[2:]) if wanted(ctx, 0) else None
    dw = ops.conv2d_weight_grad(dy, x, *where, w.shape[2:]) if wanted(ctx, 1) else None
    return dx, dw, *[None] * len(where)


def _transpose_backward(ctx: Any, dx: Tensor) -> tuple:
    y, w = ctx.saved_tensors
    ops, where = torch.ops.stylegan2, ctx.geometry[:3]
    dy = ops.conv2d(dx, w, *where) if wanted(ctx, 0) else None
    dw = ops.conv2d_weight_grad(y, dx, *where, w.shape[2:]) if wanted(ctx, 1) else None
    return dy, dw, *[None] * len(ctx.geometry)


def _weight_grad_backward(ctx: Any, ddw: Tensor) -> tuple:
    dy, x = ctx.saved_tensors
    ops, where = torch.ops.stylegan2, ctx.geometry[:3]
    ddy = ops.conv2d(x, ddw, *where) if wanted(ctx, 0) else None
    dx = ops.conv2d_transpose(dy, ddw, *where, x.shape[2:]) if wanted(ctx, 1) else None
    return ddy, dx, *[None] * len(ctx.geometry)


_conv.register_autograd(_conv_backward, setup_context=_save)
_transpose.register_autograd(_transpose_backward, setup_context=_save)
_weight_grad.register_autograd(_weight_grad_backward, setup_context=_save)
