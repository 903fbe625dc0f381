"""Charts of a report: small SVG drawings that stand without a script; assets/report.js adds the readout."""

import html
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

WIDTH, HEIGHT = 480, 270
LEFT, RIGHT, TOP, BOTTOM = 58, 16, 14, 40
MOST_POINTS = 600   # of a line; more would not be seen and would fill the page
HUGE = 1e100        # values from here on, and those that are no number, are not drawn
LOG_SPAN = 30       # positive values that span more than this are drawn on a log scale
COLOURS = 6         # in report.css, .s0 to .s5

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Line:
    """slot: which of the COLOURS; dashed tells lines apart without colour; dots: one for each point (few of them);
    marks: (x, y, text) to be circled."""

    name: str
    points: Points
    slot: int = 0
    dashed: bool = False
    dots: bool = False
    marks: Sequence[tuple[float, float, str]] = ()


@dataclass(frozen=True)
class Chart:
    """levels: (y, text) of horizontal reference lines; log None: where the values ask for it; note: below it."""

    title: str
    lines: list[Line]
    levels: Sequence[tuple[float, str]] = ()
    log: bool | None = None
    x_name: str = "kimg"
    note: str = ""
    describe: str = field(default="")

    @property
    def empty(self) -> bool:
        return not any(line.points for line in self.lines)


@dataclass(frozen=True)
class Axis:
    """From data to pixels: lo..hi to start..end, both in log10 when log."""

    lo: float
    hi: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        a, b, v = (math.log10(t) if self.log else t for t in (self.lo, self.hi, value))
        return round(self.start + (v - a) / (b - a) * (self.end - self.start), 2)


def figure(chart: Chart) -> str:
    """The chart as a <figure>; nothing where there is nothing to draw."""
    lines = [replace(line, points=thinned(drawable)) for line in chart.lines
             if (drawable := [point for point in line.points if max(map(abs, point)) < HUGE])]
    if not lines:
        return ""
    x_axis, y_axis = axes(chart, lines)
    parts = [_grid(x_axis, y_axis, chart.x_name), _levels(chart.levels, y_axis),
             *(_drawn(line, x_axis, y_axis) for line in lines),
             f'<line class="cursor" y1="{TOP}" y2="{HEIGHT - BOTTOM}" visibility="hidden"/>']
    label = html.escape(chart.describe or f"{chart.title}: " + "; ".join(_in_words(line) for line in lines), quote=True)
    note = f'<p class="note">{html.escape(chart.note)}</p>' if chart.note else ""
    scale = "log scale" if y_axis.log else ""
    return (f'<figure class="chart"><figcaption><b>{html.escape(chart.title)}</b> <small>{scale}</small></figcaption>'
            f'{_legend(lines)}<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" tabindex="0" aria-label="{label}">'
            f'{"".join(parts)}</svg><output class="readout" aria-live="polite">&nbsp;</output>{note}'
            f'<script type="application/json">{safe_json(_data(chart, lines, x_axis, y_axis))}</script></figure>')


