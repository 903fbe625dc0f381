"""Where the time of a step goes: a trace for a browser, and seconds by part and operator."""

from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile, record_function

from benchmarks.report import markdown
from benchmarks.serving import synchronize

MARK = "part "
SHOWN = 25  # operators in the table


def profile_parts(parts: Mapping[str, Callable[[], object]], device: torch.device, path: Path) -> list[dict[str, Any]]:
    """Runs each part once, writes a Chrome trace to `path`; rows of part, operator, calls and its own seconds.

    Seconds are the device's: on a GPU those of the kernels that an operator launched.
    """
    on_gpu = device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    with profile(activities=activities):
        torch.ones([1], device=device).add(1)  # what is watched first takes longer
    with profile(activities=activities) as profiler:
        for name, run in parts.items():
            with record_function(MARK + name):
                run()
                synchronize(device)
    path.parent.mkdir(parents=True, exist_ok=True)
    profiler.export_chrome_trace(str(path))
    return rows_of(list(profiler.events()), on_gpu)


def rows_of(events: list[Any], on_gpu: bool) -> list[dict[str, Any]]:
    """Each operator belongs to the part that it began in, whichever thread it ran on."""
    events = [event for event in events if "CPU" in str(event.device_type)]
    marks = [event for event in events if event.name.startswith(MARK)]
    spent: dict[tuple[str, str], list[float]] = defaultdict(lambda: [0, 0.0])
    for event in events:
        part = next((mark.name.removeprefix(MARK) for mark in marks if mark is not event and
                     mark.time_range.start <= event.time_range.start < mark.time_range.end), None)
        own = event.self_device_time_total if on_gpu else event.self_cpu_time_total
        if part is not None and own > 0:
            row = spent[part, event.name]
            row[0] += 1
            row[1] += own / 1e6
    rows = [{"part": part, "operator": name, "calls": calls, "seconds": seconds}
            for (part, name), (calls, seconds) in spent.items()]
    return sorted(rows, key=lambda row: -row["seconds"])


def profile_table(rows: list[dict[str, Any]]) -> str:
    """Operators by parts, in shares of a step, in which each part is as often as its weight says."""
    parts = list(dict.fromkeys(row["part"] for row in rows))
    total = sum(row["seconds"] * row["weight"] for row in rows)
    shares: dict[str, dict[str, float]] = defaultdict(dict)
    for row in rows:
        shares[row["operator"]][row["part"]] = row["seconds"] * row["weight"] / total
    ranked = sorted(shares, key=lambda name: -sum(shares[name].values()))
    lines = [[name, f"{sum(shares[name].values()):.1%}", *(f"{shares[name].get(part, 0):.1%}" for part in parts)]
             for name in ranked[:SHOWN]]
    table = markdown(["operator", "all", *parts], lines)
    return f"Of the {total:.3g} s of a step, watched by the profiler:\n\n{table}"
