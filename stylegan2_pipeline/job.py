"""What one process of a training run is told: plain data that crosses to other processes."""

from dataclasses import dataclass
from pathlib import Path

from stylegan2_pipeline.config import TrainConfig


@dataclass(frozen=True)
class Job:
    """run_dir exists. state: the training state to go on from; None: a new run."""

    config: TrainConfig
    run_dir: Path
    state: Path | None = None
