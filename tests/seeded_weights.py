"""Weights that follow from a seed, for networks of any size, and files of them.

What the packages behind published figures gave for the small networks stands in golden/vgg16.npz, golden/lpips.npz
(torch-fidelity 0.4.0) and golden/dinov2.npz (the published code), by the size of the images.
"""

import math

import numpy as np
import torch
from golden_data import GOLDEN

from metrics.detectors.dinov2 import DINOv2
from metrics.detectors.vgg16 import VGG16, normalized
from metrics.weights import WeightsFile

WIDTHS, HIDDEN = (4, 8, 16, 32, 32), 24  # of VGG16, a sixteenth of what is published
DINOV2 = (48, 3, 4, 37, 14)  # width, depth, heads, grid, patch


def seeded_state(shapes, seed):
    """{name: float32 tensor} of {name: shape}: such that signals keep their size from layer to layer.

    NumPy's RandomState never changes, so what other packages made of these weights can be kept as a file.
    """
    rng, state = np.random.RandomState(seed), {}
    for name in sorted(shapes):
        shape = tuple(shapes[name])
        if name.endswith("weight") and len(shape) > 1:
            values = rng.standard_normal(shape) * math.sqrt(2 / math.prod(shape[1:]))
        elif name.endswith(("weight", "gamma")):
            values = rng.uniform(0.8, 1.2, shape)
        else:
            values = rng.standard_normal(shape) * 0.1
        state[name] = torch.from_numpy(values.astype(np.float32))
    return state


def shapes_of(module):
    return {name: tensor.shape for name, tensor in module.state_dict().items()}


def seeded_images(shape, seed):
    """uint8 images with large and small structure."""
    rng = np.random.RandomState(seed)
    coarse = rng.randint(0, 256, (*shape[:2], 4, 4)).repeat(-(-shape[2] // 4), 2).repeat(-(-shape[3] // 4), 3)
    images = 0.7 * coarse[:, :, :shape[2], :shape[3]] + 0.3 * rng.randint(0, 256, shape)
    return torch.from_numpy(images.astype(np.uint8))


def weights_file(folder, name, state):
    """The state as a file, as metrics.weights would hand it out."""
    path = folder / f"{name}.pth"
    torch.save(state, path)
    return WeightsFile(name, path, "0" * 64, published=False)


def small_vgg16():
    """The state of a small VGG16 as its public file names it, with the layer that features do not need."""
    unused = {"classifier.6.weight": (10, HIDDEN), "classifier.6.bias": (10,)}
    return seeded_state(shapes_of(VGG16(WIDTHS, HIDDEN)) | unused, seed=1)


def small_heads():
    """Of LPIPS for that VGG16."""
    shapes = {f"lin{i}.model.1.weight": (1, width, 1, 1) for i, width in enumerate(WIDTHS)}
    return {name: tensor.abs() for name, tensor in seeded_state(shapes, seed=7).items()}


def small_dinov2(sizes=DINOV2):
    return seeded_state(shapes_of(DINOv2(*sizes)) | {"mask_token": (1, sizes[0])}, seed=1)


def vgg16_images(size):
    return seeded_images((2, 3, *size), seed=2)


def lpips_images(size):
    """Two sets of three."""
    return (seeded_images((3, 3, *size), seed).float() for seed in (8, 9))


def dinov2_inputs(size):
    return normalized(seeded_images((2, 3, *size), seed=2).float())


def golden_cases(name):
    """(height, width) and the expected features of each case in golden/<name>.npz."""
    arrays = np.load(GOLDEN / f"{name}.npz")
    return [(tuple(map(int, case.split("x"))), arrays[case]) for case in arrays.files]
