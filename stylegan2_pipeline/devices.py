"""The device a command runs on, from what its --device says."""

import torch

from torch_utils.errors import UserError


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
