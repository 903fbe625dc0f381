"""The picture of a run in a terminal: what is shown, and how it is laid out in few or many columns."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from rich.box import ROUNDED
from rich.console import Group
from rich.panel import Panel
from rich.text import Text

from torch_utils.text import format_time

WIDEST = 100  # columns; beyond, the eye loses the line
_LABEL = 10
_BETWEEN = "   "
_LEVELS = {"bad": "bold red", "watch": "yellow", "good": "green"}  # of verdicts, worst first
_LOSSES = {"G": "Loss/G/loss", "D": "Loss/D/loss", "R1": "Loss/r1_penalty", "path length": "Loss/pl_length"}
_AUGMENT = {"r_t": "Loss/signs/real", "p": "Progress/augment"}
_GRADIENTS = {name: f"Gradients/{name}/norm" for name in ("Gmain", "Greg", "Dmain", "Dreg")}


class Progress(NamedTuple):
    """How far the run and its tick are, in images."""

    cur_nimg: int
    total_nimg: int
    tick_nimg_done: int
    tick_nimg_total: int
    img_per_sec: float | None
    left_sec: float | None


@dataclass
class Shown:
    """All that the panel shows: the last of everything."""

    name: str
    progress: Progress | None = None
    values: dict[str, float] = field(default_factory=dict)  # of ticks: name -> mean
    metrics: dict[str, str] = field(default_factory=dict)  # name -> "swd 12.3 at 40.0 kimg"
    best: str = ""
    verdicts: Sequence[Mapping[str, Any]] = ()
    machine: Sequence[str] = ()
    idle_sec: float = 0.0  # since the last step
    notice: str = ""
    work: tuple[str, int, int] | None = None  # between steps: what is done, how much of it, of how much


def panel(shown: Shown, columns: int, unicode: bool = True) -> Panel:
    """`shown` in at most `columns` columns; unicode: the terminal has the characters of bars."""
    width = min(columns, WIDEST)
    inner = width - 4
    title = shown.name if len(shown.name) <= inner - 4 else shown.name[:inner - 7] + "..."
    idle = f"no step for {format_time(shown.idle_sec, 2)}" if shown.idle_sec >= 30 else None
    return Panel(Group(*_lines(shown, inner - _LABEL, unicode)), box=ROUNDED, title=Text(title, "bold"),
                 title_align="left", subtitle=idle, subtitle_align="right", width=width)


def _lines(shown: Shown, width: int, unicode: bool) -> list[Text]:
    lines = [Text(shown.notice, "bold yellow")] * bool(shown.notice)
    if shown.progress is not None:
        lines += _progress(shown.progress, width, unicode)
    if shown.work is not None:
        what, done, total = shown.work
        bar = _bar(done / max(total, 1), max(min(width - len(what) - 1, 40), 4), unicode)
        lines += _row("meanwhile", [bar, Text(what)], width, between=" ")
    numbers = {"losses": _LOSSES, "augment": _AUGMENT, "gradients": _GRADIENTS}
    for label, names in numbers.items():
        lines += _row(label, [_number(word, shown.values[name]) for word, name in names.items()
                              if name in shown.values], width)
    metrics = [f"{text}, the best" if text == shown.best else text for text in shown.metrics.values()]
    metrics += [f"best {shown.best}"] * (shown.best not in ("", *shown.metrics.values()))
    lines += _row("metric", [Text(text) for text in metrics], width)
    lines += _row("machine", [Text(text) for text in shown.machine], width)
    return lines + _health(shown.verdicts, width)


def _progress(at: Progress, width: int, unicode: bool) -> list[Text]:
    speed = at.img_per_sec
    tick_left = (at.tick_nimg_total - at.tick_nimg_done) / speed if speed else None
    run = f"{at.cur_nimg / 1000:.1f} of {at.total_nimg / 1000:g} kimg, {_left(at.left_sec)} left"
    tick = f"{at.tick_nimg_done} of {at.tick_nimg_total} images, {_left(tick_left)} left"
    texts = [run, tick]
    length = max(min(width - max(map(len, texts)) - 1, 40), 4)
    shares = [(at.cur_nimg, at.total_nimg), (at.tick_nimg_done, at.tick_nimg_total)]
    lines = []
    for label, text, (done, total) in zip(["run", "this tick"], texts, shares, strict=True):
        lines += _row(label, [_bar(done / max(total, 1), length, unicode), Text(text)], width, between=" ")
    if speed:
        lines += _row("speed", [Text(f"{speed:.4g} images/s"), Text(f"{1000 / speed:.4g} sec/kimg")], width)
    return lines


def _left(sec: float | None) -> str:
    return "?" if sec is None or not math.isfinite(sec) else format_time(max(sec, 0), 2)


def _bar(share: float, length: int, unicode: bool) -> Text:
    filled = round(min(max(share, 0), 1) * length)
    full, rest = "━─" if unicode else "#-"
    return Text.assemble((full * filled, "cyan"), (rest * (length - filled), "bright_black"))


def _number(word: str, value: float) -> Text:
    return Text.assemble((word, "bright_black"), f" {value:.4g}", style="" if math.isfinite(value) else "bold red")


def _row(label: str, parts: Sequence[Text], width: int, between: str = _BETWEEN) -> list[Text]:
    """The parts after the label, in as many lines as they need."""
    lines: list[Text] = []
    for part in parts:
        if lines and len(lines[-1]) + len(between) + len(part) <= width:
            lines[-1].append(between).append_text(part)
        else:
            lines.append(part.copy())
    return [Text.assemble((f"{'' if i else label:<{_LABEL}}", "bright_black"), line) for i, line in enumerate(lines)]


def _health(verdicts: Sequence[Mapping[str, Any]], width: int) -> list[Text]:
    """The worst verdict, and what to change by it."""
    for level, style in _LEVELS.items():
        for verdict in verdicts:
            if verdict["level"] == level:
                advice = "" if level == "good" else verdict["advice"]
                sentences = f"{level}: {verdict['sentence']} {advice}"
                return _row("health", [Text(line, style) for line in textwrap.wrap(sentences, width)], width)
    return []
