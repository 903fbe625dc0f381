"""One step of training: the phases with their optimizers, the moving average, the augmentation controller.

The batch of a step is cut into parts (micro-batches, over ranks and in time); every sample draws from its own random
stream and every loss is weighed by its share, so that the cut does not change the gradient. The exception is the
minibatch standard deviation layer, whose groups lie within a part.
"""

import copy
import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from stylegan2_pipeline import config as cfg
from stylegan2_pipeline import losses
from stylegan2_pipeline.ada import AdaController
from stylegan2_pipeline.augment import AUGPIPES, AugmentPipe
from stylegan2_pipeline.ema import ema_beta, update_ema
from stylegan2_pipeline.latents import Latents, draw_latents
from stylegan2_pipeline.losses import Augment, Term
from stylegan2_pipeline.networks import Discriminator, Generator
from stylegan2_pipeline.statistics import Collector
from torch_utils import distributed
from torch_utils.seeding import derive_seed, sample_generators


@dataclass(frozen=True)
class Part:
    """A run of the global batch: samples start..start+count-1 of the run, and for D the real ones."""

    start: int
    count: int
    real: Tensor | None = None
    real_c: Tensor | None = None


@dataclass(eq=False)
class Phase:
    """What is trained how often by which loss; weight multiplies the loss of a lazily evaluated phase."""

    name: str
    network: nn.Module
    optimizer: torch.optim.Optimizer
    interval: int
    weight: float
    terms: Callable[[Part], Iterator[Term]]
    params: list[nn.Parameter] = field(default_factory=list)


def make_optimizer(net: nn.Module, lr: float, config: cfg.OptimizerConfig, reg_interval: int) -> torch.optim.Optimizer:
    """Adam with lr and betas corrected for a lazily regularised network (StyleGAN2, section 3.1)."""
    ratio = reg_interval / (reg_interval + 1) if reg_interval else 1.0
    beta1, beta2 = (float(beta) ** ratio for beta in config.betas)
    return torch.optim.Adam(net.parameters(), lr=lr * ratio, betas=(beta1, beta2), eps=config.eps, fused=True)


