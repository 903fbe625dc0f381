"""A training run: build, restore, then loop - maintenance at the head, keyed on the images seen, then one step."""

import contextlib
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from metrics.detectors.registry import Detectors
from stylegan2_pipeline import divergence, telling
from stylegan2_pipeline.caching import cache_dataset
from stylegan2_pipeline.clock import Clock
from stylegan2_pipeline.dataset import ImageDataset
from stylegan2_pipeline.devices import prepare
from stylegan2_pipeline.divergence import Ailment, Diverged
from stylegan2_pipeline.evaluation import MetricMakers
from stylegan2_pipeline.job import Job
from stylegan2_pipeline.loader import batches
from stylegan2_pipeline.maintenance import Maintenance
from stylegan2_pipeline.phases import is_out_of_memory
from stylegan2_pipeline.pictures import Grid
from stylegan2_pipeline.reporting import RunLog, tick_status
from stylegan2_pipeline.run_folder import RunRecord, held
from stylegan2_pipeline.saving import KEPT_STATES, Saver
from stylegan2_pipeline.shared_sampling import ImagePool
from stylegan2_pipeline.stopping import StopRequest, stop_requests
from stylegan2_pipeline.trackers import make_trackers
from stylegan2_pipeline.training_state import (
    drop_newer_states,
    earlier_state,
    read_state,
    restore_trainer,
    state_path,
    trainer_state,
)
from stylegan2_pipeline.training_step import Trainer
from stylegan2_pipeline.transfer import begin_from
from torch_utils import distributed
from torch_utils.errors import UserError
from torch_utils.ops import native

RUINED_STEPS = 20  # a run that diverges so soon was ruined before: nothing of it is worth keeping
LOOK_EVERY = 4  # steps between looks at what is on a GPU, where each look waits for it; the augmentation's rhythm


