"""Convolution, its transpose and its gradient by the weights: three functions that are each other's derivatives.

torch's own second derivative computes the gradient by the weights as a convolution with kernels as large as the image,
which takes several times as long; R1 and path length regularisation are made of such derivatives.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from torch_utils.ops import winograd
from torch_utils.ops.independent import apart
from torch_utils.ops.layout import in_format_of, suggested_format
from torch_utils.ops.native import no_autocast
from torch_utils.ops.wanted import wanted

Where = tuple[int, list[int], int]  # stride, padding [y, x], groups


def conv2d(x: Tensor, w: Tensor, stride: int = 1, padding: Sequence[int] = (0, 0), groups: int = 1) -> Tensor:
    """Correlate x [N,I,H,W] with w [O,I/groups,kh,kw]; padding [y, x] is zeros. Differentiable any number of times."""
    return Convolution.apply(x, w, (stride, list(padding), groups))


def conv2d_transpose(y: Tensor, w: Tensor, stride: int = 1, padding: Sequence[int] = (0, 0),
                     groups: int = 1) -> Tensor:
    """The transpose of conv2d: y [N,O,H,W], w [O,I/groups,kh,kw] -> the smallest [N,I,H',W'] that conv2d makes y of."""
    where = stride, list(padding), groups
    return Transpose.apply(y, w, where, least_size(y, w, where))


def least_size(y: Tensor, w: Tensor, where: Where) -> list[int]:
    """[H,W] of the smallest images that a convolution with w makes y of."""
    stride, padding, _ = where
    return [(n - 1) * stride - 2 * p + k for n, p, k in zip(y.shape[2:], padding, w.shape[2:], strict=True)]


class Convolution(Function):
    """x [N,I,H,W], w [O,I/groups,kh,kw] -> [N,O,H',W']."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor, where: Where) -> Tensor:
        ctx.save_for_backward(x, w)
        ctx.where = where
        return convolved(x, w, where)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple:
        x, w = ctx.saved_tensors
        dy = in_format_of(x, dy)
        dx = Transpose.apply(dy, w, ctx.where, x.shape[2:]) if wanted(ctx, 0) else None
        dw = WeightGradient.apply(dy, x, ctx.where, w.shape[2:]) if wanted(ctx, 1) else None
        return dx, dw, None


class Transpose(Function):
    """y [N,O,H',W'], w [O,I/groups,kh,kw] -> [N,I,*size]."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, w: Tensor, where: Where, size: Sequence[int]) -> Tensor:
        ctx.save_for_backward(y, w)
        ctx.where = where
        return transposed(y, w, where, size)

    @staticmethod
    def backward(ctx: Any, dx: Tensor) -> tuple:
        y, w = ctx.saved_tensors
        dx = in_format_of(y, dx)  # R1's second pass begins with images as they are loaded, and would go on so
        dy = Convolution.apply(dx, w, ctx.where) if wanted(ctx, 0) else None
        dw = WeightGradient.apply(y, dx, ctx.where, w.shape[2:]) if wanted(ctx, 1) else None
        return dy, dw, None, None


class WeightGradient(Function):
    """dy [N,O,H',W'], x [N,I,H,W] -> [O,I/groups,*kernel]."""

    @staticmethod
    def forward(ctx: Any, dy: Tensor, x: Tensor, where: Where, kernel: Sequence[int]) -> Tensor:
        ctx.save_for_backward(dy, x)
        ctx.where = where
        return weight_gradient(dy, x, where, kernel)

    @staticmethod
    def backward(ctx: Any, ddw: Tensor) -> tuple:
        dy, x = ctx.saved_tensors
        ddy = Convolution.apply(x, ddw, ctx.where) if wanted(ctx, 0) else None
        dx = Transpose.apply(dy, ddw, ctx.where, x.shape[2:]) if wanted(ctx, 1) else None
        return ddy, dx, None, None


def convolved(x: Tensor, w: Tensor, where: Where) -> Tensor:
    stride, padding, groups = where
    if winograd.fits(x, w.shape[0], stride, padding, w.shape[2:], groups):
        return winograd.convolve.call(x, w, stride, False)
    with no_autocast(x.device.type):
        y = apart(lambda x: _library(x, w, stride, padding, False, [0, 0], groups), x)
    return y.contiguous(memory_format=suggested_format(x))


def transposed(y: Tensor, w: Tensor, where: Where, size: Sequence[int]) -> Tensor:
    stride, padding, groups = where
    owed = [n - least for n, least in zip(size, least_size(y, w, where), strict=True)]
    if not any(owed) and winograd.fits(y, w.shape[1], stride, padding, w.shape[2:], groups):
        return winograd.convolve.call(y, w, stride, True)
    with no_autocast(y.device.type):
        x = apart(lambda y: _library(y, w, stride, padding, True, owed, groups), y)
    return x.contiguous(memory_format=suggested_format(y))


def _library(x: Tensor, w: Tensor, stride: int, padding: list[int], transpose: bool, owed: list[int],
             groups: int) -> Tensor:
    return torch.ops.aten.convolution(x, w, None, [stride] * 2, padding, [1, 1], transpose, owed, groups)


def weight_gradient(dy: Tensor, x: Tensor, where: Where, kernel: Sequence[int]) -> Tensor:
    stride, padding, groups = where
    o, i = dy.shape[1], x.shape[1] // groups
    if winograd.fits(x, o, stride, padding, kernel, groups):
        return winograd.weight_grad.call(dy, x, stride)
    like = x.new_empty([o, i, *kernel])  # only its size counts
    with no_autocast(x.device.type):
        _, dw, _ = torch.ops.aten.convolution_backward(dy, x, like, None, [stride] * 2, padding, [1, 1], False, [0, 0],
                                                       groups, [False, True, False])
    return dw.contiguous()  # as weights are
