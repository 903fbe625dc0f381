"""Starting from somebody's weights: what fits is copied, what can be adapted is, and all of it is said."""

from dataclasses import dataclass, field

import torch
from torch import nn

from stylegan2_pipeline.adaptation import Names, adapt
from stylegan2_pipeline.checkpoint import Snapshot, load_snapshot
from stylegan2_pipeline.networks import Discriminator, Generator
from stylegan2_pipeline.training_step import Trainer
from torch_utils.errors import UserError


@dataclass
class Report:
    """Names of parameters and buffers of the new network, by what became of them; unused: of the source only.

    notes: what was adapted, in words; frozen: names of layers that are new and, by --freezed, would stay so.
    """

    matched: list[str] = field(default_factory=list)
    adapted: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    frozen: list[str] = field(default_factory=list)

    @property
    def partial(self) -> bool:
        """Whether what the new network computes is not what the source does."""
        return bool(self.missing or self.unused)

    def line(self, name: str) -> str:
        text = f"  {name}: {len(self.matched)} matched, {len(self.adapted)} adapted, {len(self.missing)} missing"
        text += f", {len(self.unused)} of the source unused" if self.unused else ""
        for label, names in (("missing", self.missing), ("unused", self.unused)):
            text += f"\n    {label}: {some(names)}" if names else ""
        return text


def some(names: list[str], most: int = 6) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


@torch.no_grad()
def transfer(source: Generator | Discriminator, net: Generator | Discriminator, source_classes: Names = None,
             classes: Names = None) -> Report:
    """Copies source's tensors into net by name where the shapes agree, or can be made to (see adaptation.py).

    source_classes, classes: names of the labels of either, where they are known.
    """
    draft = adapt(source, net, source_classes, classes)
    report = Report(notes=draft.notes)
    want, trained = net.state_dict(), {name for name, _ in net.named_parameters()}
    for name, target in want.items():
        value = draft.state.get(name)
        if value is None or value.shape != target.shape:
            report.missing.append(name)
            if name not in trained and name.endswith((".weight", ".bias")):
                report.frozen.append(name)
            continue
        target.copy_(value)
        (report.adapted if name in draft.changed else report.matched).append(name)
    report.unused = [name for name in draft.state if name not in want]
    return report


def begin_from(source: str, trainer: Trainer) -> str:
    """Networks of a snapshot into those of a run that begins, and what was learnt with them where the data is the same;
    says what was. Raises as resume_weights does."""
    config, snapshot = trainer.config, load_snapshot(source)
    said = resume_weights(snapshot, trainer.networks, source, config.allow_partial, config.data.class_names)
    if snapshot.options.get("data", {}).get("fingerprint") != config.data.fingerprint:
        return f"{said}\n  Optimizers, counters and the augmentation probability start anew."
    trainer.pl_mean.fill_(snapshot.pl_mean)
    if config.augment.mode == "ada":
        trainer.ada.p = snapshot.augment_p
    return (f"{said}\n  The augmentation probability goes on at {trainer.augment_p:.3f}, the path length mean at "
            f"{snapshot.pl_mean:.3f}; optimizers and counters start anew.")


def resume_weights(snapshot: Snapshot, networks: dict[str, nn.Module], source: str, allow_partial: bool,
                   classes: Names = None) -> str:
    """Transfers G, D and G_ema and says what became of them; classes: the names of the labels of this run.

    Raises UserError on a partial match unless it is allowed, and for new layers that would stay frozen.
    """
    lines, notes, partial, frozen = [f"Starting from the weights of {source}"], dict[str, None](), False, list[str]()
    for name, net in networks.items():
        assert isinstance(net, Generator | Discriminator)
        old = getattr(snapshot, name) or (snapshot.G_ema if name == "G" else None)
        if old is None:
            lines.append(f"  {name}: not in the source, starts new")
            partial = True
            continue
        report = transfer(old, net, snapshot.class_names, classes)
        lines.append(report.line(name))
        notes |= dict.fromkeys(report.notes)
        frozen += report.frozen
        partial = partial or report.partial
    lines += [f"  Adapted: {note}." for note in notes]
    text = "\n".join(lines)
    if partial and not allow_partial:
        raise UserError(f"--resume: the source fits this run only in part.\n{text}\nTake a source of the same "
                        f"resolution, --cfg and --map-depth, or accept it with --allow-partial.")
    if frozen:
        raise UserError(f"--freezed: it would freeze layers of D that the source does not have ({some(frozen)}), and "
                        f"they would stay random. Take a source of the same resolution and --cfg, or a smaller "
                        f"--freezed.")
    return text
