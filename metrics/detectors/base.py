"""What a detector is."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Detector:
    """rows(images) takes uint8 [N,C,H,W] on its device, C = 1, 3 or 4 and H, W any, and returns [N,D] float32 there.

    A row depends on its image alone, but for the last bits. name and digest (sha256:... of the weights file, or
    random:... for weights that follow from a number) say which features these are; `about` says what was done to the
    images: resize, input range, layer. All three are recorded with every result, and part of the key of what is
    cached. module: the network, for who needs more of it than rows.
    """

    name: str
    digest: str
    rows: Callable[[Tensor], Tensor]
    about: Mapping[str, str] = field(default_factory=dict)
    module: nn.Module | None = None


def as_rgb(images: Tensor) -> Tensor:
    """uint8 [N,C,H,W] to uint8 [N,3,H,W]: gray is repeated; alpha multiplies the colour, so transparent is black."""
    channels = images.shape[1]
    if channels == 4:
        opaque = images[:, :3].to(torch.int32) * images[:, 3:]
        return ((opaque + 127) // 255).to(torch.uint8)
    return images.expand(-1, 3, -1, -1) if channels == 1 else images
