"""What one process of several is told: plain data that crosses to other processes."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from stylegan2_pipeline.config import TrainConfig


class Shared(Protocol):
    """Work that num_gpus processes do together, each on a device of this type. run_dir: where states are saved."""

    @property
    def num_gpus(self) -> int: ...

    @property
    def device_type(self) -> str: ...

    @property
    def run_dir(self) -> Path | None: ...


@dataclass(frozen=True)
class Job:
    """run_dir exists. state: the training state to go on from; None: a new run."""

    config: TrainConfig
    run_dir: Path
    state: Path | None = None

    @property
    def num_gpus(self) -> int:
        return self.config.num_gpus

    @property
    def device_type(self) -> str:
        return self.config.device
