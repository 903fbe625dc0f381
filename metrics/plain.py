"""Plain figures of two sets of images: how bright and contrasty they are, and how much detail of each size they have.

Both look at the luminance of each image and need neither weights nor features. They see little, but what they see has
units, and they say which way it is wrong.
"""

import math
from collections.abc import Callable, Iterable

import numpy as np
import torch
from torch import Tensor

from metrics.counts import counts_of, half_of
from metrics.diversity import luminance
from metrics.inputs import ImageSet, MetricInputs, MetricValue, Request
from metrics.one_size import one_size
from torch_utils.errors import UserError

QUANTISATION = 1 / 12  # variance of rounding to whole gray levels: power below it says nothing
Summary = Callable[[np.ndarray], Tensor]
Distance = Callable[[Tensor, Tensor], float]


def tone(inputs: MetricInputs, request: Request) -> MetricValue:
    """Wasserstein distance between the histograms of luminance, in gray levels of 0..255: how far a pixel's level would
    have to move on average.

    Keys <name>, _mean and _std of the generated pixels, _mean_real and _std_real, _floor, _ratio. It sees brightness,
    contrast and gamma, and nothing else: not what is where.
    """
    real, fake, value = _compare(inputs, request, histograms, _tone_distance, "1-Wasserstein of histograms")
    for suffix, found in (("", fake), ("_real", real)):
        mean, std = _moments(found)
        value.results[f"{request.name}_mean{suffix}"] = mean
        value.results[f"{request.name}_std{suffix}"] = std
    return value


def spectrum(inputs: MetricInputs, request: Request) -> MetricValue:
    """Root mean square difference of the mean radial power spectra, in decibels, over all frequencies.

    Key <name>_fine: the mean difference over periods below 4 pixels; less than 0 is blur, more is noise or artefacts
    of upsampling (Durall et al. 2020). Further keys _floor, _ratio. It is blind to all that leaves the power where it
    is, above all to layout. Images that are not square are cropped to the square in the middle.
    """
    real, fake, value = _compare(inputs, request, radial_spectra, _spectrum_distance, "rms of decibels")
    fine = math.ceil(real.shape[1] / math.sqrt(8))  # places of R/4 cycles and more, of R/sqrt(2)
    value.results[f"{request.name}_fine"] = float(_decibels(real, fake)[fine:].mean())
    return value


def _compare(inputs: MetricInputs, request: Request, summary: Summary, distance: Distance,
             estimator: str) -> tuple[Tensor, Tensor, MetricValue]:
    """Summaries [N,D], [M,D] of the images, and the distance of their means with floor and ratio."""
    n, m = counts_of(inputs, request, least=2)
    n = min(n, request.count)  # a mean is not known much better from more
    real, fake = _summaries(inputs.real, n, summary, request.name), _summaries(inputs.fake, m, summary, request.name)
    if real.shape[1] != fake.shape[1]:
        raise UserError(f"{request.name} compares images of one size; the real ones have {real.shape[1]} frequencies, "
                        f"the others {fake.shape[1]}. Convert them with dataset_tool.py --resolution.")
    results = {request.name: distance(real, fake)}
    if half := half_of(n, m, least=1, mirror=request.mirror):
        floor = distance(real[:half], real[half:2 * half])
        results[f"{request.name}_floor"] = floor
        results[f"{request.name}_ratio"] = distance(real[:half], fake[:half]) / floor if floor else math.nan
    return real, fake, MetricValue(results, {"real": n, "fake": m, "floor": half}, about={"estimator": estimator})


def _summaries(images: ImageSet, count: int, summary: Summary, name: str) -> Tensor:
    return torch.cat([summary(batch) for batch in one_size(images.images(count), name)])


def histograms(images: np.ndarray) -> Tensor:
    """[N,256] parts of the pixels of uint8 images [N,C,H,W] that have each level of luminance."""
    levels = luminance(images).round().long().flatten(1)
    counts = torch.zeros([len(levels), 256]).scatter_add_(1, levels, torch.ones(levels.shape))
    return counts / levels.shape[1]


def _tone_distance(a: Tensor, b: Tensor) -> float:
    return float((a.double().mean(0) - b.double().mean(0)).cumsum(0).abs().sum())


def _moments(found: Tensor) -> tuple[float, float]:
    shares, levels = found.double().mean(0), torch.arange(256, dtype=torch.float64)
    mean = float(shares @ levels)
    return mean, math.sqrt(float(shares @ (levels - mean).square()))


def radial_spectra(images: np.ndarray) -> Tensor:
    """Power [N,F], float64, of the luminance of uint8 images [N,C,H,W] at 1, 2, ... cycles per width R = min(H, W),
    averaged over directions; white noise of variance v has v everywhere. The last are those of the corners of the
    spectrum, R/sqrt(2), where checkerboards are.

    Images have their mean taken off and are faded out to the borders (Hann), or these would cross the spectrum. The
    mean takes some of what is at 1 cycle with it.
    """
    x = _square(luminance(images)[:, 0])
    window = torch.hann_window(x.shape[-1], dtype=torch.float64)
    window = window[:, None] * window
    x = (x - (x * window).sum(dim=[1, 2], keepdim=True) / window.sum()) * window
    power = torch.fft.fft2(x).abs().square() / window.square().sum()
    frequency = torch.fft.fftfreq(x.shape[-1], 1 / x.shape[-1], dtype=torch.float64)
    radius = torch.hypot(frequency[:, None], frequency).round().long().flatten()
    sums = torch.zeros([len(x), int(radius.max()) + 1], dtype=torch.float64).index_add_(1, radius, power.flatten(1))
    return (sums / radius.bincount())[:, 1:]


def radial_spectrum(batches: Iterable[np.ndarray]) -> tuple[float, ...]:
    """The mean of radial_spectra over square images [N,C,R,R] in batches, at 1..R/2 cycles: those of all directions."""
    found = []
    for batch in batches:
        found.append(radial_spectra(batch)[:, :batch.shape[-1] // 2])
    return tuple(torch.cat(found).mean(0).tolist())


def _square(x: Tensor) -> Tensor:
    """Of [N,H,W], the square in the middle."""
    height, width = x.shape[1:]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return x[:, top:top + side, left:left + side]


def _decibels(real: Tensor, fake: Tensor) -> Tensor:
    """How much more power the generated images have at each frequency."""
    powers = (x.mean(0) + QUANTISATION for x in (fake, real))
    generated, expected = (10 * power.log10() for power in powers)
    return generated - expected


def _spectrum_distance(real: Tensor, fake: Tensor) -> float:
    return float(_decibels(real, fake).square().mean().sqrt())
