"""The page of one run, and the parts of it that a comparison shows as well."""

import math
import shlex
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict

from metrics.names import counted
from stylegan2_pipeline.history import RunHistory
from stylegan2_pipeline.report.charts import Chart, Line, figure, short
from stylegan2_pipeline.report.curves import metric_chart, training_charts
from stylegan2_pipeline.report.difficulty import rows as difficulty_rows
from stylegan2_pipeline.report.html import (
    command,
    page,
    picture,
    readable,
    slides,
    strip,
    table,
    text,
    tiles,
    verdict_list,
)
from stylegan2_pipeline.report.numbers import Curve
from stylegan2_pipeline.report.pictures import STRIP_COLUMNS, spread
from stylegan2_pipeline.report.run import Likeness, RunView
from stylegan2_pipeline.report.samples import Samples
from stylegan2_pipeline.run_settings import LABELS
from torch_utils.text import format_time

KINDS = {"ours": "a run of this project", "stylegan2-ada": "a run of the public stylegan2-ada-pytorch code",
         "stylegan3": "a run of the public stylegan3 code"}
LOG_LINES = 60
NOT_FID = ("swd, rfd, pfd32 and prdc32 need no network weights and are no FID: they compare with nothing published.")


def single_page(view: RunView, made: str) -> str:
    """The whole page of one run. made: when, in words."""
    history = view.history
    head = (f"<h1>{text(history.name)}</h1><p class='soft'>{text(KINDS[history.kind])} in "
            f"{text(history.path)}; report made {text(made)}</p>{summary_tiles(view)}{judgement(view)}")
    return page(f"{history.name} - training report", [
        ("settings", "Settings",              settings_section(view)),
        ("curves",   "Curves",                curves_section(history)),
        ("metrics",  "Metrics",               metrics_section(view)),
        ("time",     "Through time",          time_section(view)),
        ("likeness", "Beside real images",    likeness_section(view)),
        ("nearest",  "Nearest to the data",   nearest_section(view)),
        ("samples",  "From the best network", samples_section(view.samples, view)),
        ("data",     "The data",              data_section(view)),
        ("log",      "End of the log",        log_section(history)),
        ("next",     "How to go on",          next_section(view)),
        ("caveats",  "What to keep in mind",  caveats(caveats_of(view))),
    ], head)  # fmt: skip


def summary_tiles(view: RunView) -> str:
    history, settings = view.history, view.history.settings
    total = settings.get("total_kimg")
    items = [("Trained", f"{short(history.kimg)} kimg",
              f"of {short(total)}, {'finished' if history.finished else 'not finished'}" if total else "")]
    if math.isfinite(view.hours):
        items.append(("Time", format_time(view.hours * 3600, 2), str(settings.get("device_name", ""))))
    data = f"{settings.get('resolution', '?')}x{settings.get('resolution', '?')}"
    items.append(("Images", readable(settings.get("num_images")), data + (" mirrored" * bool(settings.get("mirror")))))
    for curve in (curve for curve in view.curves.values() if curve.judges):
        ratio = dict(curve.ratios).get(curve.best.kimg)
        items.append((f"Best {curve.metric if curve.metric in curve.keys else curve.keys[0]}", short(curve.best.value),
                      f"at {short(curve.best.kimg)} kimg" + (f", {short(ratio)} times its floor" if ratio else "")))
    for name, label in (("Progress/augment", "p at the end"), ("Loss/signs/real", "r_t at the end")):
        last = [value for _, value in history.series(name)[-5:]]  # the very last tick may be of one batch
        items += [(label, short(statistics.median(last)), "")] if last else []
    return tiles(items)


def judgement(view: RunView) -> str:
    """Verdicts and notes, and what could not be read."""
    told = verdict_list(view.verdicts)
    source = f'<p class="note">{text(view.judged[0].upper() + view.judged[1:])}.</p>' if view.verdicts else ""
    outcome = verdict_list(asdict(note) for note in view.new_notes())
    problems = "".join(f"<li>{text(problem)}</li>" for problem in view.problems)
    missing = f"<details><summary>Not in this report ({len(view.problems)})</summary><ul>{problems}</ul></details>"
    return told + source + outcome + (missing if problems else "")


