"""Images as rows of 32x32 pixels: features without a network, which see layout, brightness and collapse, not detail."""

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from metrics.detectors.base import Detector

REDUCED = 32


def open_pixels32(device: torch.device) -> Detector:
    """Rows [N, C*32*32] of intensities in [0, 1]."""
    about = {"resize": "means of blocks", "range": "[0, 1]", "layer": "pixels"}
    return Detector("pixels32", "none", lambda images: reduced(images.to(device)), about)


def reduced(images: Tensor) -> Tensor:
    """uint8 [N,C,H,W] to float32 [N, C*32*32] of block means in [0, 1]; smaller images are taken as they are."""
    x = images.float()
    n, channels, height, width = x.shape
    if height == width and height % REDUCED == 0:
        block = height // REDUCED
        x = x.reshape(n, channels, REDUCED, block, REDUCED, block).mean(dim=[3, 5])
    elif max(height, width) > REDUCED:
        x = F.adaptive_avg_pool2d(x, REDUCED)  # blocks that are not all of one size
    return x.reshape(n, -1) / 255


def reduced_pixels(batches: Iterator[np.ndarray], device: torch.device) -> Tensor:
    """All images of the batches as float64 rows [N, C*32*32]."""
    return torch.cat([reduced(torch.from_numpy(batch).to(device)) for batch in batches]).double()
