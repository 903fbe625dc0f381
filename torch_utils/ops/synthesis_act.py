"""All that follows the convolution of a synthesis layer, in one operator (StyleGAN2, section 2.2 and figure 2d).

Demodulation, noise, bias, activation, gain and clamp read and write the activations once instead of three times; the
gradient likewise, taking the sums for scale, strength and bias on its way. As in bias_act the output tells the slope.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from torch_utils.ops import native
from torch_utils.ops.bias_act import (
    BiasActGrad,
    bias_act,
    bias_act_grad_reference,
    bias_act_reference,
    piecewise_linear,
)
from torch_utils.ops.layout import in_format_of
from torch_utils.ops.native import pattern


def synthesis_act(
    x: Tensor,
    scale: Tensor | None = None,
    noise: Tensor | None = None,
    strength: Tensor | None = None,
    b: Tensor | None = None,
    act: str = "linear",
    alpha: float | None = None,
    gain: float | None = None,
    clamp: float | None = None,
) -> Tensor:
    """clip(gain * act(x * scale + noise * strength + b), +-clamp).

    x [N,C,H,W] of any floating type; scale [N,C], noise [N,1,H,W] or [H,W], strength one number (None: 1), b [C], each
    of any floating type or None; act, alpha, gain and clamp as in bias_act. The result has x's shape, type and memory
    format. Differentiable any number of times.
    """
    linear = piecewise_linear(act, alpha, gain, clamp, x.dtype)
    if linear is None or (noise is not None and noise.requires_grad):
        t = x if scale is None else x * _per_image(scale, x)
        t = t if noise is None else t + (noise if strength is None else noise * strength).to(x.dtype)
        return bias_act(t, None if b is None else b.to(x.dtype), 1, act, alpha, gain, clamp)
    if scale is noise is b is None and linear == (1, 1, None):
        return x
    exact = torch.promote_types(x.dtype, torch.float32)
    assert scale is None or scale.shape == x.shape[:2]
    if noise is None:
        strength = None
    else:
        noise = noise.detach().expand([1] * (4 - noise.ndim) + list(noise.shape)).to(exact)
        strength = torch.ones([], dtype=exact, device=x.device) if strength is None else strength.reshape([])
    scale, strength, b = (None if t is None else t.to(exact) for t in (scale, strength, b))
    return SynthesisAct.apply(x, scale, noise, strength, b, *linear)


def _examples(device: torch.device, dtype: torch.dtype) -> list[tuple]:
    x, scale, noise, strength, b = _inputs(device, dtype, 12, 9, 7)
    wide, wide_scale, wide_noise, _, wide_b = _inputs(device, dtype, 32, 8, 16)
    last, wide_last = (t.contiguous(memory_format=torch.channels_last) for t in (x, wide))
    wides = (wide, wide_last)
    return [(x, scale, noise, strength, b, 0.2, 1.5, 0.5), (last, scale, noise[:1], strength, b, 0.2, 1.5, None),
            (last, None, None, None, b, 0.0, 1.0, None), (x[:, :, 1:, ::2], scale, None, None, None, 1.0, 1.0, None),
            *((wide, wide_scale, wide_noise, strength, wide_b, 0.2, 1.5, 0.5) for wide in wides)]


def _grad_examples(device: torch.device, dtype: torch.dtype) -> list[tuple]:
    x, scale, noise, _, _ = _inputs(device, dtype, 12, 9, 7)
    y, dy, last = x.flip([3]), x.flip([0, 1]), torch.channels_last
    wide, wide_scale, wide_noise, _, _ = _inputs(device, dtype, 16, 96, 96)  # sums in several chunks
    wides = [tuple(t.contiguous(memory_format=layout) for t in (wide, wide.flip([3]), wide.flip([0])))
             for layout in (torch.contiguous_format, last)]
    return [(dy, y, x, scale, noise, True, 0.2, 1.5, 0.5), (dy, y, None, None, None, True, 0.2, 1.5, None),
            (*(t.contiguous(memory_format=last) for t in (dy, y, x)), scale, noise[:1], True, 0.0, 1.0, 0.5),
            (dy.contiguous(memory_format=last), y, None, scale, None, False, 1.0, 1.0, None),
            *((*three, wide_scale, wide_noise, True, 0.2, 1.5, 0.5) for three in wides)]


def _inputs(device: torch.device, dtype: torch.dtype, c: int, h: int, w: int) -> tuple[Tensor, ...]:
    shapes = [[2, c, h, w], [2, c], [2, 1, h, w], [], [c]]
    types = [dtype] + 4 * [torch.promote_types(dtype, torch.float32)]
    return tuple(pattern(*shape, device=device, dtype=kind) for shape, kind in zip(shapes, types, strict=True))


@native.operator("synthesis_act", _examples)
def _synthesis_act(
    x: Tensor, scale: Tensor | None, noise: Tensor | None, strength: Tensor | None, b: Tensor | None,
    alpha: float, gain: float, clamp: float | None,
) -> Tensor:  # fmt: skip
    """noise [N or 1,1,H,W]; scale, noise, strength and b of float32, or float64 where x is."""
    t = x if scale is None else x * _per_image(scale, x)
    if noise is not None and strength is not None:
        t = t + (noise * strength).to(x.dtype)
    return bias_act_reference(t, None if b is None else b.to(x.dtype), 1, alpha, gain, clamp)


@native.operator("synthesis_act_grad", _grad_examples)
def _synthesis_act_grad(
    dy: Tensor, y: Tensor, x: Tensor | None, scale: Tensor | None, noise: Tensor | None, with_sum: bool,
    alpha: float, gain: float, clamp: float | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """g * scale, and pixel sums of g * x, g * noise and g: [N,C], or [0,0] if not asked for; g = dy * slope(y)."""
    g = bias_act_grad_reference(dy, y, alpha, gain, clamp)
    factors = (x, None if noise is None else noise.to(g.dtype), 1 if with_sum else None)
    sums = [_nothing(dy) if factor is None else _pixel_sum(g * factor) for factor in factors]
    return g if scale is None else g * _per_image(scale, g), sums[0], sums[1], sums[2]


@_synthesis_act.register_fake
def _(x: Tensor, scale: Tensor | None, noise: Tensor | None, strength: Tensor | None, b: Tensor | None,
      alpha: float, gain: float, clamp: float | None) -> Tensor:  # fmt: skip
    return torch.empty_like(x)


@_synthesis_act_grad.register_fake
def _(dy: Tensor, y: Tensor, x: Tensor | None, scale: Tensor | None, noise: Tensor | None, with_sum: bool,
      alpha: float, gain: float, clamp: float | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    sums = [_nothing(dy, dy.shape[:2] if wanted else (0, 0)) for wanted in (x is not None, noise is not None, with_sum)]
    return torch.empty_like(dy), sums[0], sums[1], sums[2]


class SynthesisAct(Function):
    """As the operator of that name, with its derivatives; the noise is constant."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor | None, noise: Tensor | None, strength: Tensor | None,
                b: Tensor | None, alpha: float, gain: float, clamp: float | None) -> Tensor:
        _, needs_scale, _, needs_strength, ctx.needs_b, *_ = ctx.needs_input_grad
        ctx.linear = alpha, gain, clamp
        y = _synthesis_act.call(x, scale, noise, strength, b, alpha, gain, clamp)
        ctx.save_for_backward(y, x if needs_scale else None, scale, noise if needs_strength else None)
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple:
        y, x, scale, noise = ctx.saved_tensors
        dx, sum_gx, sum_gnoise, sum_g = SynthesisActGrad.apply(in_format_of(y, dy), y, x, scale, noise, ctx.needs_b,
                                                               *ctx.linear)
        return (dx, None if x is None else sum_gx, None, None if noise is None else sum_gnoise.sum(),
                sum_g.sum(0) if ctx.needs_b else None, None, None, None)


