"""What the figures of a run say: comparable measurements, the best one, the trend at the end, when a level was reached.

The rules of `notes` are about the outcome of a run; how its training goes is judged tick by tick elsewhere.
"""

import itertools
import math
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from metrics.names import judges, lower_is_better
from stylegan2_pipeline.history import Point, RunHistory, by_best, number

USUAL_KIMG = 25000.0  # the length of the published runs
LADDER = (50.0, 20.0, 10.0, 7.0, 5.0, 4.0, 3.0, 2.5, 2.0, 1.7, 1.5, 1.3, 1.2, 1.1, 1.0)
_WINDOW = 4        # at least so many measurements speak of the trend, and at least the last third
_LEAST_CHANGE = 0.01   # of the value over the window: less is called flat, however certain
_SLOW = 5.0        # per cent in 100 kimg: a run that improves faster was stopped early
_TOO_NEAR = 0.7    # ratios of undamaged images were 0.85 to 1.07 (docs/metrics.md)
_RISES = 5         # so many measurements in a row, each worse than the one before


@dataclass(frozen=True)
class Trend:
    """percent: change of the value in `unit` kimg by a straight line through log values; error: its standard error."""

    verdict: str  # still improving, flat, getting worse, diverging, unknown
    sentence: str
    percent: float = math.nan
    error: float = math.nan
    unit: float = 100.0


@dataclass(frozen=True)
class Curve:
    """The measurements of one metric in one run that may be compared with each other; not empty."""

    metric: str
    points: list[Point]
    left_out: int

    @property
    def lower(self) -> bool:
        return lower_is_better(self.metric)

    @property
    def judges(self) -> bool:
        """Whether a network is better by more or by less of it."""
        return judges(self.metric)

    @property
    def best(self) -> Point:
        return by_best(self.points, self.lower)

    @property
    def last(self) -> Point:
        return self.points[-1]

    @cached_property
    def ratios(self) -> list[tuple[float, float]]:
        """(kimg, ratio to the distance between two halves of the data); empty where the floor was not measured."""
        return self.series(f"{self.metric}_ratio") if f"{self.metric}_floor" in self.last.results else []

    @staticmethod
    def intervals(point: Point) -> dict[str, tuple[float, float]]:
        """95 % intervals of the figures of a measurement that have one."""
        found = point.raw.get("intervals")
        pairs = {key: tuple(map(number, pair)) for key, pair in (found.items() if isinstance(found, dict) else ())}
        return {key: (pair[0], pair[1]) for key, pair in pairs.items()
                if len(pair) == 2 and all(map(math.isfinite, pair))}

    def series(self, key: str) -> list[tuple[float, float]]:
        """(kimg, value) of any figure, where it is finite."""
        found = [(point.kimg, point.results.get(key, math.nan)) for point in self.points]
        return [(kimg, value) for kimg, value in found if math.isfinite(value)]

    @cached_property
    def keys(self) -> list[str]:
        """Figures worth a column: floors and ratios of the main one alone."""
        found = dict.fromkeys(key for point in self.points for key in point.results)
        beside = {f"{key}{end}" for key in found if key != self.metric for end in ("_floor", "_ratio")}
        return [key for key in found if key not in beside]

    @cached_property
    def trend(self) -> Trend:
        if not self.judges:
            return Trend("unknown", "It does not tell which network is better.")
        return trend([(point.kimg, point.value) for point in self.points], self.lower)


def curves(history: RunHistory) -> dict[str, Curve]:
    """Of each metric the measurements that were most often made alike, the newest one of each kimg."""
    found = {}
    order = list(history.settings.get("metrics") or [])
    for metric in sorted(history.metrics, key=lambda name: (order.index(name) if name in order else len(order), name)):
        points = history.metrics[metric]
        common = Counter(map(_conditions, points)).most_common(1)[0][0]
        alike = [point for point in points if _conditions(point) == common]
        newest = {point.kimg: point for point in alike}  # files are appended to: later lines replace earlier ones
        found[metric] = Curve(metric, [newest[kimg] for kimg in sorted(newest)], len(points) - len(alike))
    return found


