"""Features of a small network of fixed random weights: no file to download, and nothing learned from photographs.

Random filters see what changes the statistics of an image - contrast, blur, noise, artefacts, colour - but know no
objects; Naeem et al. 2020 (arXiv 2002.09797, section 4) and metric papers after it use such embeddings where the data
is unlike ImageNet. The weights are made here, in integers, so that no library's random numbers can change them.
"""

import hashlib
import itertools
import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metrics.detectors.base import Detector, as_rgb

SEED = 1
DIGEST = "ed1bc16a95f29b2f2d5fb2c9e8de19c8e7398a265d231d84b18a45205b30c692"
CHANNELS = (16, 48, 64, 128)  # of four layers; a mean and a deviation of each make the 512 features
DETAIL = 20.0  # gain of filters that see differences of pixels: those of a few gray levels count, edges saturate
GRID = 256     # places a side, at most, where the first layer looks
_PIXELS = {"cpu": 2**18}  # of images at a time: what stays in a CPU's caches
_PIXELS_ELSEWHERE = 2**24


def open_random_features(device: torch.device) -> Detector:
    """Rows [N,512] of random_v1, the same network everywhere and for good; images of any size."""
    network = RandomFeatures()
    assert network.digest() == DIGEST, f"the weights of random_v1 have changed: {network.digest()}"
    network.requires_grad_(False).to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    about = {"resize": f"none; one filter place in {GRID}ths of the longer side, where that has more pixels",
             "range": "[-1, 1]", "layer": "means and deviations of 4 layers"}
    return Detector("random_v1", f"random:{DIGEST}", lambda images: network(images.to(device)), about, network)


class RandomFeatures(nn.Module):
    """Four 3x3 convolutions, each halving the image but the first, and the mean and deviation of every channel.

    The first layer saturates: half of its filters have no constant part and a high gain, so that faint noise and block
    artefacts in smooth places count as much as strong edges do; the others see brightness and colour.
    """

    def __init__(self, seed: int = SEED) -> None:
        super().__init__()
        numbers = _Numbers(seed)
        self.first = _convolution(numbers, 3, CHANNELS[0], stride=1, detail=CHANNELS[0] // 2, gain=1, bias=0.5)
        self.others = nn.ModuleList(_convolution(numbers, inputs, outputs, stride=2, gain=math.sqrt(2), bias=0.2)
                                    for inputs, outputs in itertools.pairwise(CHANNELS))

    def digest(self) -> str:
        """SHA-256 of the weights, as little-endian float32 in the order of the layers."""
        found = hashlib.sha256()
        for value in self.state_dict().values():
            found.update(value.cpu().contiguous().numpy().astype("<f4").tobytes())
        return found.hexdigest()

    def forward(self, images: Tensor) -> Tensor:
        """uint8 [N,C,H,W] to [N,512]."""
        area = images.shape[2] * images.shape[3]
        at_once = max(_PIXELS.get(images.device.type, _PIXELS_ELSEWHERE) // area, 1)
        return torch.cat([self._rows(as_rgb(part)) for part in images.split(at_once)])

    def _rows(self, images: Tensor) -> Tensor:
        x = images.float().contiguous(memory_format=torch.channels_last) / 127.5 - 1
        stride = max(max(x.shape[2:]) // GRID, 1)
        x = F.softsign(F.conv2d(x, self.first.weight, self.first.bias, stride=stride, padding=1))
        features = [*_pooled(x)]
        for layer in self.others:
            x = F.leaky_relu(layer(x), 0.2)
            features += _pooled(x)
        return torch.cat(features, dim=1)


def _pooled(x: Tensor) -> tuple[Tensor, Tensor]:
    deviation, mean = torch.std_mean(x, dim=(2, 3), correction=0)
    return mean, deviation


def _convolution(numbers: "_Numbers", inputs: int, outputs: int, stride: int, gain: float, bias: float,
                 detail: int = 0) -> nn.Conv2d:
    """gain: length of the filters, sqrt(2) where leaky ReLUs follow; the first `detail` of them have DETAIL instead."""
    filters = unit_filters(numbers.bells(outputs * inputs * 9).reshape(outputs, inputs, 9), detail)
    filters *= gain
    filters[:detail] *= DETAIL
    offsets = bias * numbers.uniform(outputs)
    layer = nn.Conv2d(inputs, outputs, 3, padding=1, stride=stride)
    layer.weight = nn.Parameter(torch.from_numpy(filters.astype(np.float32)).reshape(outputs, inputs, 3, 3))
    layer.bias = nn.Parameter(torch.from_numpy(offsets.astype(np.float32)))
    return layer


def unit_filters(weights: np.ndarray, detail: int) -> np.ndarray:
    """Integers [O,I,9] as filters of length 1, float64; the first `detail` of them have the sum 0 in each input.

    All sums are of integers below 2**53, so that no order of summing can change a bit.
    """
    weights = weights * 9
    weights[:detail] -= weights[:detail].sum(axis=2, keepdims=True) // 9
    length = np.sqrt(np.square(weights).sum(axis=(1, 2), keepdims=True).astype(np.float64))
    return weights / length


class _Numbers:
    """Random integers by SplitMix64 (Steele, Lea & Flood 2014): a counter in steps of an odd constant, mixed."""

    def __init__(self, seed: int) -> None:
        self._seed, self._drawn = seed, 0

    def words(self, count: int) -> np.ndarray:
        """uint64 [count]."""
        counter = np.arange(self._drawn + 1, self._drawn + count + 1, dtype=np.uint64)
        self._drawn += count
        x = np.uint64(self._seed) + counter * np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))

    def bells(self, count: int) -> np.ndarray:
        """int64 [count], close to normal: each the sum of the four 16-bit parts of a word, less its mean."""
        words = self.words(count)
        parts = words[:, None] >> np.array([0, 16, 32, 48], np.uint64) & np.uint64(0xFFFF)
        return 2 * parts.astype(np.int64).sum(axis=1) - 4 * 0xFFFF

    def uniform(self, count: int) -> np.ndarray:
        """float64 [count] in [-1, 1)."""
        return (self.words(count) >> np.uint64(11)).astype(np.float64) / 2**52 - 1