class Trainer:
    """Networks, optimizers, controllers and counters: everything that a step changes."""

    def __init__(self, config: cfg.TrainConfig, labels: Tensor, device: torch.device) -> None:
        """labels [M,c_dim] of the data set, from which generated samples take theirs."""
        self.config = config
        self.device = device
        self.labels = labels
        self.network_kwargs = dict(zip("GD", cfg.network_kwargs(config), strict=True))
        torch.manual_seed(derive_seed(config.seed, "initial weights"))
        self.G = Generator(**self.network_kwargs["G"]).train().requires_grad_(False).to(device)
        self.D = Discriminator(**self.network_kwargs["D"]).train().requires_grad_(False).to(device)
        self.G_ema = copy.deepcopy(self.G).eval()
        augment = config.augment
        self.pipe = AugmentPipe(AUGPIPES[augment.pipe]).to(device) if augment.mode != "noaug" else None
        self.ada = AdaController(augment.target, augment.interval, augment.kimg, augment.p)
        self.pl_mean = torch.zeros([], device=device)
        self._batch_mean_length: Tensor | None = None
        self._signs = torch.zeros([2], dtype=torch.float64, device=device)  # their sum and count since ADA's last look
        self.collector = Collector(device)
        self.cur_nimg = 0
        self.phases = self._make_phases()
        self.nonfinite_losses = torch.zeros([len(self.phases)], dtype=torch.int64, device=device)  # steps, by phase

    @property
    def networks(self) -> dict[str, nn.Module]:
        return {"G": self.G, "D": self.D, "G_ema": self.G_ema}

    @property
    def iteration(self) -> int:
        return self.cur_nimg // self.config.batch

    @property
    def augment_p(self) -> float:
        return self.ada.p if self.pipe is not None else 0.0

    def _make_phases(self) -> list[Phase]:
        opt, loss = self.config.optimizer, self.config.loss
        g_opt = make_optimizer(self.G, opt.g_lr, opt, loss.g_reg_interval)
        d_opt = make_optimizer(self.D, opt.d_lr, opt, loss.d_reg_interval)
        phases = [
            Phase("Gmain", self.G, g_opt, 1,                   1,                   self._generator_main),
            Phase("Greg",  self.G, g_opt, loss.g_reg_interval, loss.g_reg_interval, self._generator_reg),
            Phase("Dmain", self.D, d_opt, 1,                   1,                   self._discriminator_main),
            Phase("Dreg",  self.D, d_opt, loss.d_reg_interval, loss.d_reg_interval, self._discriminator_reg),
        ]
        on = {"Greg": loss.pl_weight and loss.g_reg_interval, "Dreg": loss.r1_gamma and loss.d_reg_interval}
        phases = [phase for phase in phases if on.get(phase.name, True)]
        for phase in phases:
            phase.params = list(phase.network.parameters())
        return phases

    # One step.

    def step(self, real: Tensor, real_c: Tensor) -> None:
        """Trains on this rank's share of a batch: real images [n,C,H,W] in [-1, 1] and labels [n,c_dim]."""
        assert len(real) * distributed.world_size() == self.config.batch
        for phase in self.phases:
            if self.iteration % phase.interval == 0:
                self.run_phase(phase, real, real_c)
        ema = self.config
        update_ema(self.G_ema, self.G, ema_beta(ema.batch, self.cur_nimg, ema.ema_kimg, ema.ema_rampup))
        self.cur_nimg += self.config.batch
        if self.config.augment.mode == "ada" and self.iteration % self.config.augment.interval == 0:
            total, count = distributed.sum_over_ranks(self._signs).tolist()
            self.ada.update(total / max(count, 1), self.config.batch)
            self._signs.zero_()

    def run_phase(self, phase: Phase, real: Tensor, real_c: Tensor) -> None:
        """Accumulates the gradient of one phase over the parts of the batch, and takes one optimizer step."""
        self.accumulate(phase, real, real_c)
        phase.optimizer.step()
        phase.optimizer.zero_grad(set_to_none=True)

    def accumulate(self, phase: Phase, real: Tensor, real_c: Tensor) -> None:
        """Leaves the gradient of one phase over the whole batch in .grad of its network's parameters."""
        phase.network.requires_grad_(True)
        parts = self._parts(phase, real, real_c)
        if phase.name == "Greg" and (len(parts) > 1 or distributed.world_size() > 1):
            self._batch_mean_length = self._mean_path_length(parts)
        total = sum(part.count for part in parts)
        w_mean = torch.zeros([self.G.w_dim], device=self.device)
        finite = torch.ones([], dtype=torch.bool, device=self.device)
        for part in parts:
            share = part.count / total
            for term in phase.terms(part):
                (term.loss * (phase.weight * share)).backward()
                finite &= term.loss.detach().isfinite()
                self._note(term.stats)
                if term.w is not None:
                    w_mean += term.w.detach().mean(0) * share
        phase.network.requires_grad_(False)
        finite = distributed.sum_over_ranks((~finite).to(torch.int64)) == 0
        self.nonfinite_losses[self.phases.index(phase)] += (~finite).to(torch.int64)
        if phase.name != "Dreg":
            w_avg = self.G.mapping.w_avg
            self.G.mapping.update_w_avg(torch.where(finite, distributed.mean_over_ranks(w_mean), w_avg))
        if self._batch_mean_length is not None:
            mean_length = torch.where(finite, self._batch_mean_length, self.pl_mean)
            self.pl_mean.lerp_(mean_length, self.config.loss.pl_decay)
            self._batch_mean_length = None
        self._finish_gradient(phase, finite)

    def _parts(self, phase: Phase, real: Tensor, real_c: Tensor) -> list[Part]:
        share, size = len(real), self.config.batch_gpu
        if phase.name == "Greg":
            shrink = self.config.loss.pl_batch_shrink
            share, size = max(share // shrink, 1), max(size // shrink, 1)
        first = self.cur_nimg + distributed.rank() * share
        with_real = phase.name.startswith("D")
        return [
            Part(first + at, min(size, share - at),
                 real[at:at + size] if with_real else None, real_c[at:at + size] if with_real else None)
            for at in range(0, share, size)
        ]

    def _finish_gradient(self, phase: Phase, finite: Tensor) -> None:
        """Averages the gradient over ranks and removes what is not finite, counting it.

        finite: whether the loss was. If not, the gradient is zero, so that (beta1 being 0) the step changes no weight
        and the state that the loop saves before it stops is the last good one.
        """
        grads = [p.grad for p in phase.params if p.grad is not None]
        flat = distributed.mean_over_ranks(torch.cat([grad.flatten() for grad in grads]))
        bad = (~flat.isfinite()).sum()
        flat = torch.where(finite, flat.nan_to_num(nan=0.0, posinf=1e5, neginf=-1e5), 0.0)
        self.collector.add(f"Gradients/{phase.name}/nonfinite", bad)
        self.collector.add(f"Gradients/{phase.name}/norm", flat.norm())
        for grad, values in zip(grads, flat.split([grad.numel() for grad in grads]), strict=True):
            grad.copy_(values.view_as(grad))

    def _note(self, stats: dict[str, Tensor]) -> None:
        for name, values in stats.items():
            self.collector.add(name, values.detach())
        if "Loss/signs/real" in stats:
            signs = stats["Loss/signs/real"].detach()
            self._signs[0] += signs.sum()
            self._signs[1] += signs.numel()

    # What each phase draws and computes for a part.

    def _generators(self, stream: str, part: Part) -> list[torch.Generator]:
        return sample_generators(self.config.seed, stream, part.start, part.count)

    def _device_generators(self, stream: str, part: Part) -> list[torch.Generator]:
        """For what is too large to be drawn on the CPU."""
        return sample_generators(self.config.seed, stream, part.start, part.count, str(self.device))

    def _latents(self, generators: list[torch.Generator], stream: str, part: Part) -> Latents:
        return draw_latents(generators, self._device_generators(f"{stream} noise", part), self.G, self.labels,
                            self.config.loss.style_mixing_prob, self.device)

    def _augment(self, generators: list[torch.Generator]) -> Augment:
        if self.pipe is None:
            return lambda images: images
        shape = [self.config.data.num_channels, self.config.data.resolution, self.config.data.resolution]
        return functools.partial(self.pipe, p=self.ada.p, draws=self.pipe.draw(generators, shape))

    def _generator_main(self, part: Part) -> Iterator[Term]:
        generators = self._generators("Gmain", part)
        fake = self._latents(generators, "Gmain", part)
        return losses.generator_main(self.G, self.D, self._augment(generators), fake)

    def _path_length_inputs(self, part: Part) -> tuple[Latents, Tensor]:
        generators = self._generators("Greg", part)
        fake = self._latents(generators, "Greg", part)
        shape = [self.config.data.num_channels, self.config.data.resolution, self.config.data.resolution]
        noise = torch.stack([torch.randn(shape, generator=g, device=self.device)
                             for g in self._device_generators("Greg image noise", part)])
        return fake, noise

    def _mean_path_length(self, parts: list[Part]) -> Tensor:
        """Over the whole batch; found ahead when there are several parts, because each one's penalty needs it."""
        lengths = []
        for part in parts:
            fake, noise = self._path_length_inputs(part)
            lengths.append(losses.generator_path_lengths(self.G, fake, noise, create_graph=False)[0].detach())
        return distributed.mean_over_ranks(torch.cat(lengths).mean())

    def _generator_reg(self, part: Part) -> Iterator[Term]:
        fake, noise = self._path_length_inputs(part)
        loss = self.config.loss
        for term in losses.generator_path_length_penalty(self.G, fake, noise, loss.pl_weight, loss.pl_decay,
                                                         self.pl_mean, self._batch_mean_length):
            if self._batch_mean_length is None:
                self._batch_mean_length = term.stats["Loss/pl_length"].detach().mean()
            yield term

    def _discriminator_main(self, part: Part) -> Iterator[Term]:
        assert part.real is not None and part.real_c is not None
        generators = self._generators("Dmain", part)
        fake = self._latents(generators, "Dmain", part)
        augment_real = self._augment(self._generators("Dmain real", part))
        return losses.discriminator_main(self.G, self.D, self._augment(generators), augment_real, fake, part.real,
                                         part.real_c)

    def _discriminator_reg(self, part: Part) -> Iterator[Term]:
        assert part.real is not None and part.real_c is not None
        augment = self._augment(self._generators("Dreg", part))
        return losses.discriminator_r1(self.D, augment, part.real, part.real_c, self.config.loss.r1_gamma)
