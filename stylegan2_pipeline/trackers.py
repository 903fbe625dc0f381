"""Where else a run is told, behind one interface: TensorBoard, Weights & Biases, MLflow.

A tracker may raise whatever it likes: its caller (reporting.RunLog) tells it and goes on without.
"""

import importlib.util
import io
import json
import logging
import netrc
import os
import shlex
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import numpy as np

from stylegan2_pipeline.config import TRACKER_NAMES, TrainConfig
from stylegan2_pipeline.images import to_pil
from stylegan2_pipeline.run_files import append_bytes
from torch_utils.errors import UserError
from torch_utils.files import atomic_path

PROJECT = "stylegan2-pipeline"
RUN_IDS = "trackers.json"  # in the run folder: by which id each tracker knows the run


class Tracker(Protocol):
    name: str

    def start(self, config: Mapping[str, Any], run_dir: Path, resume_nimg: int | None) -> str:
        """Begins, or goes on with what the run's folder was tracked as; returns a line for the reader, or "".

        Called again when a run goes back to an earlier state.

        config: the run's settings, nested. resume_nimg: of a run that continues, images at the last thing told.
        """

    def scalars(self, values: Mapping[str, float], cur_nimg: int, walltime: float) -> None:
        """Numbers by name; walltime in seconds since 1970."""

    def image(self, tag: str, grid: np.ndarray, cur_nimg: int) -> None:
        """A uint8 picture [C,H,W] of 1, 3 or 4 channels."""

    def finish(self, final: Mapping[str, float] | None) -> None:
        """Ends; final: the last value of each metric by name, or None after an error."""


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, bool | int | float | str]:
    """Settings in one level: {"optimizer.g_lr": 0.002}; what is no number becomes text, what is None is left out."""
    items: dict[str, bool | int | float | str] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            items |= flat(value, f"{prefix}{key}.")
        elif value is not None:
            items[prefix + key] = value if isinstance(value, bool | int | float | str) else str(value)
    return items


def _run_ids(run_dir: Path) -> dict[str, str]:
    try:
        ids = json.loads((run_dir / RUN_IDS).read_text())
    except (OSError, ValueError):
        return {}
    return ids if isinstance(ids, dict) else {}


def _keep_run_id(run_dir: Path, tracker: str, run_id: str) -> None:
    with atomic_path(run_dir / RUN_IDS) as partial:
        partial.write_text(json.dumps(_run_ids(run_dir) | {tracker: run_id}, indent=2) + "\n")


