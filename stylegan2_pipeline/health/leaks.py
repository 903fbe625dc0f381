"""Whether generated images show what the augmentation does and the data does not: shares of images, without weights.

Each gauge learns from the data what it looks like, and from data of which every image is augmented what a leak would
look like: 0 is a share as in the data, 1 a share as in augmented data. A gauge that cannot tell the two apart for this
data (turns of data that stands in all directions, say) is left out: it would measure nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from stylegan2_pipeline.augment import AUGPIPES, AugmentPipe

LUMA = torch.tensor([0.299, 0.587, 0.114])  # ITU-R BT.601
MIN_IMAGES = 8  # of data: fewer teach nothing
SEPARATION = 0.25  # least difference of shares, between data and augmented data, for a gauge to be of use
SLACK = 0.25  # a distance is foreign this part of the data's range beyond that range
RIDGE = 0.1  # of the classifiers, in units of a feature's mean variance
FALSE_ALARMS = 0.1  # part of the data that the classifier of colours may take for augmented
COLOUR_BINS = {1: 16, 3: 6}  # of a channel's histogram, by the number of channels it is made of

Share = Callable[[Tensor], float]  # of images [M,C,r,r] in [0, 1], the part that looks augmented


@dataclass(frozen=True)
class Gauge:
    """share counts the images that look augmented; at_rest and full are the shares of the data and all augmented."""

    name: str
    share: Share
    at_rest: float
    full: float

    def __call__(self, images: Tensor) -> float:
        """Images [M,C,r,r] in [0, 1]: about the part of them that looks augmented; below 0 by chance alone."""
        return (self.share(images) - self.at_rest) / (self.full - self.at_rest)


def gauges(reals: Tensor) -> list[Gauge]:
    """Those that work for this data: reals [N,C,r,r] in [0, 1], made small."""
    if len(reals) < MIN_IMAGES:
        return []
    found = [make(reals) for make in (colour_gauge, turn_gauge, border_gauge)]
    return [gauge for gauge in found if gauge.full - gauge.at_rest >= SEPARATION]


def colour_gauge(reals: Tensor) -> Gauge:
    """By a classifier of colour histograms: of the data, or after the pipeline's colour operations."""
    halves = reals[::2], reals[1::2]
    scores, foreign = [], []
    for learnt, other in (halves, halves[::-1]):
        score = colour_score(learnt)
        scores.append(score(other))
        foreign.append(score(augmented(other, "color", seed=1)))
    limit = torch.cat(scores).quantile(1 - FALSE_ALARMS)
    score = colour_score(reals)
    return Gauge("color", lambda images: _part(score(images) > limit), _part(torch.cat(scores) > limit),
                 _part(torch.cat(foreign) > limit))


def turn_gauge(reals: Tensor) -> Gauge:
    """By a classifier of quarter turns: the part of images that it does not find upright."""
    halves = reals[::2], reals[1::2]
    errors = [_part(quarter_turns(learnt)(other) != 0) for learnt, other in (halves, halves[::-1])]
    classify = quarter_turns(reals)
    return Gauge("turn", lambda images: _part(classify(images) != 0), sum(errors) / 2, 0.75)


def border_gauge(reals: Tensor) -> Gauge:
    """By the distance of the outermost pixels from their mean in the data, which shifts and turns carry inwards."""
    halves = reals[::2], reals[1::2]
    at_rest = sum(border_share(learnt)(other) for learnt, other in (halves, halves[::-1])) / 2
    share = border_share(reals)
    return Gauge("border", share, at_rest, share(augmented(reals, "bg", seed=0)))


def augmented(reals: Tensor, pipe: str, seed: int) -> Tensor:
    """Every operation of a pipe applied to every image, then clipped as pictures are."""
    augment = AugmentPipe(AUGPIPES[pipe])
    draws = augment.draw([torch.Generator().manual_seed(seed * len(reals) + i) for i in range(len(reals))])
    return (augment(reals * 2 - 1, p=1.0, draws=draws) / 2 + 0.5).clamp(0, 1)


def colour_score(reals: Tensor) -> Callable[[Tensor], Tensor]:
    """A function of images: high where their colours are those of augmented rather than of real images."""
    copies = [augmented(reals, "color", seed) for seed in (2, 3, 4)]
    kinds = torch.tensor([0.0] * len(reals) + [1.0] * len(reals) * len(copies))
    score = ridge(colour_histograms(torch.cat([reals, *copies])), kinds[:, None])
    return lambda images: score(colour_histograms(images))[:, 0]


def colour_histograms(images: Tensor) -> Tensor:
    """[N, bins]: the square roots of shares, whose differences weigh rare and frequent colours more alike."""
    channels = 3 if images.shape[1] >= 3 else 1
    bins = COLOUR_BINS[channels]
    levels = (images[:, :channels] * bins).long().clamp(0, bins - 1)
    place = bins ** torch.arange(channels)
    index = (levels * place[:, None, None]).sum(1).flatten(1)
    counts = torch.zeros(len(images), bins**channels).scatter_add_(1, index, torch.ones_like(index, dtype=torch.float))
    return (counts / index.shape[1]).sqrt()


def quarter_turns(reals: Tensor) -> Callable[[Tensor], Tensor]:
    """A function of images: how many quarter turns each seems to have made, 0 to 3."""
    turned = torch.cat([turn_features(torch.rot90(reals, k, (2, 3))) for k in range(4)])
    score = ridge(turned, torch.eye(4).repeat_interleave(len(reals), 0))
    return lambda images: score(turn_features(images)).argmax(1)


def turn_features(images: Tensor) -> Tensor:
    """[N,256] (fewer of images below 16x16): gray pixels, each image of mean 0 and norm 1: contrast plays no part."""
    gray = luma(images)[:, None]
    if gray.shape[2] > 16:
        gray = F.avg_pool2d(gray, gray.shape[2] // 16)
    flat = gray.flatten(1) - gray.mean([1, 2, 3])[:, None]
    return flat / flat.norm(dim=1, keepdim=True).clamp_min(1e-6)


def border_share(reals: Tensor) -> Share:
    """A function of images: the part whose outermost pixels are further from their mean than in any of the data."""
    size = reals.shape[2]
    width = max(size // 16, 1)
    ring = torch.ones(size, size, dtype=torch.bool)
    ring[width:-width, width:-width] = False
    mean = reals[:, :, ring].mean(0)

    def distance(images: Tensor) -> Tensor:
        return (images[:, :, ring] - mean).square().mean([1, 2]).sqrt()

    known = distance(reals)
    limit = known.max() + SLACK * (known.max() - known.min())
    return lambda images: _part(distance(images) > limit)


def luma(images: Tensor) -> Tensor:
    """Brightness [N,H,W] of images [N,C,H,W] of 1, 3 or 4 channels."""
    return images[:, 0] if images.shape[1] < 3 else torch.einsum("nchw,c->nhw", images[:, :3], LUMA)


def ridge(x: Tensor, y: Tensor) -> Callable[[Tensor], Tensor]:
    """Linear regression of y [N,K] on x [N,D], shrunk; a function of features [M,D] to [M,K]."""
    mean_x, mean_y = x.mean(0), y.mean(0)
    a, b = (x - mean_x).double(), (y - mean_y).double()
    gram = a.T @ a
    gram += RIDGE * (gram.trace() / len(gram) + 1e-9) * torch.eye(len(gram), dtype=torch.float64)
    weight = torch.linalg.solve(gram, a.T @ b).float()
    return lambda features: (features - mean_x) @ weight + mean_y


def _part(condition: Tensor) -> float:
    return float(condition.float().mean())
