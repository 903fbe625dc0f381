"""What a run folder tells of its training: settings, statistics, metrics, pictures, networks, verdicts.

Folders made by the public stylegan2-ada-pytorch and stylegan3 code have the same files and are read the same way.
"""

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from stylegan2_pipeline.run_settings import kind_of, log_facts, normalised
from torch_utils.errors import UserError

OPTIONS = "training_options.json"
_LOG_TAIL_BYTES = 1 << 18


@dataclass(frozen=True)
class Point:
    """One measurement: the metric's main figure, all its figures, and the line it was read from."""

    kimg: float
    value: float
    results: Mapping[str, float]
    raw: Mapping[str, Any]


@dataclass(frozen=True)
class RunHistory:
    """kind: ours, stylegan2-ada or stylegan3. settings: one flat vocabulary for all kinds (run_settings.SETTINGS).

    ticks: name -> mean, a mapping for each line of stats.jsonl, in order; metrics: name -> points by kimg; grids:
    (kimg, picture of the same latents), the untrained generator's at 0; snapshots: (kimg, network); verdicts: of the
    last line of health.jsonl, as written; problems: a sentence for whatever could not be read.
    """

    path: Path
    kind: str
    options: dict[str, Any]
    settings: dict[str, Any]
    ticks: list[dict[str, float]] = field(default_factory=list)
    metrics: dict[str, list[Point]] = field(default_factory=dict)
    grids: list[tuple[float, Path]] = field(default_factory=list)
    reals: Path | None = None
    snapshots: list[tuple[float, Path]] = field(default_factory=list)
    verdicts: list[dict[str, Any]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.path.resolve().name

    @property
    def kimg(self) -> float:
        """Thousands of images seen at the last tick; 0 before the first."""
        return max((tick.get("Progress/kimg", 0.0) for tick in self.ticks), default=0.0)

    @cached_property
    def finished(self) -> bool:
        """Whether the run says so itself (run.json), or else reached its length."""
        said = read_object(self.path / "run.json").get("finished")
        if isinstance(said, bool):
            return said
        total = self.settings.get("total_kimg")
        return bool(self.ticks) and isinstance(total, int | float) and self.kimg >= total - 1e-9

    def series(self, name: str) -> list[tuple[float, float]]:
        """(kimg, mean) of a statistic, where it was gathered and is finite."""
        return [(tick["Progress/kimg"], tick[name]) for tick in self.ticks
                if math.isfinite(tick.get(name, math.nan)) and "Progress/kimg" in tick]

    def log_tail(self, lines: int) -> list[str]:
        """The last lines of log.txt; a long file is not read whole."""
        path = self.path / "log.txt"
        try:
            with path.open("rb") as file:
                file.seek(max(path.stat().st_size - _LOG_TAIL_BYTES, 0))
                return file.read().decode("utf-8", "replace").splitlines()[-lines:]
        except OSError:
            return []


def read_run(path: str | Path) -> RunHistory:
    """Reads a run folder. Damaged lines are left out and told in `problems`.

    Raises UserError when the folder, or its training_options.json, is not there or not readable.
    """
    path = Path(path)
    problems: list[str] = []
    options = _options(path)
    kind = kind_of(options)
    metrics: dict[str, list[Point]] = {}
    for file in sorted(path.glob("metric-*.jsonl")):
        for name, points in _points(file, problems).items():
            metrics[name] = sorted(metrics.get(name, []) + points, key=lambda point: point.kimg)
    health = list(_lines(path / "health.jsonl", problems))
    settings = normalised(kind, options, path.resolve().name) | log_facts(path) | environment(path)
    return RunHistory(
        path=path, kind=kind, options=options, settings=settings,
        ticks=[tick for line in _lines(path / "stats.jsonl", problems) if "Progress/kimg" in (tick := _tick(line))],
        metrics=metrics, grids=_grids(path, kind),
        reals=path / "reals.png" if (path / "reals.png").is_file() else None,
        snapshots=_numbered(path, "network-snapshot-*.pkl", r"network-snapshot-(\d+)\.pkl"),
        verdicts=_verdicts(health), problems=problems)


def _options(path: Path) -> dict[str, Any]:
    file = path / OPTIONS
    if not path.is_dir():
        raise UserError(f"{path} is not a folder. Give a run folder, such as training-runs/00000-data-auto1.")
    if not file.is_file():
        inside = sorted(found.parent.name for found in path.glob(f"*/{OPTIONS}"))
        hint = f" Run folders in it: {', '.join(inside[:5])}." if inside else ""
        raise UserError(f"{path} has no {OPTIONS}, so it is no run folder.{hint} Give a folder that train.py, or the "
                        f"public stylegan2-ada-pytorch or stylegan3 code, made.")
    try:
        options = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{file} cannot be read: {error}. Restore it from a copy; without it the settings of the run "
                        f"are unknown.") from error
    if not isinstance(options, dict):
        raise UserError(f"{file} does not hold the settings of a run. Restore it from a copy.")
    return options


