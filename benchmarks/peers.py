"""Makes the public packages that ours is compared with importable beside a torch for CPUs."""

import contextlib
import importlib.util
from functools import cache
from pathlib import Path

import torch

INSTALL = "pip install -c constraints.txt -e '.[parity]'"

# What the compiled part of torchvision would declare. Its wheels on PyPI are made for CUDA; beside a torch for CPUs
# that part does not load, and importing torchvision fails for want of these two operators, which nothing here calls.
_SCHEMAS = ("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
            "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
_DECLARATIONS = torch.library.Library("torchvision", "FRAGMENT")  # they hold as long as this object lives


@cache
def let_torchvision_load() -> None:
    """To be called before anything imports torchvision, as torch-fidelity and pytorch-fid do."""
    found = importlib.util.find_spec("torchvision")
    for library in Path(found.origin or "").parent.glob("_C*.so") if found else ():
        with contextlib.suppress(OSError):
            torch.ops.load_library(library)  # a build that fits this torch declares them itself
            return
    for schema in _SCHEMAS:
        _DECLARATIONS.define(schema)
