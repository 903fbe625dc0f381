"""Worker of `benchmarks.train`: our trainer, whole or phase by phase, on images that are already in memory."""

import contextlib
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.profiling import profile_parts
from benchmarks.serving import Workload, serve
from benchmarks.ways import computing
from stylegan2_pipeline.config import TrainConfig
from stylegan2_pipeline.phases import Phase
from stylegan2_pipeline.training_step import Trainer


class Steps:
    """The parts of a training step. Learning rates are 0, so that all of them compute with the first weights."""

    def __init__(self, config: TrainConfig, device: torch.device) -> None:
        data = config.data
        labels = torch.zeros([1, data.label_dim])
        self.trainer = Trainer(config, labels, device, tell=partial(print, file=sys.stderr))
        self.trainer.scale_learning_rates(0.0)
        shape = [config.batch, data.num_channels, data.resolution, data.resolution]
        random = torch.Generator().manual_seed(0)
        loaded = torch.randint(0, 256, shape, dtype=torch.uint8, generator=random)
        self.loaded = loaded.pin_memory() if device.type == "cuda" else loaded
        self.real_c = labels.expand(config.batch, -1).to(device)
        self.bring_images()

    def bring_images(self) -> None:
        """As the training loop does."""
        self.real = self.loaded.to(self.trainer.device, non_blocking=True).to(torch.float32) / 127.5 - 1

    def run(self, phase: Phase) -> None:
        self.trainer.run_phase(phase, self.real, self.real_c)
        self.trainer.cur_nimg += self.trainer.config.batch  # the next samples draw anew

    def rest(self) -> None:
        """A step without its phases: the moving average and the counters."""
        phases, self.trainer.phases = self.trainer.phases, []
        self.trainer.step(self.real, self.real_c)
        self.trainer.phases = phases

    def cycle(self, length: int) -> None:
        """As many whole steps as it takes until all phases have had their turn."""
        for _ in range(length):
            self.bring_images()
            self.trainer.step(self.real, self.real_c)

    def parts(self) -> dict[str, Callable[[], None]]:
        phases = {phase.name: partial(self.run, phase) for phase in self.trainer.phases}
        return {"images": self.bring_images, **phases, "EMA": self.rest}

    def weights(self) -> dict[str, float]:
        """How often each part is in a step, on the average."""
        phases = {phase.name: 1 / phase.interval for phase in self.trainer.phases}
        return {"images": 1.0, **phases, "EMA": 1.0}


@contextlib.contextmanager
def training(settings: dict[str, Any]) -> Iterator[Workload]:
    """settings: way, config (JSON of a TrainConfig), device, cycle (whole steps instead of parts)."""
    config, device = TrainConfig.from_json(settings["config"]), torch.device(settings["device"])
    with computing(settings["way"], config, device) as kernels:
        steps = Steps(config, device)
        about = {"weights": steps.weights(), "kernels": kernels, "batch": config.batch, "batch_gpu": config.batch_gpu}
        tasks = steps.parts()
        if settings["cycle"]:
            length = max(phase.interval for phase in steps.trainer.phases)
            tasks, about["weights"] = {"cycle": partial(steps.cycle, length)}, {"cycle": 1 / length}

        def profile(path: Path) -> list[dict[str, Any]]:
            weights = steps.weights()
            return [row | {"weight": weights[row["part"]]} for row in profile_parts(steps.parts(), device, path)]

        yield Workload(device, tasks, about, profile)


if __name__ == "__main__":
    serve(training)
