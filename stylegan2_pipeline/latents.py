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
    """z [N,z_dim], c [N,c_dim]; mixing: from `mixing`, None where no style is mixed; noise [N,P]."""

    z: Tensor
    c: Tensor
    mixing: tuple[Tensor, Tensor] | None = None
    noise: Tensor | None = None

    def to_ws(self, G: Generator) -> tuple[Tensor, Tensor]:
        """ws [N,num_ws,w_dim] with styles mixed (StyleGAN, section 3.1), and the unmixed w [N,w_dim]."""
        ws = G.mapping(self.z, self.c)
        w = ws[:, 0]
        if self.mixing is not None:
            z_mix, mixed = self.mixing
            ws = torch.where(mixed[:, :, None] > 0, G.mapping(z_mix, self.c), ws)
        return ws, w

    def to_images(self, G: Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Images [N,C,H,W], their ws, and the unmixed w."""
        ws, w = self.to_ws(G)
        return G.synthesis(ws, noise_mode="random", noise=self.noise), ws, w


def mixing(z_mix: Tensor, cut: Tensor, num_ws: int) -> tuple[Tensor, Tensor] | None:
    """z_mix [N,z_dim] and a mask [N,num_ws] of the layers that take w from it, which are those from cut [N] on.

    cut is num_ws where styles are not mixed; None where all are so.
    """
    mixed = torch.arange(num_ws) >= cut[:, None]
    return (z_mix, mixed.float()) if mixed.any() else None


def draw_latents(generators: Sequence[torch.Generator], noise_generators: Sequence[torch.Generator], G: Generator,
                 labels: Tensor, mixing_prob: float, device: torch.device) -> Latents:
    """labels [M,c_dim] are the dataset's: each sample takes one at random. noise_generators live on `device`.

    The noise is there, too; all else is on the CPU.
    """
    z, z_mix = torch.stack([torch.randn(2, G.z_dim, generator=g) for g in generators], 1)
    u = torch.stack([torch.rand(3, dtype=torch.float64, generator=g) for g in generators])
    random_cut = 1 + (u[:, 1] * (G.num_ws - 1)).long()
    cut = torch.where(u[:, 0] < mixing_prob, random_cut, G.num_ws)
    c = labels[(u[:, 2] * len(labels)).long()].float()
    noise = torch.stack([torch.randn(G.synthesis.noise_numel, generator=g, device=device) for g in noise_generators])
    return Latents(z, c, mixing(z_mix, cut, G.num_ws), noise)