def _conditions(point: Point) -> str:
    """Without which two measurements do not compare."""
    return repr([point.raw.get(key) for key in ("counts", "truncation_psi", "mirror", "data_digest")])


def primary(history: RunHistory, found: dict[str, Curve]) -> Curve | None:
    """The metric by which the best snapshot is told: as the run has it, else its first one, else any."""
    named = [str(history.options.get("best_metric")), *(history.settings.get("metrics") or [])]
    usable = {name: curve for name, curve in found.items() if curve.judges}
    return next((usable[name] for name in named if name in usable), next(iter(usable.values()), None))


def trend(points: Sequence[tuple[float, float]], lower: bool) -> Trend:
    """Where a metric is going, from its last third (4 measurements or more)."""
    tail = points[-max(_WINDOW, math.ceil(len(points) / 3)):]
    if len(tail) < _WINDOW or tail[-1][0] <= tail[0][0] or min(value for _, value in tail) <= 0:
        return Trend("unknown", f"Too few measurements ({len(points)}) to tell where it is going.")
    x, y = np.array([kimg for kimg, _ in tail]), np.log([value for _, value in tail])
    spread = ((x - x.mean()) ** 2).sum()
    slope = float(((x - x.mean()) * (y - y.mean())).sum() / spread)
    residuals = y - y.mean() - slope * (x - x.mean())
    error = float(np.sqrt((residuals**2).sum() / (len(x) - 2) / spread))
    span = float(x[-1] - x[0])
    unit = 10.0 ** min(max(math.floor(math.log10(span)), 0), 2)
    percent, percent_error = 100 * math.expm1(slope * unit), 100 * error * unit
    change = f"{percent:+.1f} % in {unit:g} kimg (give or take {2 * percent_error:.1f}) over the last {len(tail)}"
    if abs(slope) <= 2 * error or abs(slope) * span < _LEAST_CHANGE:
        return Trend("flat", f"Flat: {change}.", percent, percent_error, unit)
    if (slope < 0) == lower:
        return Trend("still improving", f"Still improving: {change}.", percent, percent_error, unit)
    values = [value for _, value in points]
    worse = values[-1] > 1.3 * min(values) if lower else values[-1] < max(values) / 1.3
    verdict = "diverging" if worse else "getting worse"
    return Trend(verdict, f"{verdict.capitalize()}: {change}.", percent, percent_error, unit)


def hours_at(history: RunHistory, kimg: float) -> float:
    """Hours of training until kimg, the time of every part of a run that was continued added up; nan if not known."""
    ticks = [(tick["Progress/kimg"], tick["Timing/total_sec"]) for tick in history.ticks
             if math.isfinite(tick.get("Timing/total_sec", math.nan))]
    if not ticks or kimg > ticks[-1][0] * 1.001 + 1e-3:
        return math.nan
    seconds, before, offset = [], 0.0, 0.0
    for _, total in ticks:
        offset += before if total < before else 0.0  # the clock started again
        before = total
        seconds.append(offset + total)
    return float(np.interp(kimg, [0.0, *(x for x, _ in ticks)], [0.0, *seconds])) / 3600


def first_reached(curve: Curve, level: float) -> float | None:
    """kimg of the first measurement whose ratio is at or below the level."""
    return next((kimg for kimg, ratio in curve.ratios if ratio <= level), None)


def ladder(found: Sequence[Curve]) -> list[float]:
    """Levels worth a row: those that some run reached after its first measurement, the eight lowest of them."""
    starts = [curve.ratios[0][1] for curve in found if curve.ratios]
    ends = [min(ratio for _, ratio in curve.ratios) for curve in found if curve.ratios]
    if not starts:
        return []
    return [level for level in LADDER if min(ends) <= level < max(starts)][-8:]


@dataclass(frozen=True)
class Note:
    """Like a verdict of the health rules, and under the same names where they see the same; advice names what to do."""

    rule: str
    level: str
    sentence: str
    advice: str
    evidence: str


