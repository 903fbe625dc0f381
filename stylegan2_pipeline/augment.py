"""The augmentation pipeline of StyleGAN2-ADA (arXiv 2006.06676, appendix B): differentiable, fixed by its draws.

Geometry is one 3x3 matrix a sample, colour one 4x4. What is to be done is decided on the CPU, where the draws are: a
plan of small matrices, which goes to the images' device in one copy, so that the device never has to wait. Operations
that no sample of the batch undergoes are not in it and cost nothing.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from stylegan2_pipeline import augment_color as color
from stylegan2_pipeline import augment_geometry as geometry
from stylegan2_pipeline.augment_draws import FIRST, NUM_BANDS, NUM_DRAWS, Draws, Parameters
from stylegan2_pipeline.bundles import moved
from torch_utils.ops.upfirdn2d import setup_filter

GROUPS = {
    "blit":   ("xflip", "rotate90", "xint"),
    "geom":   ("scale", "rotate", "aniso", "xfrac"),
    "color":  ("brightness", "contrast", "lumaflip", "hue", "saturation"),
    "filter": ("imgfilter",),
    "noise":  ("noise",),
    "cutout": ("cutout",),
}
OPERATIONS = [operation for group in GROUPS.values() for operation in group]
STEPS_OF = {
    **{operation: (operation,) for operation in OPERATIONS},
    "rotate": ("pre_rotate", "post_rotate"),
    "imgfilter": tuple(f"band{i}" for i in range(NUM_BANDS)),
}


def _pipe(*groups: str) -> dict[str, float]:
    return {operation: 1.0 for group in groups for operation in GROUPS[group]}


AUGPIPES = {  # the ecosystem's names -> operation -> multiplier of the probability
    **{name: _pipe(name) for name in GROUPS},
    "bg":     _pipe("blit", "geom"),
    "bgc":    _pipe("blit", "geom", "color"),
    "bgcf":   _pipe("blit", "geom", "color", "filter"),
    "bgcfn":  _pipe("blit", "geom", "color", "filter", "noise"),
    "bgcfnc": _pipe("blit", "geom", "color", "filter", "noise", "cutout"),
}


@dataclass(frozen=True)
class Ranges:
    """How far parameters go: std of normals, max of uniforms between -max and max.

    Translations and the cutout in units of the image's size, angles of half a turn, brightness of half the range of
    values; scales, contrast, saturation and octave bands are powers of two.
    """

    xint_max: float = 0.125
    scale_std: float = 0.2
    rotate_max: float = 1.0
    aniso_std: float = 0.2
    xfrac_std: float = 0.125
    brightness_std: float = 0.2
    contrast_std: float = 0.5
    hue_max: float = 1.0
    saturation_std: float = 1.0
    imgfilter_std: float = 1.0
    noise_std: float = 0.1
    cutout_size: float = 0.5


@dataclass(frozen=True)
class Plan:
    """What is done to a batch of N images, in this order; None: it is not.

    warp: theta [N,2,3] and margins, from geometry.warp_plan; colors: from color.color_plan; taps [N,k]; noise [N,C,H,W]
    unit normals with sigma [N]; holes: from color.hole_plan.
    """

    warp: tuple[Tensor, tuple[int, int]] | None = None
    colors: Tensor | None = None
    taps: Tensor | None = None
    noise: tuple[Tensor, Tensor] | None = None
    holes: tuple[Tensor, Tensor] | None = None


class AugmentPipe(nn.Module):
    """Augments images [N,C,H,W] in [-1, 1], C = 1, 3 or 4, H and W at least 8.

    operations: name (see OPERATIONS) -> multiplier of the probability, e.g. AUGPIPES["bgc"]; ranges: fields of Ranges.
    Colour leaves a fourth channel alone; everything else changes all channels alike.
    """

    def __init__(self, operations: Mapping[str, float], **ranges: float) -> None:
        super().__init__()
        assert set(operations) <= set(OPERATIONS), f"unknown: {set(operations) - set(OPERATIONS)}"
        self.multipliers = {operation: m for operation, m in operations.items() if m > 0}
        self.ranges = Ranges(**ranges)
        self.warp_filter: Tensor
        self.register_buffer("warp_filter", setup_filter(geometry.SYM6), persistent=False)
        self.bands = color.octave_bands()

    def draw(self, generators: Sequence[torch.Generator], shape: Sequence[int] | None = None) -> Draws:
        """The randomness of one image from each CPU generator; shape [C,H,W] is needed where noise is enabled."""
        quantiles, noise = [], []
        for generator in generators:
            quantiles.append(torch.rand(NUM_DRAWS, generator=generator))
            if "noise" in self.multipliers:
                assert shape is not None
                noise.append(torch.randn(list(shape), generator=generator))
        return Draws(torch.stack(quantiles), torch.stack(noise) if noise else None)

    def percentile_draws(self, n: int, quantile: float, shape: Sequence[int] | None = None) -> Draws:
        """Draws by which, at p = 1, every enabled operation is applied with its parameters at a quantile in (0, 1).

        The second rotation is left out, so that the angle is that of the first.
        """
        draws = self.draw([torch.Generator().manual_seed(i) for i in range(n)], shape)
        draws.quantiles.fill_(quantile)
        draws.quantiles[:, list(FIRST.values())] = 0
        draws.quantiles[:, FIRST["post_rotate"]] = 1
        return draws

    def forward(self, images: Tensor, p: float | Tensor, draws: Draws) -> Tensor:
        """Apply every operation with probability p in [0, 1] (times its multiplier); p = 0 returns the images."""
        assert len(draws) == len(images)
        return self.apply_plan(images, moved(self.plan(draws, float(p), images.shape[1:]), images.device))

    def plan(self, draws: Draws, p: float, shape: Sequence[int], coarse: bool = False) -> Plan:
        """What these draws and p do to images of a shape [C,H,W], on the CPU.

        coarse: so that few plans differ in more than numbers.
        """
        assert 0 <= p <= 1
        if p == 0 or not self.multipliers or len(draws) == 0:
            return Plan()
        parameters = Parameters(draws.quantiles, self._probabilities(p))
        channels, size = shape[0], (shape[2], shape[1])
        return Plan(self._warp(parameters, size, coarse), self._colors(parameters, channels), self._taps(parameters),
                    self._noise(parameters, draws.image_noise), self._holes(parameters, size))

    def apply_plan(self, images: Tensor, plan: Plan) -> Tensor:
        """Images [N,C,H,W] augmented by a plan that is on their device. Nothing here is decided by a number."""
        if plan.warp is not None:
            images = geometry.warp(images, *plan.warp, self.warp_filter)
        if plan.colors is not None:
            images = color.recolor(images, plan.colors)
        if plan.taps is not None:
            images = color.filter_images(images, plan.taps)
        if plan.noise is not None:
            noise, sigma = (tensor.to(images.dtype) for tensor in plan.noise)
            images = images + noise * sigma[:, None, None, None]
        return images if plan.holes is None else color.cut_out(images, plan.holes)

    def _probabilities(self, p: float) -> dict[str, float]:
        """Of each step; those of the two rotations are such that either is there with the probability of the whole."""
        probabilities = {}
        for operation, multiplier in self.multipliers.items():
            chance = min(p * multiplier, 1.0)
            for step in STEPS_OF[operation]:
                probabilities[step] = 1 - math.sqrt(1 - chance) if operation == "rotate" else chance
        return probabilities

    def _warp(self, parameters: Parameters, size: tuple[int, int],
              coarse: bool) -> tuple[Tensor, tuple[int, int]] | None:
        if not self._any(GROUPS["blit"] + GROUPS["geom"]):
            return None
        r = self.ranges
        inverse = geometry.inverse_matrices(
            parameters, size, xint_max=r.xint_max, scale_std=r.scale_std,
            rotate_max=r.rotate_max, aniso_std=r.aniso_std, xfrac_std=r.xfrac_std,
        )  # fmt: skip
        return None if is_identity(inverse) else geometry.warp_plan(inverse, size, coarse)

    def _colors(self, parameters: Parameters, num_channels: int) -> Tensor | None:
        if not self._any(GROUPS["color"]):
            return None
        r = self.ranges
        matrices = color.color_matrices(
            parameters, num_channels, brightness_std=r.brightness_std, contrast_std=r.contrast_std,
            hue_max=r.hue_max, saturation_std=r.saturation_std,
        )  # fmt: skip
        return None if is_identity(matrices) else color.color_plan(matrices, num_channels)

    def _taps(self, parameters: Parameters) -> Tensor | None:
        if not self._any(GROUPS["filter"]) or not any(parameters.gate(step).any() for step in STEPS_OF["imgfilter"]):
            return None
        return color.filter_taps(parameters, self.bands, self.ranges.imgfilter_std).float()

    def _noise(self, parameters: Parameters, noise: Tensor | None) -> tuple[Tensor, Tensor] | None:
        if not self._any(GROUPS["noise"]):
            return None
        assert noise is not None
        sigma = parameters.half_normal("noise", self.ranges.noise_std)
        return (noise, sigma.float()) if sigma.any() else None

    def _holes(self, parameters: Parameters, size: tuple[int, int]) -> tuple[Tensor, Tensor] | None:
        sizes = parameters.gate("cutout") * self.ranges.cutout_size
        if not self._any(GROUPS["cutout"]) or not sizes.any():
            return None
        return color.hole_plan(parameters.quantile("cutout"), sizes, size)

    def _any(self, operations: Sequence[str]) -> bool:
        return any(operation in self.multipliers for operation in operations)


def is_identity(matrices: Tensor) -> bool:
    """Whether square matrices [N,k,k] all are, exactly."""
    return bool((matrices == torch.eye(matrices.shape[1], dtype=matrices.dtype)).all())
