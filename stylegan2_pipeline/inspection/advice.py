"""The command line to type, with the reason for each of its options."""

import itertools
import shlex
import statistics
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from metrics.memorization.comparison import LEAST
from stylegan2_pipeline.conversion.foreground import roomy
from stylegan2_pipeline.conversion.options import Conversion, trainable
from stylegan2_pipeline.conversion.scan import choose_channels
from stylegan2_pipeline.conversion.split import group_numbers, split
from stylegan2_pipeline.conversion.words import used_side
from stylegan2_pipeline.dataset import MIN_RESOLUTION
from stylegan2_pipeline.inspection.facts import BORDERED, PATIENT, Facts, groups_in
from torch_utils.errors import UserError

MOST_SIDE = 1024
HOLDOUTS = (0.1, 0.2, 0.3)  # the first that gives enough images
LEAST_SUBJECTS = 5       # of fewer, none can be set aside well
NEARLY = 1.2             # times their size: how much larger a square may be in which images are laid
SMALL_FOREGROUND = 0.6   # of the picture: from there on it pays to cut the rest away
EMPTY = 0.15             # images of volumes that show less are mostly the ends


@dataclass(frozen=True)
class Choice:
    """option: as it stands on the command line, or would stand there; why: a sentence; changes: of a Conversion."""

    option: str
    why: str
    changes: dict[str, Any]


@dataclass(frozen=True)
class Advice:
    """asked: the conversion that suits the collection."""

    asked: Conversion
    choices: list[Choice]

    @property
    def command(self) -> str:
        return self.asked.command_line()


def recommend(facts: Facts, asked: Conversion) -> Advice | None:
    """None where no image can be used."""
    if not facts.good:
        return None
    proposal = replace(asked, dest=free_dest(asked.source, asked.dest), report=(), workers=None, max_images=None)
    choices = []
    for choose in CHOICES:
        choice = choose(facts, proposal)
        if choice is not None:
            choices.append(choice)
            proposal = replace(proposal, **choice.changes)
    return Advice(proposal, choices)


def free_dest(source: Path, dest: Path) -> Path:
    """The place itself, or one like it where nothing is yet, and outside of a folder that is read."""
    if source.is_dir() and dest.resolve().is_relative_to(source.resolve()):
        dest = source.resolve().parent / dest.name
    others = (dest.with_name(f"{dest.stem}-{number}{dest.suffix}") for number in itertools.count(2))
    return dest if not dest.exists() else next(other for other in others if not other.exists())


def _crop(facts: Facts, asked: Conversion) -> Choice | None:
    shares = [(box[2] - box[0]) * (box[3] - box[1]) / (finding.size[0] * finding.size[1])
              for finding, box in zip(facts.good, facts.boxes, strict=True) if box and not finding.flat]
    usual = statistics.median(shares) if shares else 1.0
    if usual > SMALL_FOREGROUND or not facts.even_borders:
        return None
    if facts.curated or (facts.in_names and not facts.volumes.sizes):
        return None  # of slices of one head each would be enlarged by itself
    return Choice("--crop=foreground", f"What shows something fills {usual:.0%} of a usual picture; the rest is even "
                  f"background, which would only make it smaller.", {"crop": "foreground"})


def _transform(facts: Facts, asked: Conversion) -> Choice | None:
    uneven = [finding for finding in facts.good if not finding.square]
    if not uneven and asked.crop == "none":
        return _margin(facts)
    lost = statistics.median(1 - min(finding.size) / max(finding.size) for finding in facts.good)
    cut = f"center-crop would cut away {lost:.0%} of a usual one"
    whose = (f"{len(uneven)} of {len(facts.good)} images are not square" if uneven else
             "What is cut out is not square everywhere")
    if facts.edges.white >= BORDERED:
        return Choice("--transform=pad --pad-with=white", f"{whose}, and they lie on white: white borders change "
                      f"nothing{'; ' + cut if uneven else ''}.", {"transform": "pad", "pad_with": "white"})
    if facts.edges.black >= BORDERED or asked.crop != "none":
        return Choice("--transform=pad", f"{whose}, and they lie on black: black borders change nothing"
                      f"{'; ' + cut if uneven else ''}.", {"transform": "pad"})
    if lost > 0.5:
        return Choice("--transform=pad", f"{whose}; {cut}. Should the middle be all that matters, choose "
                      f"--transform=center-crop.", {"transform": "pad"})
    kept = f" and cuts away {lost:.0%} of a usual one" if lost >= 0.005 else ""
    return Choice("--transform=center-crop", f"{whose}; this keeps their middle{kept}. --transform=pad would keep all, "
                  f"with borders that networks learn to draw.", {"transform": "center-crop"})


