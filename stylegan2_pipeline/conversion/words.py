"""What a conversion tells: what was found, what is done about it, what was made and what comes next."""

import shlex
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from stylegan2_pipeline.conversion.drawing import PADS
from stylegan2_pipeline.conversion.scan import Finding, Scan
from stylegan2_pipeline.sources.base import Source
from stylegan2_pipeline.sources.labels import Labels, printable, some
from torch_utils.text import format_bytes

if TYPE_CHECKING:
    from stylegan2_pipeline.conversion.options import Conversion
    from stylegan2_pipeline.conversion.plan import Plan

KINDS = {1: "gray", 3: "RGB", 4: "RGBA"}
OVERHEAD = 400  # bytes an image, of names and headers


def report_scan(scan: Scan, source: Source, plan: "Plan") -> list[str]:
    """What was found, and what is done about it."""
    good, names, draft = scan.good, source.names, plan.draft
    lines = [f"Read: {len(good)} images; sizes {sizes_text(scan.sizes)}; modes {counts_text(scan.modes)}.",
             *source.remarks()]

    def tell(what: str, wanted: Callable[[Finding], bool]) -> None:
        concerned = [names[finding.index] for finding in good if wanted(finding)]
        if concerned:
            lines.append(f"{what}: {len(concerned)} ({some(concerned)}).")

    lines += left_out_lines(scan, source)
    tell("Turned upright, as their EXIF data says", lambda finding: finding.rotated)
    tell("Several frames, of which one is taken; --frames=all takes all", lambda finding: finding.animated)
    tell("Colours of another profile, turned into sRGB", lambda finding: finding.profile)
    for remark in sorted({remark for finding in good for remark in finding.remarks}):
        tell(remark, lambda finding, remark=remark: remark in finding.remarks)  # type: ignore[misc]
    if scan.deep:
        lines.append(f"More than 8 bits: {scan.deep}; {windows_text(plan)}")
    if plan.channels != 4:
        color = "white" if draft.background == (255, 255, 255) else f"#{bytes(draft.background).hex()}"
        tell(f"Transparent in places, laid over {color}", lambda finding: finding.transparent)
    if plan.channels == 1:
        tell("Colour becomes gray", lambda finding: finding.colour)
    tell("Warning: these show nothing, they are of one colour everywhere", lambda finding: finding.flat)
    if not draft.crop and draft.transform != "pad-only":
        least = min(draft.width or 0, draft.height or 0)
        tell(f"Warning: smaller than {draft.width}x{draft.height} and enlarged, which adds no detail",
             lambda finding: used_side(finding, draft.transform) < least)
    return [*lines, *plan.notes, f"Stored as {KINDS[plan.channels]}, because {plan.reason}."]


def left_out_lines(scan: Scan, source: Source) -> list[str]:
    """A line a reason, of what was looked at and is not converted."""
    reasons: dict[str, list[str]] = {}
    passed = [(source.names[finding.index], reason) for finding, reason in scan.passed]
    for name, reason in [*source.left_out(), *passed]:
        reasons.setdefault(reason, []).append(name)
    return [f"Left out, {reason}: {len(names)} ({some(names)})." for reason, names in reasons.items()]


def windows_text(plan: "Plan") -> str:
    """The values of deep images that become 0 and 255."""
    if plan.draft.window:
        low, high = plan.draft.window
        return f"the values {low:g} to {high:g} become 0 to 255, as --window says."
    of = "percentiles {:g} and {:g} of all of them together".format(*plan.percentiles)
    if set(plan.windows) == {None}:
        low, high = plan.windows[None]
        return f"the values {low:g} to {high:g} ({of}) become 0 to 255."
    volumes = [window for volume, window in plan.windows.items() if volume is not None]
    lows, highs = [low for low, _ in volumes], [high for _, high in volumes]
    each = f"percentiles {plan.percentiles[0]:g} and {plan.percentiles[1]:g}"
    return (f"each of {len(volumes)} volumes or files has one scale, its {each} become 0 and 255 ({_span(lows)}, and "
            f"{_span(highs)}).")


