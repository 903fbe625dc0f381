"""The metrics by name, and the one function that computes and records any of them."""

import platform
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from metrics.frechet import pfd32
from metrics.inputs import MetricInputs, MetricValue
from metrics.swd import swd
from torch_utils.errors import UserError
from torch_utils.text import format_time


@dataclass(frozen=True)
class Metric:
    """function(inputs, count) measures with `count` generated images; `needs` names the networks it stands on."""

    description: str
    function: Callable[[MetricInputs, int], MetricValue] | None
    count: int
    needs: str | None = None
    lower_is_better: bool = True

    @property
    def unavailable(self) -> str | None:
        """Why it cannot be computed, or None."""
        return None if self.function else f"needs the weights of {self.needs}, which this version cannot load yet"


METRICS = {
    "swd":         Metric("sliced Wasserstein distance of image patches by scale; no weights", swd, 8192),
    "pfd32":       Metric("Frechet distance of images reduced to 32x32; no weights", pfd32, 2048),
    "fid50k_full": Metric("Frechet distance of Inception features", None, 50000, "Inception"),
    "kid50k_full": Metric("kernel distance of Inception features", None, 50000, "Inception"),
    "pr50k3_full": Metric("precision and recall of VGG16 features", None, 50000, "VGG16", lower_is_better=False),
    "is50k":       Metric("Inception score", None, 50000, "Inception", lower_is_better=False),
    "ppl2_wend":   Metric("perceptual path length in w", None, 50000, "VGG16"),
}


def lookup(name: str) -> Metric:
    """Raises UserError for a name that is not in the table."""
    if name not in METRICS:
        usable = ", ".join(key for key in METRICS if METRICS[key].function)
        known = ", ".join(key for key in METRICS if not METRICS[key].function)
        raise UserError(f"--metrics: there is no metric {name!r}. There are {usable}; the names {known} are known, but "
                        f"need weights, which this version cannot load yet.")
    return METRICS[name]


def function_of(name: str) -> Callable[[MetricInputs, int], MetricValue]:
    """Raises UserError for a name that is not in the table, or cannot be computed."""
    metric = lookup(name)
    if metric.function is None:
        available = ", ".join(key for key in METRICS if METRICS[key].function)
        raise UserError(f"--metrics: {name} {metric.unavailable}. Available: {available}.")
    return metric.function


def split_available(names: Iterable[str]) -> tuple[list[str], list[str]]:
    """The names that can be computed, and a sentence for each other one; unknown names raise UserError."""
    usable, sentences = [], []
    for name in names:
        reason = lookup(name).unavailable
        if reason is None:
            usable.append(name)
        else:
            sentences.append(f"Metric {name} {reason}.")
    return usable, sentences


def compute(name: str, inputs: MetricInputs) -> dict[str, Any]:
    """Measures, and returns what metric-<name>.jsonl records: results under their keys, and all that they depend on."""
    function = function_of(name)
    start = time.time()
    value = function(inputs, inputs.num or METRICS[name].count)
    total_time = time.time() - start
    return dict(inputs.about) | {
        "results": value.results,
        "metric": name,
        "total_time": total_time,
        "total_time_str": format_time(total_time),
        "num_gpus": inputs.num_gpus,
        "snapshot_pkl": inputs.snapshot,
        "timestamp": time.time(),
        "counts": value.counts,
        "seed": inputs.seed,
        "device": str(inputs.device),
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__},
    }
