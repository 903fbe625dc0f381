"""Bias, activation, gain and clamp in one operator (StyleGAN2-ADA, appendix on implementation).

A piecewise-linear activation is one registered operator that saves only its output: the output's sign tells the slope
and its size tells where the clamp held. Its gradient is linear in dy and piecewise constant in everything else, so that
it is its own derivative at every order. The smooth activations are composed from torch functions.
"""

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function

from torch_utils.ops import native
from torch_utils.ops.layout import in_format_of
from torch_utils.ops.native import pattern
from torch_utils.ops.wanted import wanted


class Activation(NamedTuple):
    """slope: of the negative side of a piecewise-linear activation, nan where alpha gives it; fn: a smooth one."""

    gain: float
    slope: float | None = None
    fn: Callable[[Tensor], Tensor] | None = None


LRELU_ALPHA = 0.2
ACTIVATIONS = {
    "linear":   Activation(1, slope=1),
    "relu":     Activation(math.sqrt(2), slope=0),
    "lrelu":    Activation(math.sqrt(2), slope=math.nan),
    "tanh":     Activation(1, fn=torch.tanh),
    "sigmoid":  Activation(1, fn=torch.sigmoid),
    "elu":      Activation(1, fn=F.elu),
    "selu":     Activation(1, fn=F.selu),
    "softplus": Activation(1, fn=F.softplus),
    "swish":    Activation(math.sqrt(2), fn=F.silu),
}


def bias_act(
    x: Tensor,
    b: Tensor | None = None,
    dim: int = 1,
    act: str = "linear",
    alpha: float | None = None,
    gain: float | None = None,
    clamp: float | None = None,
) -> Tensor:
    """clip(gain * act(x + b), +-clamp), with b [x.shape[dim]] broadcast along the other dimensions.

    act is a name in ACTIVATIONS, which also gives the default gain; alpha is the slope of lrelu (0.2). x of any shape
    and floating type, b of the same type; the result has x's shape, type and memory format. The gradient is zero where
    the clamp holds. Differentiable any number of times. The result may be x itself where there is nothing to do.
    """
    spec = ACTIVATIONS[act]
    assert b is None or (b.ndim == 1 and b.shape[0] == x.shape[dim] and b.dtype == x.dtype)
    assert clamp is None or clamp >= 0
    dim = dim % x.ndim if x.ndim else 0
    gain = spec.gain if gain is None else gain

    if act == "linear" and clamp is None:
        return _scaled(x if b is None else x + _along(b, dim, x.ndim), gain)
    if linear := piecewise_linear(act, alpha, gain, clamp, x.dtype):
        return BiasAct.apply(x, b, dim, *linear)
    t = x if b is None else x + _along(b, dim, x.ndim)
    y = _scaled(F.leaky_relu(t, _slope(spec, alpha)) if spec.fn is None else spec.fn(t), gain)
    return y if clamp is None else BiasAct.apply(y, None, 0, 1.0, 1.0, _representable(clamp, x.dtype))


def piecewise_linear(
    act: str, alpha: float | None, gain: float | None, clamp: float | None, dtype: torch.dtype
) -> tuple[float, float, float | None] | None:
    """(alpha, gain, clamp) as the registered operators take them, or None where the output does not tell the slope.

    The arguments are those of bias_act; clamp is returned as dtype rounds it.
    """
    spec = ACTIVATIONS[act]
    gain = spec.gain if gain is None else gain
    if spec.slope is None or gain <= 0 or _slope(spec, alpha) < 0:
        return None
    return _slope(spec, alpha), gain, None if clamp is None else _representable(clamp, dtype)


def _examples(device: torch.device, dtype: torch.dtype) -> list[tuple]:
    x, b = pattern(2, 6, 5, 8, device=device, dtype=dtype), pattern(6, device=device, dtype=dtype)
    last = x.contiguous(memory_format=torch.channels_last)
    wide, wide_b = pattern(2, 32, 4, 8, device=device, dtype=dtype), pattern(32, device=device, dtype=dtype)
    return [(x, b, 1, 0.2, 1.5, 0.5), (last, b, 1, 0.2, 1.5, None), (x[:, :, 0, 0], b, 1, 0.0, 1.0, None),
            (x[:, :, 1:4, 2:5], None, 0, 1.0, 1.0, 0.25), (wide, wide_b, 1, 0.2, 1.5, 0.5),
            (wide.contiguous(memory_format=torch.channels_last), wide_b, 1, 0.2, 1.5, 0.5)]


