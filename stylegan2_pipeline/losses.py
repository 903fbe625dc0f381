"""The losses of StyleGAN2-ADA: networks and a batch in, a term out.

A term is a scalar to differentiate with its statistics. A phase has one term, the discriminator's main phase two;
differentiating the first before the second is computed keeps only one graph in memory. Nothing here calls backward,
changes a network, draws, or looks at a number.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn.functional import softplus

from stylegan2_pipeline.latents import Latents
from stylegan2_pipeline.networks import Discriminator, Generator

Augment = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Term:
    """loss: scalar; stats: per-sample values by name; w: the unmixed w [N,w_dim] that move w_avg, if any."""

    loss: Tensor
    stats: dict[str, Tensor] = field(default_factory=dict)
    w: Tensor | None = None


@dataclass(frozen=True)
class LeCam:
    """Regularisation for limited data (Tseng et al. 2021, eq. 3): D may not run away from what it said before.

    real, fake: scalars, moving averages of D's scores on real and on generated images (eq. 4), which the trainer keeps.
    """

    weight: float
    real: Tensor
    fake: Tensor

    def penalty(self, logits: Tensor, anchor: Tensor) -> Tensor:
        """Of each score [N,1]; scores of generated images are held to the anchor of real ones, and the reverse."""
        return self.weight * (logits - anchor).square()


def generator_main(G: Generator, D: Discriminator, augment: Augment, fake: Latents) -> Term:
    """Non-saturating logistic loss (Goodfellow et al. 2014): softplus(-D(aug(G(z))))."""
    images, _ws, w = fake.to_images(G)
    logits = D(augment(images), fake.c)
    loss = softplus(-logits)
    return Term(loss.mean(), {"Loss/scores/fake": logits, "Loss/signs/fake": logits.sign(), "Loss/G/loss": loss}, w)


def path_lengths(images: Tensor, ws: Tensor, noise: Tensor, create_graph: bool = True) -> Tensor:
    """Length of the Jacobian of G along a random image direction (StyleGAN2, eq. 4).

    images [N,C,H,W] generated from ws [N,L,D]; noise [N,C,H,W] unit normal. Returns [N]; differentiable again.
    """
    direction = noise / math.sqrt(images[0, 0].numel())
    jacobian, = torch.autograd.grad((images * direction).sum(), ws, create_graph=create_graph)  # [NLD]
    return jacobian.square().sum(2).mean(1).sqrt()


def generator_path_lengths(G: Generator, fake: Latents, noise: Tensor, create_graph: bool) -> tuple[Tensor, Tensor]:
    """Path lengths [N] of a batch, and its unmixed w."""
    images, ws, w = fake.to_images(G)
    return path_lengths(images, ws, noise, create_graph), w


def generator_path_length_penalty(G: Generator, fake: Latents, noise: Tensor, pl_weight: float, pl_decay: float,
                                  pl_mean: Tensor, batch_mean: Tensor | None = None) -> Term:
    """Path length regularisation (StyleGAN2, eq. 4): pl_weight * (length - a)^2.

    a is the running mean of lengths with this batch in it, pl_mean the one before; batch_mean is the mean length of
    the whole batch, where this is only a part of it. The gradient through a, by which the samples of a batch depend on
    each other, is written as a sum over samples, so that parts of a batch add up to the whole.
    """
    lengths, w = generator_path_lengths(G, fake, noise, create_graph=True)
    batch_mean = lengths.detach().mean() if batch_mean is None else batch_mean
    a = pl_mean.lerp(batch_mean, pl_decay)
    penalty = (lengths - a).square()
    through_a = -2 * pl_decay * (batch_mean - a) * lengths
    loss = pl_weight * (penalty + through_a - through_a.detach())
    stats = {"Loss/pl_penalty": penalty, "Loss/pl_length": lengths, "Loss/G/reg": pl_weight * penalty}
    return Term(loss.mean(), stats, w)


def discriminator_fake(G: Generator, D: Discriminator, augment: Augment, fake: Latents,
                       lecam: LeCam | None = None) -> Term:
    """softplus(D(aug(G(z)))), with the LeCam penalty of generated images, if any."""
    with torch.no_grad():
        images, _ws, w = fake.to_images(G)
    logits = D(augment(images), fake.c)
    loss = softplus(logits)
    held = torch.zeros_like(logits) if lecam is None else lecam.penalty(logits, lecam.real)
    return Term((loss + held).mean(), {"Loss/scores/fake": logits, "Loss/signs/fake": logits.sign()}, w)


def discriminator_real(D: Discriminator, augment: Augment, real: Tensor, real_c: Tensor, scores_fake: Tensor,
                       lecam: LeCam | None = None) -> Term:
    """softplus(-D(aug(real))), with the LeCam penalty of real images, if any.

    scores_fake [N,1]: what D said of generated images, for the statistics of the whole phase. Loss/D/loss is without
    the penalty, so that runs with and without it compare; Loss/lecam is the penalty.
    """
    logits = D(augment(real), real_c)
    loss = softplus(-logits)
    held = torch.zeros_like(logits) if lecam is None else lecam.penalty(logits, lecam.fake)
    stats = {"Loss/scores/real": logits, "Loss/signs/real": logits.sign(), "Loss/D/loss": softplus(scores_fake) + loss}
    if lecam is not None:
        stats["Loss/lecam"] = lecam.penalty(scores_fake, lecam.real) + held
    return Term((loss + held).mean(), stats)


def discriminator_r1(D: Discriminator, augment: Augment, real: Tensor, real_c: Tensor, gamma: float) -> Term:
    """R1 (Mescheder et al. 2018, eq. 9): gamma/2 |d D(aug(x)) / dx|^2 on real images x [N,C,H,W]."""
    real = real.detach().requires_grad_(True)
    logits = D(augment(real), real_c)
    gradient, = torch.autograd.grad(logits.sum(), real, create_graph=True)
    penalty = gradient.square().sum([1, 2, 3])
    return Term(gamma / 2 * penalty.mean(), {"Loss/r1_penalty": penalty, "Loss/D/reg": gamma / 2 * penalty})
