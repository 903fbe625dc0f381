"""A training run: build, restore, then loop - maintenance at the head, keyed on the images seen, then one step."""

import shlex
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from types import FrameType

import click
import numpy as np
import torch
from torch import Tensor

from metrics.table import split_available
from stylegan2_pipeline.checkpoint import Snapshot, load_snapshot, save_snapshot
from stylegan2_pipeline.config import TrainConfig
from stylegan2_pipeline.dataset import ImageDataset
from stylegan2_pipeline.evaluation import evaluate
from stylegan2_pipeline.images import grid_size, image_grid, save_image, to_uint8
from stylegan2_pipeline.loader import batches
from stylegan2_pipeline.reporting import RunLog, tick_status
from stylegan2_pipeline.summary import summarize
from stylegan2_pipeline.training_step import Trainer
from stylegan2_pipeline.transfer import resume_weights
from torch_utils import distributed
from torch_utils.errors import UserError
from torch_utils.host import available_memory, keep_freed_memory
from torch_utils.ops import native
from torch_utils.seeding import derive_seed
from torch_utils.text import format_bytes, format_time

CPU_METRIC_IMAGES = 1000  # generated for a metric during training on a CPU, where its own number would take an hour


class Diverged(click.ClickException):
    """Training cannot go on, because a loss is not a number; the last good weights are saved."""


def cache_dataset(dataset: ImageDataset, mode: str) -> str:
    """Decodes the data into memory when it may and fits (half of what is free); says what was done."""
    size, free = dataset.nbytes * distributed.world_size(), available_memory()
    if mode == "ram" or (mode == "auto" and size < free / 2):
        dataset.preload()
        return f"decoded once, kept in memory ({format_bytes(size)})"
    why = "--cache=none" if mode == "none" else f"they need {format_bytes(size)}, {format_bytes(free)} are free"
    return f"read from the archive by worker processes as they are needed ({why})"


class Grid:
    """Fixed latents, and labels of real images, of which every picture of the run is made."""

    def __init__(self, dataset: ImageDataset, trainer: Trainer) -> None:
        most = 1024 if trainer.device.type == "cuda" else 28 if dataset.resolution >= 256 else 64
        self.size = grid_size(dataset.resolution, min(most, dataset.n_raw))
        self.trainer = trainer
        n = self.size[0] * self.size[1]
        random = np.random.RandomState(derive_seed(trainer.config.seed, "grid") % 2**32)
        shown = random.permutation(dataset.n_raw)[:n]
        self.reals = np.stack([dataset.image(int(i)) for i in shown])
        self.c = torch.from_numpy(np.stack([dataset.label(int(i)) for i in shown]))
        self.z = torch.from_numpy(random.randn(n, trainer.G.z_dim))

    @torch.no_grad()
    def fakes(self) -> np.ndarray:
        """uint8 [C, rows*H, cols*W] by G_ema, with constant noise."""
        trainer, parts = self.trainer, []
        for z, c in zip(self.z.split(trainer.config.batch_gpu), self.c.split(trainer.config.batch_gpu), strict=True):
            images = trainer.G_ema(z.to(trainer.device), c.to(trainer.device), noise_mode="const")
            parts.append(to_uint8(images).cpu().numpy())
        return image_grid(np.concatenate(parts), self.size)