def _span(values: list[float]) -> str:
    return f"from {min(values):g} to {max(values):g}" if min(values) < max(values) else f"{values[0]:g}"


def summary(scan: Scan, source: Source, plan: "Plan", asked: "Conversion") -> list[str]:
    """What was made, and what comes next."""
    broken = f" ({len(scan.broken)} broken left out)" if scan.broken else ""
    side, aside = plan.draft.width or 0, sum(plan.held_out)
    kind = f"{side}x{side} {KINDS[plan.channels]}"
    sizes = format_bytes(disk_size(asked.dest))
    lines = [f"{asked.dest}: {len(plan.kept) - aside} images{broken}, {kind}, about {sizes}, "
             f"{labels_text(written_labels(plan))}."]
    if aside:
        lines.append(f"{asked.holdout_path}: {aside} images set aside, never to be trained on; "
                     f"{what_for(asked, aside)}")
    labels = plan.labels
    if labels and all(value == labels.values[0] for value in labels.values):
        lines.append("Warning: all images have the same label, which teaches a network nothing.")
    folders = sorted({name.split("/")[0] for name in source.names if "/" in name})
    people = {source.subject(finding.index) for finding in plan.kept} - {None, ""}
    if labels is None and asked.labels == "auto" and len(folders) > 1 and not 0 < len(people) <= len(folders):
        lines.append(f"The images lie in {len(folders)} folders ({some(folders)}); --labels=folders would make them "
                     f"classes.")
    if side >= 8 and side & (side - 1) == 0:
        by_class = ["--cond=1"] if labels else []
        lines.append("Next: " + shlex.join(["python", "train.py", f"--data={asked.dest}", *by_class]))
    return lines


def what_for(asked: "Conversion", aside: int) -> str:
    from metrics.memorization.comparison import LEAST  # with torch, which looking for copies has loaded already

    if aside < LEAST:
        return f"the metric memorization needs {LEAST} or more of them, so set more aside."
    return f"afterwards: stylegan2 metrics --metrics=memorization --holdout={shlex.quote(str(asked.holdout_path))}"


def written_labels(plan: "Plan") -> Labels | None:
    """Of the images that are to be trained on."""
    if plan.labels is None:
        return None
    values = [value for value, out in zip(plan.labels.values, plan.held_out, strict=True) if not out]
    return Labels(values, plan.labels.class_names)


def labels_text(labels: Labels | None) -> str:
    if labels is None:
        return "no labels"
    if isinstance(labels.values[0], list):
        return f"labels of {len(labels.values[0])} numbers"
    counts = Counter(value for value in labels.values if isinstance(value, int))
    names = {number: labels.class_names[number] if labels.class_names else f"class {number}" for number in counts}
    listed = ", ".join(f"{printable(names[number])} {counts[number]}" for number in sorted(counts)[:20])
    return f"{len(counts)} {'class' if len(counts) == 1 else 'classes'} ({listed}{', ...' if len(counts) > 20 else ''})"


def counts_text(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.most_common())


def sizes_text(sizes: Counter[tuple[int, int]], most: int = 5) -> str:
    common = sizes.most_common(most)
    shown = ", ".join(f"{count} of {width}x{height}" for (width, height), count in common)
    others = sizes.total() - sum(count for _, count in common)
    return f"{shown} and {others} of {len(sizes) - most} other sizes" if others else shown


def used_side(finding: Finding, transform: str | None) -> int:
    """The side that is fitted to the side of the archive's images."""
    return max(finding.size) if transform in PADS else min(finding.size)


def archive_bytes(side: int, channels: int) -> int:
    """Of one image that is stored, not compressed."""
    return side * side * channels + side + OVERHEAD


def disk_size(path: Path) -> int:
    """Of a file, or of all files in a folder."""
    return path.stat().st_size if path.is_file() else sum(file.stat().st_size for file in path.rglob("*"))

