"""The Frechet distance between Gaussians fitted to two sets, and its use on images reduced to 32x32 pixels."""

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from metrics.inputs import MetricInputs, MetricValue, take
from torch_utils.errors import UserError

REDUCED = 32


def pfd32(inputs: MetricInputs, count: int) -> MetricValue:
    """Frechet distance of pixels at 32x32, at equal counts of real and generated images; intensities in [0, 1].

    It sees layout, brightness, contrast and collapse, and is blind to detail. It is no FID and does not compare with
    one, nor between datasets. pfd32_floor is the distance between two disjoint halves of the real images, pfd32_ratio
    that of a generated and a real half over it.
    """
    n = min(count, inputs.num_real)
    if n < 2:
        raise UserError(f"pfd32 compares at least 2 images with as many; got {n}. Raise --num or give more --data.")
    real = reduced_pixels(take(inputs.real(), n), inputs.device)
    fake = reduced_pixels(take(inputs.fake(n), n), inputs.device)
    half = n // 2
    floor = frechet_of_samples(real[:half], real[half:2 * half])
    same_count = frechet_of_samples(real[:half], fake[:half])
    results = {
        "pfd32": frechet_of_samples(real, fake),
        "pfd32_floor": floor,
        "pfd32_ratio": same_count / floor if floor else math.nan,
    }
    return MetricValue(results, {"real": n, "fake": n, "floor": half})


def reduced_pixels(batches: Iterator[np.ndarray], device: torch.device) -> Tensor:
    """Images as rows [N, C*32*32] of block means in [0, 1]; smaller images are taken as they are."""
    rows = []
    for batch in batches:
        images = torch.from_numpy(batch).to(device).float()
        n, channels, resolution, _ = images.shape
        if resolution > REDUCED:
            block = resolution // REDUCED
            images = images.reshape(n, channels, REDUCED, block, REDUCED, block).mean(dim=[3, 5])
        rows.append(images.reshape(n, -1) / 255)
    return torch.cat(rows).double()


def frechet_of_samples(x: Tensor, y: Tensor) -> float:
    """Frechet distance of two samples [N,D], [M,D] float64, with covariances divided by N and M.

    Fewer samples than dimensions leave covariances without an inverse; then the trace is taken from the singular values
    of the N x M products of centred samples, which is exact, and cheaper.
    """
    mean_x, mean_y = x.mean(0), y.mean(0)
    centred_x, centred_y = x - mean_x, y - mean_y
    if max(len(x), len(y)) > x.shape[1]:
        return frechet_distance(mean_x, centred_x.T @ centred_x / len(x), mean_y, centred_y.T @ centred_y / len(y))
    overlap = torch.linalg.svdvals(centred_x @ centred_y.T).sum() / math.sqrt(len(x) * len(y))
    spread = centred_x.square().sum() / len(x) + centred_y.square().sum() / len(y)
    return max(float((mean_x - mean_y).square().sum() + spread - 2 * overlap), 0.0)


def frechet_distance(mean_x: Tensor, cov_x: Tensor, mean_y: Tensor, cov_y: Tensor) -> float:
    """|m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^1/2) for means [D] and covariances [D,D] in float64 (Dowson & Landau 1982).

    (S1 S2)^1/2 has the trace of (R S2 R)^1/2 with R = S1^1/2, which is symmetric: real without rounding anything off.
    """
    values, vectors = torch.linalg.eigh(cov_x)
    root = vectors * values.clamp_min(0).sqrt() @ vectors.T
    overlap = torch.linalg.eigvalsh(root @ cov_y @ root).clamp_min(0).sqrt().sum()
    distance = (mean_x - mean_y).square().sum() + cov_x.trace() + cov_y.trace() - 2 * overlap
    return max(float(distance), 0.0)
