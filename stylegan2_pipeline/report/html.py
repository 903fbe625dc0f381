"""Pieces of a report's page. Every text goes through `text`, so that names and logs stay text."""

import base64
import hashlib
import html
import math
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from typing import Any

from stylegan2_pipeline.report.charts import short
from stylegan2_pipeline.report.pictures import Frame, Picture

SHOWN = (1024, 640)  # pixels to which small pictures are enlarged on the page, by whole numbers
SIGNS = {"good": "✓ good", "watch": "! watch", "bad": "✗ bad"}


def text(value: object) -> str:
    """Any value as it may stand in HTML, also within an attribute."""
    return html.escape(readable(value), quote=True)


def readable(value: object) -> str:
    """A setting or a figure in words."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return short(value)
    if isinstance(value, list | tuple):
        return ", ".join(readable(item) for item in value) or "none"
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {readable(item)}" for key, item in value.items()) or "none"
    return str(value)


def asset(name: str) -> str:
    return (resources.files("stylegan2_pipeline.report") / "assets" / name).read_text(encoding="utf-8")


def page(title: str, sections: Sequence[tuple[str, str, str]], head: str) -> str:
    """The whole page. sections: (id, heading, HTML), those without HTML left out; head: HTML above them.

    Its policy allows this page's own script and pictures and nothing else: whatever got into it, no browser loads or
    runs anything foreign.
    """
    shown = [section for section in sections if section[2]]
    script = asset("report.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    links = "".join(f'<a href="#{key}">{text(heading)}</a>' for key, heading, _ in shown)
    body = "".join(f'<section id="{key}"><h2>{text(heading)}</h2>{content}</section>'
                   for key, heading, content in shown)
    return (f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
            f'<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="referrer" '
            f'content="no-referrer"><link rel="icon" href="data:,"><title>{text(title)}</title>'
            f'<style>{asset("report.css")}</style></head><body>{head}<nav aria-label="Sections">{links}</nav>'
            f'<main>{body}</main><script>{script}</script></body></html>\n')


def tiles(items: Iterable[tuple[str, str, str]]) -> str:
    """(name, value, more) in boxes."""
    boxes = "".join(f"<div><dt>{text(name)}</dt><dd>{text(value)}{f'<small>{text(more)}</small>' if more else ''}</dd>"
                    f"</div>" for name, value, more in items)
    return f'<dl class="tiles">{boxes}</dl>' if boxes else ""


def verdict_list(verdicts: Iterable[Mapping[str, Any]]) -> str:
    """Verdicts, the worst first, each with its advice and the number behind it."""
    order = {"bad": 0, "watch": 1, "good": 2}
    items = []
    for verdict in sorted(verdicts, key=lambda v: order.get(str(v.get("level")), 1)):
        level = str(verdict.get("level"))
        level = level if level in SIGNS else "watch"
        advice = readable(verdict.get("advice") or "")
        advice = f"<p>{'Change one flag: ' if advice.startswith('--') else ''}{text(advice)}</p>" if advice else ""
        behind = ": ".join(readable(verdict[key]) for key in ("rule", "evidence") if verdict.get(key))
        items.append(f'<li class="{level}"><p><span class="level">{SIGNS[level]}</span>'
                     f'{text(verdict.get("sentence", ""))}</p>{advice}<p class="rule soft">{text(behind)}</p></li>')
    return f'<ul class="verdicts">{"".join(items)}</ul>' if items else ""


def table(header: Sequence[str], rows: Iterable[Sequence[object]], *, caption: str = "", numbers: bool = True,
          best: int | None = None, kind: str = "") -> str:
    """A table that scrolls on its own; columns after the first are numbers unless told; row `best` is marked."""
    rows = list(rows)
    if not rows:
        return ""
    style = ' class="number"' if numbers else ""
    head = "".join(f'<th scope="col"{style if i else ""}>{text(name)}</th>' for i, name in enumerate(header))
    lines = []
    for number, row in enumerate(rows):
        cells = "".join(f"<td{style if i else ''}>{text(value)}</td>" for i, value in enumerate(row))
        marked = ' class="best"' if number == best else ""
        lines.append(f"<tr{marked}>{cells}</tr>")
    title = f"<caption>{text(caption)}</caption>" if caption else ""
    return (f'<div class="scroll"><table class="{kind}">{title}<thead><tr>{head}</tr></thead><tbody>{"".join(lines)}'
            f'</tbody></table></div>')


def picture(image: Picture | None, caption: str = "", *, pixels: bool = False) -> str:
    """A figure, enlarged where it is small; pixels: with square pixels, as small images are."""
    if image is None:
        return ""
    notes = f" <small>({text(image.note)})</small>" if image.note else ""
    below = f"<figcaption>{text(caption)}{notes}</figcaption>" if caption or notes else ""
    times = max(min(SHOWN[0] // image.width, SHOWN[1] // image.height), 1)
    return (f'<figure><img src="{image.uri}" width="{times * image.width}" height="{times * image.height}" '
            f'alt="{text(image.alt)}"{" class=pixels" if pixels else ""}>{below}</figure>')


def strip(found: Sequence[Frame], pixels: bool) -> str:
    """Columns of the same latents, one a time."""
    if not found:
        return ""
    return f'<div class="strip">{"".join(picture(f.column, _when(f.kimg), pixels=pixels) for f in found)}</div>'


def slides(found: Sequence[Frame], pixels: bool) -> str:
    """The grids, one at a time by a slider; all of them below each other where scripts do not run."""
    if not found:
        return ""
    figures = [picture(f.grid, f"{_when(f.kimg)}", pixels=pixels).replace(
        "<figure>", f'<figure data-when="{text(_when(f.kimg))}">', 1) for f in found]
    last = len(found) - 1
    control = (f'<div class="control"><button type="button">Play</button><input type="range" min="0" max="{last}" '
               f'value="{last}" step="1" aria-label="Time"><output></output></div>') if last else ""
    return f'<div class="{"slides" if last else "wide"}">{control}{"".join(figures)}</div>'


def _when(kimg: float) -> str:
    return f"{short(kimg)} kimg"


def command(*lines: str) -> str:
    return f'<pre class="command">{text(chr(10).join(lines))}</pre>' if lines else ""
