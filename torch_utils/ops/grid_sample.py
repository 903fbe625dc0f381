"""Bilinear sampling at given places, differentiable with respect to the image any number of times.

R1 differentiates through the augmentation twice, and torch.nn.functional.grid_sample can be differentiated once in some
versions of torch (2.11). Sampling is linear in the image: it and its transpose are each other's derivative.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from torch_utils.ops.registration import Registered

BILINEAR, ZEROS, ALIGN_CORNERS = 0, 0, False


def grid_sample(x: Tensor, grid: Tensor) -> Tensor:
    """x [N,C,H,W] at the places grid [N,H',W',2] of the same type: (x, y), -1 and 1 being the outer edges of the image.

    Outside the image are zeros. Returns [N,C,H',W']. The places are constant: no derivative with respect to them.
    """
    assert x.ndim == 4 and grid.ndim == 4 and x.dtype == grid.dtype and not grid.requires_grad
    return Sample.apply(x, grid)


@partial(Registered, "grid_sample")
def _sample(x: Tensor, grid: Tensor) -> Tensor:
    return torch.ops.aten.grid_sampler_2d(x, grid, BILINEAR, ZEROS, ALIGN_CORNERS).contiguous()


@partial(Registered, "grid_sample_grad")
def _spread(dy: Tensor, grid: Tensor, size: Sequence[int]) -> Tensor:
    """The transpose: each number of dy [N,C,H',W'] to the pixels of an image of size [H,W] that it was taken from."""
    if dy.is_cuda and torch.are_deterministic_algorithms_enabled():
        return spread_in_order(dy, grid, size)
    image = dy.new_zeros([]).expand(*dy.shape[:2], *size)  # only its size counts
    wanted = [True, False]
    dx, _ = torch.ops.aten.grid_sampler_2d_backward(dy, image, grid, BILINEAR, ZEROS, ALIGN_CORNERS, wanted)
    return dx.contiguous()


def spread_in_order(dy: Tensor, grid: Tensor, size: Sequence[int]) -> Tensor:
    """The same by torch's index_add_, which can be told to add in a fixed order on a GPU, as torch's own cannot."""
    n, c, (height, width) = dy.shape[0], dy.shape[1], size
    scale = torch.stack([torch.full([], n, dtype=grid.dtype, device=grid.device) for n in (width, height)])
    place = ((grid + 1) * scale - 1) / 2  # [NHW2] in pixels, 0 being the centre of the first
    corner = place.floor()
    values = dy.permute(0, 2, 3, 1)  # [NHWC]
    dx = dy.new_zeros([n * height * width, c])
    first = torch.arange(n, device=dy.device)[:, None, None] * (height * width)
    for right, below in ((0, 0), (1, 0), (0, 1), (1, 1)):
        at = torch.stack([corner[..., 0] + right, corner[..., 1] + below], 3)
        share = (1 - (place - at).abs()).prod(3)
        inside = ((at >= 0) & (at < scale)).all(3)
        x, y = at.long().clamp_min(0).unbind(3)
        pixel = first + y.clamp_max(height - 1) * width + x.clamp_max(width - 1)
        dx.index_add_(0, pixel.flatten(), (values * (share * inside)[..., None]).reshape(-1, c))
    return dx.reshape(n, height, width, c).permute(0, 3, 1, 2).contiguous()


@_sample.register_fake
def _(x: Tensor, grid: Tensor) -> Tensor:
    return x.new_empty([*x.shape[:2], *grid.shape[1:3]])


@_spread.register_fake
def _(dy: Tensor, grid: Tensor, size: Sequence[int]) -> Tensor:
    return dy.new_empty([*dy.shape[:2], *size])


class Sample(Function):
    """As grid_sample, with its derivative."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, grid: Tensor) -> Tensor:
        ctx.size = list(x.shape[2:])
        ctx.save_for_backward(grid)
        return _sample.call(x, grid)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple:
        return Spread.apply(dy, ctx.saved_tensors[0], ctx.size), None


class Spread(Function):
    """As grid_sample_grad, with its derivative."""

    @staticmethod
    def forward(ctx: Any, dy: Tensor, grid: Tensor, size: Sequence[int]) -> Tensor:
        ctx.save_for_backward(grid)
        return _spread.call(dy, grid, size)

    @staticmethod
    def backward(ctx: Any, ddx: Tensor) -> tuple:
        return Sample.apply(ddx, ctx.saved_tensors[0]), None, None
