"""The health of a run, tick by tick: measured on its pictures, judged by the rules, told when it changes."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from metrics.names import lower_is_better
from stylegan2_pipeline.config import TrainConfig
from stylegan2_pipeline.health.probe import HealthProbe
from stylegan2_pipeline.health.rules import Facts, Verdict, judge
from stylegan2_pipeline.history import read_run


class Checkup:
    """What has been measured so far, in memory and (through the log) in the run folder."""

    def __init__(self, config: TrainConfig, probe: HealthProbe, run_dir: Path) -> None:
        """A run that goes on finds its history in run_dir."""
        self.facts = Facts.of(asdict(config))
        self.probe = probe
        self.ticks: list[dict[str, float]] = []
        self.metrics: dict[str, list[tuple[float, float]]] = {}
        if (run_dir / "stats.jsonl").exists():
            history = read_run(run_dir)
            self.ticks = [dict(tick) for tick in history.ticks]
            self.metrics = {name: [(point.kimg, point.value) for point in points
                                   if "cur_nimg" in point.raw]  # else measured by hand, on other numbers of images
                            for name, points in history.metrics.items()}
        self._told: list[tuple[str, str]] = []
        self._last: list[Verdict] = []

    @property
    def memory(self) -> Tensor | None:
        """What the next measurement is compared with besides the data; part of the training state."""
        return self.probe.before

    @memory.setter
    def memory(self, images: Tensor | None) -> None:
        self.probe.before = images

    def measure(self, fakes: np.ndarray) -> dict[str, float]:
        """Health/* of images of fixed latents, uint8 [N,C,H,W]."""
        return self.probe.measure(fakes)

    def note_metric(self, result: Mapping[str, Any]) -> None:
        name = result["metric"]
        if (value := result["results"].get(name)) is not None:
            self.metrics.setdefault(name, []).append((result.get("cur_nimg", 0) / 1000, value))

    def is_best(self, name: str) -> bool:
        """Whether the last value of a metric is its best."""
        values = [value for _, value in self.metrics.get(name, []) if np.isfinite(value)]
        best = min if lower_is_better(name) else max
        return bool(values) and values[-1] == best(values) and bool(np.isfinite(self.metrics[name][-1][1]))

    def judge(self, tick: Mapping[str, float]) -> tuple[dict[str, Any], list[str]]:
        """The record of a tick for health.jsonl, and the sentences of verdicts that were not there before."""
        self.ticks.append(dict(tick))
        verdicts = judge(self.ticks, self.metrics, self.facts)
        now = [(verdict.rule, verdict.level) for verdict in verdicts]
        new = [sentence(verdict) for verdict in verdicts if (verdict.rule, verdict.level) not in self._told]
        self._told = now
        self._last = verdicts
        return {"kimg": tick.get("Progress/kimg"), "verdicts": [asdict(verdict) for verdict in verdicts]}, new


    def bad(self) -> list[str]:
        """What was bad at the last tick, in sentences."""
        return [sentence(verdict) for verdict in self._last if verdict.level == "bad"]


def sentence(verdict: Verdict) -> str:
    advice = f" {verdict.advice}" if verdict.advice else ""
    evidence = f" [{verdict.evidence}]" if verdict.evidence else ""
    return f"Health ({verdict.level}): {verdict.sentence}{advice}{evidence}"


