"""What a run tells: the status line, log.txt, statistics and metrics in files, trackers, and a live view."""

import contextlib
import json
import os
import sys
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TextIO, TypeVar

import click
import numpy as np
import torch

from stylegan2_pipeline.live_panel import Progress
from stylegan2_pipeline.resources import cpu_mem_gb, peak_gpu_mem_gb
from stylegan2_pipeline.run_files import LineFile, Table, json_line, positions, read_jsonl, rewind
from stylegan2_pipeline.statistics import Stat
from stylegan2_pipeline.trackers import Tracker
from torch_utils.errors import UserError
from torch_utils.text import format_time

if TYPE_CHECKING:
    from stylegan2_pipeline.live_view import LiveView

LOG, STATS = "log.txt", "stats.jsonl"
T = TypeVar("T")


def tick_status(
    *,
    tick: int,
    cur_nimg: int,
    total_nimg: int,
    tick_nimg: int,
    total_sec: float,
    tick_sec: float,
    maintenance_sec: float,
    augment_p: float,
    device: str | torch.device,
) -> dict[str, float]:
    """The scalars of one tick under their names; `tick_nimg` images took `tick_sec`, then came maintenance."""
    tick_kimg = tick_nimg / 1000
    status = {
        "Progress/tick": tick,
        "Progress/kimg": cur_nimg / 1000,
        "Progress/augment": augment_p,
        "Timing/total_sec": total_sec,
        "Timing/sec_per_tick": tick_sec,
        "Timing/sec_per_kimg": tick_sec / tick_kimg if tick_kimg else 0.0,
        "Timing/maintenance_sec": maintenance_sec,
        "Timing/total_hours": total_sec / 3600,
        "Timing/total_days": total_sec / 86400,
        "Resources/cpu_mem_gb": cpu_mem_gb(),
        "Resources/peak_gpu_mem_gb": peak_gpu_mem_gb(device),
    }
    if tick_kimg:  # measuring comes on top
        status["Timing/left_sec"] = max(total_nimg - cur_nimg, 0) / 1000 * tick_sec / tick_kimg
    return status


def status_line(status: Mapping[str, float]) -> str:
    """The line of a tick from the scalars of `tick_status`; `left` is the estimated time to the end of the run."""
    left = status.get("Timing/left_sec")
    fields = [
        ("tick",        f"{int(status['Progress/tick'])}",                5),
        ("kimg",        f"{status['Progress/kimg']:.1f}",                 8),
        ("time",        format_time(status["Timing/total_sec"]),         12),
        ("sec/tick",    f"{status['Timing/sec_per_tick']:.1f}",           7),
        ("sec/kimg",    f"{status['Timing/sec_per_kimg']:.2f}",           7),
        ("maintenance", f"{status['Timing/maintenance_sec']:.1f}",        6),
        ("cpumem",      f"{status['Resources/cpu_mem_gb']:.2f}",          6),
        ("gpumem",      f"{status['Resources/peak_gpu_mem_gb']:.2f}",     6),
        ("augment",     f"{status['Progress/augment']:.3f}",              5),
        ("left",        "?" if left is None else format_time(left, 2),    0),
    ]  # fmt: skip
    return " ".join(f"{name} {value:<{width}}" for name, value, width in fields).rstrip()


