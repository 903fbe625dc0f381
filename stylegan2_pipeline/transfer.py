"""Starting from somebody's weights: what fits is copied, what can be adapted is, and all of it is said."""

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from stylegan2_pipeline.checkpoint import Snapshot
from torch_utils.errors import UserError


@dataclass
class Report:
    """Names of parameters and buffers of the new network, by what became of them; unused: of the source only."""

    matched: list[str] = field(default_factory=list)
    adapted: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)

    def line(self, name: str) -> str:
        text = f"  {name}: {len(self.matched)} matched, {len(self.adapted)} adapted, {len(self.missing)} missing"
        text += f", {len(self.unused)} of the source unused" if self.unused else ""
        for label, names in (("adapted", self.adapted), ("missing", self.missing)):
            text += f"\n    {label}: {some(names)}" if names else ""
        return text


def some(names: list[str], most: int = 6) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def adapt(name: str, value: Tensor, shape: torch.Size) -> Tensor | None:
    """A tensor for other image channels, gray (1) and RGB (3): a gray image and its RGB copy give the same features.

    The run-time scale 1/sqrt(channels) of fromrgb is undone in the stored weights. None: there is no rule.
    """
    layer = name.split(".")[-2] if "." in name else ""
    if layer == "fromrgb" and name.endswith("weight"):
        old, new = value.shape[1], shape[1]
        if {old, new} == {1, 3} and value.shape[0] == shape[0]:
            return value.sum(1, keepdim=True).expand(shape) / new * math.sqrt(new / old)
    if layer == "torgb" and value.shape[1:] == shape[1:] and {value.shape[0], shape[0]} == {1, 3}:
        return value.mean(0, keepdim=True).expand(shape)
    return None


@torch.no_grad()
def transfer(source: nn.Module, net: nn.Module) -> Report:
    """Copies source's tensors into net by name where the shapes agree, or can be made to."""
    report = Report()
    have, want = source.state_dict(), net.state_dict()
    for name, target in want.items():
        value = have.get(name)
        if value is not None and value.shape == target.shape:
            target.copy_(value)
            report.matched.append(name)
        elif value is not None and (adapted := adapt(name, value, target.shape)) is not None:
            target.copy_(adapted)
            report.adapted.append(name)
        else:
            report.missing.append(name)
    report.unused = [name for name in have if name not in want]
    return report


def resume_weights(snapshot: Snapshot, networks: dict[str, nn.Module], source: str, allow_partial: bool) -> str:
    """Transfers G, D and G_ema and says what matched. Raises UserError on a partial match unless it is allowed."""
    lines, partial = [f"Starting from the weights of {source}"], False
    for name, net in networks.items():
        old = getattr(snapshot, name) or (snapshot.G_ema if name == "G" else None)
        if old is None:
            lines.append(f"  {name}: not in the source, starts new")
            partial = True
            continue
        report = transfer(old, net)
        lines.append(report.line(name))
        partial = partial or bool(report.missing)
    text = "\n".join(lines)
    if partial and not allow_partial:
        raise UserError(f"--resume: the source fits this run only in part.\n{text}\nTake a source of the same "
                        f"resolution, --cfg and labels, or accept it with --allow-partial.")
    return text
