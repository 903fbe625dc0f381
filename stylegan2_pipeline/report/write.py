"""The `report` command as one call: one run, or two beside each other, to a page, and to JSON and CSV on request."""

import csv
import dataclasses
import json
import math
import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from stylegan2_pipeline.history import RunHistory, read_run
from stylegan2_pipeline.report.charts import finite
from stylegan2_pipeline.report.compare import compare_page, final_rows, reach_rows, setup_rows, shared_metrics
from stylegan2_pipeline.report.numbers import Curve
from stylegan2_pipeline.report.page import caveats_of, single_page
from stylegan2_pipeline.report.run import RunView, Wanted, view_run
from torch_utils.errors import UserError
from torch_utils.files import atomic_path

FORMAT = "stylegan2-pipeline report 1"
COMPARED_FRAMES = 12


def report(run: Path, other: Path | None = None, *, out: Path | None = None, wanted: Wanted | None = None,
           as_json: bool = False, as_csv: bool = False) -> list[Path]:
    """Writes the page of one run, or of two compared, and beside it what else is asked for; returns the paths.

    out: default report.html in the run folder, or compare-A-B.html beside the first one. Raises UserError when a
    folder is no run, or a file cannot be written.
    """
    if other is not None and other.resolve() == run.resolve():
        raise UserError(f"{other} is the same run twice. Give two runs, or one.")
    histories = [read_run(path) for path in (run, other) if path is not None]
    out = out or default_out(histories)
    if out.suffix.lower() not in (".html", ".htm"):
        raise UserError(f"--out={out}: the report is a web page; give it a name that ends in .html.")
    wanted = wanted or Wanted()
    if other is not None:
        wanted = dataclasses.replace(wanted, frames=min(wanted.frames, COMPARED_FRAMES))
    views = [view_run(history, wanted) for history in histories]
    made = time.strftime("%Y-%m-%d %H:%M")
    html = single_page(views[0], made) if len(views) == 1 else compare_page((views[0], views[1]), made)
    written = [_write(out, html)]
    if as_json:
        document = json.dumps(finite(as_document(views)), indent=1, allow_nan=False)
        written.append(_write(out.with_suffix(".json"), document + "\n"))
    if as_csv:
        written.append(_write_csv(out.with_suffix(".csv"), views))
    return written


def default_out(histories: Sequence[RunHistory]) -> Path:
    first = histories[0]
    if len(histories) == 1:
        return first.path / "report.html"
    names = [re.sub(r"[^A-Za-z0-9_.-]+", "_", history.name)[:60] for history in histories]
    ids = [name.split("-")[0] for name in names]
    short = ids if all(part.isdigit() for part in ids) and ids[0] != ids[1] else names
    return first.path.parent / f"compare-{short[0]}-{short[1]}.html"


def _write(path: Path, content: str) -> Path:
    with atomic_path(path) as partial:
        partial.write_text(content, encoding="utf-8")
    return path


def as_document(views: Sequence[RunView]) -> dict[str, Any]:
    """All figures of a report as plain data; no pictures."""
    document: dict[str, Any] = {"format": FORMAT, "made": time.time(), "runs": [_run_document(view) for view in views]}
    if len(views) == 2:
        pair = (views[0], views[1])
        document["setup_diff"] = [dict(zip(("setting", "a", "b"), row, strict=True)) for row in setup_rows(pair)]
        columns = ("level", "a_kimg", "a_hours", "b_kimg", "b_hours")
        document["reached"] = {name: [dict(zip(columns, row, strict=True)) for row in reach_rows(curves, pair)]
                               for name, curves in shared_metrics(pair)}
        columns = ("figure", "a_best", "a_last", "b_best", "b_last")
        document["final"] = [dict(zip(columns, row, strict=True)) for row in final_rows(pair)]
    return document


def _run_document(view: RunView) -> dict[str, Any]:
    history = view.history
    return {
        "path": str(history.path), "name": history.name, "kind": history.kind, "kimg": history.kimg,
        "finished": history.finished, "hours": view.hours, "settings": history.settings,
        "changed": sorted(view.changed), "verdicts": view.verdicts, "judged": view.judged,
        "notes": [dataclasses.asdict(note) for note in view.notes],
        "metrics": {name: _curve_document(curve) for name, curve in view.curves.items()},
        "network": str(view.network) if view.network else None,
        "variety": [dict(zip(("figure", "real", "generated"), row, strict=True)) for row in view.likeness.figures]
                   if view.likeness else [],
        "nearest": [dict(zip(("figure", "value", "ideal"), row, strict=True)) for row in view.nearest.figures]
                   if view.nearest else [],
        "difficulty": json.loads(view.described.difficulty.to_json()) if view.described else None,
        "caveats": caveats_of(view), "problems": view.problems,
    }


def _curve_document(curve: Curve) -> dict[str, Any]:
    return {
        "lower_is_better": curve.lower, "best_kimg": curve.best.kimg, "best": curve.best.value,
        "last_kimg": curve.last.kimg, "last": curve.last.value, "trend": dataclasses.asdict(curve.trend),
        "points": [{"kimg": point.kimg} | dict(point.results) for point in curve.points],
    }


def _write_csv(path: Path, views: Sequence[RunView]) -> Path:
    """A line for every figure: run, kimg, name, value."""
    with atomic_path(path) as partial, open(partial, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["run", "kimg", "name", "value"])
        for view in views:
            writer.writerows([cell(view.history.name), f"{kimg:.10g}", cell(name), f"{value:.10g}"]
                             for kimg, name, value in _figures(view))
    return path


def _figures(view: RunView) -> Iterator[tuple[float, str, float]]:
    for tick in view.history.ticks:
        kimg = tick["Progress/kimg"]
        yield from ((kimg, name, value) for name, value in tick.items() if math.isfinite(value))
    for curve in view.curves.values():
        for point in curve.points:
            yield from ((point.kimg, f"Metrics/{key}", value) for key, value in point.results.items()
                        if math.isfinite(value))


def cell(name: str) -> str:
    """A name that no spreadsheet takes for a formula."""
    return f"'{name}" if name[:1] in ("=", "+", "-", "@", "\t", "\r") else name
