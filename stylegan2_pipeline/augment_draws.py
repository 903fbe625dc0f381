"""What is random in the augmentations: every parameter is a function of a quantile of its own, drawn per sample.

A step is one gated operation: its quantiles are a gate, open where it lies below the probability, and one for each
parameter. The layout is the same whatever is enabled, so that enabling an operation leaves the draws of others alone.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

NUM_BANDS = 4
STEPS = {  # in the order of their quantiles -> number of parameters
    "xflip": 1, "rotate90": 1, "xint": 2,
    "scale": 1, "pre_rotate": 1, "aniso": 1, "post_rotate": 1, "xfrac": 2,
    "brightness": 1, "contrast": 1, "lumaflip": 1, "hue": 1, "saturation": 1,
    **{f"band{i}": 1 for i in range(NUM_BANDS)},
    "noise": 1, "cutout": 2,
}  # fmt: skip
FIRST = dict(zip(STEPS, torch.tensor([0, *(1 + k for k in STEPS.values())]).cumsum(0).tolist(), strict=False))
NUM_DRAWS = sum(1 + k for k in STEPS.values())
EDGE = 1e-7  # quantiles of unbounded distributions keep this far from 0 and 1: normals stay within 5.2 deviations


@dataclass(frozen=True)
class Draws:
    """Of N samples: quantiles [N, NUM_DRAWS] in [0, 1) on the CPU; unit normals [N,C,H,W] where noise is enabled."""

    quantiles: Tensor
    image_noise: Tensor | None = None

    def __len__(self) -> int:
        return len(self.quantiles)

    def __getitem__(self, part: slice) -> "Draws":
        return Draws(self.quantiles[part], None if self.image_noise is None else self.image_noise[part])


class Parameters:
    """Draws read as parameters, each [N] or [N,k] float64 and 0, which changes nothing, where its gate is closed."""

    def __init__(self, quantiles: Tensor, probability: Mapping[str, float]) -> None:
        self.quantiles = quantiles.double()
        self.probability = probability

    def gate(self, step: str) -> Tensor:
        """[N] bool."""
        return self.quantiles[:, FIRST[step]] < self.probability.get(step, 0.0)

    def quantile(self, step: str) -> Tensor:
        """[N] or [N,k] in [0, 1), gate or not."""
        first, count = FIRST[step] + 1, STEPS[step]
        return self.quantiles[:, first] if count == 1 else self.quantiles[:, first : first + count]

    def choice(self, step: str, count: int) -> Tensor:
        """0 .. count-1, all equally likely."""
        return self._gated(step, (self.quantile(step) * count).floor())

    def uniform(self, step: str, most: float) -> Tensor:
        """Between -most and most."""
        return self._gated(step, (self.quantile(step) * 2 - 1) * most)

    def normal(self, step: str, std: float) -> Tensor:
        return self._gated(step, torch.special.ndtri(self.quantile(step).clamp(EDGE, 1 - EDGE)) * std)

    def half_normal(self, step: str, std: float) -> Tensor:
        """|N(0, std)|."""
        return self._gated(step, torch.erfinv(self.quantile(step).clamp(EDGE, 1 - EDGE)) * (math.sqrt(2) * std))

    def _gated(self, step: str, value: Tensor) -> Tensor:
        gate = self.gate(step)
        return torch.where(gate if value.ndim == 1 else gate[:, None], value, 0.0)
