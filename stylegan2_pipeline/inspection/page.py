"""An inspection as one page that loads nothing."""

import dataclasses
from collections.abc import Sequence

from stylegan2_pipeline.conversion.words import sizes_text
from stylegan2_pipeline.inspection.advice import Advice
from stylegan2_pipeline.inspection.facts import Classes, Facts
from stylegan2_pipeline.inspection.remarks import Remark, caveats, mirror_words
from stylegan2_pipeline.inspection.sheets import Cell, Sheets
from stylegan2_pipeline.inspection.words import (
    by_reason,
    classes_words,
    copies_words,
    foreground_words,
    groups_words,
    window_words,
)
from stylegan2_pipeline.report import page as reports
from stylegan2_pipeline.report.html import command, page, picture, table, text, tiles, verdict_list
from stylegan2_pipeline.sources.labels import printable

LISTED = 500       # names in a list of the page; the JSON report has all
OPEN = 20          # a list up to this length is unfolded
SIZES = 12
PIXELS = 64        # images up to this size are enlarged with square pixels


def inspection_page(facts: Facts, advice: Advice | None, found: Sequence[Remark], shown: Sheets, made: str,
                    done: Sequence[str] = ()) -> str:
    """made: when, in words; done: what a conversion did, in place of advice."""
    title = printable(facts.path).rstrip("/").rpartition("/")[2] or printable(facts.path)
    head = (f"<h1>{text(title)}</h1><p class='soft'>{text(printable(facts.path))}, read as {text(facts.kind)}; report "
            f"made {text(made)}</p>{tiles(overview(facts))}"
            f"{verdict_list(dataclasses.asdict(remark) for remark in found)}")
    of = "Images of the archive" if done else "Images"
    return page(f"{title} - {'conversion' if done else 'inspection'}", [
        ("done",    "What was done",           _sentences(done)),
        ("next",    "What to do",              next_section(facts, advice)),
        ("contact", of,                        _evenly(facts, shown)),
        ("average", "On average",              average_section(facts, shown)),
        ("files",   "What the files hold",     files_section(facts)),
        ("traits",  "What was noticed",        traits_section(facts)),
        ("broken",  "Cannot be read",          _reasons(facts.broken)),
        ("left",    "Left out by the reader",  _reasons(facts.left_out)),
        ("same",    "Copies",                  same_section(facts, shown)),
        ("text",    "Suspected text",          _cells(shown.text)),
        ("odd",     "Unlike the others",       odd_section(shown)),
        ("classes", "Classes",                 classes_section(facts, shown)),
        ("groups",  "Patients and volumes",    groups_section(facts)),
        ("caveats", "What to keep in mind",    reports.caveats([*([] if done else facts.notes), *caveats(facts)])),
    ], head)  # fmt: skip


def overview(facts: Facts) -> list[tuple[str, str, str]]:
    """(name, value, more) of the boxes at the top."""
    boxes = [("Images", str(len(facts.good)), f"{len(facts.broken)} more cannot be read" if facts.broken else "")]
    if facts.good:
        (width, height), most = facts.sizes.most_common(1)[0]
        others = f"{most} of them; {len(facts.sizes) - 1} other sizes" if len(facts.sizes) > 1 else "all of them"
        kinds = facts.kinds.most_common()
        boxes += [("Size", f"{width}x{height}", others),
                  ("Kind", kinds[0][0], ", ".join(f"{kind} {count}" for kind, count in kinds) if kinds[1:] else "all"),
                  ("Copies", str(len(facts.same.exact)), f"exact; {facts.same.nearly} more nearly so")]
    classes = facts.classes or facts.folders
    if classes:
        name = "Classes" if facts.classes else "Folders"
        boxes.append((name, str(classes.vectors or len(classes.counts)), "numbers a label" if classes.vectors else ""))
    for name, groups in (("Patients", facts.subjects), ("Volumes", facts.volumes)):
        if groups.sizes:
            boxes.append((name, str(len(groups.sizes)), f"{groups.unknown} images of none" if groups.unknown else ""))
    return boxes


def next_section(facts: Facts, advice: Advice | None) -> str:
    if advice is None:
        return ""
    why = table(["Option", "Why"], [(choice.option, choice.why) for choice in advice.choices], numbers=False,
                kind="options")
    return f"{command(advice.command)}{why}<h3>Left and right</h3><p>{text(mirror_words(facts))}</p>"


def average_section(facts: Facts, shown: Sheets) -> str:
    if not shown.average:
        return ""
    both = "".join(picture(cell.picture, cell.words) for cell in shown.average)
    alike = (f"<h3>Kinds of pictures</h3><p class='note'>The means of images that look alike at 16 pixels: turned, "
             f"mirrored or otherwise made ones show as kinds of their own.</p>{_cells(shown.kinds)}"
             if shown.kinds else "")
    classes = f"<h3>Mean of each class</h3>{_cells(shown.classes)}" if shown.classes else ""
    return f'<div class="small">{both}</div>{alike}{classes}'


