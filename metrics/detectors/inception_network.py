"""The network Inception 2015 and what happens to images before it; tables of its layers, by their published names.

It is that of Szegedy et al. (arXiv 1512.00567) as Google published it, trained, in December 2015. Numbers can be
compared with others only with what its TensorFlow graph has of its own: averages that do not count padding, a maximum
in place of the average in the last block, 1008 outputs, and the resize.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metrics.detectors.base import as_rgb
from metrics.detectors.tf1_resize import tf1_resize

SIZE = 299


@dataclass(frozen=True)
class Conv:
    """A unit by its name in the published file; padded so that the size stays, unless `valid` or with a stride."""

    name: str
    outputs: int
    kernel: tuple[int, int] = (1, 1)
    stride: int = 1
    valid: bool = False


@dataclass(frozen=True)
class Mixed:
    """A block of branches that all see the same input."""

    name: str
    branches: Sequence["Branch"]


Step = Conv | Mixed | str | tuple[Conv, Conv]  # a pool by its name; two convolutions side by side
Branch = Sequence[Step]

POOLS = {
    "average": partial(F.avg_pool2d, kernel_size=3, stride=1, padding=1, count_include_pad=False),
    "maximum": partial(F.max_pool2d, kernel_size=3, stride=1, padding=1),
    "halve": partial(F.max_pool2d, kernel_size=3, stride=2),
}


def figure_5(pooled: int) -> list[Branch]:
    """Blocks at 35x35 (figure 5 of the paper, with a 5x5 convolution left whole)."""
    return [
        [Conv("branch1x1", 64)],
        [Conv("branch5x5_1", 48), Conv("branch5x5_2", 64, (5, 5))],
        [Conv("branch3x3dbl_1", 64), Conv("branch3x3dbl_2", 96, (3, 3)), Conv("branch3x3dbl_3", 96, (3, 3))],
        ["average", Conv("branch_pool", pooled)],
    ]


def figure_6(width: int) -> list[Branch]:
    """Blocks at 17x17 (figure 6): 7x7 as 1x7 and 7x1."""
    row, column = (1, 7), (7, 1)
    return [
        [Conv("branch1x1", 192)],
        [Conv("branch7x7_1", width), Conv("branch7x7_2", width, row), Conv("branch7x7_3", 192, column)],
        [Conv("branch7x7dbl_1", width), Conv("branch7x7dbl_2", width, column), Conv("branch7x7dbl_3", width, row),
         Conv("branch7x7dbl_4", width, column), Conv("branch7x7dbl_5", 192, row)],
        ["average", Conv("branch_pool", 192)],
    ]


def figure_7(pool: str) -> list[Branch]:
    """Blocks at 8x8 (figure 7): 3x3 as 1x3 beside 3x1."""
    return [
        [Conv("branch1x1", 320)],
        [Conv("branch3x3_1", 384), (Conv("branch3x3_2a", 384, (1, 3)), Conv("branch3x3_2b", 384, (3, 1)))],
        [Conv("branch3x3dbl_1", 448), Conv("branch3x3dbl_2", 384, (3, 3)),
         (Conv("branch3x3dbl_3a", 384, (1, 3)), Conv("branch3x3dbl_3b", 384, (3, 1)))],
        [pool, Conv("branch_pool", 192)],
    ]


# The network as far as each tap, from the one before.
STAGES: dict[str, list[Step]] = {
    "64": [
        Conv("Conv2d_1a_3x3", 32, (3, 3), stride=2), Conv("Conv2d_2a_3x3", 32, (3, 3), valid=True),
        Conv("Conv2d_2b_3x3", 64, (3, 3)), "halve"],
    "192": [Conv("Conv2d_3b_1x1", 80), Conv("Conv2d_4a_3x3", 192, (3, 3), valid=True), "halve"],
    "768": [
        Mixed("Mixed_5b", figure_5(32)), Mixed("Mixed_5c", figure_5(64)), Mixed("Mixed_5d", figure_5(64)),
        Mixed("Mixed_6a", [
            [Conv("branch3x3", 384, (3, 3), stride=2)],
            [Conv("branch3x3dbl_1", 64), Conv("branch3x3dbl_2", 96, (3, 3)),
             Conv("branch3x3dbl_3", 96, (3, 3), stride=2)],
            ["halve"]]),
        Mixed("Mixed_6b", figure_6(128)), Mixed("Mixed_6c", figure_6(160)), Mixed("Mixed_6d", figure_6(160)),
        Mixed("Mixed_6e", figure_6(192))],
    "2048": [
        Mixed("Mixed_7a", [
            [Conv("branch3x3_1", 192), Conv("branch3x3_2", 320, (3, 3), stride=2)],
            [Conv("branch7x7x3_1", 192), Conv("branch7x7x3_2", 192, (1, 7)), Conv("branch7x7x3_3", 192, (7, 1)),
             Conv("branch7x7x3_4", 192, (3, 3), stride=2)],
            ["halve"]]),
        Mixed("Mixed_7b", figure_7("average")), Mixed("Mixed_7c", figure_7("maximum"))],
}
EARLY = ("64", "192")
TAPS = (*STAGES, "logits_unbiased", "logits")


class Unit(nn.Module):
    """Convolution, batch normalisation with fixed statistics, ReLU."""

    def __init__(self, inputs: int, spec: Conv) -> None:
        super().__init__()
        padding = (0, 0) if spec.valid or spec.stride > 1 else (spec.kernel[0] // 2, spec.kernel[1] // 2)
        self.conv = nn.Conv2d(inputs, spec.outputs, spec.kernel, spec.stride, padding, bias=False)
        self.bn: nn.Module = nn.BatchNorm2d(spec.outputs, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu_(self.bn(self.conv(x)))

    def fuse(self) -> None:
        """The normalisation becomes part of the convolution."""
        bn = self.bn
        assert isinstance(bn, nn.BatchNorm2d) and bn.running_mean is not None and bn.running_var is not None
        scale = bn.weight.double() / (bn.running_var.double() + bn.eps).sqrt()
        bias = bn.bias.double() - bn.running_mean.double() * scale
        weight = self.conv.weight.double() * scale[:, None, None, None]
        self.conv.weight, self.conv.bias = (nn.Parameter(t.float(), requires_grad=False) for t in (weight, bias))
        self.bn = nn.Identity()


class Block(nn.Module):
    """Branches side by side, their channels one after another."""

    def __init__(self, inputs: int, branches: Sequence[Branch]) -> None:
        super().__init__()
        self.branches = branches
        self.outputs = sum(add_units(self, inputs, branch) for branch in branches)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([run(self, x, branch) for branch in self.branches], dim=1)


def add_units(module: nn.Module, width: int, steps: Sequence[Step]) -> int:
    """Adds to the module what the steps name, for an input of `width` channels; returns the width of the output."""
    for step in steps:
        if isinstance(step, Conv):
            module.add_module(step.name, Unit(width, step))
            width = step.outputs
        elif isinstance(step, Mixed):
            block = Block(width, step.branches)
            module.add_module(step.name, block)
            width = block.outputs
        elif isinstance(step, tuple):
            width = sum(add_units(module, width, [side]) for side in step)
    return width


def run(module: nn.Module, x: Tensor, steps: Sequence[Step]) -> Tensor:
    """x through the steps that add_units added to the module."""
    for step in steps:
        if isinstance(step, str):
            x = POOLS[step](x)
        elif isinstance(step, tuple):
            x = torch.cat([run(module, x, [side]) for side in step], dim=1)
        else:
            x = module.get_submodule(step.name)(x)
    return x


class Inception(nn.Module):
    """images uint8 [N,C,H,W] to {tap: [N,D] float32}, D = 64, 192, 768, 2048 (means over places) or 1008 (logits).

    fc.weight [1008,2048] makes the unbiased logits of the Inception score from the 2048. early: images at a time in the
    first stages, whose activations are the largest; None: all.
    """

    def __init__(self) -> None:
        super().__init__()
        self.early: int | None = None
        width = 3
        for steps in STAGES.values():
            width = add_units(self, width, steps)
        self.fc = nn.Linear(width, 1008)

    def forward(self, images: Tensor, taps: Sequence[str] = ("2048",)) -> dict[str, Tensor]:
        assert taps and set(taps) <= set(TAPS), taps
        early = [self._through(prepared(part), EARLY) for part in images.split(self.early or len(images))]
        x = torch.cat([x for x, _ in early])
        found = {tap: torch.cat([means[tap] for _, means in early]) for tap in EARLY}
        if not set(taps) <= set(found):
            found |= self._through(x, [tap for tap in STAGES if tap not in EARLY])[1]
            found["logits_unbiased"] = found["2048"] @ self.fc.weight.T
            found["logits"] = found["logits_unbiased"] + self.fc.bias
        return {tap: found[tap] for tap in taps}

    def _through(self, x: Tensor, stages: Sequence[str]) -> tuple[Tensor, dict[str, Tensor]]:
        """x after these stages, and its means over places after each."""
        found = {}
        for tap in stages:
            x = run(self, x, STAGES[tap])
            found[tap] = x.mean([2, 3])
        return x, found

    def fuse(self) -> None:
        """Normalisation into the convolutions: a third fewer passes over memory, features the same to 1e-5."""
        for module in self.modules():
            if isinstance(module, Unit):
                module.fuse()


def prepared(images: Tensor) -> Tensor:
    """uint8 [N,C,H,W] to what the network takes: [N,3,299,299] in [-1, 1)."""
    if images.shape[1] == 1:  # resized once, not three times
        return as_rgb((tf1_resize(images, SIZE) - 128) / 128)
    return (tf1_resize(as_rgb(images), SIZE) - 128) / 128
