"""How a worker computes: as training does, or plainly, with the process prepared accordingly."""

import contextlib
from collections.abc import Iterator

import torch

from benchmarks.baseline import plain_formulation
from benchmarks.serving import use
from stylegan2_pipeline.config import TrainConfig
from stylegan2_pipeline.devices import prepare
from torch_utils.ops import native

MODULATIONS = {"plain": "scaled", "plain-weights": "weights", "plain-grouped": "grouped"}


@contextlib.contextmanager
def computing(way: str, config: TrainConfig, device: torch.device) -> Iterator[str]:
    """Within it the networks compute in one of variants.WAYS that is not the public code's; gives its kernels' name.

    May be entered once in a process: what is prepared is not undone.
    """
    use(device)
    if way.startswith("plain"):
        torch.backends.cudnn.benchmark = config.benchmark
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = config.allow_tf32
        with plain_formulation(MODULATIONS[way]):
            yield "torch's"
    else:
        prepare(config)
        yield native.summary(device.type)
