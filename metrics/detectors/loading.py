"""Networks filled with the weights of a file."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from torch_utils.errors import UserError

M = TypeVar("M", bound=nn.Module)


def filled(build: Callable[[], M], state: Mapping[str, Tensor], path: Path, device: torch.device) -> M:
    """What `build` makes, with the weights of `state`, on the device, for evaluation only.

    Takes all of them and nothing else, without a second copy in memory. `build` may read widths from the state's
    shapes. Raises UserError, which names the file, where weights are missing, too many or of other shapes.
    """
    try:
        with torch.device("meta"):
            module = build()
        module.load_state_dict({name: tensor.float() for name, tensor in state.items()}, assign=True)
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        text = f"there is no {error}" if isinstance(error, KeyError) else " ".join(str(error).split())
        raise UserError(f"{path} does not hold the weights that were expected: {text[:300].rstrip('.')}. Give the "
                        f"published file, or none to have it downloaded.") from error
    return module.to(device).eval().requires_grad_(False)
