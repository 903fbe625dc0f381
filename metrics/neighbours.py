"""Two sets of images by their nearest neighbours: precision, recall, density, coverage, a two-sample test, realism.

All take rows of features [N,D] and no network weights of their own; how much they say is up to the features.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

K = 5


@dataclass(frozen=True)
class Overlap:
    """Of generated and real images, `count` of each.

    precision, recall: the part of the generated (real) images within reach of a real (generated) one (Kynkaanniemi et
    al. 2019, eq. 2). density, coverage: how many real neighbourhoods a generated image lies in, over k; the part of
    real ones that hold one (Naeem et al. 2020, eq. 4 and 5). told_apart: the part of all images whose nearest
    neighbour is of their own set (Lopez-Paz & Oquab 2017): one half where the sets cannot be told apart, less where
    one copies the other.
    """

    precision: float
    recall: float
    density: float
    coverage: float
    told_apart: float
    count: int


def overlap(real: Tensor, fake: Tensor, k: int = K) -> Overlap:
    """real, fake [N,D] float64, equally many and more than k."""
    assert real.shape == fake.shape and len(real) > k, (real.shape, fake.shape, k)
    within_real, within_fake, between = torch.cdist(real, real), torch.cdist(fake, fake), torch.cdist(real, fake)
    reach_real, reach_fake = kth_nearest(within_real, k), kth_nearest(within_fake, k)
    held = between <= reach_real[:, None]  # [real, fake]
    return Overlap(
        precision=held.any(0).double().mean().item(),
        recall=(between <= reach_fake[None]).any(1).double().mean().item(),
        density=held.double().sum().item() / (k * len(fake)),
        coverage=held.any(1).double().mean().item(),
        told_apart=torch.cat([kth_nearest(within_real, 1) < between.amin(1),
                              kth_nearest(within_fake, 1) < between.amin(0)]).double().mean().item(),
        count=len(real))


def kth_nearest(distances: Tensor, k: int) -> Tensor:
    """[N] of the distances [N,N] within a set: to the k-th nearest other one."""
    others = distances + torch.diag(torch.full([len(distances)], torch.inf, dtype=distances.dtype))
    return others.kthvalue(k, dim=1).values


def realism(real: Tensor, fake: Tensor, k: int = K) -> Tensor:
    """[M] of fake [M,D]: how deep it lies in a real neighbourhood, 1 at its edge (Kynkaanniemi et al. 2019, eq. 3).

    The wider half of the neighbourhoods is left out, as there: they hold everything.
    """
    reach = kth_nearest(torch.cdist(real, real), k)
    kept = reach <= reach.median()
    return (reach[kept, None] / torch.cdist(real[kept], fake).clamp_min(1e-12)).amax(0)
