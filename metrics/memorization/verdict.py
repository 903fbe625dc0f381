"""What the figures say in words, and what they do not."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from metrics.bootstrap import Interval
from metrics.memorization.figures import Threshold
from metrics.memorization.findings import NAN2, Figure

UNLIKELY = 0.001   # chance brings an alarm once in so many measurements of a generator that copies nothing
UNUSUAL = 0.05
FEW_UNSEEN = 100   # below, the threshold of 1 % is beyond what these images can show

REMEDY = ("What to do: look at the pairs; give away nothing that flagged.txt names, and check other images of this "
          "network in the same way (--images). Against copying helps an earlier snapshot, more images, --aug=ada, "
          "--mirror=1 where left and right do not matter, data without duplicates.")
BOUNDS = ("Distances find copies. They do not show that nobody can be recognised, nor that nobody can infer who was in "
          "the data: synthetic data that passed such tests have failed the latter (Yao et al. 2025, the DCR delusion).")

# End of the key: (name, key of what it usually is, meaning)
EXPLAINED: dict[str, tuple[str, str, str]] = {
    "": ("Flagged", "expected", "share of generated images nearer to a training image than the threshold"),
    "ratio": ("Flagged over expected", "", "1 where nothing is copied"),
    "p": ("Chance of so many", "", "that so many or more are flagged where nothing is copied"),
    "repeated": ("Repeated", "", "generated images that are plainly copies"),
    "extracted": ("Extracted", "", "different training images that these show"),
    "found": ("Found of planted copies", "", "disguised copies of training images that were flagged with their source"),
    "nndr": ("Distance over that to the next fifty", "nndr_unseen", "median; far below 1 for copies"),
    "z": ("Nearer than unseen images", "", "standard deviations of chance (Mann-Whitney); below -3: nearer"),
    "authpct": ("AuthPct of generated images", "authpct_unseen",
                "per cent farther from the nearest training image than that is from its next (dgm-eval)"),
    "authpct_real": ("AuthPct of training images", "authpct_real_unseen",
                     "per cent farther from the nearest generated image than from the next training image (Alaa 2022)"),
    "mia_auc": ("Membership by distance, AUC", "", "0.5 where training images are no nearer to generated ones than "
                                                   "holdout images"),
    "mia_tpr": ("Members found at 1 % false ones", "", "0.01 where they cannot be told"),
    "mia_control_train": ("Control: halves of the training images", "", "AUC; its distance from 0.5 is chance"),
    "mia_control_unseen": ("Control: halves of the holdout images", "", "AUC; its distance from 0.5 is chance"),
    "duplicates": ("Duplicates in the data", "", "training images that show the same as an earlier one"),
}
KNOWN = {"ratio": 1.0, "z": 0.0, "mia_auc": 0.5, "mia_tpr": 0.01, "mia_control_train": 0.5, "mia_control_unseen": 0.5}


@dataclass(frozen=True)
class Planting:
    """Disguised copies that were planted: (disguise, planted, found), and the sums."""

    by_disguise: tuple[tuple[str, int, int], ...]
    planted: int
    found: int


@dataclass(frozen=True)
class Evidence:
    """What sentences are made of. results: by the end of their keys. blank: images of one tone by kind. leaked:
    holdout images that are in the data. strange: the holdout is of another kind than the data."""

    results: Mapping[str, float]
    limit: Threshold
    count: int
    planting: Planting
    weaker: bool
    leaked: int
    blank: Mapping[str, int]
    train: int
    strange: bool


def explained(results: Mapping[str, float], intervals: Mapping[str, Interval]) -> tuple[Figure, ...]:
    return tuple(Figure(name, results[key], intervals.get(key, NAN2), results[usual] if usual else
                        KNOWN.get(key, math.nan), meaning)
                 for key, (name, usual, meaning) in EXPLAINED.items() if key in results)


def judged(evidence: Evidence) -> tuple[str, bool]:
    """The sentence to read first, and whether it is an alarm."""
    results, planting = evidence.results, evidence.planting
    flags = round(results[""] * evidence.count)
    near = (f"{flags} of {evidence.count} generated images are nearer to a training image than the threshold, where "
            f"{results['expected'] * evidence.count:.1f} would be by chance (p = {results['p']:.2g})")
    seen = f"{planting.found} of {planting.planted} disguised copies that were planted were found"
    if results["repeated"]:
        return (f"Copies of training images: {results['repeated']:.0f} generated images repeat "
                f"{results['extracted']:.0f} training images. {near}; {seen}.", True)
    if evidence.strange:
        return (f"Nothing can be said: the holdout images are unlike the data, so that they do not show what chance "
                f"brings. {near}; {seen}.", False)
    if results["p"] < UNLIKELY:
        return (f"Generated images are nearer to training images than chance explains, though none is a plain copy: "
                f"look at the pairs. {near}; {seen}.", True)
    if planting.found < planting.planted / 2:
        return f"Copies would not be seen here: only {seen}. {near}.", False
    unusual = " That many are unusual: measure with more images." if results["p"] < UNUSUAL else ""
    weaker = " Measured without a holdout, which is weaker." if evidence.weaker else ""
    return f"No evidence of copying at the sensitivity shown: {near}; {seen}.{unusual}{weaker}", False


def notes_of(evidence: Evidence) -> tuple[str, ...]:
    """Sentences for whoever reads the figures."""
    return tuple(note for note in (
        _of_unseen(evidence), _of_duplicates(evidence), _of_blank(evidence), _of_members(evidence),
        REMEDY if judged(evidence)[1] else "", BOUNDS) if note)


def _of_unseen(evidence: Evidence) -> str:
    limit, parts = evidence.limit, []
    if evidence.weaker:
        parts.append("Without --holdout the threshold follows from training images and their nearest others. Images of "
                     "the same patient or source in the data lower it, and copies pass unseen: give images of people "
                     "who are not in the data, as --holdout.")
    if evidence.strange:
        parts.append("Most holdout images are farther from the nearest training image than training images are from "
                     "fifty others. Give --holdout images of the same kind, prepared in the same way.")
    if evidence.leaked:
        parts.append(f"{evidence.leaked} holdout images are copies of training images and were left out: divide by "
                     f"patient or source, not by image.")
    if limit.count < FEW_UNSEEN:
        parts.append(f"{limit.count} {'training' if evidence.weaker else 'holdout'} images cannot show what 1 % is: "
                     f"the threshold is at {100 * limit.expected:.1f} %.")
    return " ".join(parts)


def _of_duplicates(evidence: Evidence) -> str:
    number = round(evidence.results["duplicates"])
    return "" if not number else (
        f"{number} of {evidence.train} training images show the same as an earlier one; they count as one image each. "
        f"Duplicates are what generators copy first: leave them out of the data.")


def _of_blank(evidence: Evidence) -> str:
    found = [f"{count} {kind}" for kind, count in evidence.blank.items() if count]
    return f"Images of one tone were left out: {', '.join(found)}." if found else ""


def _of_members(evidence: Evidence) -> str:
    auc = evidence.results.get("mia_auc")
    if auc is None:
        return ""
    control = max(abs(evidence.results[key] - 0.5) for key in ("mia_control_train", "mia_control_unseen"))
    if abs(auc - 0.5) <= control:
        return (f"Membership by distance: AUC {auc:.3f}, no farther from 0.5 than halves of the same images are from "
                f"each other ({0.5 + control:.3f}).")
    return (f"Membership by distance: AUC {auc:.3f}, while halves of the same images differ by at most "
            f"{0.5 + control:.3f}. Above 0.5, training images lie nearer to generated ones than holdout images do: "
            f"they were learnt too well, or the holdout is of another kind.")