def _grad_examples(device: torch.device, dtype: torch.dtype) -> list[tuple]:
    dy, y = pattern(2, 6, 5, 8, device=device, dtype=dtype), pattern(2, 6, 8, 5, device=device, dtype=dtype).mT
    wide = pattern(2, 32, 4, 8, device=device, dtype=dtype)
    return [(dy, y, 0.2, 1.5, 0.5), (dy.mT, y.mT, 0.0, 1.0, None), (wide, wide.flip([1]), 0.2, 1.5, 0.5)]


def bias_act_reference(x: Tensor, b: Tensor | None, dim: int, alpha: float, gain: float, clamp: float | None) -> Tensor:
    """clip(gain * (t if t > 0 else alpha * t), +-clamp) of t = x + b; alpha >= 0, gain > 0, clamp exact in x's type."""
    if b is None:
        y = x * gain
    else:
        y = x + _along(b, dim, x.ndim)
        if gain != 1:
            y.mul_(gain)
    if alpha != 1:
        F.leaky_relu_(y, alpha)
    return y if clamp is None else y.clamp_(-clamp, clamp)


def bias_act_grad_reference(dy: Tensor, y: Tensor, alpha: float, gain: float, clamp: float | None) -> Tensor:
    """dy times the slope where the output was y: gain or gain * alpha by the sign of y, 0 where |y| >= clamp."""
    dx = dy * gain if alpha == 1 else torch.ops.aten.leaky_relu_backward(dy, y, alpha, True)
    if alpha != 1 and gain != 1:
        dx.mul_(gain)
    return dx if clamp is None else dx.masked_fill_(y.abs() >= clamp, 0)


_bias_act = native.operator("bias_act", _examples)(bias_act_reference)
_bias_act_grad = native.operator("bias_act_grad", _grad_examples)(bias_act_grad_reference)


@_bias_act.register_fake
def _(x: Tensor, b: Tensor | None, dim: int, alpha: float, gain: float, clamp: float | None) -> Tensor:
    return torch.empty_like(x)


@_bias_act_grad.register_fake
def _(dy: Tensor, y: Tensor, alpha: float, gain: float, clamp: float | None) -> Tensor:
    return torch.empty_like(dy)


class BiasAct(Function):
    """As the operator of that name, with its derivatives."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, b: Tensor | None, dim: int, alpha: float, gain: float,
                clamp: float | None) -> Tensor:
        ctx.linear = alpha, gain, clamp
        ctx.other_dims = None if b is None else [i for i in range(x.ndim) if i != dim]
        y = _bias_act.call(x, b, dim, alpha, gain, clamp)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple:
        (y,) = ctx.saved_tensors
        dx = BiasActGrad.apply(in_format_of(y, dy), y, *ctx.linear)
        db = None
        if ctx.other_dims is not None and wanted(ctx, 1):
            db = dx.sum(ctx.other_dims) if ctx.other_dims else dx.clone()
        return dx, db, None, None, None, None


class BiasActGrad(Function):
    """As bias_act_grad: linear in dy, and its own derivative."""

    @staticmethod
    def forward(ctx: Any, dy: Tensor, y: Tensor, alpha: float, gain: float, clamp: float | None) -> Tensor:
        ctx.linear = alpha, gain, clamp
        ctx.save_for_backward(y)
        return _bias_act_grad.call(dy, y, alpha, gain, clamp)

    @staticmethod
    def backward(ctx: Any, ddx: Tensor) -> tuple:
        (y,) = ctx.saved_tensors
        return BiasActGrad.apply(ddx, y, *ctx.linear), None, None, None, None


def _slope(spec: Activation, alpha: float | None) -> float:
    """Of the negative side; spec.slope is not None."""
    assert spec.slope is not None
    return spec.slope if not math.isnan(spec.slope) else LRELU_ALPHA if alpha is None else alpha


def _along(b: Tensor, dim: int, ndim: int) -> Tensor:
    return b.reshape([-1 if i == dim else 1 for i in range(ndim)])


def _scaled(x: Tensor, gain: float) -> Tensor:
    return x if gain == 1 else x * gain


@torch.compiler.assume_constant_result
def _representable(value: float, dtype: torch.dtype) -> float:
    """value as dtype rounds it, so that |y| >= clamp holds exactly where y was clipped."""
    return _rounded(value, dtype)


@lru_cache
def _rounded(value: float, dtype: torch.dtype) -> float:
    return torch.tensor(value, dtype=dtype).item()
