"""Times variants of one computation against each other in one process."""

import statistics
import time
from collections.abc import Callable

import torch

from torch_utils.host import cpu_model


def interleaved(variants: dict[str, Callable[[], object]], device: torch.device, seconds: float) -> dict[str, float]:
    """Median seconds a call of each variant, measured in turns for about `seconds` in all, after a warm-up.

    Turns share whatever else the machine does among the variants. On CUDA a turn is timed by events around as many
    calls as make some milliseconds, so that launching does not count.
    """
    calls = {name: _calls_in_a_turn(run, device) for name, run in variants.items()}
    times: dict[str, list[float]] = {name: [] for name in variants}
    deadline = time.perf_counter() + seconds
    while time.perf_counter() < deadline or min(map(len, times.values())) < 3:
        for name, run in variants.items():
            times[name].append(_timed(run, calls[name], device))
    return {name: statistics.median(samples) for name, samples in times.items()}


def _calls_in_a_turn(run: Callable[[], object], device: torch.device) -> int:
    _timed(run, 1, device)
    least = 2e-3 if device.type == "cuda" else 2e-4
    return max(1, min(1000, round(least / max(_timed(run, 1, device), 1e-7))))


def _timed(run: Callable[[], object], calls: int, device: torch.device) -> float:
    """Seconds a call."""
    if device.type != "cuda":
        began = time.perf_counter()
        for _ in range(calls):
            run()
        return (time.perf_counter() - began) / calls
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    for _ in range(calls):
        run()
    end.record()
    torch.cuda.synchronize(device)
    return start.elapsed_time(end) / 1e3 / calls


def describe(device: torch.device) -> str:
    """The hardware and software that a figure belongs to."""
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, torch {torch.__version__}"
    return f"{cpu_model()}, {torch.get_num_threads()} threads, torch {torch.__version__}"