def settings_section(view: RunView) -> str:
    if view.defaults is None:
        first = "<p>Which of these were changed from the defaults is not known for this run.</p>"
    elif view.changed:
        first = table(["Setting", "This run", "Preset"], [[LABELS[name], value, view.defaults.get(name)]
                                                          for name, value in view.changed.items()],
                      caption="Changed from the preset", numbers=False, kind="settings")
    else:
        first = "<p>All as the preset has them.</p>"
    rest = table(["Setting", "Value"], [[LABELS[name], value] for name, value in view.others.items()], numbers=False,
                 kind="settings")
    return f"{first}<details{'' if view.changed else ' open'}><summary>All other settings</summary>{rest}</details>"


def charts(found: Iterable[Chart]) -> str:
    drawn = "".join(figure(chart) for chart in found)
    return f'<div class="charts">{drawn}</div>' if drawn else ""


def curves_section(history: RunHistory) -> str:
    if not history.ticks:
        return "<p>There is no statistics of this run yet.</p>"
    return charts(training_charts(history))


def metrics_section(view: RunView) -> str:
    if not view.curves:
        return ""
    parts = [charts(metric_chart(curve) for curve in view.curves.values())]
    parts += [metric_table(curve) for curve in view.curves.values()]
    return "".join(parts) + f'<p class="note">{text(NOT_FID)}</p>'


def metric_table(curve: Curve) -> str:
    keys = curve.keys
    rows = [[float(point.kimg), *(point.results.get(key) for key in keys)] for point in curve.points]
    counts = curve.last.raw.get("counts") or {}
    about = [f"images: {counted(counts)}"] if counts and isinstance(counts, dict) else []
    if curve.left_out:
        about.append(f"not shown, made otherwise (numbers of images, truncation, data): {curve.left_out}")
    best = curve.points.index(curve.best) if curve.judges else None
    if curve.judges:
        about.insert(0, f"{'lower' if curve.lower else 'higher'} is better, the best line marked")
    caption = "; ".join(about)
    return (f"<details{' open' if len(rows) <= 12 else ''}><summary>{text(curve.metric)}</summary>"
            f"{table(['kimg', *keys], rows, caption=caption, best=best)}{last_words(curve)}</details>")


def last_words(curve: Curve) -> str:
    """Intervals of the last measurement, and what is to be kept in mind of it."""
    told = [f"{key} {short(low)} to {short(high)}" for key, (low, high) in curve.intervals(curve.last).items()]
    intervals = f'<p class="note">95 % intervals at the end: {text(", ".join(told))}.</p>' if told else ""
    notes = curve.last.raw.get("notes")
    return intervals + "".join(f'<p class="note">{text(note)}</p>' for note in (notes or []))


def time_section(view: RunView) -> str:
    if not view.frames:
        return ""
    sharp = view.small_images
    found = view.frames
    return (f"<h3>The same latents as the training went on</h3>{strip(spread(found, STRIP_COLUMNS), sharp)}"
            f"<h3>Grids</h3>{slides(found, sharp)}")


def likeness_section(view: RunView) -> str:
    near = view.likeness
    if near is None or not view.frames:
        return ""
    sharp = view.small_images
    beside = (f'<div class="pair">{picture(near.real_grid, "Real images", pixels=sharp)}'
              f'{picture(view.frames[-1].grid, f"Generated at {short(near.kimg)} kimg", pixels=sharp)}</div>')
    return beside + averages(near, sharp)


def nearest_section(view: RunView) -> str:
    """Overlap with the data, the most and least real images, and the nearest training images."""
    near, sharp = view.nearest, view.small_images
    if near is None:
        return ""
    figures = table(["", "Found", "Ideal"], near.figures,
                    caption="Of the images of the grids, by their correlation at 32 pixels: layout, not detail. Not "
                            "the figures of these names that others publish, which stand on a network's features")
    pictures = (f'<h3>Most like the data</h3><div class="wide">{picture(near.most_real, pixels=sharp)}</div>'
                f'<h3>Least like it</h3><div class="wide">{picture(near.least_real, pixels=sharp)}</div>')
    if near.pairs is not None:
        pictures += (f'<h3>Nearest training images, below generated ones</h3><div class="wide">'
                     f'{picture(near.pairs, pixels=sharp)}</div><p class="note">{text(near.words)}</p>')
    return figures + pictures