def files_section(facts: Facts) -> str:
    if not facts.good:
        return ""
    rows = [(name, ", ".join(f"{value} {count}" for value, count in counts.most_common()))
            for name, counts in (("Format", facts.formats), ("Mode", facts.modes), ("Kind", facts.kinds),
                                 ("Depth", facts.bits))]
    rows.append(("Sizes", sizes_text(facts.sizes, SIZES)))
    rows += [("Values", window_words(facts.windows))] if facts.windows else []
    rows += [("Foreground", words)] if (words := foreground_words(facts)) else []
    return table(["", "Images"], rows, numbers=False, kind="settings")


def traits_section(facts: Facts) -> str:
    if not facts.traits:
        return ""
    rows = [(trait.what, len(trait.positions), trait.becomes) for trait in facts.traits]
    lists = "".join(_names(f"{trait.what}: {len(trait.positions)}", [facts.names[i] for i in trait.positions])
                    for trait in facts.traits)
    return table(["", "Images", "What a conversion does"], rows, numbers=False, kind="settings") + lists


def same_section(facts: Facts, shown: Sheets) -> str:
    same = facts.same
    if not same.exact and not same.near:
        return ""
    sets = "".join(f"<div><h3>{text(words)}</h3>{_cells(cells)}</div>" for words, cells in shown.same)
    exact = _names(f"Exact copies: {len(same.exact)}", [f"{facts.names[copy]} = {facts.names[first]}"
                                                        for copy, first in same.exact])
    near = _names(f"Sets that show the same: {len(same.near)}", [" = ".join(facts.names[i] for i in members)
                                                                 for members in same.near])
    note = (f'<p class="note">{len(shown.same)} of {len(same.near)} sets, those that trouble most first.</p>'
            if len(same.near) > len(shown.same) else "")
    return f'<p>{text(copies_words(facts))}.</p>{note}<div class="runs">{sets}</div>{exact}{near}'


def odd_section(shown: Sheets) -> str:
    far = f"<h3>Farthest from the mean</h3>{_cells(shown.odd)}" if shown.odd else ""
    small = f"<h3>Smallest</h3>{_cells(shown.smallest)}" if shown.smallest else ""
    return far + small


def classes_section(facts: Facts, shown: Sheets) -> str:
    def counted(classes: Classes) -> str:
        rows = list(classes.counts.items())[:LISTED]
        words = f"<p>{text(classes_words(classes))}</p>" if classes.vectors or classes.missing else ""
        return f"{words}{table(['Class', 'Images'], rows)}"

    if facts.classes:
        return counted(facts.classes)
    if facts.folders:
        return (f"<p>The source says nothing of classes; --labels={text(facts.folders.asked)} would make some of its "
                f"folders.</p>{counted(facts.folders)}")
    return ""


def groups_section(facts: Facts) -> str:
    rows = [(name, groups_words(groups)) for name, groups in (("Patients", facts.subjects), ("Volumes", facts.volumes))
            if groups.sizes]
    return table(["", "How many"], rows, numbers=False, kind="settings")


def _evenly(facts: Facts, shown: Sheets) -> str:
    if not shown.contact:
        return ""
    words = (f"{len(shown.contact)} of {len(facts.good)}, evenly spread in the order of their names."
             if len(shown.contact) < len(facts.good) else "All of them.")
    return f'<p class="note">{text(words)}</p>{_cells(shown.contact)}'


def _cells(cells: Sequence[Cell]) -> str:
    figures = "".join(picture(cell.picture, cell.words, pixels=max(cell.picture.width, cell.picture.height) < PIXELS)
                      for cell in cells)
    return f'<div class="cells">{figures}</div>' if cells else ""


def _reasons(pairs: Sequence[tuple[str, str]]) -> str:
    if not pairs:
        return ""
    counts = table(["Reason", "Images"], [(reason, len(names)) for reason, names in by_reason(pairs).items()])
    listed = table(["File", "Reason"], pairs[:LISTED], numbers=False, kind="settings")
    more = f"<p>And {len(pairs) - LISTED} more, which the JSON report names.</p>" if len(pairs) > LISTED else ""
    unfolded = " open" if len(pairs) <= OPEN else ""
    return f"{counts}<details{unfolded}><summary>Each of them</summary>{listed}{more}</details>"


def _names(heading: str, names: Sequence[str]) -> str:
    more = [f"and {len(names) - LISTED} more, which the JSON report names"] if len(names) > LISTED else []
    items = "".join(f"<li>{text(name)}</li>" for name in [*names[:LISTED], *more])
    return (f'<details><summary>{text(heading)}</summary><ul class="caveats">{items}</ul>'
            f'</details>') if names else ""


def _sentences(sentences: Sequence[str]) -> str:
    return reports.caveats(sentences) if sentences else ""
