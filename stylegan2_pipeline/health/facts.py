"""What rules need to know of a run, and what they say."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

NOTHING = "Nothing to change."


@dataclass(frozen=True)
class Verdict:
    """What a rule finds: level good, watch or bad; a plain sentence; one flag to change; the numbers behind it."""

    rule: str
    level: str
    sentence: str
    advice: str
    evidence: str


@dataclass(frozen=True)
class Facts:
    """Settings of a run, under the names of config.py; defaults stand for what is not known."""

    augment: str = "ada"
    p: float = 0.0
    target: float = 0.6
    gamma: float = 10.0
    g_lr: float = 0.0025
    d_lr: float = 0.0025
    batch: int = 32
    resolution: int = 256
    total_kimg: float = 25000.0
    num_images: int = 0
    mirror: bool = False
    best_metric: str | None = None

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> "Facts":
        """From asdict(TrainConfig), as in training_options.json; parts that are missing get the defaults."""
        where = {
            "augment": ("augment", "mode"), "p": ("augment", "p"), "target": ("augment", "target"),
            "gamma": ("loss", "r1_gamma"), "g_lr": ("optimizer", "g_lr"),
            "d_lr": ("optimizer", "d_lr"), "batch": ("batch",), "resolution": ("data", "resolution"),
            "total_kimg": ("schedule", "total_kimg"), "num_images": ("data", "num_images"),
            "mirror": ("data", "mirror"), "best_metric": ("best_metric",),
        }  # fmt: skip
        found = {name: _look_up(options, path) for name, path in where.items()}
        return cls(**{name: value for name, value in found.items() if value is not None})

    @property
    def usual_gamma(self) -> float:
        """What --cfg=auto takes for this resolution and batch."""
        return 0.0002 * self.resolution**2 / max(self.batch, 1)

    @property
    def usual_lr(self) -> float:
        return 0.002 if self.resolution >= 1024 else 0.0025


def _look_up(options: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    value: Any = options
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def of_flag(name: str, value: float | str, now: float | str | bool) -> str:
    """E.g. --gamma=20 (now 10)."""
    return f"--{name}={_typed(value)} (now {_typed(now)})"


def _typed(value: float | str | bool) -> str:
    return str(int(value)) if isinstance(value, bool) else value if isinstance(value, str) else f"{value:g}"


def stronger_r1(facts: Facts) -> str:
    """Twice the R1 weight, or the usual one where it is far below: what steadies a discriminator."""
    return of_flag("gamma", max(2 * facts.gamma, facts.usual_gamma / 2), facts.gamma)


def steadier(facts: Facts) -> str:
    """What is furthest from usual comes first: a learning rate too high, an R1 weight too low; else more of the R1."""
    for name, now in (("glr", facts.g_lr), ("dlr", facts.d_lr)):
        if now > 1.5 * facts.usual_lr:
            return of_flag(name, facts.usual_lr, now)
    return stronger_r1(facts)


def percent(value: float) -> str:
    return f"{100 * value:.0f} %" if math.isfinite(value) else "an unknown part"