def read_object(file: Path) -> dict[str, Any]:
    """The object in a JSON file; empty where there is none."""
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _lines(file: Path, problems: list[str]) -> Iterator[dict[str, Any]]:
    """The objects of a file of JSON lines; a run that was killed may have left the last one torn."""
    try:
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        if file.exists():
            problems.append(f"{file.name} could not be read ({error.strerror}).")
        return
    damaged = 0
    for line in filter(str.strip, lines):
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            value = None
        if isinstance(value, dict):
            yield value
        else:
            damaged += 1
    if damaged:
        problems.append(f"{file.name}: {damaged} damaged line{'s' * (damaged > 1)} left out.")


def _tick(line: Mapping[str, Any]) -> dict[str, float]:
    """name -> mean of a line of stats.jsonl; nan where nothing was gathered or the mean was not finite."""
    means = {name: number(value.get("mean")) for name, value in line.items() if isinstance(value, Mapping)}
    return means | {"timestamp": number(line.get("timestamp"))}


def number(value: Any) -> float:
    """A value of JSON as a float; nan for what is none."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan


def _points(file: Path, problems: list[str]) -> dict[str, list[Point]]:
    """The measurements of a file by metric. Those of a network whose kimg is not known are left out and told."""
    found: dict[str, list[Point]] = {}
    unplaced = 0
    for line in _lines(file, problems):
        name, results = line.get("metric"), line.get("results")
        if not isinstance(name, str) or not isinstance(results, Mapping):
            continue
        figures = {str(key): number(value) for key, value in results.items()}
        kimg, key = _kimg(line), main_key(name, figures)
        if kimg is None:
            unplaced += 1
        elif key is not None and math.isfinite(figures[key]):
            found.setdefault(name, []).append(Point(kimg, figures[key], figures, line))
    if unplaced:
        problems.append(f"{file.name}: {unplaced} measurement{'s' * (unplaced > 1)} left out, because the name of the "
                        f"network does not tell its kimg.")
    return found


def main_key(metric: str, results: Mapping[str, float]) -> str | None:
    """The key of a metric's main figure: its name, the mean, or the first of several."""
    candidates = [metric, f"{metric}_mean", *results]
    return next((key for key in candidates if key in results), None)


def _kimg(line: Mapping[str, Any]) -> float | None:
    nimg = number(line.get("cur_nimg"))
    if 0 <= nimg < 1e15:
        return nimg / 1000
    match = re.search(r"network-snapshot-(\d+)\.pkl$", str(line.get("snapshot_pkl")))
    return float(match[1]) if match else None


def _numbered(path: Path, pattern: str, name: str) -> list[tuple[float, Path]]:
    """(kimg, file) by kimg, of the files whose names hold it."""
    matches = ((re.fullmatch(name, file.name), file) for file in path.glob(pattern))
    return sorted((float(match[1]), file) for match, file in matches if match)


def environment(path: Path) -> dict[str, str]:
    """The software and hardware that a run of ours wrote down."""
    told = read_object(path / "run.json").get("environment")
    names = ("software", "hardware")
    return {name: value for name in names if isinstance(told, dict) and isinstance(value := told.get(name), str)}


def _grids(path: Path, kind: str) -> list[tuple[float, Path]]:
    """The public code writes the untrained generator's grid twice; here 000000 is one of less than 1 kimg."""
    grids = _numbered(path, "fakes*.png", r"fakes(\d+)\.png")
    init = path / "fakes_init.png"
    twice = kind != "ours" and grids and grids[0][0] == 0
    return [(0.0, init), *grids] if init.is_file() and not twice else grids


def _verdicts(health: list[dict[str, Any]]) -> list[dict[str, Any]]:
    said = health[-1].get("verdicts") if health else None
    return [verdict for verdict in said if isinstance(verdict, dict)] if isinstance(said, list) else []


def by_best(points: list[Point], lower_is_better: bool) -> Point:
    """The best of some points; of equals the earliest."""
    better: Callable[[Point], float] = (lambda p: p.value) if lower_is_better else (lambda p: -p.value)
    return min(points, key=better)
