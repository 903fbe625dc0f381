"""DiffAugment (Zhao et al. 2020, arXiv 2006.10738, section 4): every image is augmented, reals and fakes alike.

Used like augment.AugmentPipe, for data too little even for ADA: there is no probability to adapt. All draws come from
the generators of the samples, so that a batch may be cut as one likes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from stylegan2_pipeline.augment_color import cut_out, hole_plan
from stylegan2_pipeline.augment_draws import Draws
from stylegan2_pipeline.bundles import moved
from stylegan2_pipeline.config import DIFFAUGMENT_NAMES

BRIGHTNESS = slice(0, 1)  # the quantiles of a sample, the same whatever the policy
SATURATION = slice(1, 2)
CONTRAST = slice(2, 3)
TRANSLATION = slice(3, 5)
CENTRE = slice(5, 7)
NUM_QUANTILES = 7
MOST_SHIFT = 1 / 8  # of the image's size
HOLE = 1 / 2


@dataclass(frozen=True)
class DiffPlan:
    """What is done to N images, in this order; None: it is not.

    colors [N,3]: quantiles of brightness, saturation and contrast; places: the column [N,W] and row [N,H] that each one
    is taken from; holes: from augment_color.hole_plan.
    """

    colors: Tensor | None = None
    places: tuple[Tensor, Tensor] | None = None
    holes: tuple[Tensor, Tensor] | None = None


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
        return self.apply_plan(images, moved(self.plan(draws, float(p), images.shape[1:]), images.device))

    def plan(self, draws: Draws, p: float, shape: Sequence[int], coarse: bool = False) -> DiffPlan:
        """What these draws do to images of a shape [C,H,W], on the CPU; p and coarse play no part."""
        quantiles, size = draws.quantiles, (shape[2], shape[1])
        sizes = torch.full([len(draws)], HOLE)
        return DiffPlan(quantiles[:, :CONTRAST.stop] if "color" in self.policy else None,
                        shifted_places(quantiles[:, TRANSLATION], size) if "translation" in self.policy else None,
                        hole_plan(quantiles[:, CENTRE], sizes, size) if "cutout" in self.policy else None)

    def apply_plan(self, images: Tensor, plan: DiffPlan) -> Tensor:
        """Images [N,C,H,W] augmented by a plan that is on their device. Nothing here is decided by a number."""
        if plan.colors is not None:
            images = recolor(images, plan.colors.to(images.dtype))
        if plan.places is not None:
            images = translate(images, plan.places)
        return images if plan.holes is None else cut_out(images, plan.holes)


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


def shifted_places(quantiles: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Where the columns [N,W] and rows [N,H] of images of `size` (width, height) come from when each is moved.

    By whole pixels, by quantiles [N,2] of x and y; places beyond the image are negative or its size and more.
    """
    most = (torch.tensor(size) * MOST_SHIFT).round()
    shifts = (quantiles * (2 * most + 1)).floor() - most
    columns, rows = (torch.arange(n) - shift[:, None] for n, shift in zip(size, shifts.unbind(1), strict=True))
    return columns, rows


def translate(images: Tensor, places: tuple[Tensor, Tensor]) -> Tensor:
    """Images [N,C,H,W] with their columns and rows from other places; 0 from beyond the image.

    Looked up all round it, so that no two pixels of the result are one of the image: the gradient is a lookup too, in
    which nothing is added up in an order that a GPU might change.
    """
    (columns, rows), (h, w) = places, images.shape[2:]
    index = rows.remainder(h)[:, :, None] * w + columns.remainder(w)[:, None, :]  # [NHW]; exact below 2^24 pixels
    index = index.long().flatten(1)[:, None].expand(-1, images.shape[1], -1)
    inside = ((rows >= 0) & (rows < h))[:, None, :, None] & ((columns >= 0) & (columns < w))[:, None, None, :]
    return images.flatten(2).gather(2, index).view_as(images).masked_fill(~inside, 0)
