"""Two images beside each other at up to 256 pixels: a training image moved to match a generated one, and how well."""

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from metrics.diversity import luminance, ms_ssim
from metrics.memorization.search import Move, turned
from metrics.memorization.thumbnails import premultiplied

LOOKED_AT = 256


@dataclass(frozen=True)
class Aligned:
    """image: uint8 [C,S,S], the training image as the generated one shows it; correlation of the two."""

    image: np.ndarray
    correlation: float


def looked_at(image: np.ndarray) -> np.ndarray:
    """uint8 [C,H,W] at no more than 256 x 256 pixels, square."""
    side = min(*image.shape[1:], LOOKED_AT)
    if image.shape[1:] == (side, side):
        return image
    return F.adaptive_avg_pool2d(torch.from_numpy(image).float(), side).add(0.5).to(torch.uint8).numpy()


def align(fake: np.ndarray, real: np.ndarray, move: Move, thumbnail: int) -> Aligned:
    """uint8 [C,S,S] of one size; move: what brought the fake to the real image in thumbnails of so many pixels.

    The real image is moved the other way about, then shifted by at most a pixel of the thumbnail to where the two
    correlate best.
    """
    scale = real.shape[1] / thumbnail
    x = shifted(torch.from_numpy(real)[None].float(), -round(move.down * scale), -round(move.right * scale))
    x = turned(x, -move.turn)
    x = x.flip(3) if move.mirror else x
    target = torch.from_numpy(fake)[None].float()
    x = shifted(x, *best_shift(target, x, math.ceil(scale)))
    image = x.clamp(0, 255).add(0.5).to(torch.uint8).numpy()
    return Aligned(image[0], correlation(target, x))


def similarity(a: np.ndarray, b: np.ndarray) -> float:
    """MS-SSIM of the luminance of two images uint8 [C,S,S]."""
    return ms_ssim(luminance(a[None]), luminance(b[None])).item()


def shifted(x: Tensor, down: int, right: int) -> Tensor:
    """[N,C,H,W] by whole pixels; edges are repeated."""
    reach = max(abs(down), abs(right))
    padded = F.pad(x, [reach] * 4, mode="replicate") if reach else x
    return padded.narrow(2, reach - down, x.shape[2]).narrow(3, reach - right, x.shape[3])


def best_shift(target: Tensor, x: Tensor, reach: int) -> tuple[int, int]:
    """(down, right) of x [1,C,S,S], at most reach, that correlates best with the target, as if both were periodic."""
    spectrum = torch.fft.rfft2(_centred(target)) * torch.fft.rfft2(_centred(x)).conj()
    product = torch.fft.irfft2(spectrum, s=list(x.shape[2:]))[0].sum(0)
    around = product.roll((reach, reach), (0, 1))[:2 * reach + 1, :2 * reach + 1]
    down, right = divmod(int(around.argmax()), around.shape[1])
    return down - reach, right - reach


def correlation(a: Tensor, b: Tensor) -> float:
    """Of images [1,C,S,S] less the mean of each channel; 0 where one of them shows nothing."""
    a, b = _centred(a).flatten().double(), _centred(b).flatten().double()
    return float(a @ b / (a.norm() * b.norm()).clamp_min(1e-6))


def _centred(x: Tensor) -> Tensor:
    x = premultiplied(x)
    return x - x.mean(dim=[2, 3], keepdim=True)
