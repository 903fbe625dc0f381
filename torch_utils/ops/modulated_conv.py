"""Modulated convolution with weight demodulation (StyleGAN2, section 2.2)."""

import torch
from torch import Tensor

from torch_utils.ops.conv2d_resample import conv2d_resample
from torch_utils.ops.energy import energy
from torch_utils.ops.independent import apart
from torch_utils.ops.layout import memory_format
from torch_utils.ops.synthesis_act import synthesis_act

EPS = 1e-8


def modulated_conv2d(
    x: Tensor,
    weight: Tensor,
    styles: Tensor,
    noise: Tensor | None = None,
    up: int = 1,
    down: int = 1,
    padding: int = 0,
    resample_filter: Tensor | None = None,
    demodulate: bool = True,
    flip_weight: bool = True,
    *,
    strength: Tensor | None = None,
    b: Tensor | None = None,
    act: str = "linear",
    gain: float | None = None,
    clamp: float | None = None,
) -> Tensor:
    """Convolve sample n of x with w'[o,i] = weight[o,i] * styles[n,i], normalised to unit length over i and the kernel.

    Then add noise * strength and b, and apply act, gain and clamp, all as in synthesis_act: that is one operator.
    x [N,I,H,W], weight [O,I,k,k], styles [N,I], noise [N,1,H',W'] or [H',W'], strength one number, b [O].
    up, down, padding, resample_filter and flip_weight as in conv2d_resample. All but x may be float32 where x is of a
    shorter type: the normalisation is then exact. In float16 nothing overflows while |x| stays below 900, which
    conv_clamp sees to. Returns [N,O,H',W'] of x's type.
    """
    assert weight.shape[1] == x.shape[1] and styles.shape == x.shape[:2]
    if x.dtype == torch.float16 and demodulate:
        weight, styles = _bounded(weight, styles)
    d = demodulation(weight, styles) if demodulate else None
    if up == down == 1 and padding == 0 and prefer_per_sample_weights(x, weight):
        y, d = _per_sample_weights(x, weight, styles, d), None
    else:
        x = x * styles.to(x.dtype)[:, :, None, None]
        y = conv2d_resample(x, weight.to(x.dtype), resample_filter, up=up, down=down, padding=padding,
                            flip_weight=flip_weight)
    return synthesis_act(y, d, noise, strength, b, act, gain=gain, clamp=clamp)


def demodulation(weight: Tensor, styles: Tensor) -> Tensor:
    """d[n,o] = 1 / sqrt(sum over i and the kernel of (weight * styles)^2), in the type of the weights."""
    energies = energy(weight)
    return (apart(lambda s: s @ energies.t(), styles.square()) + EPS).rsqrt()


def _bounded(weight: Tensor, styles: Tensor) -> tuple[Tensor, Tensor]:
    """Both scaled so that no sum of products leaves float16; demodulation cancels the factors, which are constants."""
    fan_in = weight[0].numel()
    weight_max = weight.detach().abs().amax([1, 2, 3], keepdim=True).clamp_min(EPS)
    styles_max = styles.detach().abs().amax(1, keepdim=True).clamp_min(EPS)
    return weight / (weight_max * fan_in**0.5), styles / styles_max


def prefer_per_sample_weights(x: Tensor, weight: Tensor) -> bool:
    """Whether scaling every sample's 1x1 weights is cheaper than another pass over the activations.

    So it is for large images of few channels, such as ToRGB: 2 to 7 times, forward and backward, as measured on a CPU.
    """
    return weight.shape[2] == weight.shape[3] == 1 and 25 * weight.numel() < x[0].numel()


def _per_sample_weights(x: Tensor, weight: Tensor, styles: Tensor, d: Tensor | None) -> Tensor:
    """A 1x1 convolution as one matrix product a sample, with every sample's own weights."""
    w = weight[None, :, :, 0, 0] * styles[:, None, :]  # [NOI]
    if d is not None:
        w = w * d[:, :, None]
    if memory_format(x) == torch.channels_last:  # so that x's gradient comes in its layout
        pixels = apart(torch.matmul, x.permute(0, 2, 3, 1).flatten(1, 2), w.to(x.dtype).mT)  # [N,HW,O]
        return pixels.unflatten(1, x.shape[2:]).permute(0, 3, 1, 2)
    return apart(torch.matmul, w.to(x.dtype), x.flatten(2)).unflatten(2, x.shape[2:])
