"""The page that compares two runs: what differs in set-up and data, curves on the same axes, outcomes, pictures."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from stylegan2_pipeline.report.charts import Chart, Line, short
from stylegan2_pipeline.report.curves import metric_line
from stylegan2_pipeline.report.difficulty import rows as difficulty_rows
from stylegan2_pipeline.report.html import page, picture, readable, strip, table, text, verdict_list
from stylegan2_pipeline.report.numbers import Curve, first_reached, hours_at, ladder
from stylegan2_pipeline.report.page import (
    averages,
    caveats,
    caveats_of,
    charts,
    judgement,
    nearest_section,
    summary_tiles,
)
from stylegan2_pipeline.report.pictures import STRIP_COLUMNS, spread
from stylegan2_pipeline.report.run import RunView, spectrum_points
from stylegan2_pipeline.run_settings import LABELS, SETTINGS, alike
from torch_utils.text import format_time

STATISTICS = {  # chart -> statistic drawn for both runs
    "Loss of the generator":                  "Loss/G/loss",
    "Loss of the discriminator":              "Loss/D/loss",
    "r_t, the sign of D's scores of reals":   "Loss/signs/real",
    "p, probability of augmentation":         "Progress/augment",
    "R1 penalty":                             "Loss/r1_penalty",
    "Path length penalty":                    "Loss/pl_penalty",
    "Gradient norm of the generator":         "Gradients/Gmain/norm",
    "Gradient norm of the discriminator":     "Gradients/Dmain/norm",
    "Variety: distances of images, data 1":   "Health/diversity",
    "Variety: directions, data 1":            "Health/variety",
    "Seconds a kimg":                         "Timing/sec_per_kimg",
}  # fmt: skip
Pair = tuple[RunView, RunView]


def compare_page(views: Pair, made: str) -> str:
    """The whole page of two runs."""
    names = [f"{letter}: {view.history.name}" for letter, view in zip("AB", views, strict=True)]
    heads = "".join(f'<div><h3><span class="key {letter}"></span>{text(name)}</h3>{summary_tiles(view)}'
                    f'{judgement(view)}</div>' for letter, name, view in zip("ab", names, views, strict=True))
    head = (f'<h1>Two training runs</h1><p class="soft">Report made {text(made)}. {text(ABSOLUTE)}</p>'
            f'<div class="runs">{heads}</div>')
    return page(f"{names[0]} and {names[1]}", [
        ("setup",    "What differs in the set-up",    setup_section(views)),
        ("data",     "How hard the data is",          data_section(views)),
        ("quality",  "Quality, against its own floor", quality_section(views)),
        ("reach",    "When a level was reached",      reach_section(views)),
        ("training", "How the training went",         training_section(views)),
        ("final",    "Final figures",                 final_section(views)),
        ("notes",    "What the outcome says",         notes_section(views)),
        ("time",     "The same latents through time", strips(views)),
        ("samples",  "From the best networks",        samples_section(views)),
        ("likeness", "Beside real images",            likeness_section(views)),
        ("nearest",  "Nearest to the data",           nearest_sections(views)),
        ("caveats",  "What to keep in mind",          caveats(compare_caveats(views))),
    ], head)  # fmt: skip


ABSOLUTE = ("Figures of run A and run B are not comparable in absolute terms where their data differs; ratios to the "
            "own floor and the shapes of curves are.")


def setup_diff(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """(setting, value of A, of B) where these differ; what both leave out, or only the folder tells, is not listed."""
    return [(name, a.get(name), b.get(name)) for name in SETTINGS if not alike(a.get(name), b.get(name))]


def setup_rows(views: Pair) -> list[tuple[str, Any, Any]]:
    a, b = (view.history for view in views)
    rows = [(LABELS[name], x, y) for name, x, y in setup_diff(a.settings, b.settings)]
    lines = [view.last_metric_line() for view in views]
    if a.kind != b.kind:
        rows.insert(0, ("Trained by", a.kind, b.kind))
    of_a, of_b = ({"Digest of the data": line.get("data_digest")} | _versions(line) for line in lines)
    return rows + [(name, of_a.get(name), of_b.get(name)) for name in of_a | of_b if of_a.get(name) != of_b.get(name)]


def _versions(line: Mapping[str, Any]) -> dict[str, Any]:
    versions = line.get("versions")
    return {f"Version of {name}": value for name, value in versions.items()} if isinstance(versions, dict) else {}


def setup_section(views: Pair) -> str:
    rows = setup_rows(views)
    if not rows:
        return "<p>No setting differs.</p>"
    return table(["Setting", "A", "B"], rows, numbers=False, kind="settings")


def data_section(views: Pair) -> str:
    described = [view.described for view in views]
    if not any(described):
        return ""
    words = "".join(f"<p><b>{letter}</b>: {text(found.difficulty.words)}</p>"
                    for letter, found in zip("AB", described, strict=True) if found)
    shown = "".join(picture(found.average, f"{letter}: mean, and twice the deviation", pixels=view.small_images)
                    for letter, found, view in zip("AB", described, views, strict=True) if found)
    lines = [Line(letter, spectrum_points(found.difficulty.spectrum, found.difficulty.resolution), slot, bool(slot))
             for slot, (letter, found) in enumerate(zip("AB", described, strict=True)) if found]
    spectrum = Chart("Spectrum of the data", lines, log=True, x_name="cycles per pixel")
    return (f"{words}{table(['Before any training', 'A', 'B'], difficulty_rows(described))}"
            f'<div class="small">{shown}</div>{charts([spectrum])}')


def shared_metrics(views: Pair) -> list[tuple[str, list[tuple[str, int, Curve]]]]:
    """Each metric of either run with (letter, colour, curve) of those that measured it."""
    names = dict.fromkeys([*views[0].curves, *views[1].curves])
    lettered = [("A", 0, views[0].curves), ("B", 1, views[1].curves)]
    return [(name, [(letter, slot, found[name]) for letter, slot, found in lettered if name in found])
            for name in names]


def quality_section(views: Pair) -> str:
    found = []
    for name, curves in shared_metrics(views):
        with_floor = all(curve.ratios for _, _, curve in curves)
        lines = [metric_line(curve, letter, slot, bool(slot)) for letter, slot, curve in curves]
        note = " ".join(f"{letter}: {curve.trend.sentence}" for letter, _, curve in curves)
        if with_floor:
            found.append(Chart(f"{name}, ratio to own floor", lines, levels=[(1.0, "own floor")], note=note))
        else:
            found += [Chart(f"{name} of {letter} (no floor measured)", [line], note=f"{curve.trend.sentence}")
                      for line, (letter, _, curve) in zip(lines, curves, strict=True)]
    return charts(found)


def reach_rows(curves: Sequence[tuple[str, int, Curve]], views: Pair) -> list[list[object]]:
    """Level, then kimg and hours of A, kimg and hours of B."""
    by_letter = {letter: (curve, view) for (letter, _, curve) in curves
                 for view in [views["AB".index(letter)]] if curve.ratios}
    rows: list[list[object]] = []
    for level in ladder([curve for curve, _ in by_letter.values()]):
        row: list[object] = [f"{level:g} times its floor"]
        for letter in "AB":
            curve_view = by_letter.get(letter)
            kimg = first_reached(curve_view[0], level) if curve_view else None
            hours = hours_at(curve_view[1].history, kimg) if curve_view and kimg is not None else math.nan
            row += [kimg, None if math.isnan(hours) else hours]
        rows.append(row)
    return rows


def _reached(kimg: Any, hours: Any, measured: bool) -> tuple[str, str]:
    if kimg is None:
        return ("not yet" if measured else "not measured"), "-"
    return short(kimg), "-" if hours is None else format_time(3600 * hours, 2)


def reach_section(views: Pair) -> str:
    parts = []
    for name, curves in shared_metrics(views):
        measured = {letter for letter, _, curve in curves if curve.ratios}
        rows = [[level, *_reached(a_kimg, a_hours, "A" in measured), *_reached(b_kimg, b_hours, "B" in measured)]
                for level, a_kimg, a_hours, b_kimg, b_hours in reach_rows(curves, views)]
        parts.append(table([f"{name} at or below", "A: kimg", "A: time", "B: kimg", "B: time"], rows,
                           caption="By the first snapshot measured there"))
    return "".join(parts)


def training_section(views: Pair) -> str:
    histories = [view.history for view in views]
    return charts(Chart(title, [Line(letter, history.series(name), slot, bool(slot))
                                for slot, (letter, history) in enumerate(zip("AB", histories, strict=True))],
                        log=False if name in ("Loss/signs/real", "Progress/augment") else None)
                  for title, name in STATISTICS.items())


def measured_at(view: RunView, kimg: float) -> dict[str, float]:
    """The figures of all metrics at a snapshot."""
    return {key: value for curve in view.curves.values() for key in curve.keys
            for at, value in curve.series(key) if at == kimg}


def intervals_at(view: RunView, kimg: float) -> dict[str, tuple[float, float]]:
    """Those of the same figures that have one."""
    return {key: pair for curve in view.curves.values() for point in curve.points if point.kimg == kimg
            for key, pair in curve.intervals(point).items()}


def final_rows(views: Pair) -> list[list[object]]:
    """Figure, then best and last of A, best and last of B."""
    columns: list[dict[str, float]] = []
    for view in views:
        columns += [{}, {}] if view.best is None else [
            {"kimg": view.best.best.kimg} | measured_at(view, view.best.best.kimg),
            {"kimg": view.best.last.kimg} | measured_at(view, view.best.last.kimg)]
    for letter, view in enumerate(views):
        if view.likeness is not None:
            for label, real, fake in view.likeness.figures[:2]:
                columns[2 * letter + 1] |= {f"{label}: generated": fake, f"{label}: real": real}
        if view.nearest is not None:
            columns[2 * letter + 1] |= {f"{label} (32 pixels)": value for label, value, _ in view.nearest.figures}
    keys = dict.fromkeys(key for column in columns for key in column)
    return [[key, *(column.get(key) for column in columns)] for key in keys]


def _between(value: object, interval: tuple[float, float] | None) -> object:
    """A figure with its 95 % interval, where it has one."""
    return f"{short(float(str(value)))} ({short(interval[0])} to {short(interval[1])})" if interval else value


def final_section(views: Pair) -> str:
    rows = final_rows(views)
    moments = [point.kimg for view in views if view.best for point in (view.best.best, view.best.last)]
    if len(moments) == 4:
        owners = (views[0], views[0], views[1], views[1])
        intervals = [intervals_at(view, kimg) for view, kimg in zip(owners, moments, strict=True)]
        rows = [[row[0], *(_between(value, found.get(str(row[0]))) for value, found in
                           zip(row[1:], intervals, strict=True))] for row in rows]
    by = [view.best.metric if view.best else "-" for view in views]
    caption = (f"Best snapshot of A by {by[0]}, of B by {by[1]}; variety by the last grid, at equal numbers of real "
               f"and generated images; in brackets 95 % intervals, of chance in the images, not in the training. All "
               f"at psi 1.")
    return table(["", "A best", "A last", "B best", "B last"], rows, caption=caption) if rows else ""


def notes_section(views: Pair) -> str:
    """The rules on final figures, also those that agree with a verdict above."""
    parts = []
    for letter, view in zip("AB", views, strict=True):
        told = verdict_list(asdict(note) for note in view.notes) or "<p>No rule on final figures speaks.</p>"
        parts.append(f'<div><h3><span class="key {letter.lower()}"></span>{letter}</h3>{told}</div>')
    return f'<div class="runs">{"".join(parts)}</div>'


def strips(views: Pair) -> str:
    return "".join(f'<h3><span class="key {letter.lower()}"></span>{letter}</h3>'
                   f'{strip(spread(view.frames, STRIP_COLUMNS), view.small_images)}'
                   for letter, view in zip("AB", views, strict=True) if view.frames)


def samples_section(views: Pair) -> str:
    made = [(letter, view, view.samples) for letter, view in zip("AB", views, strict=True) if view.samples]
    if not made:
        return ""
    parts = ["".join(f"<p><b>{letter}</b>: {text(samples.network.name)}, {text(view.network_words)}.</p>"
                     for letter, view, samples in made)]

    def row(heading: str, cells: list[str]) -> str:
        return f'<h3>{text(heading)}</h3><div class="pair">{"".join(cells)}</div>'

    parts.append(row("Random, not picked (psi 1)", [picture(samples.random, letter, pixels=view.small_images)
                                                    for letter, view, samples in made]))
    for i, (psi, _) in enumerate(made[0][2].sweep):
        parts.append(row(f"Truncation psi {psi:g}", [picture(samples.sweep[i][1], letter, pixels=view.small_images)
                                                     for letter, view, samples in made]))
    parts.append(row("A walk in w", [picture(samples.walk, letter, pixels=view.small_images)
                                     for letter, view, samples in made]))
    means = "".join(f'<div class="half">{picture(samples.mean, letter, pixels=view.small_images)}</div>'
                    for letter, view, samples in made)
    return "".join(parts) + f'<h3>The mean w</h3><div class="small">{means}</div>'


def likeness_section(views: Pair) -> str:
    parts = []
    for letter, view in zip("AB", views, strict=True):
        near, sharp = view.likeness, view.small_images
        if near is not None and view.frames:
            grids = (picture(near.real_grid, "Real images", pixels=sharp)
                     + picture(view.frames[-1].grid, f"Generated at {short(near.kimg)} kimg", pixels=sharp))
            parts.append(f'<div><h3><span class="key {letter.lower()}"></span>{letter}</h3>'
                         f'<div class="wide">{grids}</div>{averages(near, sharp)}</div>')
    return f'<div class="runs">{"".join(parts)}</div>' if parts else ""


def nearest_sections(views: Pair) -> str:
    parts = [f'<div><h3><span class="key {letter.lower()}"></span>{letter}</h3>{nearest_section(view)}</div>'
             for letter, view in zip("AB", views, strict=True) if view.nearest]
    return f'<div class="runs">{"".join(parts)}</div>' if parts else ""


def compare_caveats(views: Pair) -> list[str]:
    told = [ABSOLUTE]
    told += [f"Seeds: A {readable(views[0].history.settings.get('seed'))}, B "
             f"{readable(views[1].history.settings.get('seed'))}. One run each says little of small differences."]
    of_a, of_b = ([sentence for sentence in caveats_of(view) if not sentence.startswith("Seed of")] for view in views)
    told += [sentence if sentence in of_b else f"A: {sentence}" for sentence in of_a]
    return told + [f"B: {sentence}" for sentence in of_b if sentence not in of_a]