class TensorBoard:
    """Event files in the run folder. A step is a kimg; an image where ticks are shorter than that.

    Written here and now, whole records or nothing: torch's SummaryWriter has a thread, whose errors nobody catches.
    """

    name = "TensorBoard"

    def __init__(self, tick_kimg: float = 4.0) -> None:
        self._step_nimg = 1000 if tick_kimg >= 1 else 1

    def start(self, config: Mapping[str, Any], run_dir: Path, resume_nimg: int | None) -> str:
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog
        from torch.utils.tensorboard import summary

        self._summary, self._event = summary, Event
        seconds, microseconds = divmod(time.time_ns() // 1000, 10**6)  # readers take the files in the order of names
        self._path = run_dir / f"events.out.tfevents.{seconds:010d}.{microseconds:06d}.{os.getpid()}"
        events = [Event(wall_time=seconds, file_version="brain.Event:2")]
        if resume_nimg is not None:  # what older files have from this step on was undone
            after = resume_nimg // self._step_nimg + 1
            events.append(Event(wall_time=seconds, step=after, session_log=SessionLog(status=SessionLog.START)))
        curves = {f"Metrics/{name}": 0.0 for name in config.get("metrics", ())}  # their last values are the results
        experiment, begin, self._end = summary.hparams(flat(config), curves)
        self._write([*events, *(Event(wall_time=seconds, summary=part) for part in (experiment, begin))])
        return ""

    def _write(self, events: Iterable[Any]) -> None:
        from tensorboard.summary.writer.record_writer import RecordWriter

        records = io.BytesIO()
        writer = RecordWriter(records)
        for event in events:
            writer.write(event.SerializeToString())
        append_bytes(self._path, records.getvalue())

    def scalars(self, values: Mapping[str, float], cur_nimg: int, walltime: float) -> None:
        step = cur_nimg // self._step_nimg
        self._write(self._event(wall_time=walltime, step=step, summary=self._summary.scalar(name, value))
                    for name, value in values.items())

    def image(self, tag: str, grid: np.ndarray, cur_nimg: int) -> None:
        picture = self._summary.image(tag, grid, dataformats="CHW")
        self._write([self._event(wall_time=time.time(), step=cur_nimg // self._step_nimg, summary=picture)])

    def finish(self, final: Mapping[str, float] | None) -> None:
        if final is not None:
            self._write([self._event(wall_time=time.time(), summary=self._end)])


class WeightsAndBiases:
    """Its curves are over kimg. Without an API key it writes to the run folder, for `wandb sync`, and asks nothing."""

    name = "Weights & Biases"

    def __init__(self) -> None:
        self._run: Any = None

    def start(self, config: Mapping[str, Any], run_dir: Path, resume_nimg: int | None) -> str:
        if self._run is not None:
            return ""
        import wandb

        self._wandb = wandb
        offline = "WANDB_MODE" not in os.environ and not _has_wandb_key()
        known = _run_ids(run_dir).get("wandb")
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT), name=run_dir.name, dir=str(run_dir), id=known,
            resume="allow" if known else None, config=dict(config), allow_val_change=True,
            mode="offline" if offline else None, settings=wandb.Settings(silent=True, console="off"))
        _keep_run_id(run_dir, "wandb", self._run.id)
        self._run.define_metric("kimg")
        self._run.define_metric("*", step_metric="kimg")
        return self._where(run_dir, offline)

    def _where(self, run_dir: Path, offline: bool) -> str:
        if offline:
            return (f"{self.name}: there is no API key (wandb login), so it records offline; send it with: "
                    f"wandb sync {shlex.quote(str(run_dir / 'wandb'))}/offline-run-*")
        return f"{self.name}: {self._run.url or self._run.id}"

    def scalars(self, values: Mapping[str, float], cur_nimg: int, walltime: float) -> None:
        self._run.log({**values, "kimg": cur_nimg / 1000})

    def image(self, tag: str, grid: np.ndarray, cur_nimg: int) -> None:
        self._run.log({tag: self._wandb.Image(to_pil(grid)), "kimg": cur_nimg / 1000})

    def finish(self, final: Mapping[str, float] | None) -> None:
        self._run.summary.update(dict(final or {}))
        self._run.finish(exit_code=int(final is None))


def _has_wandb_key() -> bool:
    """Whether it would find a key where it looks: the environment, and the file that `wandb login` writes."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = urlsplit(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).netloc
    for path in (os.environ.get("NETRC"), "~/.netrc", "~/_netrc"):
        try:
            if path and netrc.netrc(os.path.expanduser(path)).authenticators(host):
                return True
        except (OSError, netrc.NetrcParseError):
            continue
    return False


class MLflow:
    """Steps are images. Goes to MLFLOW_TRACKING_URI; without it to a database beside the run folders."""

    name = "MLflow"

    def start(self, config: Mapping[str, Any], run_dir: Path, resume_nimg: int | None) -> str:
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")  # a server that is away: seconds, not an hour
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
        from mlflow import entities
        from mlflow.tracking import MlflowClient

        for chatty in ("alembic", "mlflow"):
            logging.getLogger(chatty).setLevel(logging.WARNING)
        self._entities = entities
        outdir = run_dir.resolve().parent
        uri = os.environ.get("MLFLOW_TRACKING_URI")
        self._client = MlflowClient(tracking_uri=uri or f"sqlite:///{outdir / 'mlflow.db'}")
        known = _run_ids(run_dir).get("mlflow")
        self._run_id = known if known and self._reopen(known) else self._new_run(config, run_dir, local=not uri)
        return f"{self.name}: {uri or f'mlflow ui --backend-store-uri sqlite:///{outdir}/mlflow.db'}"

    def _reopen(self, run_id: str) -> bool:
        try:
            self._client.update_run(run_id, status="RUNNING")
        except Exception:  # deleted, or another server's: then it is a new run
            return False
        return True

    def _new_run(self, config: Mapping[str, Any], run_dir: Path, local: bool) -> str:
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        experiment = self._client.get_experiment_by_name(name)
        artifacts = (run_dir.resolve().parent / "mlartifacts").as_uri() if local else None
        number = experiment.experiment_id if experiment else self._client.create_experiment(name, artifacts)
        run_id = self._client.create_run(number, run_name=run_dir.name).info.run_id
        params = [self._entities.Param(key, str(value)[:500]) for key, value in flat(config).items()]
        for start in range(0, len(params), 100):  # the most that one call takes
            self._client.log_batch(run_id, params=params[start:start + 100])
        _keep_run_id(run_dir, "mlflow", run_id)
        return str(run_id)

    def scalars(self, values: Mapping[str, float], cur_nimg: int, walltime: float) -> None:
        stamp = round(walltime * 1000)
        metrics = [self._entities.Metric(name, float(value), stamp, cur_nimg) for name, value in values.items()]
        self._client.log_batch(self._run_id, metrics=metrics)

    def image(self, tag: str, grid: np.ndarray, cur_nimg: int) -> None:
        self._client.log_image(self._run_id, to_pil(grid), key=tag, step=cur_nimg, timestamp=round(time.time() * 1000))

    def finish(self, final: Mapping[str, float] | None) -> None:
        self._client.set_terminated(self._run_id, "FAILED" if final is None else "FINISHED")


TRACKERS: dict[str, Callable[[], Tracker]] = {"wandb": WeightsAndBiases, "mlflow": MLflow}


def make_trackers(config: TrainConfig) -> list[Tracker]:
    """TensorBoard, and what config.track names."""
    others: list[Tracker] = [TRACKERS[name]() for name in config.track]
    return [TensorBoard(config.schedule.tick_kimg), *others]


def check_trackers(names: Iterable[str]) -> None:
    """Raises UserError for a name that is not in config.TRACKER_NAMES, and where its package is not installed."""
    for name in names:
        if name not in TRACKER_NAMES:
            raise UserError(f"--track: there is no tracker {name!r}. There are {', '.join(TRACKER_NAMES)}; TensorBoard "
                            f"files, stats.jsonl and stats.csv are always written.")
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None:  # without an origin: a folder that is merely called so
            raise UserError(f"--track={name} needs a package that is not installed. Install it with: "
                            f"pip install '.[{name}]' in the folder of this project, or pip install {name}")
