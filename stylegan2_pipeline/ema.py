"""The exponential moving average of the generator, which is the network that users keep."""

import torch
from torch import nn


def ema_beta(batch: int, cur_nimg: int, ema_kimg: float, rampup: float | None) -> float:
    """Decay of one step of `batch` images: half-life ema_kimg, shorter at the start (rampup times the images seen)."""
    half_life = ema_kimg * 1000
    if rampup is not None:
        half_life = min(half_life, cur_nimg * rampup)
    return 0.5 ** (batch / max(half_life, 1e-8))


@torch.no_grad()
def update_ema(ema: nn.Module, net: nn.Module, beta: float) -> None:
    """Parameters move towards net's by 1 - beta; buffers are copied. Either is one launch for all of a type."""
    torch._foreach_lerp_(list(ema.parameters()), list(net.parameters()), 1 - beta)
    if kept := list(ema.buffers()):
        torch._foreach_copy_(kept, list(net.buffers()))
