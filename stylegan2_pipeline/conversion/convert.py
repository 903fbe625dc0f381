"""Any collection of images -> a checked, uniform archive. Two passes: a scan that decides, and the writing."""

import os
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import click

from stylegan2_pipeline.archive import ArchiveWriter, check_free
from stylegan2_pipeline.conversion.options import Conversion, check_resolution, parse_background, trainable
from stylegan2_pipeline.conversion.scan import Finding, Scan, choose_channels, inspect
from stylegan2_pipeline.conversion.transform import Recipe, render
from stylegan2_pipeline.conversion.words import archive_bytes, report_scan, sizes_text, summary
from stylegan2_pipeline.dataset import MIN_RESOLUTION
from stylegan2_pipeline.decode import BrokenImage
from stylegan2_pipeline.parallel import WorkerPool
from stylegan2_pipeline.png import encode_png
from stylegan2_pipeline.progress import progress
from stylegan2_pipeline.sources.base import Source
from stylegan2_pipeline.sources.labels import Labels, labels_from_folders, printable, some
from stylegan2_pipeline.sources.registry import open_source
from torch_utils.errors import UserError
from torch_utils.text import format_bytes


def convert(asked: Conversion, say: Callable[[str], None] = click.echo) -> None:
    """Make the archive asked.dest from the images of asked.source; `say` gets the report, line by line.

    The bytes written depend on the images and options alone, not on the number of workers. Raises UserError, with
    nothing written, when the images cannot become one uniform set without a further choice.
    """
    check_free(asked.dest, "--dest")
    background, border = parse_background(asked.background)
    check_resolution(asked)
    source = open_source(asked.source)
    check_apart(asked)
    if not source.names:
        raise UserError(f"--source: there are no images in {asked.source}. {' '.join(source.notes())}".rstrip())
    workers = max(1, min(asked.workers or available_cores(), len(source.names) // 16))
    with WorkerPool(source, workers) as pool:
        scan = run_scan(pool, source, asked.max_images)
        report_broken(scan, source, asked)
        labels = choose_labels(scan, source, asked)
        width, height = choose_size(scan, asked)
        channels, reason = choose_channels(scan, asked.channels, background)
        recipe = Recipe(channels, width, height, asked.transform or "stretch", asked.resize_filter, scan.window(),
                        background, border)
        for line in report_scan(scan, source, recipe, reason):
            say(line)
        check_space(asked.dest, len(scan.good), recipe)
        write(pool, source, scan, recipe, labels, asked)
    for line in summary(scan, source, recipe, labels, asked):
        say(line)


def run_scan(pool: WorkerPool, source: Source, most: int | None) -> Scan:
    """Inspect images in order until `most` good ones are found."""
    scan = Scan()
    length = min(most or len(source.names), len(source.names))
    for finding in progress(pool.map(inspect, range(len(source.names))), length, "Scanning"):
        scan.add(finding)
        if len(scan.good) == most:
            break
    return scan


def report_broken(scan: Scan, source: Source, asked: Conversion) -> None:
    lines = [f"  {printable(source.names[finding.index])}: {finding.error}" for finding in scan.broken]
    if not scan.good:
        raise UserError("\n".join([f"--source: no image in {asked.source} can be read:", *lines]))
    if lines and asked.strict:
        raise UserError("\n".join([f"--strict: these cannot be read ({len(lines)}), and nothing was written:", *lines]))
    if lines:
        click.echo("\n".join([f"Left out, because they cannot be read ({len(lines)}):", *lines]), err=True)


def choose_labels(scan: Scan, source: Source, asked: Conversion) -> Labels | None:
    """Labels of the good images, in their order; every one has one."""
    if asked.labels == "none":
        return None
    folders = asked.labels == "folders"
    labels = labels_from_folders(source.names, str(asked.source)) if folders else source.labels()
    if labels is None:
        return None
    kept = Labels([labels.values[finding.index] for finding in scan.good], labels.class_names)
    missing = [source.names[scan.good[number].index] for number in kept.missing()]
    if missing:
        raise UserError(f"{len(missing)} of {len(scan.good)} images have no label in dataset.json: "
                        f"{some(missing, 10)}. Labels are of use only when every image has one: add the missing ones, "
                        f"or drop all of them with --labels=none.")
    return compact(kept) if folders else kept


def compact(labels: Labels) -> Labels:
    """Without the classes that no image is left of, as --max-images can bring about."""
    assert labels.class_names is not None
    used = sorted({value for value in labels.values if isinstance(value, int)})
    number = {old: new for new, old in enumerate(used)}
    return Labels([number[value] for value in labels.values if isinstance(value, int)],
                  [labels.class_names[value] for value in used])


def choose_size(scan: Scan, asked: Conversion) -> tuple[int, int]:
    """width, height of each picture. Raises UserError, with the command line to type, when a choice is missing."""
    uneven = [finding.size for finding in scan.good if not finding.square]
    proposal = asked if asked.width else replace(asked, width=(side := usual_side(scan)), height=side)
    if uneven and asked.transform is None:
        raise UserError(
            f"{len(uneven)} of {len(scan.good)} images are not square ({sizes_text(Counter(uneven))}), and --transform "
            f"does not say how they become so: center-crop cuts the longer sides, pad adds borders, stretch distorts. "
            f"Nothing was written. For example:\n\n  {replace(proposal, transform='center-crop').command_line()}")
    if asked.width and asked.height:
        return asked.width, asked.height
    sides = Counter((side, side) for side in (natural_side(finding, asked) for finding in scan.good))
    side = next(iter(sides))[0]
    if len(sides) > 1:
        reason = f"The images have different sizes ({sizes_text(sides)})"
    elif not trainable(side):
        reason = f"The images are {side}x{side}, and training needs a power of two, {MIN_RESOLUTION} or more"
    else:
        return side, side
    raise UserError(f"{reason}, and --resolution does not say which they should have. Nothing was written. For "
                    f"example:\n\n  {proposal.command_line()}")


def natural_side(finding: Finding, asked: Conversion) -> int:
    """The side of the square an image becomes when it is not resized."""
    return max(finding.size) if asked.transform == "pad" else min(finding.size)


def usual_side(scan: Scan) -> int:
    """The largest power of two that half of the images reach, at most 1024."""
    sides = sorted(min(finding.size) for finding in scan.good)
    return max(MIN_RESOLUTION, min(1024, 1 << (sides[len(sides) // 2].bit_length() - 1)))


def check_apart(asked: Conversion) -> None:
    source, dest = asked.source.resolve(), asked.dest.resolve()
    if source.is_dir() and dest.is_relative_to(source):
        raise UserError(f"--dest: {asked.dest} lies inside --source {asked.source}, where the next run would read it; "
                        f"choose a place outside.")


def check_space(dest: Path, count: int, recipe: Recipe) -> None:
    needed = count * archive_bytes(recipe)
    place = next(parent for parent in dest.absolute().parents if parent.exists())
    free = shutil.disk_usage(place).free
    if needed > free:
        raise UserError(f"--dest: {dest} will take {format_bytes(needed)}, and {place} has {format_bytes(free)} free. "
                        f"Free some space, choose another place, a lower --resolution or fewer --max-images. Nothing "
                        f"was written.")


def write(pool: WorkerPool, source: Source, scan: Scan, recipe: Recipe, labels: Labels | None,
          asked: Conversion) -> None:
    tasks = [(finding.index, recipe) for finding in scan.good]
    with ArchiveWriter(asked.dest, labels.class_names if labels else None) as writer:
        values = labels.values if labels else [None] * len(tasks)
        for png, label in zip(progress(pool.map(make_png, tasks), len(tasks), "Writing"), values, strict=True):
            writer.add_png(png, label)


def make_png(source: Source, task: tuple[int, Recipe]) -> bytes:
    index, recipe = task
    try:
        return encode_png(render(source.decode(index), recipe))
    except BrokenImage as error:
        raise UserError(f"--source: {printable(source.names[index])} could be read a moment ago and now cannot: "
                        f"{error}. Is something else writing there?") from None


def available_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


