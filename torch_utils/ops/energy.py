"""The energy of weights, of which demodulation takes the root (StyleGAN2, equation 3)."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from torch_utils.ops import native
from torch_utils.ops.native import pattern


def energy(weight: Tensor) -> Tensor:
    """[O,I] sums of the squares of weights [O,I,kh,kw] over their kernels. Differentiable any number of times."""
    return Energy.apply(weight)


class Energy(Function):
    """The gradient goes over the weights once, torch's own four times."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor) -> Tensor:
        ctx.save_for_backward(weight)
        if weight.device.type == "cpu" and weight.dtype == torch.float32 and weight.shape[2:] == (3, 3):
            return _energy.call(weight)
        return weight.square().sum([2, 3])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (weight,) = ctx.saved_tensors
        return weight * (2 * grad)[:, :, None, None]


def _examples(device: torch.device, dtype: torch.dtype) -> list[tuple]:
    shapes = [(5, 7, 3, 3), (16, 4, 3, 3), (1, 1, 3, 3)] if dtype == torch.float32 else []
    return [(pattern(*shape, device=device, dtype=dtype),) for shape in shapes]


@native.operator("energy", _examples, devices=("cpu",))
def _energy(weight: Tensor) -> Tensor:
    return weight.square().sum([2, 3])


@_energy.register_fake
def _(weight: Tensor) -> Tensor:
    return weight.new_empty(weight.shape[:2])