class Run:
    """One training run in its folder."""

    def __init__(self, config: TrainConfig, dataset: ImageDataset, device: torch.device, run_dir: Path,
                 log: RunLog) -> None:
        self.config = config
        self.dataset = dataset
        self.run_dir = run_dir
        self.log = log
        self.is_main = distributed.rank() == 0
        self.start_time = time.time()
        log.print(f"Data:    {config.data.path}: {describe(config)}")
        log.print(f"Images:  {cache_dataset(dataset, config.cache)}")
        log.print(f"Kernels: {native.summary(device.type)}")
        labels = torch.from_numpy(np.stack([dataset.label(i) for i in range(dataset.n_raw)]))
        self.trainer = Trainer(config, labels, device)
        if config.resume:
            source = load_snapshot(config.resume)
            log.print(resume_weights(source, self.trainer.networks, config.resume, config.allow_partial))
            log.print(self._take_over(source))
        self._print_networks()
        self.grid = Grid(dataset, self.trainer)
        self.metrics, left_out = split_available(config.metrics)
        for sentence in left_out:
            log.print(sentence)
        self.snapshot: Path | None = None
        self.tick = 0
        self.tick_start_nimg, self.tick_start_time = 0, time.time()
        self.maintenance_sec = 0.0

    def _take_over(self, source: Snapshot) -> str:
        """What a network of this project trained on the same data brings besides its weights; says it."""
        trainer = self.trainer
        if source.options.get("data", {}).get("path") != self.config.data.path:
            return "  Optimizers, counters and the augmentation probability start anew."
        trainer.pl_mean.fill_(source.pl_mean)
        if self.config.augment.mode == "ada":
            trainer.ada.p = source.augment_p
        return (f"  The augmentation probability goes on at {trainer.augment_p:.3f}, the path length mean at "
                f"{source.pl_mean:.3f}; optimizers and counters start anew.")

    def _print_networks(self) -> None:
        trainer, data = self.trainer, self.config.data
        c = torch.zeros([1, data.label_dim], device=trainer.device)
        image = torch.zeros([1, data.num_channels, data.resolution, data.resolution], device=trainer.device)
        self.log.print()
        self.log.print(summarize(trainer.G, torch.zeros([1, trainer.G.z_dim], device=trainer.device), c))
        self.log.print()
        self.log.print(summarize(trainer.D, image, c))
        self.log.print()

    def train(self, stopping: Callable[[], bool]) -> None:
        """Until total_kimg, or until stopping() is true; then with everything saved."""
        trainer, config = self.trainer, self.config
        total_nimg = round(config.schedule.total_kimg * 1000)
        if self.is_main:
            self._save_picture(image_grid(self.grid.reals, self.grid.size), "reals.png", "reals")
            self._save_picture(self.grid.fakes(), "fakes_init.png", "fakes")
        self.log.print(f"Training for {config.schedule.total_kimg:g} kimg on {device_name(trainer.device)}")
        share = config.batch // distributed.world_size()
        data = batches(self.dataset, seed=config.seed, start=trainer.cur_nimg, batch=config.batch,
                       offset=distributed.rank() * share, share=share, workers=config.workers,
                       pin_memory=trainer.device.type == "cuda")
        self.maintenance_sec, self.tick_start_time = 0.0, time.time()
        self._show_progress(total_nimg)
        while True:
            stopped = distributed.any_rank(stopping(), trainer.device)
            done = stopped or trainer.cur_nimg >= total_nimg
            if stopped and trainer.cur_nimg == 0:
                return
            if done or self._tick_is_due():
                self._maintain(done, total_nimg, [] if stopped else self.metrics)
            if done:
                return
            self._step(data)
            self._show_progress(total_nimg)

    def _step(self, data: Iterator[tuple[Tensor, Tensor]]) -> None:
        images, labels = next(data)
        device = self.trainer.device
        real = images.to(device, non_blocking=True).to(torch.float32) / 127.5 - 1
        self.trainer.step(real, labels.to(device, non_blocking=True))
        if device.type == "cpu":  # elsewhere looking would wait for the device: that is done once a tick
            self._check_finite()

    def _check_finite(self) -> None:
        counts = self.trainer.nonfinite_losses.tolist()
        if any(counts):
            names = ", ".join(phase.name for phase, n in zip(self.trainer.phases, counts, strict=True) if n)
            path = self._save_network() if self.is_main else self.run_dir
            wider = "" if self.config.precision == "fp32" else ", or --fp32=1"
            raise Diverged(
                f"The loss of {names} became infinite or not a number near {self.trainer.cur_nimg / 1000:.1f} kimg, so "
                f"training stopped; the weights from before are in {path}. A higher --gamma, or a lower --glr and --dlr"
                f"{wider} usually helps, with --resume={shlex.quote(str(path))}")

    def _show_progress(self, total_nimg: int) -> None:
        """How far the tick is, and the speed and time left by it."""
        tick_nimg = min(round(self.config.schedule.tick_kimg * 1000), total_nimg - self.tick_start_nimg)
        done = self.trainer.cur_nimg - self.tick_start_nimg
        text = f"images of tick {self.tick}"
        if done:
            sec = (time.time() - self.tick_start_time) / done
            left = format_time(sec * (total_nimg - self.trainer.cur_nimg), 2)
            text += f"   {1 / sec:.1f} img/s   {left} left"
        self.log.progress(min(done, tick_nimg), tick_nimg, text)

    def _tick_is_due(self) -> bool:
        seen = self.trainer.cur_nimg - self.tick_start_nimg
        first = self.tick == 0 and seen > 0  # a line after the first step: everybody sees that it works
        return first or seen >= self.config.schedule.tick_kimg * 1000

    def _maintain(self, done: bool, total_nimg: int, metrics: list[str]) -> None:
        """Tells how it is going; at snapshot ticks saves pictures and networks and measures them by the metrics."""
        self._check_finite()
        trainer, now = self.trainer, time.time()
        status = tick_status(
            tick=self.tick, cur_nimg=trainer.cur_nimg, total_nimg=total_nimg,
            tick_nimg=trainer.cur_nimg - self.tick_start_nimg, total_sec=now - self.start_time,
            tick_sec=now - self.tick_start_time, maintenance_sec=self.maintenance_sec,
            augment_p=trainer.augment_p, device=trainer.device)
        self.log.tick(status, trainer.collector.harvest(distributed.sum_over_ranks), trainer.cur_nimg)
        if self.is_main and (done or (self.tick > 0 and self.tick % self.config.schedule.snapshot_ticks == 0)):
            self._save_snapshot(metrics)
        self.tick += 1
        self.tick_start_nimg, self.tick_start_time = trainer.cur_nimg, time.time()
        self.maintenance_sec = self.tick_start_time - now

    def _save_snapshot(self, metrics: list[str]) -> None:
        self._save_picture(self.grid.fakes(), f"fakes{self.trainer.cur_nimg // 1000:06d}.png", "fakes")
        path, before = self._network_path(), self.snapshot
        self.snapshot = self._save_network()
        self.log.print(f"Saved {path}" + (" (in place of the one before)" if path == before else ""))
        for name in metrics:
            self._measure(name)

    def _measure(self, name: str) -> None:
        """A metric that fails is told and never stops the training."""
        config, trainer = self.config, self.trainer
        try:
            most = CPU_METRIC_IMAGES if trainer.device.type == "cpu" else None
            results = evaluate(trainer.G_ema, self.dataset, [name], device=trainer.device, batch=config.batch_gpu,
                               seed=config.seed, num=most, snapshot=str(self.snapshot))
        except Exception as error:
            self.log.print(f"Metric {name} failed ({type(error).__name__}: {error}); training goes on.")
            return
        for result in results:
            self.log.metric(result, trainer.cur_nimg)

    def _save_picture(self, picture: np.ndarray, name: str, tag: str) -> None:
        save_image(picture, self.run_dir / name)
        self.log.images(tag, picture, self.trainer.cur_nimg)

    def _network_path(self) -> Path:
        return self.run_dir / f"network-snapshot-{self.trainer.cur_nimg // 1000:06d}.pkl"

    def _save_network(self) -> Path:
        trainer = self.trainer
        path = self._network_path()
        kwargs = dict(trainer.network_kwargs, G_ema=trainer.network_kwargs["G"])
        names = self.config.data.class_names
        save_snapshot(path, trainer.networks, kwargs, options=asdict(self.config), cur_nimg=trainer.cur_nimg,
                      class_names=None if names is None else list(names), augment_p=trainer.augment_p,
                      pl_mean=float(trainer.pl_mean))
        return path


