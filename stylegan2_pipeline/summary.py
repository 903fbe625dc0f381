"""A table of a network's layers: what it is made of and what flows through it."""

from typing import Any

import torch
from torch import Tensor, nn

from stylegan2_pipeline.layers import Conv2dLayer, Dense, MappingNetwork, MinibatchStdLayer, SynthesisLayer, ToRGBLayer

LAYERS = (Conv2dLayer, SynthesisLayer, ToRGBLayer, MinibatchStdLayer, MappingNetwork)


def count(tensors: Any) -> int:
    return sum(tensor.numel() for tensor in tensors)


@torch.no_grad()
def summarize(net: nn.Module, *inputs: Tensor) -> str:
    """Runs net on the inputs and tabulates its layers: output shape and type, parameters, buffers."""
    rows: list[tuple[str, ...]] = []

    def note(name: str, layer: nn.Module) -> Any:
        def hook(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
            dtype = str(output.dtype).removeprefix("torch.")
            rows.append((name, str(list(output.shape)), dtype, f"{count(layer.parameters()):,}",
                         f"{count(layer.buffers()):,}"))
        return layer.register_forward_hook(hook)

    hooks = [note(name, layer) for name, layer in net.named_modules()
             if isinstance(layer, LAYERS) or (isinstance(layer, Dense) and name in ("b4.fc", "b4.out"))]
    net(*inputs)
    for handle in hooks:
        handle.remove()
    head = (type(net).__name__, "output", "type", "parameters", "buffers")
    total = ("total", "", "", f"{count(net.parameters()):,}", f"{count(net.buffers()):,}")
    return table([head, *rows, total])


def table(rows: list[tuple[str, ...]]) -> str:
    """Columns aligned: the last two to the right; a rule under the head and above the last row."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(cell.rjust(w) if i >= len(widths) - 2 else cell.ljust(w)
                       for i, (cell, w) in enumerate(zip(row, widths, strict=True))).rstrip() for row in rows]
    rule = "  ".join("-" * w for w in widths)
    return "\n".join([lines[0], rule, *lines[1:-1], rule, lines[-1]])
