"""What a run tells: the status line, log.txt, stats.jsonl, metric files and TensorBoard."""

import os
import shutil
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, TextIO

import click
import numpy as np
import torch

from stylegan2_pipeline.run_files import append_metric, append_text, json_line
from stylegan2_pipeline.statistics import Stat
from torch_utils.text import format_time


def cpu_mem_gb() -> float:
    """Memory this process holds now, in GiB; its peak where the system does not tell the present figure."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        import resource

        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**30


def peak_gpu_mem_gb(device: str | torch.device) -> float:
    """The most GPU memory tensors held since the last call, in GiB; 0 where the device is no CUDA device."""
    if torch.device(device).type != "cuda":
        return 0.0
    peak = torch.cuda.max_memory_allocated(device) / 2**30
    torch.cuda.reset_peak_memory_stats(device)
    return peak


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
    if tick_kimg:
        status["Timing/left_sec"] = max(total_nimg - cur_nimg, 0) / 1000 * (tick_sec + maintenance_sec) / tick_kimg
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
    """Everything a run writes besides networks and pictures; a context manager.

    `run_dir` gets log.txt, stats.jsonl, metric-<name>.jsonl and TensorBoard events, all appended to; None (other ranks)
    writes and prints nothing. `terminal` is where text goes (default: standard output); the progress bar of a tick is
    drawn on standard error, only where that is a terminal.
    """

    def __init__(self, run_dir: Path | None, *, terminal: TextIO | None = None) -> None:
        self.run_dir = run_dir
        self._terminal = terminal
        self._log: IO[str] | None = None
        self._board: Any = None
        self._bar_time: float | None = None  # when the bar was last drawn; None while there is none

    def __enter__(self) -> "RunLog":
        if self.run_dir is not None:
            self.run_dir.mkdir(parents=True, exist_ok=True)
            self._log = (self.run_dir / "log.txt").open("a", encoding="utf-8", buffering=1)
            self._open_board(self.run_dir)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._clear_bar()
        if self._log is not None:
            if isinstance(error, click.ClickException):
                self._log.write(f"Error: {error.format_message()}\n")
            elif error is not None:
                self._log.write("".join(traceback.format_exception(error)))
            self._log.close()
        self._on_board(lambda board: board.close())
        self._log = self._board = None

    def print(self, text: str = "") -> None:
        """A line to the terminal and to log.txt."""
        if self._log is None:
            return
        self._clear_bar()
        print(text, file=self._terminal or sys.stdout, flush=True)
        self._log.write(text + "\n")

    def tick(self, status: Mapping[str, float], stats: Mapping[str, Stat], cur_nimg: int) -> None:
        """The status line, a line of stats.jsonl and TensorBoard scalars at step cur_nimg // 1000."""
        if self.run_dir is None:
            return
        self.print(status_line(status))
        now = time.time()
        scalars = {name: Stat(1, float(value), 0.0) for name, value in status.items()} | dict(stats)
        record: dict[str, Any] = {name: stat._asdict() for name, stat in sorted(scalars.items())}
        append_text(self.run_dir / "stats.jsonl", json_line(record | {"timestamp": now}))
        self._scalars({name: stat.mean for name, stat in scalars.items()}, cur_nimg, now)

    def metric(self, result: Mapping[str, Any], cur_nimg: int) -> None:
        """A metric's result: its file, TensorBoard `Metrics/<key>`, and a line for the reader."""
        if self.run_dir is None:
            return
        append_metric(self.run_dir, result)
        values: dict[str, float] = result["results"]
        self.print("   ".join(f"{key} {value:.4g}" for key, value in values.items()))
        self._scalars({f"Metrics/{key}": value for key, value in values.items()}, cur_nimg, time.time())

    def images(self, tag: str, grid: np.ndarray, cur_nimg: int) -> None:
        """A uint8 picture [C,H,W] to TensorBoard."""
        self._on_board(lambda board: board.add_image(tag, grid, global_step=cur_nimg // 1000, dataformats="CHW"))

    def progress(self, done: int, total: int, text: str = "") -> None:
        """Draws how far a tick is, in place and at most ten times a second; the next print wipes it."""
        if self._log is None or not sys.stderr.isatty():
            return
        now = time.monotonic()
        if self._bar_time is not None and now - self._bar_time < 0.1 and done < total:
            return
        self._bar_time = now
        filled = min(30 * done // max(total, 1), 30)
        line = f"[{'#' * filled}{'-' * (30 - filled)}] {done}/{total} {text}"
        width = shutil.get_terminal_size().columns - 1
        print("\r\x1b[K" + line[:width], end="", file=sys.stderr, flush=True)

    def _clear_bar(self) -> None:
        if self._bar_time is not None:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
            self._bar_time = None

    def _open_board(self, run_dir: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(str(run_dir))
        except Exception as error:
            self._without_board(error)

    def _on_board(self, write: Callable[[Any], None]) -> None:
        if self._board is not None:
            try:
                write(self._board)
            except Exception as error:
                self._without_board(error)

    def _without_board(self, error: Exception) -> None:
        self._board = None
        self.print(f"TensorBoard files are not written from here on ({error}); stats.jsonl has the same numbers.")

    def _scalars(self, values: Mapping[str, float], cur_nimg: int, walltime: float) -> None:
        def write(board: Any) -> None:
            for name, value in values.items():
                board.add_scalar(name, value, global_step=cur_nimg // 1000, walltime=walltime)
            board.flush()

        self._on_board(write)
