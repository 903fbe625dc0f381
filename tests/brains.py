"""Sets in which images are alike as in homogeneous data, for tests of memorization."""

import numpy as np
from image_sets import ArraySet
from scipy.ndimage import gaussian_filter

from metrics.inputs import MetricInputs, Request
from metrics.memorization.metric import memorization


class NamedSet(ArraySet):
    def __init__(self, images, name="image", **kwargs):
        super().__init__(images, **kwargs)
        self.name = name

    def name_of(self, index):
        return f"{self.name}_{index:04d}.png"


def alike(count, seed, size=32, channels=1, amount=30):
    """uint8 [N,C,S,S]: one head, a little different each time; the difference is smooth, as anatomy is."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[-1:1:size * 1j, -1:1:size * 1j]
    head = 140 * (np.hypot(x / 0.75, y / 0.9) < 1) - 60 * (np.hypot(x / 0.2, y / 0.4) < 1)
    noise = gaussian_filter(rng.standard_normal((count, channels, size, size)), (0, 0, size / 20, size / 20))
    return np.clip(head + 20 + amount * noise / noise.std(), 0, 255).astype(np.uint8)


def inputs_of(train, fake, holdout=None, **kwargs):
    return MetricInputs(NamedSet(train, "train"), NamedSet(fake, "made"), None,
                        holdout=None if holdout is None else NamedSet(holdout, "kept"), **kwargs)


def measure(train, fake, holdout=None, **kwargs):
    return memorization(inputs_of(train, fake, holdout, **kwargs), Request("memorization", 2000))
