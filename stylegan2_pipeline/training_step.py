"""One step of training: the phases with their optimizers, the moving average, the augmentation controller.

The batch of a step is cut into parts (micro-batches, over ranks and in time); every sample draws from its own random
stream and every loss is weighed by its share, and the groups of the minibatch deviation layer are neighbours in the
batch: so the cut does not change the gradient, and a batch that the memory does not hold is cut further as it comes.
"""

import copy
import functools
from collections.abc import Callable, Iterator
from typing import TypeVar

import torch
from torch import Tensor, nn

from stylegan2_pipeline import config as cfg
from stylegan2_pipeline import losses
from stylegan2_pipeline.ada import AdaController
from stylegan2_pipeline.bundles import mapped
from stylegan2_pipeline.ema import ema_beta, update_ema
from stylegan2_pipeline.graphs import CudaRecorder, Graphs
from stylegan2_pipeline.losses import Term
from stylegan2_pipeline.networks import Discriminator, Generator
from stylegan2_pipeline.parts import Part, cut, next_smaller
from stylegan2_pipeline.phase_inputs import Drawing, Inputs, Networks, Now, make_pipe
from stylegan2_pipeline.phases import Gathered, Phase, Trouble, is_out_of_memory, make_optimizer
from stylegan2_pipeline.statistics import Collector
from torch_utils import distributed
from torch_utils.seeding import derive_seed

Found = TypeVar("Found")


def joined(tensors: list[Tensor]) -> Tensor:
    """All their elements in one row."""
    return torch.cat([tensor.flatten() for tensor in tensors])


def replace(tensors: list[Tensor], flat: Tensor) -> None:
    """Puts the elements of a row where `joined` takes them from."""
    parts = flat.split([tensor.numel() for tensor in tensors])
    torch._foreach_copy_(tensors, [part.view_as(tensor) for part, tensor in zip(parts, tensors, strict=True)])