def averages(near: Likeness, sharp: bool) -> str:
    """Mean images, spectra and figures of variety of real and generated images."""
    pictures = (f'<div class="small">{picture(near.real_average, "Real: mean, and twice the deviation", pixels=sharp)}'
                f'{picture(near.fake_average, "Generated: mean, and twice the deviation", pixels=sharp)}</div>')
    spectrum = Chart("Spectrum of the images", [Line("real", near.real_spectrum, 0),
                                                Line("generated", near.fake_spectrum, 1, dashed=True)],
                     log=True, x_name="cycles per pixel", note="Generated images that are blurred fall below at the "
                     "right, noise and checker patterns rise above.")
    figures = table(["", "Real", "Generated"], near.figures,
                    caption=f"Of {near.count} images each, those of the grids")
    return f"<h3>On average</h3>{pictures}{figures}{charts([spectrum])}"


def samples_section(samples: Samples | None, view: RunView) -> str:
    if samples is None:
        return ""
    sharp = view.small_images
    sweep = "".join(picture(sheet, f"psi {psi:g}", pixels=sharp) for psi, sheet in samples.sweep)
    return (f"<p>Made from {text(samples.network.name)}, {text(view.network_words)}.</p>"
            f'<h3>Random, not picked (psi 1)</h3><div class="wide">{picture(samples.random, pixels=sharp)}</div>'
            f'<h3>Truncation: fewer oddities, less variety</h3><div class="wide">{sweep}</div>'
            f'<h3>A walk in w</h3><div class="wide">{picture(samples.walk, pixels=sharp)}</div>'
            f'<h3>The mean w</h3><div class="small"><div class="half">{picture(samples.mean, pixels=sharp)}</div>'
            f'</div>')


def data_section(view: RunView) -> str:
    described = view.described
    if described is None:
        return ""
    average = picture(described.average, "Mean, and twice the deviation", pixels=view.small_images)
    return (f"<p>{text(described.difficulty.words)}</p>{table(['', ''], difficulty_rows([described]))}"
            f'<div class="small">{average}</div>')


def log_section(history: RunHistory) -> str:
    lines = history.log_tail(LOG_LINES)
    return f'<pre class="log" tabindex="0">{text(chr(10).join(lines))}</pre>' if lines else ""


def next_section(view: RunView) -> str:
    """The commands that suit this run."""
    history = view.history
    run = shlex.quote(str(history.path))
    parts: list[tuple[str, str]] = []
    if any(history.path.glob("training-state-*.pt")):
        longer = f" --kimg={short(2 * float(history.settings.get('total_kimg') or 0))}" if history.finished else ""
        title = "Train longer" if longer else "Go on with the training"
        parts.append((title, f"python train.py --continue={run}{longer}"))
    if view.network is not None:
        network = shlex.quote(str(view.network))
        data = shlex.quote(str(history.settings.get("data", "DATA.zip")))
        parts += [
            (f"Images from {view.network_words}", f"python generate.py --network={network} --seeds=1-32 --trunc=0.7"),
            ("Its quality again", f"stylegan2 metrics --network={network} --data={data} --metrics=panel"),
            ("A new run that starts from it", f"python train.py --data={data} --resume={network}"),
        ]
    parts.append(("Beside another run", f"stylegan2 report {run} OTHER_RUN"))
    return "".join(f"<h3>{text(title)}</h3>{command(line)}" for title, line in parts)


def caveats(sentences: Sequence[str]) -> str:
    return f'<ul class="caveats">{"".join(f"<li>{text(sentence)}</li>" for sentence in sentences)}</ul>'


def caveats_of(view: RunView) -> list[str]:
    """What the figures of a run stand on."""
    line, settings = view.last_metric_line(), view.history.settings
    told = []
    if view.curves:
        told.append("A metric compares with itself only: the same data, number of images and settings. Small "
                    "differences between snapshots may be chance; the trend over several is not.")
        mirror = line.get("mirror", "off" if view.history.kind != "ours" else None)
        if settings.get("mirror") and mirror in (None, "off"):
            told.append("Trained on mirrored copies as well, measured against the data without them: a small penalty "
                        "where left and right differ.")
        if line.get("data_digest"):
            told.append(f"Data measured: {line['data_digest']}.")
        if isinstance(line.get("versions"), dict):
            told.append(f"Measured with {readable(line['versions'])}; seed {readable(line.get('seed'))}, psi "
                        f"{readable(line.get('truncation_psi'))}.")
    told += [f"Seed of the training: {readable(settings['seed'])}. Another seed ends elsewhere; one run says little of "
             f"small differences."] if "seed" in settings else []
    if view.frames or view.samples:
        told.append("Pictures were reduced and compressed for this page; judge fine detail by the files in the run "
                    "folder.")
    return told
