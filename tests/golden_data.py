"""Access to the numbers in tests/golden."""

import json
from pathlib import Path

import numpy as np
import torch

GOLDEN = Path(__file__).parent / "golden"


class Golden:
    """One .npz of tests/golden: meta (JSON) and its arrays as tensors, by prefix."""

    def __init__(self, name):
        self.arrays = np.load(GOLDEN / f"{name}.npz")
        self.meta = json.loads(str(self.arrays["meta"]))

    def __getitem__(self, key):
        return torch.from_numpy(self.arrays[key])

    def under(self, prefix):
        return {key[len(prefix):]: self[key] for key in self.arrays.files if key.startswith(prefix)}


def relative_error(actual, expected):
    """Largest difference over the largest expected value."""
    return float((actual - expected).detach().abs().max() / expected.detach().abs().max().clamp_min(1e-12))
