"""What to look at before training, and the command line to type."""

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
from stylegan2_pipeline.conversion.words import sizes_text, used_side
from stylegan2_pipeline.dataset import MIN_RESOLUTION
from stylegan2_pipeline.inspection.facts import BORDERED, PATIENT, Facts, counted, groups_in
from stylegan2_pipeline.sources.labels import some
from torch_utils.errors import UserError

MOST_SIDE = 1024
HOLDOUTS = (0.1, 0.2, 0.3)  # the first that gives enough images
LEAST_SUBJECTS = 5       # of fewer, none can be set aside well
SMALL_FOREGROUND = 0.6   # of the picture: from there on it pays to cut the rest away
EMPTY = 0.15             # images of volumes that show less are mostly the ends
UNEVEN_CLASSES = 10
FEW = 1000


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
    if facts.in_names and not facts.volumes.sizes:
        return None  # slices of one head, each of which would be enlarged by itself
    return Choice("--crop=foreground", f"What shows something fills {usual:.0%} of a usual picture; the rest is even "
                  f"background, which would only make it smaller.", {"crop": "foreground"})


def _transform(facts: Facts, asked: Conversion) -> Choice | None:
    uneven = [finding for finding in facts.good if not finding.square]
    if not uneven and asked.crop == "none":
        return None
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


