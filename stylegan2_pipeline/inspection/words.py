"""An inspection as text: short on the terminal, with all names in a file."""

import re
import textwrap
from collections.abc import Iterable, Sequence

from stylegan2_pipeline.conversion.words import counts_text, sizes_text
from stylegan2_pipeline.inspection.advice import Advice
from stylegan2_pipeline.inspection.facts import Classes, Facts, Groups, counted
from stylegan2_pipeline.inspection.remarks import Remark, caveats, mirror_words
from stylegan2_pipeline.report.charts import short
from stylegan2_pipeline.sources.labels import printable, some

WIDTH = 100
SIGNS = {"bad": "x", "watch": "!", "good": "+"}
NAMES = 3


def lines_of(facts: Facts, advice: Advice | None, found: Sequence[Remark], done: Sequence[str] = (),
             full: bool = False) -> list[str]:
    """done: what a conversion did, in place of advice; full: with the names of all images that are spoken of."""
    lines = [f"{printable(facts.path)}: {counted(len(facts.good), 'image')}, read as {facts.kind}"]
    lines += table_lines(rows(facts, full))
    lines += ["", *wrapped(facts.notes, "  ")] if facts.notes and not done else []
    lines += ["", "What to look at:"]
    for remark in found:
        lines += hanging(f"  {SIGNS[remark.level]} ", f"{remark.sentence} {remark.advice}".rstrip())
    if done:
        lines += ["", "What was done:", *wrapped(done, "  ")]
    if advice:
        lines += ["", "Left and right:", *wrapped([mirror_words(facts)], "  ")]
        lines += ["", "Recommended:", f"  {advice.command}"]
        for choice in advice.choices:
            lines += hanging("    ", f"{choice.option}: {choice.why}", "      ")
    return [*lines, *(details(facts) if full else [])]


def rows(facts: Facts, full: bool = False) -> list[tuple[str, str]]:
    """(name, words) of all that can be said in one line."""
    found = [("Formats", counts_text(facts.formats)), ("Modes", counts_text(facts.modes)),
             ("Kinds", counts_text(facts.kinds)), ("Depth", counts_text(facts.bits)),
             ("Sizes", sizes_text(facts.sizes))] if facts.good else []
    found += [(trait.what, _named(len(trait.positions), [facts.names[i] for i in trait.positions], full))
              for trait in facts.traits]
    if facts.good:
        found.append(("Copies", copies_words(facts)))
    found += [("Classes", classes_words(facts.classes))] if facts.classes else []
    found += [("Folders", classes_words(facts.folders))] if facts.folders else []
    found += [("Patients", groups_words(facts.subjects))] if facts.subjects.sizes else []
    found += [("Volumes", groups_words(facts.volumes))] if facts.volumes.sizes else []
    found += [("Values", window_words(facts.windows))] if facts.windows else []
    found += [("Foreground", words)] if (words := foreground_words(facts)) else []
    for name, pairs in (("Broken", facts.broken), ("Left out", facts.left_out)):
        for reason, names in by_reason(pairs).items():
            found.append((name, f"{_named(len(names), names, full)}: {reason}"))
    return found


def by_reason(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """Names by the reason, without what is in brackets at its end, such as a count of bytes."""
    found: dict[str, list[str]] = {}
    for name, reason in pairs:
        found.setdefault(re.sub(r" \([^()]*\)$", "", reason), []).append(name)
    return found


def copies_words(facts: Facts) -> str:
    same = facts.same
    if not same.exact and not same.near:
        return "none, neither exact nor nearly so"
    return f"{len(same.exact)} exact, {same.nearly} nearly so, mirrored included"


def classes_words(classes: Classes, most: int = 12) -> str:
    missing = f"; {classes.missing} images without" if classes.missing else ""
    shown = ", ".join(f"{name} {count}" for name, count in list(classes.counts.items())[:most])
    more = ", ..." if len(classes.counts) > most else ""
    if classes.vectors:
        tags = f" ({shown}{more})" if shown else ""
        return f"vectors of {classes.vectors} numbers{tags}{missing}"
    return f"{len(classes.counts)} ({shown}{more}){missing}"


def groups_words(groups: Groups) -> str:
    sizes = groups.sizes
    unknown = f"; {groups.unknown} images of none" if groups.unknown else ""
    return (f"{len(sizes)}, with {sizes[0]} to {sizes[-1]} images, the median {sizes[len(sizes) // 2]}{unknown}"
            if sizes[0] != sizes[-1] else f"{len(sizes)}, with {sizes[0]} images each{unknown}")


def window_words(windows: Sequence[tuple[float, float]]) -> str:
    lows, highs = [low for low, _ in windows], [high for _, high in windows]
    if len(windows) == 1:
        return f"{short(lows[0])} to {short(highs[0])} become 0 to 255"
    return f"{len(windows)} volumes, each with its own scale: {_span(lows)} become 0, {_span(highs)} become 255"


def _span(values: Sequence[float]) -> str:
    low, high = short(min(values)), short(max(values))
    return f"{low} to {high}" if low != high else low


def foreground_words(facts: Facts) -> str:
    """Where the background is even; elsewhere that is hard to tell from what it is the background of."""
    filled = sorted(finding.filled for finding in facts.good if finding.filled is not None)
    if not filled or not (facts.even_borders or facts.volumes.sizes):
        return ""
    return f"{filled[0]:.0%} to {filled[-1]:.0%} of an image, the median {filled[len(filled) // 2]:.0%}"


def details(facts: Facts) -> list[str]:
    """Copies by name, and what the figures stand on."""
    lines = ["", "What to keep in mind:", *wrapped(caveats(facts), "  ")]
    if facts.same.exact:
        lines += ["", "Exact copies:"]
        lines += [f"  {facts.names[copy]} = {facts.names[first]}" for copy, first in facts.same.exact]
    if facts.same.near:
        lines += ["", "Images that show the same, or nearly:"]
        lines += [f"  {' = '.join(facts.names[i] for i in members)}" for members in facts.same.near]
    return lines


def table_lines(found: Sequence[tuple[str, str]]) -> list[str]:
    column = min(max((len(name) for name, _ in found), default=0), 34) + 2
    lines: list[str] = []
    for name, words in found:
        head = f"  {name}".ljust(column + 2)
        if len(head) > column + 2:
            lines += [head]
            head = " " * (column + 2)
        lines += hanging(head, words)
    return lines


def hanging(head: str, words: str, indent: str = "") -> list[str]:
    return textwrap.wrap(words, max(WIDTH, len(head) + 40), initial_indent=head,
                         subsequent_indent=indent or " " * len(head), break_long_words=False,
                         break_on_hyphens=False) or [head.rstrip()]


def wrapped(sentences: Iterable[str], indent: str) -> list[str]:
    return [line for sentence in sentences for line in hanging(indent, sentence)]


def _named(count: int, names: Sequence[str], full: bool) -> str:
    return f"{count} ({some(names, len(names) if full else NAMES)})"
