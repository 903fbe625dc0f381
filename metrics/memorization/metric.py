"""The metric: how many generated images are copies of training images, and how well copies would have been seen."""

import math
from dataclasses import dataclass, field, replace
from typing import TypeVar

import torch
from torch import Tensor

from metrics.bootstrap import Interval, wilson
from metrics.inputs import MetricInputs, MetricValue, Request
from metrics.memorization.comparison import OTHERS, Comparison
from metrics.memorization.control import DISGUISES
from metrics.memorization.figures import Threshold, chance_of_flags, inference, mann_whitney_z, threshold
from metrics.memorization.findings import Findings, Pair
from metrics.memorization.pairs import Pairs
from metrics.memorization.search import TURN
from metrics.memorization.thumbnails import FINE, REACH
from metrics.memorization.verdict import Evidence, Planting, explained, judged, notes_of

V = TypeVar("V")
SHARE = 0.01     # at most, of images that were never trained on are nearer than the threshold
MOST_NNDR = 0.5  # copies are nearer than this part of the distance to others (Carlini et al. 2023)


@dataclass
class _Measured:
    """Results by the end of their keys, and their intervals."""

    results: dict[str, float] = field(default_factory=dict)
    intervals: dict[str, Interval] = field(default_factory=dict)

    def add(self, key: str, value: float, interval: Interval | None = None) -> None:
        self.results[key] = value
        if interval is not None:
            self.intervals[key] = interval

    def named(self, name: str, values: dict[str, V]) -> dict[str, V]:
        return {f"{name}_{key}" if key else name: value for key, value in values.items()}


def memorization(inputs: MetricInputs, request: Request) -> MetricValue:
    """Results <name> and <name>_<key>, the keys as in verdict.EXPLAINED; details: Findings.

    A generated image is flagged when it is nearer to a training image than 1 % of holdout images are; without holdout,
    than 1 % of training images are to another one, which is weaker. It repeats one when it is also less than half as
    far from it as from the next fifty others on average, and relatively nearer than any holdout image. Distances follow
    the correlation at 32 pixels over mirroring, shifts and small rotations, searched alike for all images, whether the
    network was trained on mirrored images or not (search.py says why).

    Raises UserError for fewer than 20 images of a kind.
    """
    found = Comparison(inputs, request)
    limit = threshold(found.unseen.nearest, SHARE)
    nndr, usual = found.nndr(found.fake), found.nndr(found.unseen)
    flagged = found.fake.nearest < limit.tau
    repeated = flagged & (nndr < usual[usual.isfinite()].min().clamp_max(MOST_NNDR))
    maker = Pairs(found, inputs.fake, inputs.real)
    pairs, shown = maker.look_closer(maker.all(flagged, repeated))
    planting, planted, strange = plant_and_find(found, limit.tau)
    measured = _Measured()
    _flags(measured, found, pairs, planting, limit)
    measured.add("nndr", float(nndr.nanmedian()))
    measured.add("nndr_unseen", float(usual.nanmedian()))
    _comparisons(measured, found, inputs.seed)
    evidence = Evidence(measured.results, limit, len(flagged), planting, found.weaker, len(found.leaked),
                        found.sets.blank, len(found.sets.train), strange and not found.weaker)
    sentence, alarm = judged(evidence)
    value = MetricValue(
        measured.named(request.name, measured.results),
        {"real": len(found.sets.train), "fake": len(flagged), "unseen": len(found.unseen_images),
         "planted": planting.planted},
        measured.named(request.name, measured.intervals), (sentence, *notes_of(evidence)),
        about_of(found, inputs, limit))
    details = Findings(
        sentence, alarm, value.notes[1:], value.results, value.intervals, value.counts,
        {"generated": inputs.about.get("images", inputs.snapshot), "data": inputs.about.get("data"), **value.about},
        explained(measured.results, measured.intervals), limit, found.weaker, planting.by_disguise,
        found.unseen.nearest.numpy(), planted.numpy(), pairs, shown, maker.duplicates(found.duplicates))
    return replace(value, details=details)


def _flags(measured: _Measured, found: Comparison, pairs: list[Pair], planting: Planting, limit: Threshold) -> None:
    """How many are near, against how many by chance, and what the search is worth."""
    count, flags = len(pairs), sum(pair.flagged for pair in pairs)
    places = {int(number): place for place, number in enumerate(found.sets.train.numbers)}
    measured.add("", flags / count, wilson(flags, count))
    measured.add("expected", limit.expected)
    measured.add("ratio", flags / count / limit.expected)
    measured.add("p", chance_of_flags(flags, count, limit))
    measured.add("repeated", sum(pair.repeated for pair in pairs))
    measured.add("extracted", len({int(found.groups[places[pair.real]]) for pair in pairs if pair.repeated}))
    measured.add("found", planting.found / planting.planted, wilson(planting.found, planting.planted))
    measured.add("duplicates", len(found.sets.train) - found.duplicates.different)


def _comparisons(measured: _Measured, found: Comparison, seed: int) -> None:
    """Generated images as a whole against those never trained on; members against others."""
    measured.add("z", mann_whitney_z(found.fake.nearest, found.unseen.nearest))
    measured.add("authpct", found.authentic(found.fake))
    measured.add("authpct_unseen", found.authentic(found.unseen, found.unseen_groups))
    if found.weaker:
        return
    reversed_, usual = found.authentic_reversed()
    measured.add("authpct_real", reversed_)
    measured.add("authpct_real_unseen", usual)
    members, others = found.member_distances, found.other_distances
    all_of_them = inference(members, others, seed)
    measured.add("mia_auc", all_of_them.auc, all_of_them.auc_interval)
    if math.isfinite(all_of_them.tpr):
        measured.add("mia_tpr", all_of_them.tpr, all_of_them.tpr_interval)
    for key, distances in (("mia_control_train", members), ("mia_control_unseen", others)):
        half = inference(distances[::2], distances[1::2], seed)
        measured.add(key, half.auc, half.auc_interval)


def plant_and_find(found: Comparison, tau: float) -> tuple[Planting, Tensor, bool]:
    """How many of the planted copies are flagged with their true source; the distances of all; whether unseen images
    are mostly farther from the data than nine of ten planted ones are from fifty images that are not their source."""
    copies, near = found.planted()
    right = found.groups[near.index[:, 0]] == found.groups[torch.tensor([copy.source for copy in copies])]
    hits = ((near.nearest < tau) & right).tolist()
    by_disguise = tuple((name, sum(copy.disguise == name for copy in copies),
                         sum(hit for hit, copy in zip(hits, copies, strict=True) if copy.disguise == name))
                        for name in DISGUISES)
    others = (near.nearest / found.nndr(near))[near.nearest > 0]
    strange = bool(found.unseen.nearest.median() > others.quantile(0.9)) if len(others) else False
    return Planting(by_disguise, len(copies), sum(hits)), near.nearest, strange


def about_of(found: Comparison, inputs: MetricInputs, limit: Threshold) -> dict[str, object]:
    return {"distance": f"sqrt(2 - 2 correlation) at {min(FINE, found.sets.train.side)} pixels", "tau": limit.tau,
            "share": SHARE, "neighbours": OTHERS, "mirror_search": True, "trained_mirror": inputs.trained_mirror,
            "shift_search": f"1/{REACH} of the width", "rotation_search": f"{TURN} degrees",
            "duplicate_distance": found.duplicates.limit,
            "unseen": "training images left out" if found.weaker else "holdout"}
