"""The device a command runs on, from what its --device says; what is set for a whole process."""

import os

import torch

from stylegan2_pipeline.config import TrainConfig
from torch_utils.errors import UserError
from torch_utils.host import keep_freed_memory


def chosen_device(name: str | None) -> torch.device:
    """cpu, cuda, cuda:1, ...; None is CUDA where there is one, else the CPU. Raises UserError naming --device."""
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        here = ", ".join(["cpu", *(f"cuda:{i}" for i in range(count))])
        raise UserError(f"--device={name} cannot be used here. There is: {here}.") from error
    return device


def prepare(config: TrainConfig) -> None:
    """Process-wide settings of torch for a run."""
    keep_freed_memory()
    if config.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when the first handle is made
    torch.backends.cudnn.benchmark = config.benchmark
    torch.backends.cuda.matmul.allow_tf32 = config.allow_tf32
    torch.backends.cudnn.allow_tf32 = config.allow_tf32
    torch.backends.cudnn.deterministic = config.deterministic
    torch.use_deterministic_algorithms(config.deterministic, warn_only=True)
