"""The few things that training asks of torch.distributed; each does nothing, exactly, in a single process."""

import torch
from torch import Tensor


def initialized() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def rank() -> int:
    return torch.distributed.get_rank() if initialized() else 0


def world_size() -> int:
    return torch.distributed.get_world_size() if initialized() else 1


def mean_over_ranks(tensor: Tensor) -> Tensor:
    """The mean of a tensor over all ranks, in place."""
    if world_size() > 1:
        torch.distributed.all_reduce(tensor)
        tensor /= world_size()
    return tensor


def sum_over_ranks(tensor: Tensor) -> Tensor:
    """The sum of a tensor over all ranks, in place."""
    if world_size() > 1:
        torch.distributed.all_reduce(tensor)
    return tensor


def any_rank(flag: bool, device: torch.device) -> bool:
    """Whether the flag is set on any rank."""
    if world_size() == 1:
        return flag
    return bool(sum_over_ranks(torch.tensor(float(flag), device=device)))
