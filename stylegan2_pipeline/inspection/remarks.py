"""What to look at before training."""

from dataclasses import dataclass

from stylegan2_pipeline.conversion.words import sizes_text
from stylegan2_pipeline.inspection.facts import Facts, counted
from stylegan2_pipeline.sources.labels import some

UNEVEN_CLASSES = 10
FEW = 1000


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
                            "Where they are one picture, one of them is wrong; the report shows them. Neighbours in "
                            "one volume are alike by nature."))
    if same.other_group:
        sets = counted(len(same.other_group), "set of images", "sets of images")
        found.append(Remark("watch", f"{sets} that show the same, or nearly, of different patients or groups.",
                            "A holdout keeps them on one side; the report shows them."))
    if same.exact:
        found.append(Remark("watch", f"{counted(len(same.exact), 'exact copy', 'exact copies')} of an earlier image.",
                            "Of published sets and archives they stay; --duplicates=drop-exact leaves them out."
                            if facts.curated else "A conversion leaves them out; --duplicates=keep keeps them."))
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
