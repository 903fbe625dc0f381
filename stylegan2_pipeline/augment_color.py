"""Augmentations that move no pixel: colour, octave bands, noise and cutout (StyleGAN2-ADA, appendix B)."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from stylegan2_pipeline.augment_draws import NUM_BANDS, Parameters

SYM2 = [-0.12940952255092145, 0.22414386804185735, 0.836516303737469, 0.48296291314469025]  # the low-pass symlet
EXPECTED_POWER = torch.tensor([10.0, 1.0, 1.0, 1.0], dtype=torch.float64) / 13  # of a natural image, by octave band


def color_matrices(
    draw: Parameters, num_channels: int, *,
    brightness_std: float, contrast_std: float, hue_max: float, saturation_std: float,
) -> Tensor:  # fmt: skip
    """[N,4,4] float64, of colours (r, g, b, 1); hue in half turns, contrast and saturation in octaves."""
    gray_axis = torch.eye(4, dtype=torch.float64)
    gray_axis[:3, :3] = 1 / 3  # the projection on (1, 1, 1)
    gray_axis[3, 3] = 0
    color_plane = torch.diag(torch.tensor([1.0, 1, 1, 0], dtype=torch.float64)) - gray_axis
    last = torch.diag(torch.tensor([0.0, 0, 0, 1], dtype=torch.float64))

    matrix = torch.eye(4, dtype=torch.float64).repeat(len(draw.quantiles), 1, 1)
    matrix[:, :3, 3] = draw.normal("brightness", brightness_std)[:, None]
    contrast = _column(2 ** draw.normal("contrast", contrast_std))
    matrix = (contrast * (gray_axis + color_plane) + last) @ matrix
    luma = _column(1 - 2 * draw.choice("lumaflip", 2))
    matrix = (luma * gray_axis + color_plane + last) @ matrix
    if num_channels > 1:
        angle = _column(draw.uniform("hue", hue_max * math.pi))
        turn = torch.zeros(4, 4, dtype=torch.float64)  # the cross product with the gray axis
        turn[:3, :3] = torch.tensor([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / math.sqrt(3)
        matrix = (gray_axis + angle.cos() * color_plane + angle.sin() * turn + last) @ matrix
        saturation = _column(2 ** draw.normal("saturation", saturation_std))
        matrix = (gray_axis + saturation * color_plane + last) @ matrix
    return matrix


def color_plan(matrices: Tensor, num_channels: int) -> Tensor:
    """What `recolor` needs of [N,4,4]: [N,3,4] for colours; [N,2], factor and summand, for one channel."""
    matrices = matrices.float()
    if num_channels > 1:
        return matrices[:, :3]
    row = matrices[:, :3].mean(1)
    return torch.stack([row[:, :3].sum(1), row[:, 3]], 1)


def recolor(images: Tensor, plan: Tensor) -> Tensor:
    """Apply a plan from color_plan to images [N,C,H,W]: to the first three channels, or to the brightness of one."""
    plan = plan.to(images.dtype)
    if images.shape[1] == 1:
        factor, summand = plan[:, :, None, None, None].unbind(1)
        return images * factor + summand
    rgb = torch.baddbmm(plan[:, :, 3:], plan[:, :, :3], images[:, :3].flatten(2))
    rgb = rgb.unflatten(2, images.shape[2:])
    return rgb if images.shape[1] == 3 else torch.cat([rgb, images[:, 3:]], 1)


def octave_bands() -> Tensor:
    """[4, taps] float64: filters of the octaves up to 1/8, 1/4, 1/2, 1 of the highest frequency; they sum to a pulse.

    Built from the half-band pair of SYM2, squared to be symmetric: low + high = 1.
    """
    taps = torch.tensor(SYM2, dtype=torch.float64)
    low = _convolve(taps, taps.flip(0)) / 2
    high = low * torch.tensor([-1.0, 1]).repeat(4)[: len(low)]
    bands, below = [], torch.ones(1, dtype=torch.float64)
    for octave in range(NUM_BANDS - 1):
        bands.append(_convolve(below, _stretch(high, 2**octave)))
        below = _convolve(below, _stretch(low, 2**octave))
    bands.append(below)
    longest = max(len(band) for band in bands)
    return torch.stack([F.pad(band, [(longest - len(band)) // 2] * 2) for band in reversed(bands)])


def filter_taps(draw: Parameters, bands: Tensor, std: float) -> Tensor:
    """[N, taps] float64: the bands [4, taps], amplified one after the other, each time at equal expected power."""
    total = torch.ones(len(draw.quantiles), NUM_BANDS, dtype=torch.float64)
    for i in range(NUM_BANDS):
        gain = torch.ones_like(total)
        gain[:, i] = 2 ** draw.normal(f"band{i}", std)
        total = total * gain / (EXPECTED_POWER * gain.square()).sum(1, keepdim=True).sqrt()
    return total @ bands


def filter_images(images: Tensor, taps: Tensor) -> Tensor:
    """Filter images [N,C,H,W] along both axes with odd symmetric taps [N,k], mirrored at their edges."""
    n, c, h, w = images.shape
    weight = taps.to(images.dtype)[:, None].expand(-1, c, -1).reshape(n * c, 1, -1)  # [NC,1,k]
    x = reflect_pad(images, taps.shape[1] // 2).flatten(0, 1)[None]
    x = F.conv2d(x, weight[:, :, :, None], groups=n * c)
    x = F.conv2d(x, weight[:, :, None, :], groups=n * c)
    return x.reshape(n, c, h, w)


def reflect_pad(x: Tensor, pad: int) -> Tensor:
    """Mirror images on all sides, several times where they are smaller than the padding."""
    while pad > 0:
        step = min(pad, min(x.shape[2:]) - 1)
        x = F.pad(x, [step] * 4, mode="reflect")
        pad -= step
    return x


def hole_plan(centres: Tensor, sizes: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Squares to cut from images of `size` (width, height): [N,W] and [N,H], 1 where a column or row is within.

    sizes [N] and centres [N,2] (x, y) are in units of the image's size.
    """
    inside = []
    for i, length in enumerate(size):
        place = (torch.arange(length) + 0.5) / length
        inside.append(((place - centres[:, i, None]).abs() < sizes[:, None] / 2).float())
    return inside[0], inside[1]


def cut_out(images: Tensor, holes: tuple[Tensor, Tensor]) -> Tensor:
    """Set to 0 what a plan from hole_plan cuts from images [N,C,H,W]."""
    columns, rows = holes
    return images.masked_fill((columns[:, None, None, :] * rows[:, None, :, None]) > 0, 0)


def _column(value: Tensor) -> Tensor:
    return value[:, None, None]


def _convolve(a: Tensor, b: Tensor) -> Tensor:
    return F.conv1d(a[None, None], b.flip(0)[None, None], padding=len(b) - 1)[0, 0]


def _stretch(taps: Tensor, factor: int) -> Tensor:
    """Zeros between the taps: the same filter an octave or more lower."""
    out = taps.new_zeros((len(taps) - 1) * factor + 1)
    out[::factor] = taps
    return out
