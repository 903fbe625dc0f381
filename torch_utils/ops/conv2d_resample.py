"""Convolution with upsampling or downsampling, in the order that costs least (StyleGAN2, appendix B)."""

from collections.abc import Sequence

from torch import Tensor

from torch_utils.ops.conv2d import conv2d, conv2d_transpose
from torch_utils.ops.upfirdn2d import down_padding, pair, up_padding, upfirdn2d


def conv2d_resample(
    x: Tensor,
    w: Tensor,
    f: Tensor | None = None,
    up: int = 1,
    down: int = 1,
    padding: int | Sequence[int] = 0,
    groups: int = 1,
    flip_weight: bool = True,
) -> Tensor:
    """downsample_f(conv_w(upsample_f(x))) for x [N,C,H,W], w [O,C/groups,kh,kw] and a filter f from setup_filter.

    padding counts upsampled pixels of x; one number or [x, y], and it is zeros. flip_weight=True correlates, as
    torch.conv2d does; False convolves. up and down are whole numbers. Differentiable any number of times in x and w.
    """
    px, py = pair(padding)
    pad = [px, px, py, py]
    if up > 1:
        pad = [a + b for a, b in zip(pad, up_padding(f, up), strict=True)]
    if down > 1:
        pad = [a + b for a, b in zip(pad, down_padding(f, down), strict=True)]
    kh, kw = w.shape[2:]

    if (kh, kw) == (1, 1) and down > 1 and up == 1:
        x = upfirdn2d(x, f, down=down, padding=pad)
        return _conv(x, w, groups=groups)
    if (kh, kw) == (1, 1) and up > 1 and down == 1:
        x = _conv(x, w, groups=groups)
        return upfirdn2d(x, f, up=up, padding=pad, gain=up**2)
    if down > 1 and up == 1:
        x = upfirdn2d(x, f, padding=pad)
        return _conv(x, w, stride=down, groups=groups, flip_weight=flip_weight)
    if up > 1:
        x, pad = _conv_up(x, w, up, pad, groups, flip_weight)
        x = upfirdn2d(x, f, padding=pad, gain=up**2)
        return x if down == 1 else upfirdn2d(x, f, down=down)
    return _conv(x, w, padding=[py, px], groups=groups, flip_weight=flip_weight)


def _conv(
    x: Tensor, w: Tensor, stride: int = 1, padding: Sequence[int] = (0, 0), groups: int = 1, flip_weight: bool = True
) -> Tensor:
    return conv2d(x, w if flip_weight else w.flip([2, 3]), stride, padding, groups)


def _conv_up(
    x: Tensor, w: Tensor, up: int, pad: list[int], groups: int, flip_weight: bool
) -> tuple[Tensor, list[int]]:
    """Convolve x with zeros inserted; returns what padding is still owed (it commutes with the filter that follows)."""
    kh, kw = w.shape[2:]
    owed = [pad[0] - (kw - 1), pad[1] - (kw - up), pad[2] - (kh - 1), pad[3] - (kh - up)]
    crop = [max(min(-owed[2], -owed[3]), 0), max(min(-owed[0], -owed[1]), 0)]
    w = w.unflatten(0, (groups, -1)).transpose(1, 2).flatten(0, 1)  # [O, I/g, kh, kw] -> [I, O/g, kh, kw]
    y = conv2d_transpose(x, w.flip([2, 3]) if flip_weight else w, up, crop, groups)
    return y, [owed[0] + crop[1], owed[1] + crop[1], owed[2] + crop[0], owed[3] + crop[0]]
