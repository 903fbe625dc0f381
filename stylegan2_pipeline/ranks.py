"""One process a device: started here or by torchrun, told of signals, ended together when one of them dies."""

import contextlib
import ctypes
import json
import os
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing import connection, resource_tracker
from multiprocessing.context import SpawnProcess
from pathlib import Path
from types import FrameType
from typing import TypeVar

import click
import torch

from stylegan2_pipeline.job import Shared
from stylegan2_pipeline.rank_failures import Report, cause, with_remedy
from torch_utils import distributed
from torch_utils.errors import UserError
from torch_utils.meeting import Heartbeat, agree_on_attempt

J = TypeVar("J", bound=Shared)
Worker = Callable[[J, torch.device], int]

FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
STOPPED = tuple(128 + number for number in FORWARDED)  # exit codes of who saved and ended because of a signal
GRACE_SEC = 15.0  # for the other ranks to end by themselves when one has failed: they may be stuck waiting for it
AT_ONCE_SEC = 5.0  # the same after Ctrl-C was pressed twice


def spawn(job: J, worker: Worker[J]) -> int:
    """Runs worker(job, device) in job.num_gpus processes that make one process group; returns their exit code.

    SIGINT, SIGTERM and SIGUSR1 are passed on to the ranks, which a terminal's Ctrl-C does not reach: a second SIGINT
    ends them at once. When a rank fails, the others are ended, and what it raised for the user (click.ClickException)
    is raised here; RankFailed stands for everything else. No rank outlives this process.
    """
    with tempfile.TemporaryDirectory(prefix="stylegan2-ranks-") as meeting, _noting_signals() as noted:
        ranks = Ranks(_start(job, worker, Path(meeting)), noted)
        try:
            ranks.wait()
        finally:
            ranks.kill()
        return ranks.exit_code(Path(meeting), job)


def _start(job: J, worker: Worker[J], meeting: Path) -> list[SpawnProcess]:
    """With signals blocked, which processes inherit: none is hit by one, Ctrl-C above all, before it can handle it."""
    context = torch.multiprocessing.get_context("spawn")
    n = job.num_gpus
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
    noted: list[int]  # signals to pass on
    passed_on: int = 0  # how many of them
    ended: dict[int, int] = field(default_factory=dict)  # exit codes of the ranks that ended by themselves
    deadline: float = float("inf")

    def wait(self) -> None:
        """Until all have ended by themselves, or have not in time after one failed or all were told to stop at once."""
        while running := [rank for rank in range(len(self.processes)) if rank not in self.ended]:
            connection.wait([self.processes[rank].sentinel for rank in running], timeout=0.2)
            for rank in running:
                code = self.processes[rank].exitcode
                if code is not None:
                    self.ended[rank] = code
                    if code not in (0, *STOPPED):
                        self._give(GRACE_SEC)
            self._pass_on()
            if self.noted.count(signal.SIGINT) > 1:
                self._give(AT_ONCE_SEC)
            if time.monotonic() > self.deadline:
                return

    def _give(self, sec: float) -> None:
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

    def exit_code(self, meeting: Path, job: Shared) -> int:
        """The code that the ranks ended with. Raises what made them fail."""
        if self.noted.count(signal.SIGINT) > 1:
            return 128 + signal.SIGINT
        for number in self.noted:
            if -number in self.ended.values():  # it came before the rank was ready to save anything
                return 128 + number
        failed = {rank: code for rank, code in self.ended.items() if code not in (0, *STOPPED)}
        if failed:
            paths = {rank: report_path(meeting, rank) for rank in failed}
            reports = {rank: Report.read(path) for rank, path in paths.items() if path.exists()}
            raise with_remedy(cause(failed, reports), job.run_dir)
        return max(self.ended.values())


def report_path(meeting: Path, rank: int) -> Path:
    return meeting / f"report-{rank}"


def _rank(rank: int, job: J, worker: Worker[J], meeting: Path) -> None:
    """A rank, in its own process."""
    die_with_parent()
    os.setsid()  # away from the terminal
    for number in FORWARDED:
        signal.signal(number, signal.SIG_DFL)  # until the worker handles them there is nothing to save
    signal.pthread_sigmask(signal.SIG_UNBLOCK, FORWARDED)
    device = torch.device("cuda", rank) if job.device_type == "cuda" else torch.device("cpu")
    try:
        store = torch.distributed.FileStore(str(meeting / "store"), job.num_gpus)
        distributed.start(device, store, rank, job.num_gpus)
        code = worker(job, device)
        distributed.stop()
    except KeyboardInterrupt:
        code = 128 + signal.SIGINT
    except Exception as error:
        Report.of(error).write(report_path(meeting, rank))
        code = error.exit_code if isinstance(error, click.ClickException) else 1
    sys.exit(code)


