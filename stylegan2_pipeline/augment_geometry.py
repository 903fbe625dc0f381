"""Geometric augmentations: one inverse matrix a sample, and one warp without aliasing (StyleGAN2-ADA, appendix B)."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from stylegan2_pipeline.augment_draws import Parameters
from torch_utils.ops.grid_sample import grid_sample
from torch_utils.ops.upfirdn2d import downsample2d, upsample2d

SYM6 = [  # the low-pass filter of the symlet wavelet with six vanishing moments
    0.015404109327027373, 0.0034907120842174702, -0.11799011114819057, -0.048311742585633, 0.4910559419267466,
    0.787641141030194, 0.3379294217276218, -0.07263752278646252, -0.021060292512300564, 0.04472490177066578,
    0.0017677118642428036, -0.007800708325034148,
]  # fmt: skip
REACH = len(SYM6) // 4  # of half the filter, in pixels before upsampling


def inverse_matrices(
    draw: Parameters, size: tuple[int, int], *,
    xint_max: float, scale_std: float, rotate_max: float, aniso_std: float, xfrac_std: float,
) -> Tensor:  # fmt: skip
    """[N,3,3] float64: from a place in the augmented image to one in the original, in pixels from the centre.

    size: (width, height). Translations are in units of it, rotations of half a turn, deviations of scales in octaves.
    """
    wh = torch.tensor(size, dtype=torch.float64)
    flip = 1 - 2 * draw.choice("xflip", 2)
    shift = (draw.uniform("xint", xint_max) * wh).round()
    scale = 2 ** -draw.normal("scale", scale_std)
    aniso = 2 ** -draw.normal("aniso", aniso_std)
    drift = draw.normal("xfrac", xfrac_std) * wh
    return (
        scaling(flip, torch.ones_like(flip))
        @ rotation(draw.choice("rotate90", 4) * (math.pi / 2))
        @ translation(-shift)
        @ scaling(scale, scale)
        @ rotation(draw.uniform("pre_rotate", rotate_max * math.pi))
        @ scaling(aniso, 1 / aniso)
        @ rotation(draw.uniform("post_rotate", rotate_max * math.pi))
        @ translation(-drift)
    )


def scaling(x: Tensor, y: Tensor) -> Tensor:
    """[N,3,3] from [N] each."""
    return torch.diag_embed(torch.stack([x, y, torch.ones_like(x)], 1))


def rotation(angle: Tensor) -> Tensor:
    """[N,3,3] from [N] radians."""
    matrix = torch.diag_embed(torch.ones(len(angle), 3, dtype=angle.dtype))
    matrix[:, 0, 0] = matrix[:, 1, 1] = angle.cos()
    matrix[:, 1, 0] = angle.sin()
    matrix[:, 0, 1] = -angle.sin()
    return matrix


def translation(xy: Tensor) -> Tensor:
    """[N,3,3] from [N,2]."""
    matrix = torch.diag_embed(torch.ones(len(xy), 3, dtype=xy.dtype))
    matrix[:, :2, 2] = xy
    return matrix


def warp_plan(inverse: Tensor, size: tuple[int, int], coarse: bool = False) -> tuple[Tensor, tuple[int, int]]:
    """What `warp` needs of inverse matrices [N,3,3] for images of `size` (width, height): theta [N,2,3] and margins."""
    pad_x, pad_y = margins = reflection_margins(inverse, size, coarse)
    half = torch.tensor([[-0.5, -0.5]], dtype=torch.float64)  # the first moment of f is at tap 5, not at 5.5
    two = torch.full([1], 2.0, dtype=torch.float64)
    to_input = translation(half) @ scaling(two, two) @ inverse
    to_input = to_input @ scaling(1 / two, 1 / two) @ translation(-half)  # both sides in subpixels

    out_w, out_h = warped_size(size)
    to_unit = _scaling_of(2 / (2 * (size[0] + 2 * pad_x)), 2 / (2 * (size[1] + 2 * pad_y)))
    theta = (to_unit @ to_input @ _scaling_of(out_w / 2, out_h / 2))[:, :2]
    return theta.float(), margins


def warp(images: Tensor, theta: Tensor, margins: tuple[int, int], f: Tensor) -> Tensor:
    """Images [N,C,H,W] seen through a plan from warp_plan, mirrored at their edges; f from SYM6.

    Twice the resolution while sampling keeps bilinear interpolation from blurring. Beyond the mirror image there is 0.
    """
    pad_x, pad_y = margins
    x = upsample2d(F.pad(images, [pad_x, pad_x, pad_y, pad_y], mode="reflect"), f)
    out_w, out_h = warped_size((images.shape[3], images.shape[2]))
    grid = F.affine_grid(theta.to(images.dtype), [len(x), x.shape[1], out_h, out_w], align_corners=False)
    x = grid_sample(x, grid)
    return downsample2d(x, f, padding=-2 * REACH, flip_filter=True)


def warped_size(size: tuple[int, int]) -> tuple[int, int]:
    """(width, height) that images are sampled at: twice theirs, and what the second filter looks at beyond."""
    return 2 * (size[0] + 2 * REACH), 2 * (size[1] + 2 * REACH)


def reflection_margins(inverse: Tensor, size: tuple[int, int], coarse: bool = False) -> tuple[int, int]:
    """(x, y) pixels that the warp of this batch looks at beyond the edges; at most size - 1.

    Rounded up to eighths of the size, so that convolutions meet few shapes: cuDNN searches anew for each. coarse: to
    quarters, and the same fraction both ways, so that there are five. A margin may be larger than is looked at.
    """
    x, y = ((n - 1) / 2 + REACH for n in size)  # with what the second filter looks at
    corners = torch.tensor([[sx * x, sy * y, 1] for sx in (-1, 1) for sy in (-1, 1)], dtype=torch.float64)
    places = (inverse @ corners.t())[:, :2]  # [N,2,4]
    beyond = [most - (n - 1) / 2 + REACH for most, n in zip(places.abs().amax([0, 2]).tolist(), size, strict=True)]
    steps = [max(n // (4 if coarse else 8), 1) for n in size]
    counts = [max(math.ceil(pixels / step), 0) for pixels, step in zip(beyond, steps, strict=True)]
    if coarse:
        counts = [max(counts)] * 2
    across, down = (min(count * step, n - 1) for count, step, n in zip(counts, steps, size, strict=True))
    return across, down


def _scaling_of(x: float, y: float) -> Tensor:
    return scaling(*torch.tensor([[x], [y]], dtype=torch.float64))
