"""Everything a report says of one run, gathered: figures, judgements, pictures; no HTML yet."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from metrics.detectors.pixels32 import reduced_pixels
from metrics.diversity import embed, mean_pair_ms_ssim, vendi_score
from stylegan2_pipeline.difficulty import radial_spectrum
from stylegan2_pipeline.health.facts import Facts
from stylegan2_pipeline.health.rules import judge
from stylegan2_pipeline.history import RunHistory, number
from stylegan2_pipeline.report.charts import Points
from stylegan2_pipeline.report.difficulty import Described, difficulty_of
from stylegan2_pipeline.report.nearest import Nearest, nearest_of
from stylegan2_pipeline.report.numbers import Curve, Note, curves, hours_at, notes, primary
from stylegan2_pipeline.report.pictures import Frame, Picture, Sets, average_picture, frames, grid_picture, last_sets
from stylegan2_pipeline.report.samples import Samples, make_samples, network_of
from stylegan2_pipeline.run_settings import as_own_options, default_settings, split_changed

_BATCH = 64


@dataclass(frozen=True)
class Wanted:
    """What goes into a report besides figures. frames: moments in time, at most; device: makes the samples."""

    pictures: bool = True
    samples: bool = True
    difficulty: bool = True
    frames: int = 24
    device: str | None = None


@dataclass(frozen=True)
class Likeness:
    """The last grid of generated images beside as many real ones: average pictures, spectra, figures of variety.

    spectra: (cycles per pixel, power); figures: (what it is, of the real, of the generated images).
    """

    kimg: float
    count: int
    real_grid: Picture
    real_average: Picture
    fake_average: Picture
    real_spectrum: Points
    fake_spectrum: Points
    figures: list[tuple[str, float, float]]


@dataclass(frozen=True)
class RunView:
    """changed, others: settings that differ from the preset, and the rest; defaults: the preset's, None if unknown."""

    history: RunHistory
    curves: dict[str, Curve]
    best: Curve | None
    verdicts: list[dict[str, Any]]
    judged: str
    notes: list[Note]
    changed: dict[str, Any]
    others: dict[str, Any]
    defaults: dict[str, Any] | None
    network: Path | None
    network_words: str
    frames: list[Frame] = field(default_factory=list)
    likeness: Likeness | None = None
    nearest: Nearest | None = None
    samples: Samples | None = None
    described: Described | None = None
    problems: list[str] = field(default_factory=list)

    @property
    def hours(self) -> float:
        return hours_at(self.history, self.history.kimg)

    @property
    def small_images(self) -> bool:
        return int(self.history.settings.get("resolution") or 0) <= 64

    def new_notes(self) -> list[Note]:
        """Those that repeat no verdict."""
        judged = {str(verdict.get("rule")) for verdict in self.verdicts}
        return [note for note in self.notes if note.rule not in judged]

    def last_metric_line(self) -> Mapping[str, Any]:
        """The newest line of a metric file: versions, digest of the data and the like stand in it."""
        lines = [point.raw for curve in self.curves.values() for point in curve.points]
        return max(lines, key=lambda line: max(-math.inf, number(line.get("timestamp"))), default={})


def view_run(history: RunHistory, wanted: Wanted) -> RunView:
    """Reads pictures, makes samples and describes the data as far as they are wanted and there."""
    problems = list(history.problems)
    found = curves(history)
    best = primary(history, found)
    network, network_words = network_of(history, best)
    defaults = default_settings(history.settings, history.options, history.kind)
    changed, others = split_changed(history.settings, defaults)
    verdicts, judged = verdicts_of(history)
    samples = None
    if wanted.pictures and wanted.samples:
        if network is None:
            problems.append("No images were made anew, because there is no network-snapshot-*.pkl in the run folder.")
        else:
            samples = make_samples(network, wanted.device, problems)
    sets = last_sets(history, problems) if wanted.pictures else None
    return RunView(
        history=history, curves=found, best=best, verdicts=verdicts, judged=judged, notes=notes(history, found),
        changed=changed, others=others, defaults=defaults, network=network, network_words=network_words,
        frames=frames(history, wanted.frames, problems) if wanted.pictures else [],
        likeness=likeness(sets) if sets else None,
        nearest=nearest_of(sets, history, problems) if sets else None,
        samples=samples,
        described=difficulty_of(history, problems) if wanted.difficulty else None,
        problems=problems)


def verdicts_of(history: RunHistory) -> tuple[list[dict[str, Any]], str]:
    """The run's own last verdicts, else those of the same rules on its statistics; and which of both it is."""
    if history.verdicts:
        return history.verdicts, "as the run judged itself at its last tick"
    if not history.ticks:
        return [], ""
    series = {name: [(point.kimg, point.value) for point in points] for name, points in history.metrics.items()}
    named = {"best_metric": history.options.get("best_metric")}
    facts = Facts.of(as_own_options(history.settings) | named)
    verdicts = [asdict(verdict) for verdict in judge(history.ticks, series, facts)]
    return verdicts, "judged from the statistics of the run"


def likeness(sets: Sets) -> Likeness:
    return Likeness(
        sets.kimg, len(sets.real), grid_picture(sets.real_grid, "Real images"),
        average_picture(sets.real, "Mean and deviation of real images"),
        average_picture(sets.fake, "Mean and deviation of generated images"),
        spectrum_points(radial_spectrum(_batches(sets.real)), sets.real.shape[-1]),
        spectrum_points(radial_spectrum(_batches(sets.fake)), sets.fake.shape[-1]), _variety(sets))


def spectrum_points(powers: Sequence[float], resolution: int) -> Points:
    """(cycles per pixel, power) of the powers at 1, 2, ... cycles per image width; those of zero left out."""
    return [(cycles / resolution, power) for cycles, power in enumerate(powers, start=1) if power and power > 0]


def _batches(images: np.ndarray) -> Iterator[np.ndarray]:
    return (images[i:i + _BATCH] for i in range(0, len(images), _BATCH))


def _variety(sets: Sets) -> list[tuple[str, float, float]]:
    """Both sets are equally large, or the Vendi score would not compare."""
    measures: dict[str, Callable[[np.ndarray], float]] = {
        "MS-SSIM of random pairs (1: all alike)": lambda images: mean_pair_ms_ssim(_batches(images))[0],
        "Different images by the Vendi score":
            lambda images: vendi_score(embed(reduced_pixels(_batches(images), torch.device("cpu")))),
        "Mean of pixels (0 to 255)":              lambda images: float(images[:, :3].mean()),
        "Standard deviation of pixels":           lambda images: float(images[:, :3].std()),
    }  # fmt: skip
    return [(label, measure(sets.real), measure(sets.fake)) for label, measure in measures.items()]