class Trainer:
    """Networks, optimizers, controllers and counters: everything that a step changes."""

    def __init__(self, config: cfg.TrainConfig, labels: Tensor, device: torch.device,
                 tell: Callable[[str], None] = print) -> None:
        """labels [M,c_dim] of the data set, from which generated samples take theirs; tell: for what must be said."""
        self.config = config
        self.device = device
        self.tell = tell
        self.network_kwargs = dict(zip("GD", cfg.network_kwargs(config), strict=True))
        torch.manual_seed(derive_seed(config.seed, "initial weights"))
        self.G = Generator(**self.network_kwargs["G"]).train().requires_grad_(False).to(device)
        self.D = Discriminator(**self.network_kwargs["D"]).train().requires_grad_(False).to(device)
        self.G_ema = copy.deepcopy(self.G).eval()
        for block in (*self.G.synthesis.blocks(), *self.D.blocks()):
            block.recompute = config.gradient_checkpointing
        augment = config.augment
        self.nets = Networks(self.G, self.D, make_pipe(augment, device))
        self.drawing = Drawing(config, self.nets, labels, device)
        self.graphs = Graphs(CudaRecorder(), tell) if config.cuda_graphs and device.type == "cuda" else None
        self.ada = AdaController(augment.target, augment.interval, augment.kimg, augment.p)
        self.pl_mean = torch.zeros([], device=device)
        self.lecam = torch.zeros([2], device=device)  # running means of D's scores of real and of generated images
        self._batch_mean_length: Tensor | None = None
        self._signs = torch.zeros([2], dtype=torch.float64, device=device)  # their sum and count since ADA's last look
        self.collector = Collector(device)
        self.cur_nimg = 0
        self.phases_done = 0  # of the present step; more than 0 only after one that could not be finished
        self.torn = False  # a phase has begun to change things; if it does not end, the rest is no state to save
        self.batch_gpu = config.batch_gpu
        self.lr_scale = 1.0
        self.optimizers = self._make_optimizers()
        self.phases = self._make_phases()
        self.trouble = Trouble.none(len(self.phases), device)

    @property
    def networks(self) -> dict[str, nn.Module]:
        return {"G": self.G, "D": self.D, "G_ema": self.G_ema}

    @property
    def iteration(self) -> int:
        return self.cur_nimg // self.config.batch

    @property
    def augment_p(self) -> float:
        return self.ada.p if self.config.augment.mode in ("ada", "fixed") else 0.0

    def _make_optimizers(self) -> dict[str, torch.optim.Optimizer]:
        opt, loss = self.config.optimizer, self.config.loss
        return {"G": make_optimizer(self.G, opt.g_lr, opt, loss.g_reg_interval),
                "D": make_optimizer(self.D, opt.d_lr, opt, loss.d_reg_interval)}

    def _make_phases(self) -> list[Phase]:
        loss, G_opt, D_opt = self.config.loss, self.optimizers["G"], self.optimizers["D"]
        phases = [
            Phase("Gmain", self.G, G_opt, 1,                   1),
            Phase("Greg",  self.G, G_opt, loss.g_reg_interval, loss.g_reg_interval),
            Phase("Dmain", self.D, D_opt, 1,                   1),
            Phase("Dreg",  self.D, D_opt, loss.d_reg_interval, loss.d_reg_interval),
        ]
        on = {"Greg": loss.pl_weight and loss.g_reg_interval, "Dreg": loss.r1_gamma and loss.d_reg_interval}
        phases = [phase for phase in phases if on.get(phase.name, True)]
        for phase in phases:
            phase.params = list(phase.network.parameters())
        return phases

    def scale_learning_rates(self, scale: float) -> None:
        """Sets them to `scale` times those of the settings."""
        for optimizer in self.optimizers.values():
            for group in optimizer.param_groups:
                group["lr"] *= scale / self.lr_scale
        self.lr_scale = scale

    # One step.

    def step(self, real: Tensor, real_c: Tensor) -> None:
        """Trains on this rank's share of a batch: real images [n,C,H,W] in [-1, 1] and labels [n,c_dim]."""
        assert len(real) * distributed.world_size() == self.config.batch
        for number, phase in enumerate(self.phases):
            if number >= self.phases_done and self.iteration % phase.interval == 0:
                self.phases_done = number
                self.run_phase(phase, real, real_c)
        self.phases_done = 0
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
        self.torn = False

    def accumulate(self, phase: Phase, real: Tensor, real_c: Tensor) -> None:
        """Leaves the gradient of one phase over the whole batch in .grad of its network's parameters.

        Raises torch.OutOfMemoryError when not even one sample at once fits the memory; nothing has changed then.
        """
        parts = functools.partial(self._parts, phase, real, real_c)
        phase.network.requires_grad_(True)
        try:
            if phase.name == "Greg" and (distributed.world_size() > 1 or len(parts()) > 1):
                lengths = self._fitting(parts, len(real), self._path_lengths)
                self._batch_mean_length = distributed.mean_over_ranks(lengths.mean())
            found = self._fitting(parts, len(real), functools.partial(self._differentiate, phase))
        finally:
            phase.network.requires_grad_(False)
        self.torn = True
        for stats in found.stats:
            self._note(stats)
        finite = distributed.sum_over_ranks((~found.finite).to(torch.int64)) == 0
        self.trouble.losses[self.phases.index(phase)] += (~finite).to(torch.int64)
        if phase.name != "Dreg":
            w_avg = self.G.mapping.w_avg
            self.G.mapping.update_w_avg(torch.where(finite, distributed.mean_over_ranks(found.w_mean), w_avg))
        if self._batch_mean_length is not None:
            mean_length = torch.where(finite, self._batch_mean_length, self.pl_mean)
            self.pl_mean.lerp_(mean_length, self.config.loss.pl_decay)
            self._batch_mean_length = None
        if phase.name == "Dmain" and self.config.loss.lecam_weight:
            scores = distributed.mean_over_ranks(found.mean_scores())
            self.lecam.lerp_(torch.where(finite, scores, self.lecam), 1 - self.config.loss.lecam_decay)
        self._finish_gradient(phase, finite)

    def _fitting(self, parts: Callable[[], list[Part]], share: int, work: Callable[[list[Part]], Found]) -> Found:
        """work(parts); where the memory does not hold it, with smaller parts, which compute the same."""
        while True:
            try:
                return work(parts())
            except RuntimeError as error:
                smaller = next_smaller(self.batch_gpu, share, self.config.networks.mbstd_group)
                dropped = is_out_of_memory(error) and self.graphs is not None and self.graphs.drop()
                if not is_out_of_memory(error) or (smaller is None and not dropped):
                    raise
            for net in self.networks.values():
                net.zero_grad(set_to_none=True)
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
            if dropped or smaller is None:
                self.graphs = None
                self.tell(f"The memory does not hold {self.batch_gpu} images at once and the CUDA graphs besides: "
                          f"going on without graphs (--cuda-graphs=0 starts so).")
                continue
            group = self.config.networks.mbstd_group
            same = "gradients add up to the same batch" if smaller % group == 0 else (
                f"minibatch deviation groups are no longer of {group}: D sees less of the variety of a batch")
            self.tell(f"The memory does not hold {self.batch_gpu} images at once: going on with {smaller}, whose "
                      f"{same} (--batch-gpu={smaller} starts so).")
            self.batch_gpu = smaller

    def _differentiate(self, phase: Phase, parts: list[Part]) -> Gathered:
        """Adds the gradients of the parts up in .grad; changes nothing else."""
        if phase.name == "Greg" and len(parts) > 1 and self._batch_mean_length is None:
            self._batch_mean_length = self._path_lengths(parts).mean()
        total = sum(part.count for part in parts)
        found = Gathered(torch.zeros([self.G.w_dim], device=self.device),
                         torch.ones([], dtype=torch.bool, device=self.device))
        for part in parts:
            share = part.count / total
            for term in self.terms(phase, part, phase.weight * share):
                found.finite &= term.loss.isfinite()
                found.stats.append(term.stats)
                if term.w is not None:
                    found.w_mean += term.w.mean(0) * share
        return found

    def terms(self, phase: Phase, part: Part, weight: float | None = None) -> Iterator[Term]:
        """Of the loss of a part, detached; their gradients times `weight`, if that is given, are added to .grad."""
        now = Now(self.ada.p, self.pl_mean, self._batch_mean_length, self.lecam)
        stats: dict[str, Tensor] = {}
        for inputs in self.drawing.inputs(phase.name, part, now, stats):
            term = self._compute(phase, inputs, weight)
            if phase.name == "Greg" and weight is not None and self._batch_mean_length is None:
                self._batch_mean_length = term.stats["Loss/pl_length"].mean()
            stats |= term.stats
            yield term

    def _compute(self, phase: Phase, inputs: Inputs, weight: float | None) -> Term:
        def without_graph() -> Term:
            term = inputs.term(self.nets)
            if weight is not None:
                (term.loss * weight).backward()
            return mapped(term, Tensor.detach)

        if self.graphs is None or weight is None:
            return without_graph()
        return self.graphs.differentiate(self.nets, phase.params, inputs, weight, without_graph)

    def _path_lengths(self, parts: list[Part]) -> Tensor:
        """Of all samples; found ahead when there are several parts, because each one's penalty needs their mean."""
        lengths = []
        for part in parts:
            fake, noise = self.drawing.path_length_inputs(part)
            lengths.append(losses.generator_path_lengths(self.G, fake, noise, create_graph=False)[0].detach())
        return torch.cat(lengths)

    def _parts(self, phase: Phase, real: Tensor, real_c: Tensor) -> list[Part]:
        count, size = len(real), self.batch_gpu
        if phase.name == "Greg":
            shrink = self.config.loss.pl_batch_shrink
            count, size = max(count // shrink, 1), max(size // shrink, 1)
        return cut(real, real_c, first=self.cur_nimg + distributed.rank() * count, size=size, count=count,
                   group=self.config.networks.mbstd_group, with_real=phase.name.startswith("D"))

    def _finish_gradient(self, phase: Phase, finite: Tensor) -> None:
        """Averages the gradient over ranks and removes what is not finite, counting it.

        finite: whether the loss was. If not, the gradient is zero, so that (beta1 being 0) the step changes no weight
        and the state that the loop saves before it stops is the last good one.
        """
        grads = [p.grad for p in phase.params if p.grad is not None]
        if len(grads) < len(phase.params) - len(phase.without_gradient):
            named = phase.network.named_parameters()
            phase.without_gradient = frozenset(name for name, p in named if p.grad is None)
        if distributed.world_size() > 1:
            replace(grads, distributed.mean_over_ranks(joined(grads)))
        norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(grads)))
        count = torch.zeros([], dtype=torch.int64, device=norm.device)
        number = self.phases.index(phase)
        if self.device.type == "cpu" and bool(finite & norm.isfinite()):  # looking is cheap here, and no element is bad
            self.trouble.run[number] = 0
        else:
            flat = joined(grads)
            bad = ~flat.isfinite()
            count = torch.count_nonzero(bad)
            self.trouble.note_gradient(number, bad)
            flat = torch.where(finite, flat.nan_to_num(nan=0.0, posinf=1e5, neginf=-1e5), 0.0)
            norm = flat.norm()
            replace(grads, flat)
        self.collector.add(f"Gradients/{phase.name}/nonfinite", count)
        self.collector.add(f"Gradients/{phase.name}/norm", norm)

    def _note(self, stats: dict[str, Tensor]) -> None:
        for name, values in stats.items():
            self.collector.add(name, values.detach())
        if "Loss/signs/real" in stats:
            signs = stats["Loss/signs/real"].detach()
            self._signs[0] += signs.sum()
            self._signs[1] += signs.numel()
