"""DiffAugment (Zhao et al. 2020, arXiv 2006.10738, section 4): every image is augmented, reals and fakes alike.

Used like augment.AugmentPipe, for data too little even for ADA: there is no probability to adapt. All draws come from
the generators of the samples, so that a batch may be cut as one likes.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stylegan2_pipeline.augment_color import cut_out
from stylegan2_pipeline.augment_draws import Draws
from stylegan2_pipeline.config import DIFFAUGMENT_NAMES

BRIGHTNESS = slice(0, 1)  # the quantiles of a sample, the same whatever the policy
SATURATION = slice(1, 2)
CONTRAST = slice(2, 3)
TRANSLATION = slice(3, 5)
CENTRE = slice(5, 7)
NUM_QUANTILES = 7
MOST_SHIFT = 1 / 8  # of the image's size
HOLE = 1 / 2


class DiffAugment(nn.Module):
    """Augments images [N,C,H,W] in [-1, 1], C = 1, 3 or 4; policy: some of color, translation, cutout.

    color: brightness + U(-0.5, 0.5), saturation * U(0, 2) about the mean of the channels, contrast * U(0.5, 1.5) about
    the mean of the image. Gray images have no saturation; a fourth channel keeps its values and moves with the others.
    translation: whole pixels, up to an eighth of the size each way; cutout: a square of half the size, anywhere its
    centre lies in the image. What is uncovered or cut out becomes 0.
    """

    def __init__(self, policy: Sequence[str]) -> None:
        super().__init__()
        assert set(policy) <= set(DIFFAUGMENT_NAMES), f"unknown: {set(policy) - set(DIFFAUGMENT_NAMES)}"
        self.policy = frozenset(policy)

    def draw(self, generators: Sequence[torch.Generator], shape: Sequence[int] | None = None) -> Draws:
        """The randomness of one image from each CPU generator; the shape plays no part."""
        return Draws(torch.stack([torch.rand(NUM_QUANTILES, generator=generator) for generator in generators]))

    def forward(self, images: Tensor, p: float | Tensor = 1.0, *, draws: Draws) -> Tensor:
        """p plays no part: the policy is applied to every image."""
        assert len(draws) == len(images)
        quantiles = draws.quantiles
        if "color" in self.policy:
            images = recolor(images, quantiles.to(images, non_blocking=True))
        if "translation" in self.policy:
            images = translate(images, quantiles[:, TRANSLATION])
        if "cutout" in self.policy:
            images = cut_out(images, quantiles[:, CENTRE], torch.full([len(images)], HOLE))
        return images


def recolor(images: Tensor, quantiles: Tensor) -> Tensor:
    """Brightness, saturation and contrast, one after the other."""
    def factor(which: slice) -> Tensor:
        return quantiles[:, which, None, None]  # [N,1,1,1]

    colors = images[:, :3] + (factor(BRIGHTNESS) - 0.5)
    if images.shape[1] > 1:
        gray = colors.mean(1, keepdim=True)
        colors = gray + (colors - gray) * (2 * factor(SATURATION))
    mean = colors.mean([1, 2, 3], keepdim=True)
    colors = mean + (colors - mean) * (factor(CONTRAST) + 0.5)
    return torch.cat([colors, images[:, 3:]], 1) if images.shape[1] == 4 else colors


def translate(images: Tensor, quantiles: Tensor) -> Tensor:
    """Moves each image by whole pixels (quantiles [N,2] of x and y, on the CPU)."""
    most = (torch.tensor([images.shape[3], images.shape[2]]) * MOST_SHIFT).round()
    shifts = (quantiles * (2 * most + 1)).floor() - most
    moved = [F.pad(image, [x, -x, y, -y]) for image, (x, y) in zip(images, shifts.long().tolist(), strict=True)]
    return torch.stack(moved)
