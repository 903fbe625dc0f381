"""Pairs of images a small step apart on a path between two latents, and their distances: behind metrics/path_length.py.

Karras et al. 2018 (arXiv 1812.04948, section 4.1) for z, full and end; 2019 (arXiv 1912.04958) for ppl2_wend.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from metrics.detectors.lpips import MIN_SIZE
from metrics.detectors.registry import full_precision
from metrics.path_length import EPSILON
from stylegan2_pipeline.networks import Generator
from torch_utils.errors import UserError
from torch_utils.seeding import sample_generators

REDUCED = 256  # pixels; larger networks are measured at this size
CROPPED = 8  # of so many parts of an edge, the older names look at rows 3-6 and columns 2-5: a face of FFHQ

Distance = Callable[[Tensor, Tensor], Tensor]  # of images [N,3,H,W] in [0, 255], [N]
Labels = Callable[[list[torch.Generator]], Tensor]


@dataclass(frozen=True)
class Path:
    """space: z (a great circle) or w (a straight line). whole: steps anywhere between two latents, or at the first."""

    space: str
    whole: bool
    crop: bool


PATHS = {
    "ppl2_wend": Path("w", whole=False, crop=False),
    "ppl_zfull": Path("z", whole=True, crop=True),
    "ppl_wfull": Path("w", whole=True, crop=True),
    "ppl_zend": Path("z", whole=False, crop=True),
    "ppl_wend": Path("w", whole=False, crop=True),
}


@torch.no_grad()
def path_distances(G: Generator, lpips: Distance, kind: str, seed: int, start: int, count: int,
                   labels: Labels | None, device: str | torch.device) -> Tensor:
    """float32 [count,1]: distances over EPSILON^2 of pairs number start..start+count-1, on the device that G is on.

    Each pair follows from (seed, its number) alone: its two latents, its label, where it lies on the path, and its
    noise, which both images share. Last bits, which depend on the batch, are a percent or so of a distance over so
    small a step, but not of the mean of many. Hence images are made in float32, and never rounded to whole levels.
    labels: draws [N,c_dim] with one generator a pair; None for networks without. Raises UserError for images that are
    too small for the distance.
    """
    path = PATHS[kind]
    _check_size(G.img_resolution, kind)
    draws = sample_generators(seed, "path latents", range(start, start + count))
    z0, z1 = (torch.stack([torch.randn(G.z_dim, generator=g) for g in draws]).to(device) for _ in range(2))
    t = torch.stack([torch.rand([1], generator=g, dtype=torch.float64) for g in draws]).to(device) * path.whole
    c = labels(draws).to(device) if labels else None
    noise = torch.stack([torch.randn(G.synthesis.noise_numel, generator=g, device=device)
                         for g in sample_generators(seed, "path noise", range(start, start + count), str(device))])
    with full_precision():  # TF32 rounds by more than a step
        ws = _steps(G, path.space, z0, z1, t, c)  # [2N,num_ws,w_dim]: the beginnings, then the ends
        images = G.synthesis(ws, noise_mode="random", noise=torch.cat([noise, noise]), force_fp32=True)
        a, b = _prepared(images, path.crop, G.img_resolution).chunk(2)
        return (lpips(a, b) / EPSILON**2)[:, None].float()


def _check_size(resolution: int, kind: str) -> None:
    smallest = MIN_SIZE * 2 if PATHS[kind].crop else MIN_SIZE
    if resolution < smallest:
        raise UserError(f"{kind} needs images of {smallest} pixels or more, but --network makes {resolution}x"
                        f"{resolution}. Leave {kind} out of --metrics.")


def _steps(G: Generator, space: str, z0: Tensor, z1: Tensor, t: Tensor, c: Tensor | None) -> Tensor:
    """ws at t and at t + EPSILON, t [N,1]. In float64: in float32 the step itself would be wrong by a thousandth."""
    t = torch.cat([t, t + EPSILON])
    if space == "z":
        both = None if c is None else c.repeat(2, 1)
        return G.mapping(slerp(z0.double().repeat(2, 1), z1.double().repeat(2, 1), t), both)
    w0, w1 = (G.mapping(z, c).double().repeat(2, 1, 1) for z in (z0, z1))
    return torch.lerp(w0, w1, t[:, :, None])


def slerp(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
    """Unit vectors [N,D] on the great circle from the direction of a [N,D] to that of b (Shoemake 1985); t [N,1]."""
    a, b = a / a.norm(dim=1, keepdim=True), b / b.norm(dim=1, keepdim=True)
    along = (a * b).sum(dim=1, keepdim=True)
    across = b - along * a
    angle = t * torch.atan2(across.norm(dim=1, keepdim=True), along)
    return a * angle.cos() + across / across.norm(dim=1, keepdim=True) * angle.sin()


def _prepared(images: Tensor, crop: bool, resolution: int) -> Tensor:
    """Images [N,C,R,R] in [-1, 1] to colour alone [N,3,H,W] in [0, 255], H and W 256 at most."""
    images = images[:, :3]
    if crop:
        part = resolution // CROPPED
        images = images[:, :, 3 * part:7 * part, 2 * part:6 * part]
    if resolution > REDUCED:  # of the whole image, cropped or not, as it has been since StyleGAN2-ADA
        block = resolution // REDUCED
        images = images.unflatten(3, (-1, block)).unflatten(2, (-1, block)).mean(dim=[3, 5])
    return ((images + 1) * 127.5).expand(-1, 3, -1, -1)
