"""The options that benchmarks of whole networks share, and the settings of a run that they stand for."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
import torch

from benchmarks.turns import Effort
from stylegan2_pipeline.config import AUGPIPE_NAMES, CFG_NAMES, PRECISIONS, DataConfig, TrainConfig
from stylegan2_pipeline.resolve import Machine, resolve
from torch_utils.host import total_memory

Command = TypeVar("Command", bound=Callable[..., Any])
POSITIVE = click.IntRange(min=1)


def with_options(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """A decorator that adds options, the first one on top of --help."""
    def add(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command
    return add


def in_a_folder(context: click.Context, parameter: click.Parameter, path: Path | None) -> Path | None:
    """The path of --save, of which it is known before all the work that it can be written."""
    if path is not None and not path.absolute().parent.is_dir():
        raise click.UsageError(f"--save={path}: there is no folder {path.absolute().parent}. Make it first.")
    return path


NETWORK_OPTIONS = with_options(
    click.option("--cfg", type=click.Choice(CFG_NAMES), default="auto", help="Preset, as of train."),
    click.option("--resolution", type=int, default=256, help="Of the images: a power of two from 8."),
    click.option("--channels", type=click.Choice(["1", "3"]), default="3", help="Of the images."),
    click.option("--cbase", type=POSITIVE, help="Width of the networks, as of train.  [default: the preset's]"),
    click.option("--cmax", type=POSITIVE, help="Most channels, as of train.  [default: 512]"),
    click.option("--precision", type=click.Choice(PRECISIONS), default="auto",
                 help="As of train: fp16 on CUDA, fp32 on a CPU."),
    click.option("--device", metavar="NAME", help="cpu, cuda, cuda:1, ...  [default: cuda where there is one]"),
)
AUGMENT_OPTIONS = with_options(
    click.option("--augpipe", type=click.Choice(AUGPIPE_NAMES), default="bgc", help="Augmentations, as of train."),
    click.option("--p", type=click.FloatRange(0, 1), default=0.3, help="Their probability, which stays as it is."),
)
EFFORT_OPTIONS = with_options(
    click.option("--repeats", type=POSITIVE, default=3, help="Turns of each variant, at the least."),
    click.option("--seconds", type=click.FloatRange(min=0), default=5.0,
                 help="Spent on each variant and part, at the least."),
    click.option("--warmup", type=click.IntRange(min=0), help="Runs before any is timed.  [default: 1, on CUDA 5]"),
    click.option("--one-by-one", is_flag=True,
                 help="Each variant alone, not in turns: for memory that does not hold all of them at once."),
    click.option("--reference", type=click.Path(path_type=Path), metavar="DIR",
                 help="A checkout of the public stylegan2-ada-pytorch, to measure nvlabs and nvlabs-best."),
    click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables."),
    click.option("--save", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", callback=in_a_folder,
                 help="Write the JSON to a file, besides."),
)


def training_config(options: dict[str, Any], device: torch.device) -> TrainConfig:
    """The settings that train would resolve from options of its own names, None where not given.

    Raises UserError or UsageError, naming the option.
    """
    resolution = options["resolution"]
    if resolution & (resolution - 1) or resolution < 8:
        raise click.UsageError(f"--resolution={resolution} is no power of two from 8.")
    on_gpu = device.type == "cuda"
    machine = Machine(int(on_gpu), total_memory(), bf16=not on_gpu or torch.cuda.is_bf16_supported())
    given = {name: options.get(name) for name in ("cfg", "cbase", "cmax", "precision", "batch", "batch_gpu", "augpipe")}
    data = DataConfig("", "", resolution, int(options["channels"]), 1)
    return resolve({**given, "aug": "fixed", "p": options.get("p", 0.0)}, data, machine)[0]


def effort(options: dict[str, Any], device: torch.device) -> Effort:
    default = 5 if device.type == "cuda" else 1
    return Effort(default if options["warmup"] is None else options["warmup"], options["repeats"], options["seconds"])