def describe(config: TrainConfig) -> str:
    data = config.data
    kind = {1: "gray", 3: "RGB", 4: "RGBA"}[data.num_channels]
    text = f"{data.num_images} {kind} images of {data.resolution}x{data.resolution}"
    text += ", doubled by mirroring" if data.mirror else ""
    if data.class_names:
        return f"{text}, {data.label_dim} classes ({', '.join(data.class_names)})"
    return text + (f", labels of {data.label_dim} numbers" if data.label_dim else "")


def settings(config: TrainConfig) -> str:
    """The settings that matter most, in a line."""
    net, optimizer, augment = config.networks, config.optimizer, config.augment
    parts = f" in parts of {config.batch_gpu}" if config.batch_gpu * config.num_gpus < config.batch else ""
    pipe = "" if augment.mode == "noaug" else f" {augment.pipe}"
    return (f"{config.cfg}: {config.schedule.total_kimg:g} kimg, batch {config.batch}{parts}, channel base "
            f"{net.channel_base} (at most {net.channel_max}), gamma {config.loss.r1_gamma:g}, learning rates "
            f"{optimizer.g_lr:g} and {optimizer.d_lr:g}, {augment.mode}{pipe}, {config.precision}, seed {config.seed}")


def device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"the CPU ({threads} thread{'s' if threads > 1 else ''})"


