"""Series of measurements that do not flap: medians of a window, alarms with hysteresis, robust slopes."""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

WINDOW = 5  # ticks, over which a median is taken: two outliers in five change nothing
PATIENCE = 3  # medians in a row beyond a limit, before an alarm
MEMORY = 400  # ticks that are looked at, the last ones

Point = tuple[float, float]  # kimg and value


def number(value: Any) -> float:
    """A finite float, or NaN for whatever is none (null in a JSON file, say)."""
    try:
        found = float(value)
    except (TypeError, ValueError):
        return math.nan
    return found if math.isfinite(found) else math.nan


class History:
    """The ticks of a run, of which any may lack any value."""

    def __init__(self, ticks: Sequence[Mapping[str, Any]]) -> None:
        known = [tick for tick in ticks if not math.isnan(number(tick.get("Progress/kimg")))]
        self.ticks = known[-MEMORY:]
        self.kimg = number(self.ticks[-1]["Progress/kimg"]) if self.ticks else 0.0

    def since(self, kimg: float) -> "History":
        """The ticks from there on."""
        return History([tick for tick in self.ticks if number(tick["Progress/kimg"]) >= kimg])

    def raw(self, name: str) -> list[float]:
        """The finite values of a statistic, in order."""
        return [value for tick in self.ticks if not math.isnan(value := number(tick.get(name)))]

    def smooth(self, name: str) -> list[float]:
        return medians(self.raw(name))

    def now(self, name: str) -> float:
        """The median of the last few values; NaN when there are none."""
        values = self.raw(name)[-WINDOW:]
        return statistics.median(values) if values else math.nan

    def names(self, prefix: str, suffix: str = "") -> list[str]:
        """Of the statistics that some tick has."""
        names = {name for tick in self.ticks for name in tick}
        return sorted(name for name in names if name.startswith(prefix) and name.endswith(suffix))


def medians(values: Sequence[float]) -> list[float]:
    """Of each full window of values; fewer values than a window give none."""
    return [statistics.median(values[i - WINDOW:i]) for i in range(WINDOW, len(values) + 1)]


def alarm(values: Iterable[float], on: float, off: float, patience: int = PATIENCE) -> bool:
    """Whether an alarm sounds after these smoothed values: from `patience` in a row beyond `on` to one within `off`.

    on > off: of high values; on < off: of low ones.
    """
    sign = 1 if on > off else -1
    sounding, beyond = False, 0
    for value in values:
        beyond = beyond + 1 if sign * (value - on) > 0 else 0
        sounding = sign * (value - off) > 0 if sounding else beyond >= patience
    return sounding


def points_of(series: Sequence[tuple[Any, Any]]) -> list[Point]:
    """Those that are finite, by kimg; of two at the same kimg the later one (measured again after a stop)."""
    found = {number(kimg): number(value) for kimg, value in series}
    return sorted((kimg, value) for kimg, value in found.items() if not math.isnan(kimg) and not math.isnan(value))


def slope(points: Sequence[Point]) -> float:
    """The median of the slopes of all pairs (Theil and Sen): two outliers in eight points hardly move it."""
    slopes = [(y2 - y1) / (x2 - x1) for i, (x1, y1) in enumerate(points) for x2, y2 in points[i + 1:]]
    return statistics.median(slopes) if slopes else 0.0