def _margin(facts: Facts) -> Choice | None:
    """For images that are a little smaller than a power of two, as digits of 28x28 are, and lie on black."""
    sides = {finding.size[0] for finding in facts.good}
    side = max(sides)
    if len(sides) > 1 or trainable(side) or _next(side) > NEARLY * side or facts.edges.black < BORDERED:
        return None
    return Choice("--transform=pad-only", "They lie on black: black borders change nothing, and no pixel of them is "
                  "resized.", {"transform": "pad-only"})


def _next(side: int) -> int:
    """The power of two that is as large, or the next larger one."""
    return max(MIN_RESOLUTION, 1 << (side - 1).bit_length())


def _resolution(facts: Facts, asked: Conversion) -> Choice:
    sides = sorted(used_side(finding, asked.transform) for finding in facts.good)
    if asked.crop != "none":
        boxes = [roomy(box, finding.size) if box else (0, 0, *finding.size)
                 for finding, box in zip(facts.good, facts.boxes, strict=True)]
        sides = sorted(max(right - left, bottom - top) for left, top, right, bottom in boxes)
    half = sides[len(sides) // 2]
    side = max(MIN_RESOLUTION, min(MOST_SIDE, 1 << (half.bit_length() - 1)))
    smaller = sum(one < side for one in sides)
    if asked.transform == "pad-only":
        side = _next(half)
        return Choice(f"--resolution={side}x{side}", f"The next power of two, which training needs: {_range(sides)}.",
                      {"width": side, "height": side})
    if sides[0] == sides[-1] == side and trainable(side):
        why = "As they all are; nothing is resized."
    else:
        why = (f"The largest power of two, which training needs, that at least half of them reach"
               f"{f' (not above {MOST_SIDE})' if side == MOST_SIDE < half else ''}: {_range(sides)}.")
        why += f" Those that are smaller ({smaller}) are enlarged, which adds no detail." if smaller else ""
    return Choice(f"--resolution={side}x{side}", why, {"width": side, "height": side})


def _range(sides: list[int]) -> str:
    if sides[0] == sides[-1]:
        return f"their sides are {sides[0]}"
    return f"their sides are {sides[0]} to {sides[-1]}, the median {sides[len(sides) // 2]}"


def _filled(facts: Facts, asked: Conversion) -> Choice | None:
    volumes = facts.volumes
    empty = sum(finding.filled is not None and finding.filled < EMPTY for finding in facts.good)
    if asked.min_foreground or not volumes.sizes or volumes.unknown or not 0 < empty < len(facts.good) / 2:
        return None
    return Choice(f"--min-foreground={EMPTY}", f"Slices that show next to nothing, as at the ends of volumes: {empty}.",
                  {"min_foreground": EMPTY})


def _channels(facts: Facts, asked: Conversion) -> Choice:
    channels, why = choose_channels(facts.good, asked.channels, asked.draft().background)
    kind = {1: "gray, one channel", 3: "RGB", 4: "RGBA"}[channels]
    return Choice("--channels=auto", f"Becomes {kind}, because {why}.", {})


def _window(facts: Facts, asked: Conversion) -> Choice | None:
    if not facts.having("deep"):
        return None
    each = (f"each of {len(facts.volumes.sizes)} volumes has its own scale, so that contrast does not jump between its "
            f"slices" if facts.volumes.sizes else "there is one scale for all, so that brightness can be compared")
    ends = "percentiles 0.5 and 99.5 become black and white" if asked.window == "auto" else "it is as you asked"
    return Choice(f"--window={asked.window}", f"Values beyond 8 bits are not cut off at 255: {ends}, and {each}.", {})


def _labels(facts: Facts, asked: Conversion) -> Choice | None:
    classes, folders = facts.classes, facts.folders
    if classes:
        missing = f", which {classes.missing} of them lack: those are left out" if classes.missing else ""
        changes = {"unlabelled": "drop"} if classes.missing and asked.unlabelled == "error" else {}
        kind = "vectors" if classes.vectors else f"{len(classes.counts)} classes"
        return Choice(f"--labels={asked.labels}{' --unlabelled=drop' if changes else ''}",
                      f"The images have labels ({kind}){missing}. train.py --cond=1 uses them.", changes)
    if facts.problems:
        return Choice("--labels=none", "The labels that lie there cannot be used: see above.", {"labels": "none"})
    if folders is None:
        return None
    where = "folders inside train, test and the like" if facts.splits else "folders"
    return Choice(f"--labels={shlex.quote(folders.asked)}", f"{len(folders.counts)} {where} look like classes; "
                  f"train.py --cond=1 uses them. Leave it out if they mean nothing.", {"labels": folders.asked})


def _holdout(facts: Facts, asked: Conversion) -> Choice | None:
    if asked.group_by or any(len(groups.sizes) >= LEAST_SUBJECTS and not groups.unknown
                             for groups in (facts.subjects, facts.volumes)):
        by = asked.group_by or ("patient" if facts.subjects.sizes and not facts.subjects.unknown else "volume")
        groups, known = facts.groups, f"{len(set(facts.groups))} groups (by {by}) are known."
    elif facts.in_names >= LEAST_SUBJECTS:
        pattern, named = groups_in(facts.names)
        by, groups = f"regex:(?i){pattern}", group_numbers(named)
        of = "patients" if pattern == PATIENT else "patients or volumes"
        known = f"Names of files seem to tell {facts.in_names} {of}."
    else:
        return None
    part = _part_to_split(facts, groups, asked)
    if not part:
        return None
    return Choice(f"--holdout={part:g} --group-by={shlex.quote(by)}", f"{known} Whole ones are set aside, so that "
                  f"the metric memorization can tell new images from copies of known ones.",
                  {"holdout": f"{part:g}", "group_by": by})


def _part_to_split(facts: Facts, groups: list[int], asked: Conversion) -> float | None:
    """The usual part, or more where that would be too few images to say anything; None where copies join too many of
    the groups."""
    kept = [position for position, finding in enumerate(facts.good) if (finding.filled or 0) >= asked.min_foreground]
    place = {position: number for number, position in enumerate(kept)}
    tied = [[place[position] for position in members if position in place] for members in facts.same.near]
    possible = []
    for part in HOLDOUTS:
        try:
            held = split([str(groups[position]) for position in kept], tied, part, asked.seed)
        except UserError:
            continue
        if sum(held) >= LEAST:
            return part
        possible.append(part)
    return possible[0] if possible else None


def _duplicates(facts: Facts, asked: Conversion) -> Choice | None:
    same = facts.same
    if not same.exact and not same.near:
        return None
    exact = "No image has the pixels of another"
    if same.exact:
        stay = "stay, as of all published sets and archives" if facts.curated else "are left out"
        exact = f"Exact copies {stay} ({len(same.exact)})"
    near = (f"; images nearly like another stay ({same.nearly}), which --duplicates=drop-near leaves out: look at them "
            f"first" if same.nearly else "")
    return Choice(f"--duplicates={asked.duplicates}", f"{exact}{near}.", {})


CHOICES: tuple[Callable[[Facts, Conversion], Choice | None], ...] = (
    _filled, _crop, _transform, _resolution, _channels, _window, _labels, _duplicates, _holdout)
