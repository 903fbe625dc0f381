"""One process a device: started, told of signals, and ended together when one of them dies."""

import contextlib
import ctypes
import os
import pickle
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing import connection, resource_tracker
from multiprocessing.context import SpawnProcess
from pathlib import Path
from types import FrameType

import click
import torch

from stylegan2_pipeline.job import Job
from torch_utils import distributed

Worker = Callable[[Job, torch.device], int]

FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
GRACE_SEC = 15.0  # for the other ranks to end by themselves when one has failed: they may be stuck waiting for it
AT_ONCE_SEC = 5.0  # the same after Ctrl-C was pressed twice
STOPPED = tuple(128 + number for number in FORWARDED)  # exit codes of who saved and ended because of a signal


class RankFailed(click.ClickException):
    """A rank crashed or was killed; says which, how, and what is known about it."""


@dataclass(frozen=True)
class Report:
    """How a rank failed: what it raised for the user, or the traceback."""

    at: float
    error: click.ClickException | None
    details: str


def spawn(job: Job, worker: Worker) -> int:
    """Runs worker(job, device) in job.config.num_gpus processes that make one process group; returns their exit code.

    SIGINT, SIGTERM and SIGUSR1 are passed on to the ranks, which a terminal's Ctrl-C does not reach: a second SIGINT
    ends them at once. When a rank fails, the others are ended, and what it raised for the user (click.ClickException)
    is raised here; RankFailed stands for everything else. No rank outlives this process.
    """
    with tempfile.TemporaryDirectory(prefix="stylegan2-ranks-") as meeting, _noting_signals() as noted:
        ranks = Ranks(_start(job, worker, Path(meeting)), Path(meeting), noted)
        try:
            ranks.wait()
        finally:
            ranks.kill()
        return ranks.exit_code(job)


