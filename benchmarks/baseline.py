"""Training in its plain formulation: what the project's speed is measured against.

The same networks, losses and augmentation, written with torch functions as the papers' formulas read: NCHW images, the
zeros of an upsampling put in and filtered with the whole two-dimensional filter, and one operation after the other. It
computes in the precision that the networks are told to use. The C library's allocator is left alone by whoever does
not call torch_utils.host.keep_freed_memory.

Weights are modulated in one of three equal ways (StyleGAN2, section 2.2), of which the first is the one to beat:
  scaled   the activations are scaled before and after a convolution that all samples share; what normalises a sample's
           weights is a product of two matrices, the squares of styles and of weights
  weights  the same, but every sample's own weights are written down to normalise them, as the formula reads and as the
           published code does when it is told not to group
  grouped  every sample's own weights in one grouped convolution, as the published code does by default
On a CPU phases of G take about twice as long in the second, and longer in the third: they flatter what is compared.
"""

import contextlib
import functools
from collections.abc import Iterator, Sequence
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks import plain
from stylegan2_pipeline import augment_geometry, layers, networks
from torch_utils.ops import modulated_conv
from torch_utils.ops import upfirdn2d as upfirdn2d_module
from torch_utils.ops.bias_act import ACTIVATIONS
from torch_utils.ops.upfirdn2d import down_padding, pair, up_padding


@contextlib.contextmanager
def plain_formulation(modulation: str = "scaled") -> Iterator[None]:
    """Within it networks and augmentation compute plainly, forward and backward."""
    assert modulation in ("scaled", "weights", "grouped")
    with contextlib.ExitStack() as stack:
        for module, name, replacement in (
            (upfirdn2d_module, "upfirdn2d", upfirdn2d),
            (layers, "conv2d_resample", conv2d_resample),
            (layers, "bias_act", bias_act),
            (layers, "modulated_conv2d", functools.partial(modulated_conv2d, modulation=modulation)),
            (augment_geometry, "grid_sample", grid_sample),
            (networks.Block, "enter", enter),
            (networks, "in_usual_layout", Tensor.contiguous),
        ):
            stack.enter_context(patch.object(module, name, replacement))
        yield


@contextlib.contextmanager
def shared_convolutions() -> Iterator[None]:
    """Within it convolutions are torch's, with weights that all samples share, and all else is as it always is.

    So their arithmetic can be counted, whichever operators otherwise stand for them.
    """
    with patch.object(layers, "conv2d_resample", conv2d_resample), \
            patch.object(layers, "modulated_conv2d", modulated_conv2d):
        yield


def enter(block: networks.Block, x: Tensor, force_fp32: bool) -> Tensor:
    """x in the block's type, as the networks choose it, and always NCHW."""
    half = block.use_fp16 and not force_fp32 and not (x.device.type == "cpu" and block.half_dtype == torch.float16)
    return x.to(dtype=block.half_dtype if half else torch.float32, memory_format=torch.contiguous_format)


def upfirdn2d(x: Tensor, f: Tensor | None, up: int | Sequence[int] = 1, down: int | Sequence[int] = 1,
              padding: int | Sequence[int] = 0, flip_filter: bool = False, gain: float = 1.0) -> Tensor:
    f = torch.ones([1, 1], device=x.device) if f is None else f
    padding = [padding] * 4 if isinstance(padding, int) else list(padding)
    return plain.upfirdn2d(x, f, pair(up), pair(down), padding, flip_filter, gain)


def conv2d_resample(x: Tensor, w: Tensor, f: Tensor | None = None, up: int = 1, down: int = 1, padding: int = 0,
                    groups: int = 1, flip_weight: bool = True) -> Tensor:
    """The orders that the networks need: a transposed convolution, then the filter; the filter, then a convolution."""
    filtered, k = upfirdn2d_module.upfirdn2d, w.shape[-1]
    if up > 1:
        assert k > 1 and down == 1
        w = w.unflatten(0, (groups, -1)).transpose(1, 2).flatten(0, 1)  # [O, I/g, k, k] -> [I, O/g, k, k]
        x = F.conv_transpose2d(x, w.flip([2, 3]) if flip_weight else w, stride=up, groups=groups)
        before, after = up_padding(f, up)[:2]
        owed = [padding + before - (k - 1), padding + after - (k - up)]
        return filtered(x, f, padding=[*owed, *owed], gain=up**2)
    w = w if flip_weight else w.flip([2, 3])
    if down > 1:
        pads = [padding + amount for amount in down_padding(f, down)]
        if k == 1:
            return F.conv2d(filtered(x, f, down=down, padding=pads), w, groups=groups)
        return F.conv2d(filtered(x, f, padding=pads), w, stride=down, groups=groups)
    return F.conv2d(x, w, padding=padding, groups=groups)


def bias_act(x: Tensor, b: Tensor | None = None, dim: int = 1, act: str = "linear", alpha: float | None = None,
             gain: float | None = None, clamp: float | None = None) -> Tensor:
    """The activations that the networks use: linear and lrelu."""
    spec = ACTIVATIONS[act]
    slope = {"linear": 1.0, "lrelu": 0.2 if alpha is None else alpha}[act]
    return plain.bias_act(x, b, dim, slope, spec.gain if gain is None else gain, clamp)


def modulated_conv2d(x: Tensor, weight: Tensor, styles: Tensor, noise: Tensor | None = None, up: int = 1,
                     padding: int = 0, resample_filter: Tensor | None = None, demodulate: bool = True,
                     flip_weight: bool = True, *, strength: Tensor | None = None, b: Tensor | None = None,
                     act: str = "linear", gain: float | None = None, clamp: float | None = None,
                     modulation: str = "scaled") -> Tensor:
    if x.dtype == torch.float16 and demodulate:
        weight, styles = bounded(weight, styles)
    convolve = functools.partial(conv2d_resample, f=resample_filter, up=up, padding=padding, flip_weight=flip_weight)
    weights = None if modulation == "scaled" else weight[None] * styles[:, None, :, None, None]  # [NOIkk]
    d = demodulation(weight, styles, weights) if demodulate else None
    if modulation == "grouped":
        assert weights is not None
        n, _, h, w = x.shape
        weights = weights if d is None else weights * d[:, :, None, None, None]
        x = convolve(x.reshape(1, -1, h, w), weights.flatten(0, 1).to(x.dtype), groups=n)
        x = x.reshape(n, -1, *x.shape[2:])
    else:
        x = convolve(x * styles[:, :, None, None].to(x.dtype), weight.to(x.dtype))
        x = x if d is None else x * d[:, :, None, None].to(x.dtype)
    if noise is not None and strength is not None:
        x = x + (noise * strength).to(x.dtype)
    return bias_act(x, None if b is None else b.to(x.dtype), act=act, gain=gain, clamp=clamp)


def demodulation(weight: Tensor, styles: Tensor, weights: Tensor | None) -> Tensor:
    """What normalises every sample's weights [N,O]: from those themselves [NOIkk], or where there are none, without."""
    squares = styles.square() @ weight.square().sum([2, 3]).t() if weights is None else weights.square().sum([2, 3, 4])
    return (squares + modulated_conv.EPS).rsqrt()


def bounded(weight: Tensor, styles: Tensor) -> tuple[Tensor, Tensor]:
    """Both scaled so that no sum of products leaves float16; demodulation cancels the factors."""
    weight = weight / (weight.abs().amax([1, 2, 3], keepdim=True) * weight[0].numel() ** 0.5)
    return weight, styles / styles.abs().amax(1, keepdim=True)


def grid_sample(x: Tensor, grid: Tensor) -> Tensor:
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