def die_with_parent() -> None:
    """Where the system can do that (Linux): this process is killed when the one that started it ends."""
    parent = os.getppid()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if os.getppid() != parent:  # it ended meanwhile
        os._exit(128 + signal.SIGKILL)


# Under torchrun.

_launch_id: str | None = None


def under_torchrun() -> bool:
    """Whether torchrun started this process, as one of several."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def torchrun_gpus(typed: int | None) -> int:
    """The number of processes that torchrun started, which is --gpus; typed: what was given for it.

    Raises UserError when that is another number.
    """
    world_size = int(os.environ["WORLD_SIZE"])
    if typed not in (None, world_size):
        raise UserError(f"--gpus={typed}, but torchrun has started {world_size} processes (--nnodes={_nodes()} times "
                        f"--nproc-per-node). Leave --gpus out: it follows from them.")
    return world_size


def _nodes() -> str:
    return os.environ.get("GROUP_WORLD_SIZE", "1")


def launch_id() -> str | None:
    """Names of the torchruns, one a machine, that started the ranks of this run; None without torchrun."""
    return _launch_id


def restarted(earlier: str | None) -> bool:
    """Whether a run with this launch_id was started by the torchrun that has started this process (again).

    On one of its machines that is; others may have gone and come since.
    """
    return not set((earlier or "").split()).isdisjoint((_launch_id or "").split())


@contextlib.contextmanager
def torchrun_rank(device: str = "auto") -> Iterator[torch.device]:
    """Makes this process one of the ranks that torchrun started, and gives its device ("auto", "cuda", "cpu" wanted).

    An error is shown by the rank that meets it first; the others, who lose their connection to it, end with the same
    exit code in silence.
    """
    global _launch_id
    die_with_parent()
    rank, world_size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    stores = [next(torch.distributed.rendezvous("env://"))[0] for _ in range(2)]
    attempt = agree_on_attempt(stores[0], rank, world_size)
    meeting, own = (torch.distributed.PrefixStore(attempt, store) for store in stores)
    heartbeat = Heartbeat(own, rank, world_size)
    well = False
    try:
        chosen = _agree_on_device(meeting, device, rank, world_size)
        distributed.start(chosen, torch.distributed.PrefixStore("group", meeting), rank, world_size)
        _launch_id = " ".join(sorted(set(distributed.gather_objects(_agent()))))
        yield chosen
        distributed.stop()
        well = True
    except Exception as error:
        _tell_once(error, meeting, rank)
        raise
    finally:
        heartbeat.stop(well)


def _agree_on_device(meeting: torch.distributed.Store, wanted: str, rank: int, world_size: int) -> torch.device:
    """Raises UserError, on every rank, when one has no device or another kind than the others."""
    problem, kind = "", "cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu"
    processes = int(os.environ["LOCAL_WORLD_SIZE"])
    if wanted == "cuda" and kind == "cpu":
        problem = f"--device=cuda: torch finds no CUDA device on {socket.gethostname()}."
    elif kind == "cuda" and processes > torch.cuda.device_count():
        problem = (f"--nproc-per-node={processes}: {socket.gethostname()} has {torch.cuda.device_count()} CUDA "
                   f"device(s). Start as many processes, or add --device=cpu.")
    meeting.set(f"device/{rank}", f"{kind} {problem}")
    found = [meeting.get(f"device/{other}").decode().split(" ", 1) for other in range(world_size)]
    for other, (other_kind, problem) in enumerate(found):
        if problem:
            raise UserError(problem)
        if other_kind != found[0][0]:
            raise UserError(f"Rank 0 would train on {found[0][0]}, rank {other} on {other_kind}: all machines need "
                            f"CUDA devices, or --device=cpu.")
    return torch.device("cuda", int(os.environ["LOCAL_RANK"])) if kind == "cuda" else torch.device("cpu")


def _agent() -> str:
    """The torchrun that is the parent of this process: a name that none had before."""
    parent = os.getppid()
    try:
        started = Path(f"/proc/{parent}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        started = ""
    return f"{socket.gethostname()}:{parent}:{started}"


def _tell_once(error: Exception, meeting: torch.distributed.Store, rank: int) -> None:
    """Returns on the first rank that fails, for torchrun to show the error in its summary; ends the others."""
    code = error.exit_code if isinstance(error, click.ClickException) else 1
    with contextlib.suppress(RuntimeError):  # the machine where the ranks meet may be gone
        first, first_code = meeting.compare_set("failed", "", f"{rank} {code}").decode().split()
        if int(first) != rank:
            sys.exit(int(first_code))
    if path := os.environ.get("TORCHELASTIC_ERROR_FILE"):
        text = error.format_message() if isinstance(error, click.ClickException) else Report.of(error).details
        extra = {"py_callstack": text, "timestamp": str(int(time.time()))}
        Path(path).write_text(json.dumps({"message": {"message": text, "extraInfo": extra}}))
