"""The worker's side of a benchmark: does one turn when it is told to, and between turns waits in reading a pipe.

Requests and replies are lines of JSON on standard input and output. It imports nothing of this project, because a
worker may be one that measures another project whose packages have the same names.
"""

import contextlib
import json
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

KILOBYTE = 1024  # what the kernel calls kB


@dataclass
class Workload:
    """tasks: what can be run, by name; about: what the parent should know, as JSON has it.

    profile: writes a trace of one step to a file, and returns rows for a table.
    """

    device: torch.device
    tasks: Mapping[str, Callable[[], object]]
    about: dict[str, Any] = field(default_factory=dict)
    profile: Callable[[Path], list[dict[str, Any]]] | None = None


def serve(make: Callable[[dict[str, Any]], AbstractContextManager[Workload]]) -> None:
    """Makes the workload of the first request's settings and answers all others, until standard input ends.

    Whatever is printed meanwhile goes to standard error. An error is the last reply.
    """
    with os.fdopen(os.dup(1), "w") as replies:
        os.dup2(2, 1)

        def reply(**values: Any) -> None:
            replies.write(json.dumps(values) + "\n")
            replies.flush()

        try:
            answer_all(make, reply)
        except Exception as error:
            text = error.format_message() if hasattr(error, "format_message") else str(error) or "no more is known"
            reply(error=f"{type(error).__name__}: {text}")
            raise SystemExit(1) from error


def answer_all(make: Callable[[dict[str, Any]], AbstractContextManager[Workload]],
               reply: Callable[..., None]) -> None:
    requests = map(json.loads, iter(sys.stdin.readline, ""))
    settings = next(requests, None)
    if settings is None:
        return
    with make(settings) as workload:
        reset_peak(workload.device)
        reply(about=workload.about, tasks=list(workload.tasks))
        for request in requests:
            reply(**answer(workload, request))


def answer(workload: Workload, request: dict[str, Any]) -> dict[str, Any]:
    if request["do"] == "peak":
        return {"bytes": peak_bytes(workload.device)}
    if request["do"] == "profile":
        assert workload.profile is not None
        return {"rows": workload.profile(Path(request["path"]))}
    return {"seconds": timed(workload.tasks[request["task"]], request["times"], workload.device)}


def timed(run: Callable[[], object], times: int, device: torch.device) -> float:
    """Seconds a run, of several one after the other; a GPU has nothing to do before, and is waited for after."""
    synchronize(device)
    began = time.perf_counter()
    for _ in range(times):
        run()
    synchronize(device)
    return (time.perf_counter() - began) / times


def use(device: torch.device) -> None:
    """Makes a GPU that was named by its number the current one."""
    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def reset_peak(device: torch.device) -> None:
    """Forgets what making the workload took, where the system can."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_bytes(device: torch.device) -> int:
    """The most memory since then: of tensors on a GPU, else what of this process was resident."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    for line in status_lines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * KILOBYTE
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * KILOBYTE


def status_lines() -> Iterator[str]:
    with contextlib.suppress(OSError):
        yield from Path("/proc/self/status").read_text().splitlines()
