"""How images lie in memory."""

import torch
from torch import Tensor


def memory_format(x: Tensor) -> torch.memory_format:
    """Channels-last where x is so and nothing else, else contiguous."""
    last = torch.channels_last
    return last if x.ndim == 4 and x.is_contiguous(memory_format=last) and not x.is_contiguous() else (
        torch.contiguous_format)


def suggested_format(x: Tensor) -> torch.memory_format:
    """As memory_format; of one channel, which lies alike both ways, what its strides say."""
    one = x.ndim == 4 and x.shape[1] == 1 and x.stride(1) == 1 and x.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if one else memory_format(x)


def channels_last(x: Tensor) -> Tensor:
    """x [N,C,H,W] channels-last, also by the strides of a single channel."""
    x = x.contiguous(memory_format=torch.channels_last)
    return x if x.shape[1] > 1 else x.reshape(x.shape[0], *x.shape[2:], 1).permute(0, 3, 1, 2)


def in_format_of(y: Tensor, dy: Tensor) -> Tensor:
    """dy as y lies: an operator that reads both, and what follows it, would else walk one of them against the grain.

    Images lie as their strides say, also those of one channel.
    """
    if y.ndim != 4:
        return dy
    return channels_last(dy) if suggested_format(y) == torch.channels_last else dy.contiguous()
