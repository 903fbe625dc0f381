"""The decisions between looking and writing: what a set becomes, from what the scan found and the user asked."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from stylegan2_pipeline.conversion.copies import exact_copies, near_copies
from stylegan2_pipeline.conversion.drawing import PADS, Draft, Task
from stylegan2_pipeline.conversion.grouping import groups_of
from stylegan2_pipeline.conversion.labelling import choose_labels, label_table
from stylegan2_pipeline.conversion.options import Conversion, parse_holdout, trainable
from stylegan2_pipeline.conversion.scan import PERCENTILES, THUMBNAIL, Details, Finding, Scan, choose_channels
from stylegan2_pipeline.conversion.split import group_numbers, split
from stylegan2_pipeline.conversion.spool import Spool
from stylegan2_pipeline.conversion.words import sizes_text
from stylegan2_pipeline.dataset import MIN_RESOLUTION
from stylegan2_pipeline.encode import check_encoding
from stylegan2_pipeline.progress import progress
from stylegan2_pipeline.sources.base import Source
from stylegan2_pipeline.sources.labels import Label, Labels, printable, some
from torch_utils.errors import UserError


@dataclass(frozen=True)
class Plan:
    """draft: with nothing left open; reason: for the channels; windows: of deep images, by volume (None: of the
    set), from their percentiles; boxes: of the foreground, by volume.

    kept: findings, in order; labels: theirs, or None; held_out: which of them go to the second archive; groups: a
    number for whom each is of, or None; copies: findings left out as copies, each with the one that stays; notes: what
    a user should know of these decisions.
    """

    draft: Draft
    channels: int
    reason: str
    windows: Mapping[str | None, tuple[float, float]]
    percentiles: tuple[float, float]
    boxes: Mapping[str, tuple[int, int, int, int]]
    kept: Sequence[Finding]
    labels: Labels | None
    held_out: Sequence[bool]
    groups: Sequence[int] | None = None
    copies: Sequence[tuple[Finding, Finding]] = ()
    notes: Sequence[str] = field(default_factory=list)

    def task(self, finding: Finding, volume: str | None) -> Task:
        window = (self.draft.window or self.windows[volume]) if finding.deep else None
        recipe = self.draft.recipe(finding, self.channels, window)
        assert recipe is not None
        box = finding.box if volume is None else self.boxes.get(volume)
        return Task(finding.index, recipe, box if self.draft.crop else None)

    def label(self, number: int) -> Label | None:
        return self.labels.values[number] if self.labels else None


def decide(scan: Scan, source: Source, asked: Conversion, spool: Spool) -> Plan:
    """Raises UserError, with the command line to type, when a choice is missing that only the user can make."""
    draft = choose_size(scan, asked)
    labelled = choose_labels(asked.label_options(), source, [finding.index for finding in scan.good], str(asked.source))
    kept, labels, notes = [scan.good[number] for number in labelled.kept], labelled.labels, list(labelled.notes)
    channels, reason = choose_channels(kept, asked.channels, draft.background)
    check_encoding(asked.encoding(), channels, draft.width or 0, draft.height or 0)
    first, tied = find_copies(kept, source, asked, spool)
    stay = [number for number in range(len(kept)) if first[number] == number]
    copies = [(kept[number], kept[first[number]]) for number in range(len(kept)) if first[number] != number]
    notes += about_copies(copies, labels, first, source)
    groups = group_labels(kept, source, asked)
    sets = ties_of(tied, groups, stay)
    kept, groups = [kept[number] for number in stay], [groups[number] for number in stay]
    labels = Labels([labels.values[number] for number in stay], labels.class_names) if labels else None
    held_out = set_aside(groups, sets, asked, labels) if asked.holdout else [False] * len(kept)
    if asked.holdout:
        notes.append(about_holdout(groups, held_out, source, kept))
    window = asked.values()
    if window.kind == "header":
        notes.append("Values are shown as the files' own display windows say, which may differ from slice to slice.")
    percentiles = PERCENTILES if window.kind == "values" else (window.low, window.high)
    told = asked.holdout or asked.group_by or len(set(groups)) < len(kept)
    return Plan(draft, channels, reason, scan.windows(percentiles), percentiles, scan.boxes, kept, labels, held_out,
                group_numbers(groups) if told else None, copies, notes)


def choose_size(scan: Scan, asked: Conversion) -> Draft:
    """With width, height and transform for all. Raises UserError when a choice is missing."""
    draft = asked.draft()
    uneven = [finding.size for finding in scan.good if not finding.square]
    proposal = asked if asked.width else replace(asked, width=(side := usual_side(scan)), height=side)
    if uneven and asked.transform is None and not draft.crop:
        raise UserError(
            f"{len(uneven)} of {len(scan.good)} images are not square ({sizes_text(Counter(uneven))}), and --transform "
            f"does not say how they become so: center-crop cuts the longer sides, pad adds borders, stretch distorts. "
            f"Nothing was written. For example:\n\n  {replace(proposal, transform='center-crop').command_line()}")
    if draft.width and draft.height:
        return draft
    sides = Counter((side, side) for side in (natural_side(finding, asked) for finding in scan.good))
    side = next(iter(sides))[0]
    if draft.crop:
        reason = "The foreground that --crop=foreground keeps has no size of its own"
    elif len(sides) > 1:
        reason = f"The images have different sizes ({sizes_text(sides)})"
    elif not trainable(side):
        reason = f"The images are {side}x{side}, and training needs a power of two, {MIN_RESOLUTION} or more"
    else:
        return replace(draft, width=side, height=side)
    raise UserError(f"{reason}, and --resolution does not say which they should have. Nothing was written. For "
                    f"example:\n\n  {proposal.command_line()}")


def natural_side(finding: Finding, asked: Conversion) -> int:
    """The side of the square an image becomes when it is not resized."""
    return max(finding.size) if asked.transform in PADS else min(finding.size)


def usual_side(scan: Scan) -> int:
    """The largest power of two that half of the images reach, at most 1024."""
    sides = sorted(min(finding.size) for finding in scan.good)
    return max(MIN_RESOLUTION, min(1024, 1 << (sides[len(sides) // 2].bit_length() - 1)))


def find_copies(kept: Sequence[Finding], source: Source, asked: Conversion,
                spool: Spool) -> tuple[list[int], list[list[int]]]:
    """For each image the number of the one that it is left out for, its own if it stays; sets that show the same."""
    own = list(range(len(kept)))
    digests, flat = [finding.digest for finding in kept], [finding.flat for finding in kept]
    drop = asked.duplicates
    if drop == "auto":
        drop = "keep" if source.curated else "drop-exact"
    near = []
    if drop == "drop-near" or asked.holdout:
        volumes = [source.volume(finding.index) for finding in kept]
        near = near_copies(thumbnails(kept, spool), digests, flat, volumes)
    if drop == "drop-near":
        first = own.copy()
        for members in near:
            for number in members:
                first[number] = min(members)
        return first, near
    return exact_copies(digests, flat) if drop == "drop-exact" else own, near


def thumbnails(kept: Sequence[Finding], spool: Spool) -> np.ndarray:
    """uint8 [N,64,64,C]; C = 1 if all are gray."""
    channels = 3 if any(finding.channels > 1 for finding in kept) else 1
    small = np.empty((len(kept), THUMBNAIL, THUMBNAIL, channels), np.uint8)
    for place, finding in enumerate(progress(kept, len(kept), "Comparing")):
        assert finding.details is not None
        small[place] = Details.from_bytes(spool.get(finding.details)).thumbnail
    return small


def about_copies(copies: Sequence[tuple[Finding, Finding]], labels: Labels | None, first: Sequence[int],
                 source: Source) -> list[str]:
    if not copies:
        return []
    names = [f"{printable(source.names[copy.index])} = {printable(source.names[original.index])}"
             for copy, original in copies]
    said = [f"Left out, because an earlier image shows the same: {len(copies)} ({some(names)}). "
            f"--duplicates=keep keeps them."]
    if labels:
        other = sum(labels.values[number] != labels.values[original] for number, original in enumerate(first))
        said += [f"Warning: {other} of these have another label than the image that stays."] if other else []
    return said


def group_labels(kept: Sequence[Finding], source: Source, asked: Conversion) -> list[str]:
    table = asked.table or label_table(asked.label_options())
    return groups_of(asked.group_by, source, [finding.index for finding in kept], table)


def ties_of(tied: Sequence[Sequence[int]], groups: Sequence[str], stay: Sequence[int]) -> list[list[int]]:
    """Sets of positions in `stay` that must not be parted. For an image that is left out as a copy stands another one
    of its group: where two patients share a picture, they are most likely one."""
    place = {number: position for position, number in enumerate(stay)}
    stands = {groups[number]: place[number] for number in stay}
    sets = [[place.get(number, stands.get(groups[number])) for number in members] for members in tied]
    return [[position for position in members if position is not None] for members in sets]


def set_aside(groups: Sequence[str], tied: Sequence[Sequence[int]], asked: Conversion,
              labels: Labels | None) -> list[bool]:
    assert asked.holdout is not None
    return split(groups, tied, parse_holdout(asked.holdout), asked.seed, labels)


def about_holdout(groups: Sequence[str], held_out: Sequence[bool], source: Source, kept: Sequence[Finding]) -> str:
    aside = {group for group, out in zip(groups, held_out, strict=True) if out}
    of = f" of {len(aside)} of {len(set(groups))} groups" if len(set(groups)) < len(kept) else ""
    return f"Set aside: {sum(held_out)} of {len(held_out)} images{of}; images that show the same stay together."