class Run:
    """One rank's part in a training run. Only rank 0 writes."""

    def __init__(self, job: Job, device: torch.device, log: RunLog, stop: StopRequest) -> None:
        config = self.config = job.config
        data = config.data
        self.run_dir, self.log, self.stop, self.device = job.run_dir, log, stop, device
        state = distributed.from_main(lambda: read_state(job.state) if job.state else None)
        if state is not None:
            log.rewind(state["log"])
        self.dataset = ImageDataset(data.path, use_labels=bool(data.label_dim), max_images=data.subset,
                                    mirror=data.mirror, seed=config.seed)
        log.print(f"Run:     {job.run_dir}")
        log.print(f"Options: {telling.describe_settings(config)}; all in training_options.json")
        log.print(f"Numbers: {telling.describe_precision(config)}")
        log.print(f"Data:    {data.path}: {telling.describe_data(config)}")
        log.print(f"Images:  {cache_dataset(self.dataset, config.cache, device)}")
        log.print(f"Kernels: {native.summary(device.type)}")
        labels = torch.from_numpy(np.stack([self.dataset.label(i) for i in range(self.dataset.n_raw)]))
        self.trainer = Trainer(config, labels, device, self._tell)
        self.grid = Grid(self.dataset, self.trainer)
        detectors = Detectors(device)
        compared = self.dataset  # all of the data, as published figures of networks trained on a part are
        if data.subset and config.metrics:
            compared = ImageDataset(data.path, use_labels=bool(data.label_dim))
        makers = MetricMakers(self.trainer.G_ema, compared, detectors, config.seed)
        makers["grid"] = self.grid.make
        self.pool = ImagePool(makers, config.batch_gpu)
        self.clock = Clock()
        self.rollbacks = self.rollbacks_in_a_row = self.diverged_at = 0  # diverged_at: the most images seen then
        self.ended = False  # all was trained and measured
        self.cut_short = 0  # the signal that ended a measurement, which the run is then to begin with
        self.saved_before = False  # the state from before measuring
        self.began_nimg = 0  # where this process took the run up
        self.saver = Saver(job.run_dir, config.schedule, log.print)
        self.maintenance: Maintenance | None = None
        if state is None:
            if config.resume:
                log.print(begin_from(config.resume, self.trainer))
            log.print(telling.describe_networks(self.trainer))
        else:
            self._restore(state)
            log.print(f"Continuing at {self.trainer.cur_nimg / 1000:g} kimg, from {job.state}")
        if distributed.rank() == 0:
            self.maintenance = Maintenance(config, job.run_dir, self.trainer, self.grid, self.pool, log, detectors,
                                           stop, compared)
            self.maintenance.restore(state["maintenance"] if state else None)

    # From a state, and to one.

    def _restore(self, state: dict[str, Any]) -> None:
        restore_trainer(self.trainer, state["trainer"])
        self.clock.restore(state["clock"])
        self.rollbacks, self.ended = state["rollbacks"], state["ended"] and self.trainer.cur_nimg >= self.total_nimg
        if distributed.rank() == 0:
            drop_newer_states(self.run_dir, self.trainer.cur_nimg)

    def _save(self, kept: int = KEPT_STATES) -> bool:
        """The training state. Every rank must call it. False, having said why, where it could not be written."""
        state = {"trainer": trainer_state(self.trainer), "clock": self.clock.state(), "rollbacks": self.rollbacks,
                 "ended": self.ended, "log": self.log.position()}
        if self.maintenance is not None:
            state["maintenance"] = self.maintenance.state()
            if self.saver.save(state, kept) is None:
                return False
            self._record()
        self.rollbacks_in_a_row *= self.trainer.cur_nimg <= self.diverged_at  # 0 beyond where it went wrong
        return True

    def _record(self) -> bool:
        """In run.json; whether the run is finished, which it is not where the disk did not take its last state."""
        finished = self.ended and state_path(self.run_dir, self.trainer.cur_nimg).exists()
        with contextlib.suppress(UserError, OSError):
            record = RunRecord.read(self.run_dir)
            record.updated(finished=finished, cur_nimg=self.trainer.cur_nimg).write(self.run_dir)
        return finished

    # The loop.

    @property
    def total_nimg(self) -> int:
        return round(self.config.schedule.total_kimg * 1000)

    def train(self) -> int:
        """Until total_kimg, or until a signal. Returns the exit code."""
        trainer = self.trainer
        if trainer.cur_nimg == 0:
            self._first_save()
        self.log.print(f"Training for {self.total_nimg / 1000:g} kimg on {telling.describe_device(self.device)}")
        data = self._data()
        self.began_nimg = trainer.cur_nimg
        while True:
            done = trainer.cur_nimg >= self.total_nimg
            signal, save = self._agree()
            if signal and not done:
                return self._leave(signal)
            if done and self.ended:
                return self._finish()
            saved = self._maintain(done) if done or self._tick_is_due() else False
            if self.cut_short:
                return self._leave(self.cut_short)
            if save and not saved:
                self._save()
            if not done:
                real, real_c = self._next(data)
                self._step(real, real_c)
                if trouble := self._trouble():
                    self._diverge(trouble, real, real_c)
                    data = self._data()
                self._show()

    def _first_save(self) -> None:
        """Before anything is trained: a disk that is too small is found now, and there is always a state to go to."""
        with self._led():
            if self.maintenance is not None:
                self.saver.check_space(self.trainer.networks)
                self.maintenance.begin()
        self.clock.set(0.0)
        self._save()

    def _data(self) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches from where the run is."""
        config, share = self.config, self.config.batch // distributed.world_size()
        return batches(self.dataset, seed=config.seed, start=self.trainer.cur_nimg, batch=config.batch,
                       offset=distributed.rank() * share, share=share, workers=config.workers,
                       pin_memory=self.device.type == "cuda", tell=self._tell)

    def _tell(self, text: str) -> None:
        """To the log; of other ranks, which have none, to standard error."""
        if distributed.rank() == 0:
            self.log.print(text)
        else:
            print(f"Rank {distributed.rank()}: {text}", file=sys.stderr, flush=True)

    def _next(self, data: Iterator[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        """Images in [-1, 1] and labels. Where they cannot be read any more, the state is saved first."""
        try:
            images, labels = next(data)
        except UserError:
            self._save_alone()
            raise
        real = images.to(self.device, non_blocking=True).to(torch.float32) / 127.5 - 1
        return real, labels.to(self.device, non_blocking=True)

    def _step(self, real: Tensor, real_c: Tensor) -> None:
        try:
            self.trainer.step(real, real_c)
            return
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
        # Here the error is gone, and with it the memory that its traceback held.
        least, self.trainer.batch_gpu = self.trainer.batch_gpu, self.config.batch_gpu  # for a larger memory
        self._save_alone()
        raise UserError(f"The memory does not hold even {least} image(s) at once. Give "
                        f"--gradient-checkpointing=1, smaller networks (--cbase, --cmax), a smaller resolution, or "
                        f"--precision=fp16 on a GPU.")

    def _save_alone(self) -> None:
        """Before this process ends on an error: the others cannot be asked any more what they know."""
        if distributed.world_size() == 1 and not self.trainer.torn:
            self._save()

    def _agree(self) -> tuple[int, bool]:
        """The signal that any rank got, and whether rank 0 wants to save: the same on all ranks."""
        if distributed.world_size() == 1:
            return self.stop.signal, self.saver.due()
        if self.device.type == "cuda" and self.trainer.iteration % LOOK_EVERY:
            return 0, False
        asked = distributed.gather_objects((self.stop.signal, self.saver.due()))
        return max(signal for signal, _ in asked), asked[0][1]

    def _tick_is_due(self) -> bool:
        seen = self.trainer.cur_nimg - self.clock.start_nimg
        first = self.clock.tick == 0 and seen > 0  # a line after the first step: everybody sees that it works
        return first or seen >= self.config.schedule.tick_kimg * 1000

    def _show(self) -> None:
        seen, now = self.trainer.cur_nimg - self.clock.start_nimg, self.clock.now()
        tick_nimg = min(round(self.config.schedule.tick_kimg * 1000), self.total_nimg - self.clock.start_nimg)
        speed = seen / max(now - self.clock.start_sec, 1e-9) if seen else None
        left = (self.total_nimg - self.trainer.cur_nimg) / speed if speed else None
        self.log.view(self.trainer.cur_nimg, self.total_nimg, min(seen, tick_nimg), tick_nimg, speed, left)

    # Maintenance.

    @contextlib.contextmanager
    def _led(self) -> Iterator[None]:
        """Within it rank 0 works, while the others make images for it."""
        if self.maintenance is None:
            self.pool.serve()
            yield
        else:
            with self.pool.lead():
                yield

    def _maintain(self, done: bool) -> bool:
        """Tells how it is going; at snapshot ticks saves pictures, networks, metrics and state, and returns True."""
        trainer, clock, schedule = self.trainer, self.clock, self.config.schedule
        snapshot = done or (clock.tick > 0 and clock.tick % schedule.snapshot_ticks == 0)
        if snapshot and self.config.metrics:
            self.saved_before = self._save()  # they may take long
        began = clock.now()
        distributed.check_agreement(trainer.networks)
        stats = trainer.collector.harvest(distributed.sum_over_ranks)
        status = tick_status(
            tick=clock.tick, cur_nimg=trainer.cur_nimg, total_nimg=self.total_nimg,
            tick_nimg=trainer.cur_nimg - clock.start_nimg, total_sec=began, tick_sec=began - clock.start_sec,
            maintenance_sec=clock.maintenance_sec, augment_p=trainer.augment_p, device=trainer.device)
        with self._led():
            if self.maintenance is not None:
                self.maintenance.tick(status, stats)
                if snapshot:
                    self.maintenance.save_snapshot(measured=True)
        if snapshot and self.config.metrics:
            self.cut_short = distributed.from_main(lambda: self.maintenance.cut_short if self.maintenance else 0)
            if self.cut_short:
                return True
        clock.next_tick(trainer.cur_nimg, began)
        self.ended = done
        if snapshot:
            self._save()
        return snapshot

    # The end.

    def _finish(self) -> int:
        if self.maintenance is not None:
            if not self._record():
                raise UserError(f"All was trained, but the end of it could not be saved in {self.run_dir}. Make room, "
                                f"and train the rest again: {telling.continue_command(self.run_dir)}")
            self.log.print(telling.finished(self.config, self.run_dir, self.maintenance.snapshot))
            for sentence in self.maintenance.checkup.bad():
                self.log.print(sentence)
        return 0

    def _leave(self, signal: int) -> int:
        saved = self.saved_before if self.cut_short else self._save()
        if self.maintenance is not None:
            if self.trainer.cur_nimg and not self.cut_short:
                self.maintenance.save_network()
            self.log.print(telling.stopped(signal, self.trainer.cur_nimg, self.run_dir, saved))
        return 128 + signal

    # Trouble.

    def _trouble(self) -> Ailment | None:
        """Every step on a CPU; on a GPU, where looking waits for it, every few."""
        last = self.trainer.cur_nimg >= self.total_nimg
        if self.device.type == "cuda" and self.trainer.iteration % LOOK_EVERY and not last:
            return None
        return divergence.find(self.trainer)

    def _diverge(self, ailment: Ailment, real: Tensor, real_c: Tensor) -> None:
        """Goes back to an earlier state with half the learning rates, or raises Diverged."""
        told = f"{divergence.describe(ailment, self.trainer, real, real_c)} at {self.trainer.cur_nimg / 1000:g} kimg"
        divergence.forget(self.trainer)
        if self.config.on_divergence == "rollback" and self.rollbacks < self.config.max_rollbacks:
            self._roll_back(told)
            return
        at_once = self.trainer.cur_nimg - self.began_nimg <= RUINED_STEPS * self.config.batch
        if not at_once:
            self._save(kept=KEPT_STATES + 1)  # the ones before may be sounder
            if self.maintenance is not None:
                self.maintenance.save_network()
        raise Diverged(divergence.advice(told, self.config, self.rollbacks, at_once, self.run_dir,
                                         telling.continue_command(self.run_dir)))

    def _roll_back(self, told: str) -> None:
        self.rollbacks, self.rollbacks_in_a_row = self.rollbacks + 1, self.rollbacks_in_a_row + 1
        rollbacks, in_a_row, self.diverged_at = self.rollbacks, self.rollbacks_in_a_row, self.trainer.cur_nimg
        state = distributed.from_main(lambda: earlier_state(self.run_dir, in_a_row))
        scale = self.trainer.lr_scale / 2
        self.log.rewind(state["log"])
        self._restore(state)
        if self.maintenance is not None:
            self.maintenance.restore(state["maintenance"])
        self.rollbacks, self.rollbacks_in_a_row = rollbacks, in_a_row
        self.trainer.scale_learning_rates(scale)
        divergence.forget(self.trainer)  # of a state saved on a GPU between the trouble and the look at it
        self.log.print(f"{told}: back to {self.trainer.cur_nimg / 1000:g} kimg, with {scale:g} times the learning "
                       f"rates of the settings (rollback {rollbacks} of at most {self.config.max_rollbacks}).")


def train(job: Job, device: torch.device) -> int:
    """One rank of a run. The exit code: 0 when it is finished, 128 + n when signal n stopped it, saved.

    Raises UserError for what the user can mend, Diverged when a loss stopped being a number.
    """
    prepare(job.config)
    is_main = distributed.rank() == 0
    with contextlib.ExitStack() as stack:
        if is_main:
            stack.enter_context(held(job.run_dir))
        log = stack.enter_context(RunLog(job.run_dir if is_main else None, trackers=make_trackers(job.config)))
        stop = stack.enter_context(stop_requests(log.notice))
        return Run(job, device, log, stop).train()
