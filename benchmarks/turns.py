"""Variants of one workload, each in a process of its own, measured in turns by a parent that computes nothing.

The C library's allocator, environment and memory belong to a process, so that variants that differ in these cannot
share one. Only one process computes at a time; the others wait in reading a pipe.
"""

import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

ROOT = Path(__file__).parent.parent
LONGEST_TURN = 0.5  # seconds that the fastest variant's turn takes at the most, where one run is shorter than that
MOST_RUNS = 200  # in a turn
LAST_LINES = 8  # of what a worker that died wrote


class WorkerDied(Exception):
    """Why, in one paragraph."""


class Worker:
    """A process that has been told what to prepare; `started` waits until it has."""

    def __init__(self, name: str, module: str, settings: Mapping[str, Any], env: Mapping[str, str]) -> None:
        self.name = name
        self.about: dict[str, Any] = {}
        self.tasks: list[str] = []
        self.failure: str | None = None
        self._told = 0
        self._errors = tempfile.TemporaryFile("a+", errors="replace")  # noqa: SIM115 - closed by `close`
        self._process = subprocess.Popen([sys.executable, "-m", module], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                         stderr=self._errors, text=True, cwd=ROOT, env=os.environ | dict(env))
        self._send(settings)

    def started(self) -> None:
        reply = self._receive()
        self.about, self.tasks = reply["about"], reply["tasks"]

    def ask(self, **request: Any) -> dict[str, Any]:
        """The reply to a request; see serving.answer. Raises WorkerDied."""
        self._send(request)
        return self._receive()

    def said(self) -> list[str]:
        """The lines that it has written to standard error so far."""
        self._errors.seek(0)
        return [line.rstrip() for line in self._errors if line.strip()]

    def news(self) -> list[str]:
        """Those that have not been asked for before."""
        lines = self.said()[self._told:]
        self._told += len(lines)
        return lines

    def close(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except BrokenPipeError:
                    continue
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._errors.close()

    def _send(self, request: Mapping[str, Any]) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # the reply will be missing, too, and its end tells why

    def _receive(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        reply = json.loads(line) if line else {"error": self._death()}
        if "error" in reply:
            raise WorkerDied(reply["error"])
        return reply

    def _death(self) -> str:
        code = self._process.wait()
        how = f"it ended with exit code {code}"
        if code < 0:
            how = f"it was ended by {signal.Signals(-code).name}"
            how += ", as the system does when memory runs out" if code == -signal.SIGKILL else ""
        last = self.said()[-LAST_LINES:]
        return "\n  ".join([how + (". Its last words:" if last else "."), *last])


@dataclass
class Measured:
    """What was found about a variant. seconds: by task, a run in each turn; failure: why there is no more."""

    name: str
    about: dict[str, Any] = field(default_factory=dict)
    seconds: dict[str, list[float]] = field(default_factory=dict)
    peak_bytes: int | None = None
    failure: str | None = None

    def median(self, task: str) -> float:
        return statistics.median(self.seconds[task])

    @property
    def complete(self) -> bool:
        return self.failure is None


@dataclass(frozen=True)
class Effort:
    """warmup: runs of each task before; then at least `repeats` turns and `seconds` of each task and variant."""

    warmup: int
    repeats: int
    seconds: float


@contextmanager
def started(workers: Sequence[Worker]) -> Iterator[list[Worker]]:
    """Those that could be prepared; the failure of each other one is in it. All are ended on the way out."""
    try:
        for worker in workers:
            attempt(worker, worker.started)
        yield [worker for worker in workers if worker.failure is None]
    finally:
        for worker in workers:
            worker.close()


def attempt(worker: Worker, ask: Any, **request: Any) -> Any:
    """ask(**request), or None with the failure noted."""
    try:
        return ask(**request)
    except WorkerDied as died:
        worker.failure = str(died)
        return None


def measure(workers: Sequence[Worker], effort: Effort) -> list[Measured]:
    """All tasks of started workers, one task after the other, on which the variants take turns."""
    results = {worker: Measured(worker.name, worker.about) for worker in workers}
    tasks = list(dict.fromkeys(task for worker in workers for task in worker.tasks))
    with click.progressbar(tasks, label="Measuring", file=sys.stderr, item_show_func=lambda task: task) as bar:
        for task in bar:
            for worker, seconds in turns([w for w in workers if task in w.tasks], task, effort).items():
                results[worker].seconds[task] = seconds
    for worker, result in results.items():
        if worker.failure is None and (reply := attempt(worker, worker.ask, do="peak")):
            result.peak_bytes = reply["bytes"]
        result.failure = worker.failure
    return list(results.values())


def turns(workers: Iterable[Worker], task: str, effort: Effort) -> dict[Worker, list[float]]:
    """Seconds a run of each turn. Every variant makes the same runs, so that what is random in them is the same."""
    workers = list(workers)
    for _ in range(max(effort.warmup, 1)):
        warm = one_round(workers, task, 1)
    alive = [worker for worker in workers if worker.failure is None]
    if not alive:
        return {}
    longest = min(LONGEST_TURN, effort.seconds / max(effort.repeats, 1))
    times = max(1, min(MOST_RUNS, round(longest / max(min(warm.values()), 1e-7))))
    found: dict[Worker, list[float]] = {worker: [] for worker in alive}
    number = spent = 0.0
    while alive and (number < effort.repeats or spent < effort.seconds):
        alive = [worker for worker in alive if worker.failure is None]
        first = int(number) % max(len(alive), 1)
        taken = one_round(alive[first:] + alive[:first], task, times)  # nobody is always the first
        for worker, seconds in taken.items():
            found[worker].append(seconds)
        number += 1
        spent += times * min(taken.values(), default=effort.seconds)
    return {worker: seconds for worker, seconds in found.items() if seconds}


def one_round(workers: Iterable[Worker], task: str, times: int) -> dict[Worker, float]:
    """One turn of each worker that is alive."""
    taken = {}
    for worker in workers:
        if worker.failure is None and (reply := attempt(worker, worker.ask, do="run", task=task, times=times)):
            taken[worker] = float(reply["seconds"])
    return taken
