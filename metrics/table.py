"""The functions behind the names, and the one that computes and records any of them."""

import platform
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch

from metrics.diversity import msssim, vendi
from metrics.fid import fid, fid_inf
from metrics.inception_score import inception_score
from metrics.inputs import MetricInputs, MetricValue, Request
from metrics.kernel import kid
from metrics.memorization.metric import memorization
from metrics.names import KINDS, Name, counted, parse
from metrics.neighbours import density_coverage, precision_recall
from metrics.panel import pfd32, prdc32, rfd
from metrics.path_length import ppl
from metrics.plain import spectrum, tone
from metrics.swd import swd
from metrics.weights import WeightsSource, locate
from torch_utils.errors import UserError
from torch_utils.text import format_time

FEW = 200  # images; see docs/metrics.md
Function = Callable[[MetricInputs, Request], MetricValue]

FUNCTIONS: dict[str, Function] = {  # by Kind.name
    "swd{n}":        swd,
    "rfd{n}":        rfd,
    "pfd32":         pfd32,
    "prdc32":        prdc32,
    "msssim":        msssim,
    "vendi":         vendi,
    "tone":          tone,
    "spectrum":      spectrum,
    "memorization":  memorization,
    "fid{n}_full":   fid,
    "kid{n}_full":   kid,
    "pr{n}3_full":   partial(precision_recall, k=3),
    "dc{n}5_full":   partial(density_coverage, k=5),
    "is{n}":         inception_score,
    "fid{n}_inf":    fid_inf,
    "fd{n}_dinov2":  partial(fid, detector="dinov2"),
    "kd{n}_dinov2":  partial(kid, detector="dinov2"),
    "ppl2_wend":     partial(ppl, kind="ppl2_wend"),
    "ppl_zfull":     partial(ppl, kind="ppl_zfull"),
    "ppl_wfull":     partial(ppl, kind="ppl_wfull"),
    "ppl_zend":      partial(ppl, kind="ppl_zend"),
    "ppl_wend":      partial(ppl, kind="ppl_wend"),
    "fid{n}":        fid,
    "kid{n}":        kid,
    "pr{n}3":        partial(precision_recall, k=3),
}
assert set(FUNCTIONS) == {kind.name for kind in KINDS}


def plan(names: Iterable[Name]) -> dict[str, int]:
    """Detectors of generated images, and of how many each: what one pass over them can compute for all metrics."""
    wanted: dict[str, int] = {}
    for name in names:
        for detector in name.kind.detectors:
            wanted[detector] = max(name.count, wanted.get(detector, 0))
    return wanted


def split_available(names: Iterable[str], source: WeightsSource) -> tuple[list[str], list[str]]:
    """The metrics whose weights are there or can be fetched, which is done; and a sentence for each other one."""
    usable, sentences = [], []
    problems: dict[str, str | None] = {}
    for name in names:
        wanted = parse(name).kind.weights
        for file in wanted:
            if file not in problems:
                problems[file] = problem_with(file, source)
        found = next((problem for file in wanted if (problem := problems[file])), None)
        if found is None:
            usable.append(name)
        else:
            sentences.append(f"Metric {name} is left out: {found}")
    return usable, sentences


def problem_with(file: str, source: WeightsSource) -> str | None:
    """Why these weights cannot be had, or None."""
    try:
        locate(file, source)
    except UserError as error:
        return error.format_message()
    return None


def compute(name: Name, inputs: MetricInputs, mirrored: MetricInputs | None = None,
            mirror: str = "auto") -> tuple[dict[str, Any], MetricValue]:
    """Measures. Returns what metric-<name>.jsonl records, results under their keys and all that they depend on; and
    the value, which may have more.

    mirrored: the same inputs with mirrored copies among the real images; None where there are none. mirror: off, on,
    or auto, which is off but for the older names, whose real images are as in training.
    """
    copies = mirrored is not None and with_copies(name, inputs.trained_mirror, mirror)
    chosen = mirrored if copies and mirrored is not None else inputs
    most = name.kind.real_most
    if most is not None and name.kind.trained_mirror:
        most = min(most, name.count)
    start = time.time()
    value = FUNCTIONS[name.kind.name](chosen, Request(name.text, name.count, most, copies))
    if name.kind.name != "memorization":  # which says itself what few images can show
        value = replace(value, notes=(*value.notes, *few_images(value.counts)))
    return record(name, chosen, value, copies, time.time() - start), value


def few_images(counts: Mapping[str, int]) -> list[str]:
    found = {kind: counts[kind] for kind in ("real", "fake") if counts.get(kind, FEW) < FEW}
    return [f"With {counted(found)} images chance decides much of this figure: {FEW} of both are the least to go by. "
            f"Look at the images."] if found else []


def with_copies(name: Name, trained_mirror: bool, mirror: str) -> bool:
    """Whether mirrored copies are among the real images; never where copies are what is looked for."""
    if name.kind.name == "memorization":
        return False
    return mirror == "on" or (mirror == "auto" and name.kind.trained_mirror and trained_mirror)


def record(name: Name, inputs: MetricInputs, value: MetricValue, mirror: bool, seconds: float) -> dict[str, Any]:
    """The line of JSON of a result."""
    detectors = {}
    for kind in name.kind.detectors:
        opened = inputs.detector(kind)
        detectors[kind] = {"name": opened.name, "digest": opened.digest, **opened.about}
    return {
        **inputs.about,
        "results": value.results,
        "metric": name.text,
        "total_time": seconds,
        "total_time_str": format_time(seconds),
        "num_gpus": inputs.num_gpus,
        "snapshot_pkl": inputs.snapshot,
        "timestamp": time.time(),
        "counts": value.counts,
        "intervals": {key: list(pair) for key, pair in value.intervals.items()},
        "notes": list(value.notes),
        "mirror": "on" if mirror else "off",
        "detectors": detectors,
        "estimator": dict(value.about),
        "seed": inputs.seed,
        "device": str(inputs.device),
        "versions": versions(),
    }


def versions() -> Mapping[str, str]:
    return {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__}
