"""What each term of a phase's loss is computed from: drawn here, outside; the term is a function of that and weights.

The inputs of a term are a bundle of tensors on the networks' device and of plain values; two bundles of one outline
take the same kernels.
"""

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from stylegan2_pipeline import config as cfg
from stylegan2_pipeline import losses
from stylegan2_pipeline.augment import AUGPIPES, AugmentPipe, Plan
from stylegan2_pipeline.bundles import moved
from stylegan2_pipeline.diffaugment import DiffAugment, DiffPlan
from stylegan2_pipeline.latents import Latents, draw_latents
from stylegan2_pipeline.losses import Augment, LeCam, Term
from stylegan2_pipeline.networks import Discriminator, Generator
from stylegan2_pipeline.parts import Part
from torch_utils.seeding import sample_generators

Pipe = AugmentPipe | DiffAugment | None
AnyPlan = Plan | DiffPlan | None


class Networks(NamedTuple):
    """All that has weights or filters. A plan is None where there is no pipe."""

    G: Generator
    D: Discriminator
    pipe: Pipe

    def augment(self, plan: AnyPlan) -> Augment:
        pipe: Any = self.pipe  # each has plans of its own
        return (lambda images: images) if plan is None else functools.partial(pipe.apply_plan, plan=plan)


@dataclass(frozen=True)
class Inputs:
    """Of one term, for N samples. Those of each term are a class of their own."""

    def term(self, nets: Networks) -> Term:
        """Decided by no number; draws nothing."""
        raise NotImplementedError


@dataclass(frozen=True)
class GeneratorMain(Inputs):
    fake: Latents
    plan: AnyPlan

    def term(self, nets: Networks) -> Term:
        return losses.generator_main(nets.G, nets.D, nets.augment(self.plan), self.fake)


@dataclass(frozen=True)
class PathLength(Inputs):
    """noise [N,C,H,W]; pl_mean []: the running mean; batch_mean []: of the whole batch, None where this is it."""

    fake: Latents
    noise: Tensor
    pl_mean: Tensor
    batch_mean: Tensor | None
    weight: float
    decay: float

    def term(self, nets: Networks) -> Term:
        return losses.generator_path_length_penalty(nets.G, self.fake, self.noise, self.weight, self.decay,
                                                    self.pl_mean, self.batch_mean)


@dataclass(frozen=True)
class FakeScores(Inputs):
    fake: Latents
    plan: AnyPlan
    lecam: LeCam | None

    def term(self, nets: Networks) -> Term:
        return losses.discriminator_fake(nets.G, nets.D, nets.augment(self.plan), self.fake, self.lecam)


@dataclass(frozen=True)
class RealScores(Inputs):
    """real [N,C,H,W], its labels [N,c_dim]; scores_fake [N,1]: of the same part of the batch."""

    real: Tensor
    real_c: Tensor
    plan: AnyPlan
    scores_fake: Tensor
    lecam: LeCam | None

    def term(self, nets: Networks) -> Term:
        return losses.discriminator_real(nets.D, nets.augment(self.plan), self.real, self.real_c, self.scores_fake,
                                         self.lecam)


@dataclass(frozen=True)
class GradientPenalty(Inputs):
    real: Tensor
    real_c: Tensor
    plan: AnyPlan
    gamma: float

    def term(self, nets: Networks) -> Term:
        return losses.discriminator_r1(nets.D, nets.augment(self.plan), self.real, self.real_c, self.gamma)


@dataclass(frozen=True)
class Now:
    """What the trainer knows when a phase begins.

    p: of the augmentations; pl_mean []; batch_mean []: the path length of the whole batch where it is known; lecam [2].
    """

    p: float
    pl_mean: Tensor
    batch_mean: Tensor | None
    lecam: Tensor


def make_pipe(augment: cfg.AugmentConfig, device: torch.device) -> Pipe:
    if augment.mode == "noaug":
        return None
    if augment.mode == "diffaugment":
        return DiffAugment(augment.policy).to(device)
    return AugmentPipe(AUGPIPES[augment.pipe]).to(device)


class Drawing:
    """Draws the inputs of terms, from streams named by phase and sample."""

    def __init__(self, config: cfg.TrainConfig, nets: Networks, labels: Tensor, device: torch.device) -> None:
        self.config, self.nets, self.labels, self.device = config, nets, labels, device
        self.shape = [config.data.num_channels, config.data.resolution, config.data.resolution]

    def inputs(self, phase: str, part: Part, now: Now, stats: Mapping[str, Tensor]) -> Iterator[Inputs]:
        """Of each term of a phase for a part; stats: of the terms before, when the next is asked for."""
        draw = {"Gmain": self._gmain, "Greg": self._greg, "Dmain": self._dmain, "Dreg": self._dreg}[phase]
        return (moved(inputs, self.device) for inputs in draw(part, now, stats))

    def path_length_inputs(self, part: Part) -> tuple[Latents, Tensor]:
        """Latents and the directions [N,C,H,W] in which their images change."""
        generators = self._generators("Greg", part)
        fake = self.latents(generators, "Greg", part)
        noise = torch.stack([torch.randn(self.shape, generator=g, device=self.device)
                             for g in self._device_generators("Greg image noise", part)])
        return moved((fake, noise), self.device)

    def latents(self, generators: list[torch.Generator], stream: str, part: Part) -> Latents:
        return draw_latents(generators, self._device_generators(f"{stream} noise", part), self.nets.G, self.labels,
                            self.config.loss.style_mixing_prob, self.device)

    def plan(self, generators: list[torch.Generator], now: Now) -> AnyPlan:
        pipe = self.nets.pipe
        if pipe is None:
            return None
        return pipe.plan(pipe.draw(generators, self.shape), now.p, self.shape, coarse=self.config.cuda_graphs)

    def _gmain(self, part: Part, now: Now, stats: Mapping[str, Tensor]) -> Iterator[Inputs]:
        generators = self._generators("Gmain", part)
        yield GeneratorMain(self.latents(generators, "Gmain", part), self.plan(generators, now))

    def _greg(self, part: Part, now: Now, stats: Mapping[str, Tensor]) -> Iterator[Inputs]:
        loss = self.config.loss
        yield PathLength(*self.path_length_inputs(part), now.pl_mean, now.batch_mean, loss.pl_weight, loss.pl_decay)

    def _dmain(self, part: Part, now: Now, stats: Mapping[str, Tensor]) -> Iterator[Inputs]:
        assert part.real is not None and part.real_c is not None
        weight = self.config.loss.lecam_weight
        lecam = LeCam(weight, now.lecam[0], now.lecam[1]) if weight else None
        generators = self._generators("Dmain", part)
        yield FakeScores(self.latents(generators, "Dmain", part), self.plan(generators, now), lecam)
        plan = self.plan(self._generators("Dmain real", part), now)
        yield RealScores(part.real, part.real_c, plan, stats["Loss/scores/fake"], lecam)

    def _dreg(self, part: Part, now: Now, stats: Mapping[str, Tensor]) -> Iterator[Inputs]:
        assert part.real is not None and part.real_c is not None
        plan = self.plan(self._generators("Dreg", part), now)
        yield GradientPenalty(part.real, part.real_c, plan, self.config.loss.r1_gamma)

    def _generators(self, stream: str, part: Part) -> list[torch.Generator]:
        return sample_generators(self.config.seed, stream, part.samples)

    def _device_generators(self, stream: str, part: Part) -> list[torch.Generator]:
        """For what is too large to be drawn on the CPU."""
        return sample_generators(self.config.seed, stream, part.samples, str(self.device))
