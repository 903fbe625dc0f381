"""What a conversion tells: what was found, what is done about it, what was made and what comes next."""

import shlex
from collections import Counter
from collections.abc import Callable

from stylegan2_pipeline.conversion.options import Conversion, trainable
from stylegan2_pipeline.conversion.scan import PERCENTILES, Finding, Scan
from stylegan2_pipeline.conversion.transform import Recipe
from stylegan2_pipeline.sources.base import Source
from stylegan2_pipeline.sources.labels import Labels, printable, some
from torch_utils.text import format_bytes

KINDS = {1: "gray", 3: "RGB", 4: "RGBA"}
OVERHEAD = 400  # bytes an image, of names and headers


def report_scan(scan: Scan, source: Source, recipe: Recipe, reason: str) -> list[str]:
    """What was found, and what is done about it."""
    good, names = scan.good, source.names

    def which(wanted: Callable[[Finding], bool]) -> list[str]:
        return [names[finding.index] for finding in good if wanted(finding)]

    modes = ", ".join(f"{mode} {count}" for mode, count in scan.modes.most_common())
    lines = [f"Read: {len(good)} images; sizes {sizes_text(scan.sizes)}; modes {modes}.", *source.notes()]

    def tell(what: str, concerned: list[str]) -> None:
        if concerned:
            lines.append(f"{what}: {len(concerned)} ({some(concerned)}).")

    tell("Turned upright, as their EXIF data says", which(lambda finding: finding.rotated))
    tell("Several frames, of which the first is taken", which(lambda finding: finding.animated))
    if recipe.window:
        low, high = recipe.window
        lines.append(f"More than 8 bits: {scan.deep}; the values {low:g} to {high:g} (percentiles {PERCENTILES[0]} and "
                     f"{PERCENTILES[1]} of all of them together) become 0 to 255.")
    if recipe.channels != 4:
        color = "white" if recipe.background == (255, 255, 255) else f"#{bytes(recipe.background).hex()}"
        tell(f"Transparent in places, laid over {color}", which(lambda finding: finding.transparent))
    if recipe.channels == 1:
        tell("Colour becomes gray", which(lambda finding: finding.colour))
    tell(f"Warning: smaller than {recipe.width}x{recipe.height} and enlarged, which adds no detail",
         which(lambda finding: used_side(finding, recipe) < min(recipe.width, recipe.height)))
    lines.append(f"Stored as {KINDS[recipe.channels]}, because {reason}.")
    return lines


def summary(scan: Scan, source: Source, recipe: Recipe, labels: Labels | None, asked: Conversion) -> list[str]:
    """What was made, and what comes next."""
    left_out = f" ({len(scan.broken)} broken left out)" if scan.broken else ""
    kind = f"{recipe.width}x{recipe.width} {KINDS[recipe.channels]}"
    size = format_bytes(archive_bytes(recipe) * len(scan.good))
    lines = [f"{asked.dest}: {len(scan.good)} images{left_out}, {kind}, about {size}, {labels_text(labels)}."]
    if labels and all(value == labels.values[0] for value in labels.values):
        lines.append("Warning: all images have the same label, which teaches a network nothing.")
    folders = sorted({name.split("/")[0] for name in source.names if "/" in name})
    if labels is None and asked.labels == "auto" and len(folders) > 1:
        lines.append(f"The images lie in {len(folders)} folders ({some(folders)}); --labels=folders would make them "
                     f"classes.")
    if trainable(recipe.width):
        by_class = ["--cond=1"] if labels else []
        lines.append("Next: " + shlex.join(["python", "train.py", f"--data={asked.dest}", *by_class]))
    return lines


def labels_text(labels: Labels | None) -> str:
    if labels is None:
        return "no labels"
    if isinstance(labels.values[0], list):
        return f"labels of {len(labels.values[0])} numbers"
    counts = Counter(value for value in labels.values if isinstance(value, int))
    names = labels.class_names or [f"class {number}" for number in range(max(counts) + 1)]
    listed = ", ".join(f"{printable(names[number])} {counts[number]}" for number in sorted(counts)[:20])
    return f"{len(counts)} {'class' if len(counts) == 1 else 'classes'} ({listed}{', ...' if len(counts) > 20 else ''})"


def sizes_text(sizes: Counter[tuple[int, int]], most: int = 5) -> str:
    common = sizes.most_common(most)
    shown = ", ".join(f"{count} of {width}x{height}" for (width, height), count in common)
    others = sizes.total() - sum(count for _, count in common)
    return f"{shown} and {others} of {len(sizes) - most} other sizes" if others else shown


def used_side(finding: Finding, recipe: Recipe) -> int:
    """The side that is fitted to the side of the archive's images."""
    return max(finding.size) if recipe.transform == "pad" else min(finding.size)


def archive_bytes(recipe: Recipe) -> int:
    """Of one image; they are stored, not compressed."""
    return recipe.width * recipe.width * recipe.channels + recipe.width + OVERHEAD