@contextmanager
def finishing_on_interrupt(log: RunLog) -> Iterator[Callable[[], bool]]:
    """Gives a function that tells whether Ctrl-C was pressed; pressed twice it interrupts at once."""
    pressed: list[int] = []

    def press(number: int, _frame: FrameType | None) -> None:
        if pressed:
            log.print("Stopped at once; what was trained since the last snapshot is lost.")
            raise KeyboardInterrupt
        pressed.append(number)
        log.print("Finishing this step, then saving (press Ctrl-C again to stop at once)")

    in_main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGINT, press) if in_main else None
    try:
        yield lambda: bool(pressed)
    finally:
        if in_main:
            signal.signal(signal.SIGINT, before)


def prepare(config: TrainConfig) -> None:
    """Process-wide settings of torch for a run."""
    keep_freed_memory()
    torch.backends.cudnn.benchmark = config.benchmark
    torch.backends.cuda.matmul.allow_tf32 = config.allow_tf32
    torch.backends.cudnn.allow_tf32 = config.allow_tf32


def train(config: TrainConfig, dataset: ImageDataset, device: torch.device, run_dir: Path, again: str = "") -> bool:
    """Runs one training in run_dir. True: to its end; False: stopped by Ctrl-C, saved.

    again: the command line to go on with. Raises UserError for what the user can mend, Diverged when a loss stopped
    being a number.
    """
    prepare(config)
    is_main = distributed.rank() == 0
    if is_main:
        (run_dir / "training_options.json").write_text(config.to_json() + "\n")
    with RunLog(run_dir if is_main else None) as log, finishing_on_interrupt(log) as stopping:
        log.print(f"Run:     {run_dir}")
        log.print(f"Options: {settings(config)}; all in training_options.json")
        try:
            run = Run(config, dataset, device, run_dir, log)
            run.train(stopping)
        except torch.OutOfMemoryError as error:
            raise UserError(f"The GPU's memory does not hold {config.batch_gpu} images at once. Give a smaller "
                            f"--batch-gpu, such as {max(config.batch_gpu // 2, 1)}: gradients add up to the same "
                            f"--batch={config.batch}.") from error
        finished = not stopping()
        tell_end(run, finished, again)
        return finished


def tell_end(run: Run, finished: bool, again: str) -> None:
    """What there is now, and the command to type next."""
    log, config, network = run.log, run.config, shlex.quote(str(run.snapshot))
    log.print()
    if finished:
        by_class = f" --class={shlex.quote((config.data.class_names or ['0'])[0])}" if config.data.label_dim else ""
        log.print(f"Done: {run.snapshot}")
        log.print(f"Images from it: python generate.py --seeds 1-10 --network={network}{by_class}")
    elif run.snapshot is None:
        log.print("Stopped before the first step: there is nothing to save.")
    else:
        seen = run.trainer.cur_nimg / 1000
        log.print(f"Stopped at {seen:.1f} kimg, networks saved. Go on from them with:")
        log.print(f"  {again} --kimg={config.schedule.total_kimg - seen:g} --resume={network}")
