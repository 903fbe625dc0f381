"""Training that stops being numbers: which phase it was, and which tensor it began in."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import torch
from torch import Tensor, nn

from stylegan2_pipeline.config import TrainConfig
from stylegan2_pipeline.phases import Phase, is_out_of_memory
from stylegan2_pipeline.training_state import states
from stylegan2_pipeline.training_step import Trainer

BAD_GRADIENTS_IN_A_ROW = 50  # single ones are replaced and counted, as published


class Diverged(click.ClickException):
    """Training cannot go on, because a loss is not a number; the last good state is saved. Exit code 1."""


@dataclass(frozen=True)
class Ailment:
    """phases: by number, those with a loss that was not finite; or the one whose gradient was not, step after step."""

    phases: tuple[int, ...]
    gradient_run: int = 0


def find(trainer: Trainer) -> Ailment | None:
    """Waits for the device. Every rank finds the same."""
    losses, runs = torch.stack([trainer.trouble.losses, trainer.trouble.run]).tolist()
    if any(losses):
        return Ailment(tuple(i for i, count in enumerate(losses) if count))
    long = [i for i, run in enumerate(runs) if run >= BAD_GRADIENTS_IN_A_ROW]
    return Ailment((long[0],), runs[long[0]]) if long else None


def forget(trainer: Trainer) -> None:
    """So that what was found once is not found again."""
    for values in (trainer.trouble.losses, trainer.trouble.run):
        values.zero_()


def describe(ailment: Ailment, trainer: Trainer, real: Tensor, real_c: Tensor) -> str:
    """A sentence; real and its labels are this rank's share of the last step, [n,C,H,W] in [-1, 1] and [n,c_dim]."""
    names = ", ".join(trainer.phases[i].name for i in ailment.phases)
    phase = trainer.phases[ailment.phases[0]]
    if ailment.gradient_run:
        where = parameter_at(phase, int(trainer.trouble.first[ailment.phases[0]]))
        return (f"The gradient of {names} was not finite in {ailment.gradient_run} steps in a row, first in "
                f"{network_name(trainer, phase.network)}.{where}")
    try:
        origin = locate(trainer, phase, real, real_c)
    except RuntimeError as error:  # it holds more at once than training does
        if not is_out_of_memory(error):
            raise
        origin = None
    return f"The loss of {names} became infinite or not a number" + (f", first in {origin}" if origin else "")


def advice(told: str, config: TrainConfig, rollbacks: int, at_once: bool, run_dir: Path, go_on: str) -> str:
    """What to do about it; at_once: it happened right where the process took the run up. go_on: its command."""
    again = f" It had gone back {rollbacks} times already." if rollbacks else ""
    also = "" if config.precision == "fp32" else ", or --fp32=1"
    back = "" if config.on_divergence == "rollback" else "; --on-divergence=rollback halves them by itself"
    text = (f"{told}, so training stopped; no step with such numbers was taken.{again} A higher --gamma (now "
            f"{config.loss.r1_gamma:g}), or a lower --glr and --dlr (now {config.optimizer.g_lr:g} and "
            f"{config.optimizer.d_lr:g}){also} usually helps{back}.")
    if not at_once:
        return f"{text} Go on with:\n  {go_on} --override --glr=... --dlr=..."
    earlier = states(run_dir)[1:2]
    if not earlier:
        return f"{text} The run was never well: start it anew with other settings."
    return (f"{text} It came so soon that the weights were ruined before: remove {states(run_dir)[0].name} in "
            f"{run_dir} to go on from {earlier[0].name}, or start a new run from an earlier snapshot with --resume.")


def network_name(trainer: Trainer, network: nn.Module) -> str:
    return next(name for name, net in trainer.networks.items() if net is network)


def parameter_at(phase: Phase, index: int) -> str:
    """The name of the parameter that holds element `index` of the phase's flat gradient."""
    for name, parameter in phase.network.named_parameters():
        if name not in phase.without_gradient:
            if index < parameter.numel():
                return name
            index -= parameter.numel()
    raise AssertionError(index)


def locate(trainer: Trainer, phase: Phase, real: Tensor, real_c: Tensor) -> str | None:
    """The first tensor that is not finite when the last step's phase is computed again; None: this time all are."""
    if not real.isfinite().all():
        return "the training images"
    for name, net in (("G", trainer.G), ("D", trainer.D)):
        for key, value in net.state_dict().items():
            if value.is_floating_point() and not value.isfinite().all():
                return f"{name}.{key} itself"
    trainer.cur_nimg -= trainer.config.batch  # draws follow from it
    phase.network.requires_grad_(True)
    try:
        with watching(trainer) as seen:
            for part in trainer._parts(phase, real, real_c):
                for term in trainer.terms(phase, part):
                    if not term.loss.isfinite():
                        seen.append(f"the loss after all of G and D ({', '.join(term.stats)})")
                    if seen:
                        return seen[0]
    finally:
        trainer.cur_nimg += trainer.config.batch
        phase.network.requires_grad_(False)
    return None


@contextmanager
def watching(trainer: Trainer) -> Iterator[list[str]]:
    """A list of the modules whose output was not finite, in the order of computing, with the size of what went in."""
    seen: list[str] = []

    def watch(label: str) -> Any:
        def hook(module: nn.Module, inputs: tuple, output: object) -> None:
            outputs = [x for x in (output if isinstance(output, tuple) else (output,)) if isinstance(x, Tensor)]
            if not all(bool(x.isfinite().all()) for x in outputs):
                sizes = [float(x.detach().abs().max()) for x in inputs if isinstance(x, Tensor) and x.numel()]
                seen.append(f"the output of {label}" + (f" (inputs up to {max(sizes):.3g})" if sizes else ""))
        return hook

    handles = [module.register_forward_hook(watch(f"{name}.{path}"))
               for name, net in (("G", trainer.G), ("D", trainer.D))
               for path, module in net.named_modules() if path]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()