def safe_json(value: Any) -> str:
    """JSON that can stand in a <script> element, whatever strings are in it; what is not finite becomes null."""
    text = json.dumps(finite(value), separators=(",", ":"), allow_nan=False)  # ASCII only
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def finite(value: Any) -> Any:
    """The value with null for every number in it that is not finite, which JSON does not know."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def thinned(points: Points, most: int = MOST_POINTS) -> list[tuple[float, float]]:
    """The points, or of equal stretches the lowest and the highest one, so that no spike is lost."""
    if len(points) <= most:
        return list(points)
    kept: list[tuple[float, float]] = []
    stretches = most // 2
    for i in range(stretches):
        part = points[i * len(points) // stretches:(i + 1) * len(points) // stretches]
        kept += sorted({min(part, key=lambda point: point[1]), max(part, key=lambda point: point[1])})
    return kept


def axes(chart: Chart, lines: Sequence[Line]) -> tuple[Axis, Axis]:
    """The axes that hold all points and levels."""
    xs = [x for line in lines for x, _ in line.points]
    ys = [y for line in lines for _, y in line.points]
    level_values = [value for value, _ in chart.levels]
    everything = ys + level_values
    log = chart.log if chart.log is not None else min(ys) > 0 and max(ys) / min(ys) > LOG_SPAN
    log = log and min(everything) > 0
    lo, hi = min(everything), max(everything)
    if log:
        lo, hi = lo / 1.15, hi * 1.15
    else:
        room = (hi - lo) * 0.06 or abs(hi) * 0.1 or 1.0
        lo, hi = (0.0 if lo >= 0 and lo < hi / 3 else lo - room), hi + room
    x_lo = 0.0 if min(xs) >= 0 and min(xs) < max(xs) / 2 else min(xs)
    x_hi = max(xs) if max(xs) > x_lo else x_lo + 1
    return Axis(x_lo, x_hi, LEFT, WIDTH - RIGHT), Axis(lo, hi, HEIGHT - BOTTOM, TOP, log)


def ticks(axis: Axis, most: int = 6) -> list[float]:
    """Round values in the axis: 1, 2 or 5 times powers of ten."""
    if axis.log:
        decades = range(math.floor(math.log10(axis.lo)), math.ceil(math.log10(axis.hi)) + 1)
        for digits in ((1, 2, 5), (1, 3), (1,)):
            values = [d * 10.0**e for e in decades for d in digits if axis.lo <= d * 10.0**e <= axis.hi]
            if len(values) <= most:
                break
        return values[:: math.ceil(len(values) / most)] if values else [axis.lo, axis.hi]
    rough = (axis.hi - axis.lo) / (most - 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough * 0.999)
    first = math.ceil(axis.lo / step - 1e-9)
    return [round(i * step, 12) for i in range(first, math.floor(axis.hi / step + 1e-9) + 1)]


def short(value: float) -> str:
    """A figure as it is read: four significant digits, powers of ten only where there is no other way."""
    if not math.isfinite(value):
        return "-"
    if value == 0 or 1e-3 <= abs(value) < 1e5:
        return f"{value:.4g}" if abs(value) < 1e4 else f"{value:.0f}"
    return f"{value:.3g}".replace("e+0", "e").replace("e-0", "e-").replace("e+", "e")


def _grid(x_axis: Axis, y_axis: Axis, x_name: str) -> str:
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    parts = []
    for value in ticks(y_axis):
        y = y_axis(value)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{right}" y1="{y}" y2="{y}"/>'
                     f'<text x="{LEFT - 6}" y="{y + 4}" text-anchor="end">{short(value)}</text>')
    for value in ticks(x_axis):
        x = x_axis(value)
        parts.append(f'<line class="grid" x1="{x}" x2="{x}" y1="{bottom}" y2="{bottom + 4}"/>'
                     f'<text x="{x}" y="{bottom + 18}" text-anchor="middle">{short(value)}</text>')
    parts.append(f'<line class="base" x1="{LEFT}" x2="{right}" y1="{bottom}" y2="{bottom}"/>'
                 f'<text x="{right}" y="{HEIGHT - 5}" text-anchor="end">{html.escape(x_name)}</text>')
    return "".join(parts)


def _levels(levels: Sequence[tuple[float, str]], y_axis: Axis) -> str:
    parts = []
    for value, text in levels:
        y = y_axis(value)
        below = 13 if y < TOP + 16 else -4
        parts.append(f'<line class="level" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>'
                     f'<text class="level" x="{LEFT + 4}" y="{y + below}">{html.escape(text)}</text>')
    return "".join(parts)


def _style(line: Line) -> str:
    return f"s{line.slot % COLOURS}" + (" dashed" if line.dashed else "")


def _drawn(line: Line, x_axis: Axis, y_axis: Axis) -> str:
    places = [(x_axis(x), y_axis(y)) for x, y in line.points if not y_axis.log or y > 0]
    path = " ".join(f"{x:g},{y:g}" for x, y in places)
    parts = [f'<polyline class="line {_style(line)}" points="{path}"/>']
    if line.dots or len(places) == 1:
        parts += [f'<circle class="dot {_style(line)}" cx="{x:g}" cy="{y:g}" r="3"/>' for x, y in places]
    for mark_x, mark_y, text in line.marks:
        x, y = x_axis(mark_x), y_axis(mark_y)
        anchor = "end" if x > WIDTH / 2 else "start"
        above = 20 if y < TOP + 20 or (line.dashed and y < HEIGHT - BOTTOM - 24) else -9
        parts.append(f'<circle class="mark {_style(line)}" cx="{x}" cy="{y}" r="6"/><text class="mark" x="{x}" '
                     f'y="{y + above}" text-anchor="{anchor}">{html.escape(text)}</text>')
    return "".join(parts) + f'<circle class="here {_style(line)}" r="4" visibility="hidden"/>'


def _legend(lines: Sequence[Line]) -> str:
    items = [f'<li><svg viewBox="0 0 26 8" aria-hidden="true"><line class="line {_style(line)}" x1="1" x2="25" y1="4" '
             f'y2="4"/></svg>{html.escape(line.name)}</li>' for line in lines]
    return f'<ul class="legend">{"".join(items)}</ul>'


def _in_words(line: Line) -> str:
    first, last = line.points[0], line.points[-1]
    return f"{line.name} from {short(first[1])} to {short(last[1])}"


def _data(chart: Chart, lines: Sequence[Line], x_axis: Axis, y_axis: Axis) -> dict[str, Any]:
    return {
        "x_name": chart.x_name,
        "x": x_axis.__dict__,
        "y": y_axis.__dict__,
        "lines": [{"name": line.name, "x": [_round(x) for x, _ in line.points],
                   "y": [_round(y) for _, y in line.points]} for line in lines],
    }


def _round(value: float) -> float:
    return float(f"{value:.5g}")
