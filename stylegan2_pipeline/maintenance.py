"""What rank 0 does at a tick: tell the statistics, look at the images, save and measure snapshots."""

import dataclasses
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from metrics.cache import StatisticsCache
from metrics.detectors.registry import Detectors
from metrics.names import Name, parse
from stylegan2_pipeline.checkpoint import save_snapshot
from stylegan2_pipeline.checkup import Checkup
from stylegan2_pipeline.config import CPU_METRIC_IMAGES, TrainConfig
from stylegan2_pipeline.dataset import ImageDataset
from stylegan2_pipeline.evaluation import Evaluation, evaluation_of
from stylegan2_pipeline.health.probe import HealthProbe
from stylegan2_pipeline.images import save_image
from stylegan2_pipeline.memorization import write_findings
from stylegan2_pipeline.pictures import Grid
from stylegan2_pipeline.reporting import RunLog
from stylegan2_pipeline.saving import keep_best, prune_snapshots
from stylegan2_pipeline.shared_sampling import ImagePool
from stylegan2_pipeline.statistics import Stat
from stylegan2_pipeline.stopping import StopRequest
from stylegan2_pipeline.training_step import Trainer
from torch_utils.errors import UserError

T = TypeVar("T")


class Stopping(Exception):
    """A signal asks the run to stop: what takes long is given up."""


