"""How much memory a step of training takes at its peak: gone through on the meta device, which computes nothing.

The phases are the trainer's own, with every tensor in its true size and type; what is counted is what is alive. The
peak is a straight line in the micro-batch, with a floor: what the optimizers and the gradient take without any images.
"""

import contextlib
import functools
import weakref
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from stylegan2_pipeline import config as cfg
from stylegan2_pipeline.augment import AugmentPipe
from stylegan2_pipeline.augment_draws import FIRST, NUM_DRAWS, Draws
from stylegan2_pipeline.latents import Latents
from stylegan2_pipeline.parts import Part
from stylegan2_pipeline.phase_inputs import AnyPlan, Drawing, Networks, Now, make_pipe
from stylegan2_pipeline.phases import Phase
from stylegan2_pipeline.training_step import Trainer

META = torch.device("meta")
SIZES = (64, 128)  # micro-batches that the line is drawn through: so large that the floor is out of sight
RIVAL = 0.9  # a phase that reaches this share of the largest peak may be the one that decides
CONTEXT_BYTES = 0.75 * 2**30  # CUDA's context, kernels, and the workspaces of cuDNN and cuBLAS
USABLE = 0.9  # of the rest: the allocator's pieces do not fit each other without gaps
CARDS_GB = (8, 12, 16, 24)
TABLE_RESOLUTIONS = (256, 512, 1024)


class MemoryTracker(TorchDispatchMode):
    """Within it, counts the bytes of tensors on a kind of device that are alive, and keeps the most there were."""

    def __init__(self, device_type: str) -> None:
        super().__init__()
        self.device_type = device_type
        self.bytes = self.peak = 0
        self._known: set[int] = set()

    def add(self, tensor: Tensor) -> None:
        """Counts the storage of a tensor, once, until it is freed."""
        storage = tensor.untyped_storage()
        address = storage._cdata
        if tensor.device.type != self.device_type or address in self._known:
            return
        self._known.add(address)
        self.bytes += storage.nbytes()
        self.peak = max(self.peak, self.bytes)
        weakref.finalize(storage, self._freed, address, storage.nbytes()).atexit = False

    def _freed(self, address: int, nbytes: int) -> None:
        self._known.discard(address)
        self.bytes -= nbytes

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        outputs = func(*args, **(kwargs or {}))
        for output in tree_iter(outputs):
            if isinstance(output, Tensor):
                self.add(output)
        return outputs


@dataclass(frozen=True)
class Estimate:
    """Bytes of tensors at the peak of a step: fixed_bytes + n * bytes_per_sample, but least_bytes at the least.

    share: samples of a batch that one device has, of which n are computed at once.
    """

    fixed_bytes: int
    bytes_per_sample: int
    least_bytes: int
    share: int

    def peak_bytes(self, n: int) -> int:
        return max(self.fixed_bytes + n * self.bytes_per_sample, self.least_bytes)

    def micro_batch(self, memory_bytes: float, share: int | None = None) -> int | None:
        """The largest divisor of `share` with which a device of so much memory gets by; None: not even 1."""
        share = self.share if share is None else share
        usable = (memory_bytes - CONTEXT_BYTES) * USABLE
        return max((n for n in range(1, share + 1) if share % n == 0 and self.peak_bytes(n) <= usable), default=None)


class Widest(Drawing):
    """Draws without numbers: styles that are all mixed, images that are all augmented as far as they ever are."""

    def latents(self, generators: list[torch.Generator], stream: str, part: Part) -> Latents:
        n, G = part.count, self.nets.G
        z = torch.empty([n, G.z_dim], device=META)
        mixing = (z, torch.empty([n, G.num_ws], device=META)) if self.config.loss.style_mixing_prob > 0 else None
        return Latents(z, torch.empty([n, self.config.data.label_dim], device=META), mixing,
                       torch.empty([n, G.synthesis.noise_numel], device=META))

    def path_length_inputs(self, part: Part) -> tuple[Latents, Tensor]:
        return self.latents([], "Greg", part), empty_images(self.config.data, part.count)

    def plan(self, generators: list[torch.Generator], now: Now) -> AnyPlan:
        if not isinstance(self.nets.pipe, AugmentPipe):
            return super().plan(generators, now)
        p = 0.0 if self.config.augment.mode == "fixed" and self.config.augment.p == 0 else 1.0
        return self.nets.pipe.plan(widest_draws(self.config.data, len(generators)), p, self.shape)


class Imagined(Trainer):
    """A trainer without numbers, for images that are all augmented and styles that are all mixed, as some batch is."""

    def __init__(self, config: cfg.TrainConfig) -> None:
        with torch.random.fork_rng(devices=[]), META:
            super().__init__(config, torch.zeros(1, config.data.label_dim), META, tell=lambda text: None)
        pipe = make_pipe(config.augment, torch.device("cpu"))  # what it draws decides sizes, and has numbers
        self.nets = Networks(self.G, self.D, None if pipe is None else pipe.to(META))
        self.drawing = self.drawn(config)

    def drawn(self, config: cfg.TrainConfig) -> Drawing:
        return Widest(config, self.nets, torch.zeros(1, config.data.label_dim), META)

    def static(self) -> Iterator[Tensor]:
        """Weights, buffers, and the gradient that the parts of a batch before this one have left."""
        for net in self.networks.values():
            yield from net.buffers()
            for parameter in net.parameters():
                yield parameter
                if parameter.grad is not None:
                    yield parameter.grad

    @contextlib.contextmanager
    def tracking(self, phase: Phase) -> Iterator[MemoryTracker]:
        for parameter in phase.params:
            parameter.grad = torch.empty_like(parameter)
        tracker = MemoryTracker("meta")
        for tensor in self.static():
            tracker.add(tensor)
        with tracker:
            yield tracker
        phase.optimizer.zero_grad(set_to_none=True)

    def peak(self, phase: Phase, n: int) -> int:
        """Bytes at the peak of a phase with n samples at once."""
        self.batch_gpu = n
        real, real_c = empty_images(self.config.data, n), torch.empty([n, self.config.data.label_dim], device=META)
        with self.tracking(phase) as tracker:
            self.accumulate(phase, real, real_c)
        return tracker.peak

    def least(self, phase: Phase) -> int:
        """Bytes at the peak of what follows a phase's last backward pass."""
        with self.tracking(phase) as tracker:
            self._finish_gradient(phase, torch.ones([], dtype=torch.bool, device=META))
        return tracker.peak