def _resolution(facts: Facts, asked: Conversion) -> Choice:
    sides = sorted(used_side(finding, asked.transform) for finding in facts.good)
    if asked.crop != "none":
        boxes = [roomy(box, finding.size) if box else (0, 0, *finding.size)
                 for finding, box in zip(facts.good, facts.boxes, strict=True)]
        sides = sorted(max(right - left, bottom - top) for left, top, right, bottom in boxes)
    half = sides[len(sides) // 2]
    side = max(MIN_RESOLUTION, min(MOST_SIDE, 1 << (half.bit_length() - 1)))
    smaller = sum(one < side for one in sides)
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
    exact = f"Exact copies are left out ({len(same.exact)})" if same.exact else "No image has the pixels of another"
    near = (f"; images nearly like another stay ({same.nearly}), which --duplicates=drop-near leaves out: look at them "
            f"first" if same.nearly else "")
    return Choice(f"--duplicates={asked.duplicates}", f"{exact}{near}.", {})


CHOICES: tuple[Callable[[Facts, Conversion], Choice | None], ...] = (
    _filled, _crop, _transform, _resolution, _channels, _window, _labels, _duplicates, _holdout)


@dataclass(frozen=True)
class Remark:
    """level: good, watch or bad; advice: what to do."""

    level: str
    sentence: str
    advice: str = ""


def remarks(facts: Facts) -> list[Remark]:
    """What to look at, the worst first."""
    found = [*_about_files(facts), *_about_copies(facts), *_about_classes(facts), *_about_set(facts)]
    found = found or [Remark("good", "Nothing is wrong that can be seen from here.")]
    return sorted(found, key=lambda remark: ("bad", "watch", "good").index(remark.level))


def _about_files(facts: Facts) -> list[Remark]:
    found, all_files = [], len(facts.good) + len(facts.broken)
    if facts.broken:
        level = "bad" if len(facts.broken) > 0.1 * all_files else "watch"
        found.append(Remark(level, f"{len(facts.broken)} of {counted(all_files, 'image')} cannot be read.",
                            "A conversion leaves them out and names them; --strict stops it instead."))
    text, flat = facts.having("text"), facts.having("flat")
    if text:
        found.append(Remark("watch", f"Text seems to be burned into {counted(len(text), 'image')}.",
                            "The report shows them: networks learn to write, and text may say who somebody is."))
    if flat:
        found.append(Remark("watch", f"{counted(len(flat), 'image')} of one colour everywhere "
                                     f"({some([facts.names[i] for i in flat], 3)}).",
                            "A conversion with --min-foreground leaves such slices out." if facts.volumes.sizes else
                            "Take them out."))
    return found + [Remark("watch", problem) for problem in facts.problems]


def _about_copies(facts: Facts) -> list[Remark]:
    same, found = facts.same, []
    if same.other_class:
        where = "with different labels" if facts.classes else "in different folders"
        sets = counted(len(same.other_class), "set of images", "sets of images")
        found.append(Remark("bad", f"{sets} that show the same, or nearly, {where}.",
                            "One of them is wrong, or the set was put together from others; the report shows them."))
    if same.other_group:
        sets = counted(len(same.other_group), "set of images", "sets of images")
        found.append(Remark("watch", f"{sets} that show the same, or nearly, of different patients or groups.",
                            "A holdout keeps them on one side; the report shows them."))
    if same.exact:
        found.append(Remark("watch", f"{counted(len(same.exact), 'exact copy', 'exact copies')} of an earlier image.",
                            "A conversion leaves them out; --duplicates=keep keeps them."))
    if same.nearly:
        found.append(Remark("watch", f"{counted(same.nearly, 'image')} nearly the same as an earlier one, mirrored or "
                                     f"not.",
                            "The report shows them; --duplicates=drop-near leaves them out."))
    return found


def _about_classes(facts: Facts) -> list[Remark]:
    found, classes = [], facts.classes or facts.folders
    if facts.classes and facts.classes.missing:
        found.append(Remark("watch", f"{facts.classes.missing} of {counted(len(facts.good), 'image')} without a label.",
                            "A conversion stops: --unlabelled=drop leaves them out, --unlabelled=class makes a class "
                            "of them."))
    counts = [count for count in classes.counts.values() if count] if classes else []
    if len(counts) > 1 and max(counts) > UNEVEN_CLASSES * min(counts):
        found.append(Remark("watch", f"Classes are uneven: {min(counts)} to {max(counts)} images each.",
                            "The smallest will be learnt worst, or by heart."))
    if facts.splits:
        found.append(Remark("watch", f"Folders are named {some(facts.splits)}: the collection is split already.",
                            "All of it is read. For a generator that is right, unless the test images are to judge it: "
                            "then give --source the training folder alone."))
    return found


def _about_set(facts: Facts) -> list[Remark]:
    found, kinds = [], facts.kinds
    plain, coloured = kinds["gray"] + kinds["gray stored in colour"], kinds["colour"]
    if plain and coloured:
        found.append(Remark("watch", f"Gray and colour: {counted(plain, 'gray image')} and {coloured} in colour.",
                            "A network learns to make both; --channels=1 makes all gray."))
    if facts.good and len(facts.good) < FEW:
        found.append(Remark("watch", f"Only {counted(len(facts.good), 'image')}.",
                            "Begin from a trained network (train.py --resume) rather than from nothing."))
    if len(facts.sizes) > 1 and max(map(max, facts.sizes)) > 4 * min(map(min, facts.sizes)):
        found.append(Remark("watch", f"Sizes differ by more than four times ({sizes_text(facts.sizes, 3)}).",
                            "What small ones lack in detail, networks learn as blur."))
    return found


def mirror_words(facts: Facts) -> str:
    """Whether to train on mirrored images as well."""
    sides = facts.sides
    if sides is None:
        return ("Too few images, or patients, to tell whether left and right differ; where they do not, train.py "
                "--mirror=1 is right.")
    if sides.sided:
        return (f"Left and right differ: {sides.share:.0%} of the difference between the halves is the same in all "
                f"images. Train without --mirror=1, else networks make mirrored ones too.")
    common = (f"{sides.share:.0%} of their difference is the same in all images" if sides.p <= 0.01 else
              "no more of their difference is the same in all images than by chance")
    return (f"Left and right are alike in this set ({common}): train.py --mirror=1 doubles it at no cost. Not so "
            f"where sides have a meaning that these measures cannot see, as in writing, or in anatomy.")


def caveats(facts: Facts) -> list[str]:
    """What these figures stand on."""
    found = ["Copies are sought at 64 pixels, mirrored or not, but not shifted, turned or cut to a part; burned-in "
             "text is a suspicion, by its look alone.",
             "A report holds pictures and names of files: it needs the care that the images need."]
    if facts.unseen:
        found.insert(0, f"Not all was looked at: {counted(facts.unseen, 'image')} more.")
    if facts.same.compared < len(facts.good):
        found.append(f"Near copies were sought among {facts.same.compared} of {len(facts.good)} images, evenly spread; "
                     f"exact ones among all.")
    if facts.volumes.sizes:
        found.append("Neighbours in a volume look nearly the same, and are not taken for copies.")
    if facts.volumes.sizes and facts.having("deep"):
        found.append("Names of patients and headers of files are never written to archives or reports. Slices of whole "
                     "heads show faces all the same: have them removed before, where that matters.")
    return found