def notes(history: RunHistory, found: dict[str, Curve]) -> list[Note]:
    """What went wrong, or could go further, by rules on the final figures."""
    told = [_collapsed(found), _copying(found), _overfitting(history)]
    best = primary(history, found)
    told += [_stopped_early(history, best), _past_its_best(best)] if best else []
    return [note for note in told if note is not None]


def last_figure(found: dict[str, Curve], word: str) -> tuple[str, float] | None:
    """The last finite figure whose key ends in a word, such as recall."""
    figures = [(key, value) for curve in found.values() for key, value in curve.last.results.items()
               if key.rsplit("_", 1)[-1] == word and math.isfinite(value)]
    return figures[-1] if figures else None


def _collapsed(found: dict[str, Curve]) -> Note | None:
    recall, precision = last_figure(found, "recall"), last_figure(found, "precision")
    if recall is None or precision is None or recall[1] >= 0.1 or precision[1] < 0.5:
        return None
    return Note("collapse", "bad", "The images look like the data, but show little of its variety.",
                "Use an earlier snapshot, or train again with a higher --gamma.",
                f"{recall[0]} {recall[1]:.3f} < 0.1, {precision[0]} {precision[1]:.3f} >= 0.5")


def _copying(found: dict[str, Curve]) -> Note | None:
    """As the metric itself says, which knows what is chance; by the ratio where it says nothing."""
    for curve in found.values():
        told = any("copies of training images" in str(note) for note in curve.last.raw.get("notes") or [])
        if curve.ratios and (told or curve.ratios[-1][1] < _TOO_NEAR):
            return Note("copying", "watch", "The images are closer to the training data than the data is to itself, "
                        "which copies of training images would explain.",
                        "Look for near copies before showing images to anybody.",
                        f"{curve.metric}_ratio {curve.ratios[-1][1]:.3f} at {curve.ratios[-1][0]:g} kimg, "
                        f"{'beyond chance' if told else f'below {_TOO_NEAR:g}'}")
    return None


def _overfitting(history: RunHistory) -> Note | None:
    r_t, p = history.series("Loss/signs/real"), history.series("Progress/augment")
    if not r_t or not p:
        return None
    signs, chance = (statistics.median(value for _, value in series[-5:]) for series in (r_t, p))
    if signs <= 0.9 or chance >= 0.1:
        return None
    mode = history.settings.get("augment", "ada")
    advice = "Train with --aug=ada." if mode == "noaug" else "Give a lower --target, or more images."
    return Note("overfitting", "bad", "The discriminator tells nearly all training images from generated ones, and "
                "augmentation did not keep up.", advice, f"r_t {signs:.2f} > 0.9 at p {chance:.2f} < 0.1")


def _stopped_early(history: RunHistory, curve: Curve) -> Note | None:
    found = curve.trend
    if found.verdict != "still improving" or abs(found.percent) * 100 / found.unit <= _SLOW:
        return None
    share = 100 * history.kimg / USUAL_KIMG
    return Note("improving", "watch", f"{curve.metric} was still improving at the end.",
                "Train longer: " + ("--continue with a larger --kimg." if history.kind == "ours" else
                                    "start again from the last snapshot (--resume)."),
                f"{found.percent:+.1f} % in {found.unit:g} kimg, limit {_SLOW:g} % in 100; {history.kimg:g} kimg are "
                f"{share:.2g} % of the usual {USUAL_KIMG:g}")


def _past_its_best(curve: Curve) -> Note | None:
    tail = [point.value if curve.lower else -point.value for point in curve.points[-_RISES - 1:]]
    if len(tail) <= _RISES or any(b <= a for a, b in itertools.pairwise(tail)):
        return None
    return Note("worsening", "watch", f"{curve.metric} got worse at each of the last {_RISES} measurements.",
                f"Use the best snapshot, of {curve.best.kimg:g} kimg.",
                f"{curve.metric} {curve.best.value:.4g} at {curve.best.kimg:g} kimg, {curve.last.value:.4g} at "
                f"{curve.last.kimg:g}")