class Maintenance:
    """The writing side of a run. snapshot: the network saved last. cut_short: the signal that ended a measurement.

    data: what networks are compared with, of which grid.dataset may be a part.
    """

    def __init__(self, config: TrainConfig, run_dir: Path, trainer: Trainer, grid: Grid, pool: ImagePool,
                 log: RunLog, detectors: Detectors, stop: StopRequest, data: ImageDataset) -> None:
        self.config, self.run_dir, self.trainer, self.grid, self.pool, self.log = (config, run_dir, trainer, grid, pool,
                                                                                   log)
        self.detectors, self.stop, self.data = detectors, stop, data
        self._told: set[str] = set()  # notes on metrics, their figures left out
        self.snapshot: Path | None = None
        self.cut_short = 0
        self.probe = HealthProbe(grid.health_reals())
        self.checkup: Checkup

    def state(self) -> dict[str, Any]:
        return {"snapshot": str(self.snapshot or ""), "health": self.checkup.memory}

    def restore(self, state: dict[str, Any] | None) -> None:
        """To a state and the log that goes with it; None: the beginning."""
        self.checkup = Checkup(self.config, self.probe, self.run_dir)
        if state is not None:
            self.snapshot = Path(state["snapshot"]) if state["snapshot"] else None
        self.checkup.memory = state["health"] if state else None

    def begin(self) -> None:
        """The pictures of a run that has not begun."""
        self._save_picture(self.grid.reals_grid(), "reals.png", "reals")
        self._save_picture(self.grid.fakes_grid(self._images), "fakes_init.png", "fakes")

    def tick(self, status: Mapping[str, float], stats: dict[str, Stat]) -> None:
        """Tells a tick and judges it."""
        fakes = np.concatenate(list(self._images(self.grid.health_count)))
        health = {name: Stat(1, value, 0.0) for name, value in self.checkup.measure(fakes).items()}
        stats = stats | health | {"Progress/lr_scale": Stat(1, self.trainer.lr_scale, 0.0)}
        self.log.tick(status, stats, self.trainer.cur_nimg)
        record, sentences = self.checkup.judge({**status, **{name: stat.mean for name, stat in stats.items()}})
        self.log.health(record, self.trainer.cur_nimg)
        for sentence in sentences:
            self.log.print(sentence)

    def save_snapshot(self, measured: bool) -> None:
        """The pictures and networks of this moment; measured: and its metrics."""
        self._save_picture(self.grid.fakes_grid(self._images), f"fakes{self.trainer.cur_nimg // 1000:06d}.png", "fakes")
        if self.save_network() and measured and self.config.metrics:
            self._measure_all()
        prune_snapshots(self.run_dir, self.config.schedule.keep_last, self.config.schedule.keep_every_kimg)

    def save_network(self) -> bool:
        """False, having said why, where it cannot be written: training goes on, and the training state has the same."""
        path, before = self.network_path(), self.snapshot
        trainer, names = self.trainer, self.config.data.class_names
        kwargs = dict(trainer.network_kwargs, G_ema=trainer.network_kwargs["G"])
        try:
            save_snapshot(path, trainer.networks, kwargs, options=dataclasses.asdict(self.config),
                          cur_nimg=trainer.cur_nimg, class_names=None if names is None else list(names),
                          augment_p=trainer.augment_p, pl_mean=float(trainer.pl_mean))
        except (UserError, OSError) as error:
            self.log.print(f"This snapshot is left out: {error}")
            return False
        self.snapshot = path
        self.log.print(f"Saved {path}" + (" (in place of the one before)" if path == before else ""))
        return True

    def network_path(self) -> Path:
        return self.run_dir / f"network-snapshot-{self.trainer.cur_nimg // 1000:06d}.pkl"

    def _measure_all(self) -> None:
        """A metric that fails is told and never stops the training; a signal cuts all short."""
        names = [self._affordable(text) for text in self.config.metrics]
        self.log.print(f"Measuring {', '.join(name.text for name in names)}")
        try:
            self._measure_each(names)
        except Stopping:
            self.cut_short = self.stop.signal
            self.log.print("Measuring is left for when the run goes on.")

    def _affordable(self, text: str) -> Name:
        """A metric of the configuration; on a CPU of fewer images, wherever the run began."""
        name = parse(text)
        return name.of(min(name.count, CPU_METRIC_IMAGES)) if self.trainer.device.type == "cpu" else name

    def _measure_each(self, names: Sequence[Name]) -> None:
        config, trainer = self.config, self.trainer
        evaluation = self._attempt("Measuring", lambda: evaluation_of(
            trainer.G_ema, self.data, self.detectors, seed=config.seed, batch=config.batch_gpu,
            trained=self.grid.dataset if config.data.subset else None, trained_mirror=config.data.mirror,
            snapshot=str(self.snapshot), cache=StatisticsCache(), pool=self.pool, watch=self._watch))
        if evaluation is None:
            return
        self._attempt("Generating images for metrics", lambda: evaluation.prepare(names))
        for name in names:
            self._heed()
            self._attempt(f"Metric {name.text}", lambda name=name: self._measure(evaluation, name))  # type: ignore[misc]

    def _watch(self, items: Iterable[T], length: int, label: str) -> Iterator[T]:
        for item in self.log.watch(items, length, label):
            self._heed()
            yield item

    def _heed(self) -> None:
        if self.stop.signal:
            raise Stopping

    def _attempt(self, what: str, do: Callable[[], T]) -> T | None:
        try:
            return do()
        except Stopping:
            raise
        except Exception as error:
            if self.pool.broken:
                raise  # the other ranks are in the middle of it
            said = error.format_message() if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
            self.log.print(f"{what} failed ({said}); training goes on.")
            return None

    def _measure(self, evaluation: Evaluation, name: Name) -> None:
        trainer = self.trainer
        result, value = evaluation.measure(name)
        self.checkup.note_metric(result | {"cur_nimg": trainer.cur_nimg})
        best_metric = self.config.best_metric
        best = best_metric is not None and name == self._affordable(best_metric) and self.checkup.is_best(name.text)
        self.log.metric(result, trainer.cur_nimg, best)
        self._tell_notes(result["notes"])
        if value.details is not None:
            write_findings(value.details, self.run_dir / name.text)
        if best and self.snapshot is not None:
            try:
                keep_best(self.snapshot)
            except (UserError, OSError) as error:
                self.log.print(f"The best snapshot is not kept apart: {error}")

    def _tell_notes(self, notes: Sequence[str]) -> None:
        """Each once a run, whatever figures it gives."""
        for note in notes:
            gist = re.sub(r"[\d.,]+", "#", note)
            if gist not in self._told:
                self.log.print(note)
            self._told.add(gist)

    def _images(self, count: int) -> Iterator[np.ndarray]:
        return self.pool.batches("grid", count)

    def _save_picture(self, picture: np.ndarray, name: str, tag: str) -> None:
        try:
            save_image(picture, self.run_dir / name)
        except (UserError, OSError) as error:
            self.log.print(f"This picture is left out: {error}")
        self.log.images(tag, picture, self.trainer.cur_nimg)
