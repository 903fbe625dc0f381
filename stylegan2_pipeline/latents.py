"""What a phase draws for each sample: latents, style mixing, labels, synthesis noise.

Every sample has its own random stream, named by its position in the run, so that a batch gives the same gradients
however it is split into micro-batches or over ranks.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from stylegan2_pipeline.networks import Generator


@dataclass(frozen=True)
class Latents:
    """z, z_mix [N,z_dim]; cut [N]: the first layer that takes w from z_mix (num_ws: none); c [N,c_dim]; noise [N,P]."""

    z: Tensor
    z_mix: Tensor
    cut: Tensor
    c: Tensor
    noise: Tensor | None

    def to_ws(self, G: Generator) -> tuple[Tensor, Tensor]:
        """ws [N,num_ws,w_dim] with styles mixed (StyleGAN, section 3.1), and the unmixed w [N,w_dim]."""
        ws = G.mapping(self.z, self.c)
        w = ws[:, 0]
        if bool((self.cut < G.num_ws).any()):
            layer = torch.arange(G.num_ws)
            mixed = (layer >= self.cut[:, None])[:, :, None].to(ws.device, non_blocking=True)
            ws = torch.where(mixed, G.mapping(self.z_mix, self.c), ws)
        return ws, w

    def to_images(self, G: Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Images [N,C,H,W], their ws, and the unmixed w."""
        ws, w = self.to_ws(G)
        return G.synthesis(ws, noise_mode="random", noise=self.noise), ws, w


def draw_latents(generators: Sequence[torch.Generator], noise_generators: Sequence[torch.Generator], G: Generator,
                 labels: Tensor, mixing_prob: float, device: torch.device) -> Latents:
    """labels [M,c_dim] are the dataset's: each sample takes one at random. noise_generators live on `device`."""
    z = torch.stack([torch.randn(2, G.z_dim, generator=g) for g in generators])
    u = torch.stack([torch.rand(3, dtype=torch.float64, generator=g) for g in generators])
    random_cut = 1 + (u[:, 1] * (G.num_ws - 1)).long()
    cut = torch.where(u[:, 0] < mixing_prob, random_cut, G.num_ws)
    c = labels[(u[:, 2] * len(labels)).long()]
    noise = torch.stack([torch.randn(G.synthesis.noise_numel, generator=g, device=device) for g in noise_generators])
    z = z.to(device, non_blocking=True)
    return Latents(z[:, 0], z[:, 1], cut, c.to(device, non_blocking=True), noise)
