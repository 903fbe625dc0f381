"""How images lie in memory."""

import torch
from torch import Tensor


def memory_format(x: Tensor) -> torch.memory_format:
    """Channels-last where x is so and nothing else, else contiguous."""
    last = torch.channels_last
    return last if x.ndim == 4 and x.is_contiguous(memory_format=last) and not x.is_contiguous() else (
        torch.contiguous_format)


def in_format_of(y: Tensor, dy: Tensor) -> Tensor:
    """dy as y lies: an operator that reads both, and what follows it, would else walk one of them against the grain."""
    return dy.contiguous(memory_format=memory_format(y)) if y.ndim == 4 else dy