def _start(job: Job, worker: Worker, meeting: Path) -> list[SpawnProcess]:
    """With signals blocked, which processes inherit: none is hit by one, Ctrl-C above all, before it can handle it."""
    context = torch.multiprocessing.get_context("spawn")
    n = job.config.num_gpus
    processes = [context.Process(target=_rank, args=(rank, job, worker, meeting), name=f"rank {rank}")
                 for rank in range(n)]
    resource_tracker.ensure_running()  # it would unblock them when the first process starts it
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, FORWARDED)
    try:
        with _threads(max(torch.get_num_threads() // n, 1)):
            for process in processes:
                process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    return processes


@contextlib.contextmanager
def _threads(count: int) -> Iterator[None]:
    """Processes started meanwhile compute with so many threads, unless the user has chosen another number."""
    if "OMP_NUM_THREADS" in os.environ:
        yield
        return
    os.environ["OMP_NUM_THREADS"] = str(count)
    try:
        yield
    finally:
        del os.environ["OMP_NUM_THREADS"]


@contextlib.contextmanager
def _noting_signals() -> Iterator[list[int]]:
    """Gives the list of the signals that came, which it grows."""
    noted: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        noted.append(number)

    in_main = threading.current_thread() is threading.main_thread()  # elsewhere Python allows no handlers
    before = {number: signal.signal(number, note) for number in FORWARDED} if in_main else {}
    try:
        yield noted
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@dataclass
class Ranks:
    """The running ranks, seen from their parent."""

    processes: list[SpawnProcess]
    meeting: Path
    noted: list[int]  # signals to pass on
    passed_on: int = 0  # how many of them
    ended: list[int] = field(default_factory=list)  # ranks as they ended by themselves
    deadline: float = float("inf")

    def wait(self) -> None:
        """Until all have ended by themselves, or have not in time after one failed or all were told to stop at once."""
        while running := [rank for rank, process in enumerate(self.processes) if rank not in self.ended]:
            connection.wait([self.processes[rank].sentinel for rank in running], timeout=0.2)
            for rank in running:
                if not self.processes[rank].is_alive():
                    self.ended.append(rank)
                    if self.processes[rank].exitcode not in (0, *STOPPED):
                        self._give_until(GRACE_SEC)
            self._pass_on()
            if self.noted.count(signal.SIGINT) > 1:
                self._give_until(AT_ONCE_SEC)
            if time.monotonic() > self.deadline:
                return

    def _give_until(self, sec: float) -> None:
        self.deadline = min(self.deadline, time.monotonic() + sec)

    def _pass_on(self) -> None:
        for number in self.noted[self.passed_on:]:
            self.passed_on += 1
            for process in self.processes:
                if process.is_alive():
                    os.kill(process.pid or 0, number)

    def kill(self) -> None:
        for process in self.processes:
            if process.is_alive():
                process.kill()
            process.join()

    def exit_code(self, job: Job) -> int:
        """The code that the ranks ended with. Raises what made them fail."""
        codes = [self.processes[rank].exitcode or 0 for rank in self.ended]
        if self.noted.count(signal.SIGINT) > 1:
            return 128 + signal.SIGINT
        for number in self.noted:
            if -number in codes:  # it came before the rank was ready to save anything
                return 128 + number
        failed = [rank for rank in self.ended if self.processes[rank].exitcode not in (0, *STOPPED)]
        if failed:
            raise self._cause(failed, job)
        return max(codes)

    def _cause(self, failed: list[int], job: Job) -> click.ClickException:
        """What made the first one fail; the others fail because it is gone.

        A process that was killed left no note of when. Whoever reported within moments of it lost the connection, but a
        rank that aborts does so because NCCL told it that another is gone.
        """
        reports = {rank: pickle.loads(file.read_bytes()) for rank in failed
                   if (file := self.meeting / f"report {rank}").exists()}
        told = [rank for rank, report in reports.items() if report.error is not None]
        killed = [rank for rank in failed if rank not in reports]
        killed.sort(key=lambda rank: self.processes[rank].exitcode == -signal.SIGABRT)
        if told or not killed or (reports and self.processes[killed[0]].exitcode == -signal.SIGABRT):
            rank = min(told or reports, key=lambda rank: reports[rank].at)
            return reports[rank].error or RankFailed(f"Rank {rank} failed.\n{reports[rank].details.rstrip()}")
        return RankFailed(f"Rank {killed[0]} {how_it_died(self.processes[killed[0]].exitcode or 0)}{how_to_go_on(job)}")


def how_it_died(exitcode: int) -> str:
    """exitcode: a process's own, or minus the signal that killed it."""
    if exitcode >= 0:
        return f"ended with exit code {exitcode}, without a word."
    try:
        name = signal.Signals(-exitcode).name
    except ValueError:
        name = f"signal {-exitcode}"
    remedies = {
        -signal.SIGKILL: "Most often the machine's memory had run out (`dmesg` tells): --cache=none, fewer --workers "
                         "or a smaller --batch-gpu need less.",
        -signal.SIGBUS: "Most often shared memory had run out: a container needs a larger one, such as "
                        "`docker run --shm-size=8g`; --cache=none and --workers=0 need less.",
        -signal.SIGTERM: "Somebody ended it before it could save.",
    }
    return f"was killed by {name}. {remedies.get(exitcode, 'That is a crash of a library or a driver.')}"


def how_to_go_on(job: Job) -> str:
    if not any(job.run_dir.glob("training-state-*.pt")):
        return ""
    return f" The run goes on from its last saved state with: python train.py --continue={job.run_dir}"


# In the ranks.

def _rank(rank: int, job: Job, worker: Worker, meeting: Path) -> None:
    die_with_parent()
    os.setsid()  # away from the terminal
    for number in FORWARDED:
        signal.signal(number, signal.SIG_DFL)  # until the worker handles them there is nothing to save
    signal.pthread_sigmask(signal.SIG_UNBLOCK, FORWARDED)
    device = torch.device("cuda", rank) if job.config.device == "cuda" else torch.device("cpu")
    try:
        store = torch.distributed.FileStore(str(meeting / "store"), job.config.num_gpus)
        distributed.start(device, store, rank, job.config.num_gpus)
        code = worker(job, device)
        distributed.stop()
    except KeyboardInterrupt:
        code = 128 + signal.SIGINT
    except Exception as error:
        told = error if isinstance(error, click.ClickException) else None
        _write_report(meeting / f"report {rank}", Report(time.time(), told, traceback.format_exc()))
        code = told.exit_code if told else 1
    sys.exit(code)


def _write_report(path: Path, report: Report) -> None:
    path.with_suffix(".tmp").write_bytes(pickle.dumps(report))
    path.with_suffix(".tmp").rename(path)


def die_with_parent() -> None:
    """Where the system can do that (Linux): this process is killed when the one that started it ends."""
    parent = os.getppid()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if os.getppid() != parent:  # it ended meanwhile
        os._exit(128 + signal.SIGKILL)