class SynthesisActGrad(Function):
    """As synthesis_act_grad: linear in dy, and bilinear in g and (x, scale)."""

    @staticmethod
    def forward(ctx: Any, dy: Tensor, y: Tensor, x: Tensor | None, scale: Tensor | None, noise: Tensor | None,
                with_sum: bool, alpha: float, gain: float, clamp: float | None) -> tuple[Tensor, ...]:
        ctx.with_sum, ctx.linear = with_sum, (alpha, gain, clamp)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(dy, y, x, scale, noise)
        return _synthesis_act_grad.call(dy, y, x, scale, noise, with_sum, alpha, gain, clamp)

    @staticmethod
    def backward(ctx: Any, ddx: Tensor | None, dgx: Tensor | None, dgn: Tensor | None, dg: Tensor | None) -> tuple:
        dy, y, x, scale, noise = ctx.saved_tensors
        slope = lambda t: BiasActGrad.apply(t, y, *ctx.linear)  # noqa: E731
        terms = [] if ddx is None else [ddx if scale is None else ddx * _per_image(scale, ddx)]
        terms += [factor.to(dy.dtype) * _per_image(total, dy) for factor, total in ((x, dgx), (noise, dgn))
                  if factor is not None and total is not None]
        if ctx.with_sum and dg is not None:
            terms.append(_per_image(dg, dy).expand_as(dy))
        g = slope(dy) if x is not None or scale is not None else None
        d_x = None if x is None or dgx is None or g is None else g * _per_image(dgx, g)
        d_scale = None if scale is None or ddx is None or g is None else _pixel_sum(g * ddx)
        return slope(sum(terms[1:], terms[0])) if terms else None, None, d_x, d_scale, None, None, None, None, None


def _per_image(values: Tensor, like: Tensor) -> Tensor:
    """[N,C] -> [N,C,1,1] in the type of like."""
    return values.to(like.dtype)[:, :, None, None]


def _pixel_sum(t: Tensor) -> Tensor:
    return t.sum([2, 3], dtype=torch.promote_types(t.dtype, torch.float32))


def _nothing(like: Tensor, shape: torch.Size | tuple[int, int] = (0, 0)) -> Tensor:
    return like.new_empty(shape, dtype=torch.promote_types(like.dtype, torch.float32))
