"""Inception 2015, whose features are those of FID, KID and the Inception score, from its public files."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from metrics.detectors.base import Detector
from metrics.detectors.inception_network import STAGES, Branch, Conv, Inception, Mixed
from metrics.detectors.loading import filled

if TYPE_CHECKING:
    from metrics.weights import WeightsFile

_AT_ONCE = {"cpu": 16, "cuda": 128}  # images: on a CPU more are not faster


def open_inception(file: "WeightsFile", device: torch.device, fused: bool = True) -> Detector:
    """Rows [N,2048] of images of any size; 24 million weights, 11 GFLOP an image.

    fused=False computes layer by layer as others do, to the bit the same as torch-fidelity on a CPU, and slower. Raises
    UserError where the file holds anything but these weights, under the names of the public .pth or .pt.
    """
    from metrics.weights import read_state

    module = filled(Inception, in_our_names(read_state(file)), file.path, device)
    if fused:
        module.fuse()
    if fused and device.type == "cpu":
        module.early = 2  # 10 MB of activations each, which stay in the processor's cache
        module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    at_once = _AT_ONCE.get(device.type, 32)

    @torch.no_grad()
    def rows(images: Tensor) -> Tensor:
        return torch.cat([module(part)["2048"] for part in images.split(at_once)])

    about = {"resize": "bilinear of TensorFlow 1 to 299x299", "range": "[-1, 1)", "layer": "2048 (last pool)"}
    return Detector("inception-2015-12-05", f"sha256:{file.sha256}", rows, about, module)


def in_our_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of the public TorchScript file by the names of the .pth; others as they are.

    There the parts have the names of the TensorFlow graph, with dots or underscores between them, and normalisation has
    no scale.
    """
    given = {name.replace(".", "_"): t for name, t in state.items()}
    names = {"output_weight": "fc.weight", "output_bias": "fc.bias"}
    for unit, theirs in _tensorflow_names():
        parts = {"weight": "conv.weight", "beta": "bn.bias", "mean": "bn.running_mean", "var": "bn.running_var"}
        names |= {f"layers_{theirs}_{part}": f"{unit}.{ours}" for part, ours in parts.items()}
    if given.keys().isdisjoint(names):
        return dict(state)
    found = {names.get(name, name): t for name, t in given.items()}
    for name in [name for name in found if name.endswith("bn.running_var")]:
        unit = name.removesuffix("running_var")
        found |= {unit + "weight": torch.ones_like(found[name]), unit + "num_batches_tracked": torch.tensor(0)}
    return found


def _tensorflow_names() -> Iterator[tuple[str, str]]:
    """Our name of each unit and its name in the graph: what stands in line is conv, conv_1, ..., branches of more than
    one convolution are tower, tower_1, ..., and what stands side by side at their ends is mixed_conv, mixed_conv_1."""
    in_line = blocks = 0
    for step in chain.from_iterable(STAGES.values()):
        if isinstance(step, Conv):
            yield step.name, "conv" + _nth(in_line)
            in_line += 1
        elif isinstance(step, Mixed):
            for unit, theirs in _tensorflow_branches(step.branches):
                yield f"{step.name}.{unit}", f"mixed{_nth(blocks)}_{theirs}"
            blocks += 1


def _tensorflow_branches(branches: Sequence[Branch]) -> Iterator[tuple[str, str]]:
    towers = 0
    for branch in branches:
        tower = "" if len(branch) == 1 else f"tower{_nth(towers)}_"
        towers += len(branch) > 1
        for place, conv in enumerate(step for step in branch if isinstance(step, Conv)):
            yield conv.name, f"{tower}conv{_nth(place)}"
        for sides in (step for step in branch if isinstance(step, tuple)):
            yield from ((conv.name, f"{tower}mixed_conv{_nth(place)}") for place, conv in enumerate(sides))


def _nth(number: int) -> str:
    return f"_{number}" if number else ""
