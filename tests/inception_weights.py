"""Weights of the shapes of Inception 2015, and images, that follow from a number."""

import numpy as np
import torch

from metrics.detectors.inception_network import Inception


def images(*shape, seed=0):
    """uint8 noise."""
    return torch.from_numpy(np.random.RandomState(seed).randint(0, 256, shape, dtype=np.uint8))


def seeded_state_dict(seed=0):
    """Random, with signals of about unit size in every layer; the same on every machine and for every torch.

    PyTorch's own beginning would let the signal fade until all images have the same features.
    """
    random = np.random.RandomState(seed)
    with torch.device("meta"):
        shapes = {name: tuple(t.shape) for name, t in Inception().state_dict().items()}
    return {name: torch.from_numpy(np.asarray(_values(name, shape, random))) for name, shape in shapes.items()}


def _values(name, shape, random):
    if name.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    if name.endswith(("bn.weight", "running_var")):
        width = 0.2 if name.endswith("bn.weight") else 0.25
        return random.uniform(1 - width, 1 + width, shape).astype(np.float32)
    if name.endswith(("bias", "running_mean")):
        return (0.1 * random.standard_normal(shape)).astype(np.float32)
    gain = 1 if name.startswith("fc") else 2
    return (random.standard_normal(shape) * np.sqrt(gain / np.prod(shape[1:]))).astype(np.float32)
