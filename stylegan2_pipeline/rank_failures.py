"""Which of several dead processes died first, and of what: the others only lost their connection to it."""

import pickle
import shlex
import signal
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import click


class RankFailed(click.ClickException):
    """A rank crashed or was killed; says which, how, and what is known about it."""


@dataclass(frozen=True)
class Report:
    """What a rank raised, for the user or as a traceback, and when (seconds since 1970)."""

    at: float
    error: click.ClickException | None
    details: str

    @classmethod
    def of(cls, error: Exception) -> "Report":
        told = error if isinstance(error, click.ClickException) else None
        return cls(time.time(), told, "".join(traceback.format_exception(error)))

    def write(self, path: Path) -> None:
        """Whole or not at all: the process may be killed while it writes."""
        partial = path.with_suffix(".tmp")
        partial.write_bytes(pickle.dumps(self))
        partial.rename(path)

    @staticmethod
    def read(path: Path) -> "Report":
        return pickle.loads(path.read_bytes())


def cause(exitcodes: Mapping[int, int], reports: Mapping[int, Report]) -> click.ClickException:
    """What to show of the ranks that failed.

    exitcodes: of each that failed, minus the signal's number if one killed it; reports: of those that raised something.
    What was raised for the user comes first. Who was killed left no note of when, but those with a report have lost
    their connection to it then; unless it aborted, as NCCL makes a process do when another one is gone.
    """
    told = [rank for rank, report in reports.items() if report.error is not None]
    killed = sorted(exitcodes.keys() - reports.keys(), key=lambda rank: exitcodes[rank] == -signal.SIGABRT)
    if told or not killed or (reports and exitcodes[killed[0]] == -signal.SIGABRT):
        rank = min(told or reports, key=lambda rank: reports[rank].at)
        return reports[rank].error or RankFailed(f"Rank {rank} failed.\n{reports[rank].details.rstrip()}")
    return RankFailed(f"Rank {killed[0]} {how_it_died(exitcodes[killed[0]])}")


def how_it_died(exitcode: int) -> str:
    if exitcode >= 0:
        return f"ended with exit code {exitcode} without a word."
    try:
        name = signal.Signals(-exitcode).name
    except ValueError:
        name = f"signal {-exitcode}"
    likely = {
        -signal.SIGKILL: "Most often the machine's memory had run out (`dmesg` tells): --cache=none, fewer --workers "
                         "or a smaller --batch-gpu need less.",
        -signal.SIGBUS: "Most often shared memory had run out: a container needs a larger one, such as "
                        "`docker run --shm-size=8g`; --cache=none with --workers=0 needs none.",
        -signal.SIGTERM: "Somebody ended it before it could save.",
    }
    return f"was killed by {name}. {likely.get(exitcode, 'A library or a driver has crashed.')}"


def with_remedy(error: click.ClickException, run_dir: Path | None) -> click.ClickException:
    """Says besides how a run with a saved state goes on, after a failure that is not the user's."""
    if isinstance(error, RankFailed) and run_dir is not None and any(run_dir.glob("training-state-*.pt")):
        return RankFailed(f"{error.format_message()}\nGo on from the last saved state with: python train.py "
                          f"--continue={shlex.quote(str(run_dir))}")
    return error
