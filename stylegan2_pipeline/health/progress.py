"""Whether a run gets anywhere: its metric through time, and whether the images still change."""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from metrics.names import judges, lower_is_better
from stylegan2_pipeline.health.facts import NOTHING, Facts, Verdict, of_flag
from stylegan2_pipeline.health.series import History, Point, alarm, points_of, slope

STILL = (0.005, 0.01)  # change of an image between ticks, in parts of the data's spread: alarm, and its end
SPAN = 5  # measurements that a trend is taken from, and without a new best after which one is said to worsen
NOISE = 0.03  # part by which a metric must change to have changed


def judge_progress(history: History, metrics: Mapping[str, Sequence[tuple[Any, Any]]], facts: Facts) -> list[Verdict]:
    """At most two verdicts: of the metric, and of images that no longer change."""
    name = main_metric(metrics, facts)
    points = points_of(metrics[name]) if name else []
    trend = judge_trend(name, points, history, facts) if name else None
    if alarm(history.smooth("Health/change"), *STILL) and (trend is None or trend.rule == "flat"):
        return [stalled(name, trend, history, facts)]
    return [trend] if trend else []


def main_metric(metrics: Mapping[str, Sequence[tuple[Any, Any]]], facts: Facts) -> str | None:
    """The one by which the run is judged, or else the one measured most often; not the figures that go with one."""
    if facts.best_metric in metrics:
        return facts.best_metric
    usual = [name for name in metrics if judges(name) and not name.endswith(("_floor", "_ratio"))]
    return max(usual, key=lambda name: len(metrics[name]), default=None)


def in_short(value: float) -> str:
    return f"{value:+,.0f}" if abs(value) >= 10 else f"{value:+.2g}"


def judge_trend(name: str, points: Sequence[Point], history: History, facts: Facts) -> Verdict | None:
    """Improving, flat or worse by the last measurements; None for too few."""
    if len(points) < SPAN:
        return None
    sign = -1 if lower_is_better(name) else 1
    gains = [sign * slope(points[i - SPAN:i]) for i in range(SPAN, len(points) + 1)]
    spans = [points[i - 1][0] - points[i - SPAN][0] for i in range(SPAN, len(points) + 1)]
    best_kimg, best = max(points, key=lambda point: sign * point[1])
    unit = max(abs(best), 1e-9)
    changes = [gain * span / unit for gain, span in zip(gains, spans, strict=True)]
    evidence = (f"{name} {points[-1][1]:.4g} at {points[-1][0]:g} kimg, best {best:.4g} at {best_kimg:g}, gain "
                f"{in_short(100 * 100 * gains[-1] / unit)} % per 100 kimg")
    since_best = [sign * (best - value) / unit for kimg, value in points if kimg > best_kimg]
    if len(since_best) >= SPAN and min(since_best[-SPAN:]) > NOISE:
        return Verdict("worsening", "bad", f"{name} has been worse for {len(since_best)} measurements than at "
                       f"{best_kimg:g} kimg: use the snapshot from there.",
                       of_flag("kimg", best_kimg, facts.total_kimg), evidence)
    if alarm(changes, NOISE, NOISE / 3, patience=1):
        return improving(name, changes[-1], spans[-1], is_sure(points[-SPAN:]), history, facts, evidence)
    advice = of_flag("kimg", round(history.kimg, 3), facts.total_kimg)
    return Verdict("flat", "watch", f"{name} has improved by less than {100 * NOISE:g} % over the last {SPAN} "
                   f"measurements ({spans[-1]:g} kimg).", advice, evidence)


def is_sure(points: Sequence[Point]) -> bool:
    """Whether a straight line through the measurements falls or rises by more than twice its standard error."""
    x, y = (statistics.mean(point[k] for point in points) for k in (0, 1))
    spread = sum((point[0] - x) * (point[0] - x) for point in points)  # ** 2 raises where a product is infinite
    fit = sum((point[0] - x) * (point[1] - y) for point in points) / spread if spread else 0.0
    errors = [point[1] - y - fit * (point[0] - x) for point in points]
    scatter = sum(error * error for error in errors)
    return abs(fit) * spread > 2 * math.sqrt(scatter / (len(points) - 2) * spread)


def improving(name: str, change: float, span: float, sure: bool, history: History, facts: Facts,
              evidence: str) -> Verdict:
    """Worth going on with; for longer than was planned, when the end is near. change: in parts of the best value."""
    if lower_is_better(name):
        change = change / (1 + change)  # of the value from before
    ending = history.kimg >= 0.9 * facts.total_kimg
    advice = of_flag("kimg", 2 * facts.total_kimg, facts.total_kimg) if ending else NOTHING
    how = f"{name} still improves" if sure else f"{name} may still improve, within the scatter of its measurements"
    return Verdict("improving", "good", f"{how}: by {100 * change:.0f} % over the last {span:.3g} kimg.",
                   advice, evidence)


def stalled(name: str | None, trend: Verdict | None, history: History, facts: Facts) -> Verdict:
    """Neither images nor metric move: the generator is not taught anything."""
    and_metric = f" and {name} is flat" if trend else ""
    evidence = f"change {history.now('Health/change'):.4f} of the data's spread a tick (alarm below {STILL[0]})"
    evidence += f"; {trend.evidence}" if trend else ""
    return Verdict("stalled", "bad", f"The images no longer change{and_metric}: the generator has stopped learning.",
                   of_flag("glr", max(2 * facts.g_lr, facts.usual_lr), facts.g_lr), evidence)
