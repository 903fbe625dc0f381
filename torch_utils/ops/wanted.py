"""Which derivatives a pass of autograd uses."""

from typing import Any

import torch


def wanted(ctx: Any, number: int) -> bool:
    """Whether this very pass uses the derivative by argument `number`, before which all arguments are tensors.

    ctx.needs_input_grad tells what some pass may use: a pass that differentiates images by latents, as path lengths do,
    would compute the gradients of all weights on its way and drop them.
    """
    if not ctx.needs_input_grad[number]:
        return False
    if torch.compiler.is_compiling():  # there is no engine yet to ask
        return True
    ask = getattr(torch._C, "_will_engine_execute_node", None)
    try:
        return ask is None or ask(ctx.next_functions[number][0])
    except RuntimeError:  # it does not answer for a leaf that the pass was begun for
        return True