def empty_images(data: cfg.DataConfig, n: int) -> Tensor:
    return torch.empty([n, data.num_channels, data.resolution, data.resolution], device=META)


def widest_draws(data: cfg.DataConfig, n: int) -> Draws:
    """Every gate open, and the parameters by which the warp looks about as far beyond the image as it ever does."""
    quantiles = torch.zeros([n, NUM_DRAWS])
    quantiles[:, FIRST["aniso"] + 1] = 0.5
    return Draws(quantiles, empty_images(data, n))


def estimate(config: cfg.TrainConfig) -> Estimate:
    """Of one device in a run with these settings, whatever their micro-batch; takes about a second.

    Not counted are what kernels take for themselves while they run, what CUDA graphs keep between steps, and CUDA's own
    needs (see Estimate.micro_batch).
    """
    data = cfg.DataConfig("", "", config.data.resolution, config.data.num_channels, 1, config.data.label_dim)
    fixed, per_sample, least = line(cfg.TrainConfig(data, config.networks, config.loss, augment=config.augment,
                                                    precision=config.precision,
                                                    gradient_checkpointing=config.gradient_checkpointing))
    share = config.batch // config.num_gpus
    here = share * (4 + 1) * image_numbers(data)  # the batch, as float32 and as it came
    here += config.data.num_images * image_numbers(data) if config.cache == "gpu" else 0
    return Estimate(fixed + here, per_sample, least + here, share)


@functools.lru_cache(maxsize=64)
def line(config: cfg.TrainConfig) -> tuple[int, int, int]:
    """The bytes of an Estimate - fixed, of a sample, and the least - without the real images."""
    small, large = SIZES
    trainer = Imagined(config)
    peaks = {phase.name: trainer.peak(phase, large) for phase in trainer.phases}
    rivals = [phase for phase in trainer.phases if peaks[phase.name] >= RIVAL * max(peaks.values())]
    slopes = {phase.name: (peaks[phase.name] - trainer.peak(phase, small)) / (large - small) for phase in rivals}
    fixed = max(peaks[name] - large * slope for name, slope in slopes.items())
    least = [trainer.least(phase) for phase in trainer.phases]
    least += [trainer.peak(phase, 1) for phase in trainer.phases if phase.name == "Greg"]  # where others take one, too
    adam = adam_bytes(trainer)
    return round(fixed) + adam, round(max(slopes.values())), max(least) + adam


def adam_bytes(trainer: Trainer) -> int:
    """Two moments for every parameter of G and D."""
    return sum(2 * p.nbytes for net in (trainer.G, trainer.D) for p in net.parameters())


def image_numbers(data: cfg.DataConfig) -> int:
    return data.num_channels * data.resolution**2


def with_preset(config: cfg.TrainConfig, resolution: int) -> cfg.TrainConfig:
    """The settings as --cfg=auto chooses them at another resolution."""
    spec = cfg.auto_preset(resolution, config.num_gpus)
    networks = cfg.NetworkConfig(channel_base=spec.channel_base, mapping_layers=spec.mapping_layers,
                                 mbstd_group=spec.mbstd_group)
    return replace(config, data=replace(config.data, resolution=resolution), networks=networks, batch=spec.batch)


def table(config: cfg.TrainConfig) -> str:
    """What fits common cards: the settings as they are, then those of --cfg=auto at other resolutions."""
    on_gpu = replace(config, device="cuda", cache="none",
                     precision="fp16" if config.device == "cpu" and config.precision == "fp32" else config.precision)
    rows = [(f"{config.data.resolution} (this run)", on_gpu)]
    rows += [(f"{resolution} (--cfg=auto)", with_preset(on_gpu, resolution)) for resolution in TABLE_RESOLUTIONS
             if resolution != config.data.resolution]
    lines = [f"{'Resolution':<18}{'a sample':>10}" + "".join(f"{f'{gb} GB':>14}" for gb in CARDS_GB)]
    for name, settings in rows:
        found = estimate(settings)
        cells = (found.micro_batch(gb * 2**30) for gb in CARDS_GB)
        texts = [f"{n} of {found.share}" if n else "does not fit" for n in cells]
        lines.append(f"{name:<18}{found.bytes_per_sample / 2**20:>7.0f} MB" + "".join(f"{text:>14}" for text in texts))
    return (f"The most images at once (--batch-gpu) that a GPU of so much memory is expected to hold, of those of a "
            f"batch that it gets; {on_gpu.precision}, estimated without a GPU:\n" + "\n".join(lines))
