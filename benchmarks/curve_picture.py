"""The picture of benchmarks.curves: a panel for each statistic, a line for each run."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from stylegan2_pipeline.report.charts import Axis, short, ticks

PANEL = (560, 330)
LEFT, RIGHT, TOP, BOTTOM = 64, 18, 48, 34
PAPER, INK, SOFT, LINE = "#ffffff", "#1d2329", "#59636e", "#e3e7eb"
COLOURS = ("#0072b2", "#d55e00")  # the first way, the second
Ways = dict[str, list[np.ndarray]]  # way -> curves [steps] of its runs


def draw(path: Path, panels: dict[str, Ways], smooth: int) -> None:
    """Two panels a row; curves begin at step `smooth`."""
    rows = (len(panels) + 1) // 2
    picture = Image.new("RGB", (2 * PANEL[0], rows * PANEL[1] + 46), PAPER)
    for number, (title, ways) in enumerate(panels.items()):
        picture.paste(panel(title, ways, smooth), (number % 2 * PANEL[0], number // 2 * PANEL[1] + 46))
    legend(ImageDraw.Draw(picture), next(iter(panels.values())), smooth)
    picture.save(path)


def panel(title: str, ways: Ways, smooth: int) -> Image.Image:
    picture = Image.new("RGB", PANEL, PAPER)
    pen = ImageDraw.Draw(picture)
    everything = np.concatenate([curve for runs in ways.values() for curve in runs])
    low, high = float(everything.min()), float(everything.max())
    room = (high - low) * 0.06 or 1.0
    steps = len(next(iter(ways.values()))[0])
    x_axis = Axis(0.0, float(steps + smooth), LEFT, PANEL[0] - RIGHT)
    y_axis = Axis(low - room, high + room, PANEL[1] - BOTTOM, TOP)
    pen.text((LEFT, 16), title, fill=INK, font=ImageFont.load_default(18))
    for value in ticks(y_axis):
        y = y_axis(value)
        pen.line((x_axis.start, y, x_axis.end, y), fill=LINE)
        pen.text((LEFT - 8, y), short(value), fill=SOFT, font=ImageFont.load_default(14), anchor="rm")
    for value in ticks(x_axis):
        pen.text((x_axis(value), PANEL[1] - BOTTOM + 8), short(value), fill=SOFT, font=ImageFont.load_default(14),
                 anchor="mt")
    for colour, runs in zip(COLOURS, ways.values(), strict=False):
        for curve in runs:
            places = [(x_axis(smooth + step), y_axis(float(value))) for step, value in enumerate(curve)]
            pen.line(places, fill=colour, width=2, joint="curve")
    return picture


def legend(pen: ImageDraw.ImageDraw, ways: Ways, smooth: int) -> None:
    x, font = float(LEFT), ImageFont.load_default(16)
    for colour, (way, runs) in zip(COLOURS, ways.items(), strict=False):
        pen.rectangle((x, 18, x + 22, 30), fill=colour)
        words = f"{way}, {len(runs)} seeds"
        pen.text((x + 30, 24), words, fill=INK, font=font, anchor="lm")
        x += 60 + pen.textlength(words, font)
    pen.text((x, 24), f"by step; means over {smooth} steps", fill=SOFT, font=font, anchor="lm")
