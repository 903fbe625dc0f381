"""LPIPS, the perceptual distance of two images (Zhang et al. 2018, arXiv 1801.03924), version 0.1 on VGG16."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from metrics.detectors.loading import filled
from metrics.detectors.vgg16 import Convolutions, normalized, suit, widths_of
from metrics.weights import WeightsFile, read_state

EPSILON = 1e-10  # added to lengths that are divided by
MIN_SIZE = 16  # pixels; four poolings leave one of them


class LPIPS(nn.Module):
    """The distance [N] of images a and b [N,C,H,W] in [0, 255], C = 1 or 3, H and W from 16; differentiable.

    At the end of each stage of VGG16 the channels of a place are a vector, brought to length 1. heads say how much each
    channel counts in the squared difference of two of them, which is averaged over places and summed over stages
    (equation 1, with the squares of its weights).
    """

    def __init__(self, network: Convolutions, heads: nn.Module) -> None:
        super().__init__()
        self.network, self.heads = network, heads

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        images = torch.cat([a, b]).expand(-1, 3, -1, -1)
        distance = a.new_zeros(len(a))
        for i, stage in enumerate(self.network.stages(normalized(images))):
            of_a, of_b = (stage / (stage.norm(dim=1, keepdim=True) + EPSILON)).chunk(2)
            head = self.heads.get_parameter(f"lin{i}.model.1.weight").flatten()
            distance = distance + (of_a - of_b).square().mean(dim=[2, 3]) @ head
        return distance


def new_heads(widths: Sequence[int]) -> nn.Module:
    """A 1x1 convolution to one channel for each stage, by the names in the public file."""
    return nn.ModuleDict({f"lin{i}": nn.ModuleDict({"model": nn.ModuleDict({"1": nn.Conv2d(width, 1, 1, bias=False)})})
                          for i, width in enumerate(widths)})


def open_lpips(vgg16: WeightsFile, heads: WeightsFile, device: torch.device) -> LPIPS:
    """From the files of VGG16, of which only the convolutions are read, and of the heads."""
    state = {name: tensor for name, tensor in read_state(vgg16).items() if not name.startswith("classifier.")}
    network = filled(lambda: Convolutions(widths_of(state)), state, vgg16.path, device)
    suit(network, device)
    return LPIPS(network, filled(lambda: new_heads(widths_of(state)), read_state(heads), heads.path, device))
