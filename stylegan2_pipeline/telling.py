"""What a run says in words: its data and settings, its networks, and what to type when it ends."""

import shlex
import sys
from pathlib import Path

import torch

from stylegan2_pipeline import ranks
from stylegan2_pipeline.config import TrainConfig
from stylegan2_pipeline.stopping import name as signal_name
from stylegan2_pipeline.summary import summarize
from stylegan2_pipeline.training_step import Trainer
from torch_utils import distributed


def describe_data(config: TrainConfig) -> str:
    data = config.data
    kind = {1: "gray", 3: "RGB", 4: "RGBA"}[data.num_channels]
    text = f"{data.num_images} {kind} images of {data.resolution}x{data.resolution}"
    text += ", doubled by mirroring" if data.mirror else ""
    if data.class_names:
        return f"{text}, {data.label_dim} classes ({', '.join(data.class_names)})"
    return text + (f", labels of {data.label_dim} numbers" if data.label_dim else "")


def describe_settings(config: TrainConfig) -> str:
    """The settings that matter most, in a line."""
    net, optimizer, augment = config.networks, config.optimizer, config.augment
    parts = f" in parts of {config.batch_gpu}" if config.batch_gpu * config.num_gpus < config.batch else ""
    pipe = {"noaug": "", "diffaugment": " " + ",".join(augment.policy)}.get(augment.mode, f" {augment.pipe}")
    return (f"{config.cfg}: {config.schedule.total_kimg:g} kimg, batch {config.batch}{parts}, channel base "
            f"{net.channel_base} (at most {net.channel_max}), gamma {config.loss.r1_gamma:g}, learning rates "
            f"{optimizer.g_lr:g} and {optimizer.d_lr:g}, {augment.mode}{pipe}, {config.precision}, seed {config.seed}")


def describe_precision(config: TrainConfig) -> str:
    """What is computed in which type, and what --precision=auto is here and why."""
    half = f"{config.precision} at the {config.networks.num_half_res} highest resolutions, float32 elsewhere"
    what = "float32" if config.precision == "fp32" else half
    what += ", with products in TF32" if config.allow_tf32 and config.device == "cuda" else ""
    auto = "fp16 on a CUDA device, as published" if config.device == "cuda" else (
        "fp32 on a CPU; bf16 is up to 1.3 times as fast where the processor has it")
    return f"{what} (--precision=auto is {auto})"


def describe_device(device: torch.device) -> str:
    ranks = f"{distributed.world_size()} x " if distributed.world_size() > 1 else ""
    if device.type == "cuda":
        return ranks + torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"{ranks}the CPU ({threads} thread{'s' if threads > 1 else ''})"


def describe_networks(trainer: Trainer) -> str:
    """A table of the layers of each; runs them once."""
    data = trainer.config.data
    c = torch.zeros([1, data.label_dim], device=trainer.device)
    image = torch.zeros([1, data.num_channels, data.resolution, data.resolution], device=trainer.device)
    z = torch.zeros([1, trainer.G.z_dim], device=trainer.device)
    return f"\n{summarize(trainer.G, z, c)}\n\n{summarize(trainer.D, image, c)}\n"


def finished(config: TrainConfig, run_dir: Path, snapshot: Path | None) -> str:
    """What there is now, and the commands to type next."""
    network, run = shlex.quote(str(snapshot)), shlex.quote(str(run_dir))
    by_class = f" --class={shlex.quote((config.data.class_names or ['0'])[0])}" if config.data.label_dim else ""
    return (f"\nDone: {snapshot}\n"
            f"Images from it: {program('generate')} --seeds 1-10 --network={network}{by_class}\n"
            f"How it went:    stylegan2 report {run}")


def stopped(number: int, cur_nimg: int, run_dir: Path, saved: bool) -> str:
    text = f"\nStopped by {signal_name(number)} at {cur_nimg / 1000:g} kimg"
    text += ", everything saved." if saved else "; saving failed, the run goes on from its last saved state."
    return f"{text} Go on with:\n  {continue_command(run_dir)}"


def continue_command(run_dir: Path) -> str:
    start = "torchrun ... train.py" if ranks.under_torchrun() else program("train")
    return f"{start} --continue={shlex.quote(str(run_dir))}"


def program(verb: str) -> str:
    """How to type another command where this one was typed: beside train.py, or as `stylegan2 train`."""
    own = Path(sys.argv[0])
    if own.name == "stylegan2":
        return f"stylegan2 {verb}"
    return f"python {shlex.quote(str(own.with_name(f'{verb}.py')))}" if own.name == "train.py" else f"python {verb}.py"