class RunLog:
    """Everything a run tells; a context manager.

    `run_dir` gets log.txt, stats.jsonl, stats.csv, metric-<name>.jsonl and health.jsonl; None (other ranks) writes and
    prints nothing. `terminal` is where text goes (default: standard output). Nothing that fails here stops training: a
    full disk is told once, and lines are kept in memory until it takes them; a tracker that fails is told and left out.
    """

    def __init__(
        self, run_dir: Path | None, *, trackers: Sequence[Tracker] = (), terminal: TextIO | None = None
    ) -> None:
        self.run_dir = run_dir
        self._terminal = terminal
        self._trackers = list(trackers) if run_dir is not None else []
        self._trackers_started = False
        self._files: dict[str, LineFile] = {}
        self._table = None if run_dir is None else Table(run_dir / STATS, run_dir / "stats.csv")
        self._unwritten: set[str] = set()  # files that the disk does not take, which was told
        self._final: dict[str, float] = {}
        self._view: LiveView | None = None
        self._no_view = run_dir is None

    def __enter__(self) -> "RunLog":
        if self.run_dir is not None:
            self.run_dir.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end_view()
        if isinstance(error, click.ClickException):
            self._append(LOG, f"Error: {error.format_message()}\n")
        elif error is not None:
            self._append(LOG, "".join(traceback.format_exception(error)))
        if self._trackers_started:
            self._on_trackers(lambda tracker: tracker.finish(None if error else self._final))
        for name in list(self._files):
            self._append(name, "")

    # What is told.

    def print(self, text: str = "") -> None:
        """A line to the terminal and to log.txt."""
        if self.run_dir is not None:
            self._show(text)
            self._append(LOG, text + "\n")

    def tick(self, status: Mapping[str, float], stats: Mapping[str, Stat], cur_nimg: int) -> None:
        """The status line, a line of stats.jsonl, a row of stats.csv, and the trackers' scalars."""
        if self._table is None:
            return
        self.start_trackers()  # before this tick is among those that were told
        self.print(status_line(status))
        now = time.time()
        scalars = {name: Stat(1, float(value), 0.0) for name, value in status.items()} | dict(stats)
        means = {name: stat.mean for name, stat in scalars.items()}
        record: dict[str, Any] = {name: stat._asdict() for name, stat in sorted(scalars.items())}
        if self._append(STATS, json_line(record | {"timestamp": now})):
            self._try_to_write(lambda table: table.add(means | {"timestamp": now}))
        else:
            self._table.forget()
        if self._view is not None:
            self._view.tick(means)
        self._scalars(means, cur_nimg, now)

    def metric(self, result: Mapping[str, Any], cur_nimg: int, best: bool = False) -> None:
        """A metric's result: its file, the trackers' `Metrics/<key>`, and a line for the reader.

        best: it is the best so far of the metric that the run is judged by.
        """
        if self.run_dir is None:
            return
        self.start_trackers()
        record = {**result, "cur_nimg": cur_nimg, "best": best}
        self._append(f"metric-{result['metric']}.jsonl", json_line(record))
        values: dict[str, float] = result["results"]
        floors = (f"{key}{end}" for key in values for end in ("_floor", "_ratio") if key != result["metric"])
        left_out = {f"{result['metric']}_floor", *floors}  # which are in the file
        figures = "   ".join(f"{key} {value:.4g}" for key, value in values.items() if key not in left_out)
        took = f"   ({result['total_time_str']})" if "total_time_str" in result else ""
        self.print(f"{figures}{took}" + ("   (best so far)" * best))
        named = {f"Metrics/{key}": value for key, value in values.items()}
        self._final |= named
        if self._view is not None:
            self._view.metric(record)
        self._scalars(named, cur_nimg, time.time())

    def health(self, record: Mapping[str, Any], cur_nimg: int) -> None:
        """A line of health.jsonl: the verdicts on a tick."""
        if self.run_dir is None:
            return
        self._append("health.jsonl", json_line({"cur_nimg": cur_nimg, **record}))
        if self._view is not None:
            self._view.health(record["verdicts"])

    def images(self, tag: str, grid: np.ndarray, cur_nimg: int) -> None:
        """A uint8 picture [C,H,W] to the trackers."""
        self.start_trackers()
        self._on_trackers(lambda tracker: tracker.image(tag, grid, cur_nimg))

    def view(self, cur_nimg: int, total_nimg: int, tick_nimg_done: int, tick_nimg_total: int,
             img_per_sec: float | None, left_sec: float | None) -> None:
        """How far the run is, for the live view; costs microseconds, so call it after each step."""
        if self._view is None:
            if self._no_view:
                return
            self._begin_view()
        if self._view is not None:
            at = Progress(cur_nimg, total_nimg, tick_nimg_done, tick_nimg_total, img_per_sec, left_sec)
            self._view.progress(at)

    def watch(self, items: Iterable[T], length: int, label: str) -> Iterator[T]:
        """The items; while they pass, the live view shows how many have."""
        try:
            for done, item in enumerate(items):
                if self._view is not None:
                    self._view.shown.work = (label, done, length)
                yield item
        finally:
            if self._view is not None:
                self._view.shown.work = None

    def notice(self, text: str) -> None:
        """A line for the person at the terminal, from a signal handler: it may interrupt a print, so it is none."""
        if self._view is not None:
            self._view.shown.notice = text
        elif self.run_dir is not None:
            with contextlib.suppress(OSError):
                os.write(2, f"\n{text}\n".encode())

    # Going back to where a state was saved.

    def position(self) -> dict[str, int]:
        """The length in bytes of every file that is appended to, by name: goes with the training state."""
        if self.run_dir is None:
            return {}
        for name in list(self._files):
            self._append(name, "")
        return positions(self.run_dir)

    def rewind(self, position: Mapping[str, int]) -> None:
        """Cuts the files back to these lengths, and makes stats.csv anew; trackers go on from there."""
        if self.run_dir is None:
            return
        self._files = {}
        sentences = rewind(self.run_dir, position)
        self._try_to_write(lambda table: table.rebuild())
        self._trackers_started = False
        for sentence in sentences:
            self.print(sentence)

    def _last_record(self) -> dict[str, Any] | None:
        assert self.run_dir is not None
        return next(iter(deque(read_jsonl(self.run_dir / STATS), maxlen=1)), None)

    # Files.

    def _append(self, name: str, text: str) -> bool:
        """Whether the disk took it; what it did not take waits for the next time."""
        if self.run_dir is None:
            return True
        file = self._files.setdefault(name, LineFile(self.run_dir / name))
        return self._writing(name, lambda: file.append(text))

    def _try_to_write(self, write: Callable[[Table], None]) -> None:
        table = self._table
        if table is not None:
            self._writing("stats.csv", lambda: write(table))

    def _writing(self, name: str, write: Callable[[], None]) -> bool:
        try:
            write()
        except (OSError, UserError) as error:
            before, self._unwritten = self._unwritten, self._unwritten | {name}
            if not before:
                why = getattr(error, "strerror", None) or error
                self.print(f"The log files in {self.run_dir} cannot be written ({why}): training goes on, and the "
                           f"lines are kept in memory until there is room.")
            return False
        if self._unwritten == {name}:
            self._unwritten = set()
            self.print("The log files are written again.")
        self._unwritten = self._unwritten - {name}
        return True

    # Trackers.

    def start_trackers(self) -> None:
        """Lets them begin, or go on from the last tick in stats.jsonl; by itself at the first thing to track."""
        if self._trackers_started or self.run_dir is None:
            return
        self._trackers_started = True
        run_dir, last = self.run_dir, self._last_record()
        options = run_dir / "training_options.json"
        config = json.loads(options.read_text()) if options.exists() else {}
        resume_nimg = None if last is None else round(last["Progress/kimg"]["mean"] * 1000)
        for sentence in self._on_trackers(lambda tracker: tracker.start(config, run_dir, resume_nimg)):
            if sentence:
                self.print(sentence)

    def _on_trackers(self, call: Callable[[Tracker], T]) -> list[T]:
        results = []
        for tracker in list(self._trackers):
            try:
                results.append(call(tracker))
            except Exception as error:
                self._trackers.remove(tracker)
                why = " ".join(str(error).split())[:300]
                self.print(f"{tracker.name} is left out from here on ({type(error).__name__}: {why}); stats.jsonl has "
                           f"the same numbers.")
        return results

    def _scalars(self, values: Mapping[str, float], cur_nimg: int, walltime: float) -> None:
        self._on_trackers(lambda tracker: tracker.scalars(values, cur_nimg, walltime))

    # The terminal.

    def _show(self, text: str) -> None:
        try:
            if self._view is not None:
                self._view.print(text)
            else:
                print(text, file=self._terminal or sys.stdout, flush=True)
        except (OSError, ValueError):  # the terminal is gone, or the file that it is sent to is on a full disk
            self._end_view()

    def _begin_view(self) -> None:
        from stylegan2_pipeline.live_view import LiveView, wanted

        self._no_view = True
        assert self.run_dir is not None
        if not wanted(sys.stderr, self._terminal or sys.stdout):
            return
        view = LiveView(self.run_dir.name, sys.stderr)
        if (last := self._last_record()) is not None:
            view.tick({name: value["mean"] for name, value in last.items() if isinstance(value, dict)})
        for path in self.run_dir.glob("metric-*.jsonl"):
            for record in read_jsonl(path):
                if "cur_nimg" in record:  # else it was measured by hand
                    view.metric(record)
        view.start()
        self._view = view

    def _end_view(self) -> None:
        view, self._view = self._view, None
        if view is not None:
            with contextlib.suppress(OSError, ValueError):
                view.stop()
