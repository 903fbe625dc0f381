"""Pillow's antialiased bicubic resize on any device, to the last bit.

Published figures stand on images that Pillow shrank. It counts in whole numbers, which float64 holds exactly: the
result does not depend on the order of sums, and a matrix product gives it.
"""

import math
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

_BITS = 22  # of Pillow's weights after the point
_REACH = 2.0  # of the filter, in pixels of the smaller image


def pillow_bicubic(images: Tensor, size: int) -> Tensor:
    """uint8 [N,C,H,W] to uint8 [N,C,size,size]: rows first, and whole levels in between, as Pillow does it."""
    narrow = _levels(images.double() @ _weights(images.shape[3], size).to(images.device).T)
    return _levels(_weights(images.shape[2], size).to(images.device) @ narrow).to(torch.uint8)


def _levels(sums: Tensor) -> Tensor:
    return ((sums + 2 ** (_BITS - 1)) / 2**_BITS).floor().clamp(0, 255)


@lru_cache(maxsize=16)
def _weights(length: int, size: int) -> Tensor:
    """[size,length] float64, whole numbers: what each pixel counts for in each of the result, in 2^-22."""
    scale = length / size
    stretch = max(scale, 1.0)
    matrix = np.zeros([size, length])
    for i in range(size):
        centre = (i + 0.5) * scale
        first = max(math.trunc(centre - _REACH * stretch + 0.5), 0)
        last = min(math.trunc(centre + _REACH * stretch + 0.5), length)
        weights = _cubic((np.arange(first, last) - centre + 0.5) * (1 / stretch))
        weights = weights / weights.sum() * 2**_BITS
        matrix[i, first:last] = np.trunc(weights + np.copysign(0.5, weights))
    return torch.from_numpy(matrix)


def _cubic(x: np.ndarray) -> np.ndarray:
    """Keys' cubic convolution kernel with a = -1/2."""
    x = np.abs(x)
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((x - 5) * x + 8) * x * -0.5 + 2
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))
