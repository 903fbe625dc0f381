"""Starting a training run: look at the data and the machine, settle the options, make the folder, train."""

import shutil
import signal
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import Any

import click
import torch

from stylegan2_pipeline.config import DataConfig, TrainConfig
from stylegan2_pipeline.dataset import ImageDataset
from stylegan2_pipeline.download import fetch
from stylegan2_pipeline.resolve import Machine, notes, resolve
from stylegan2_pipeline.run_folder import make_run_folder
from stylegan2_pipeline.training_loop import Diverged, train
from torch_utils.errors import UserError
from torch_utils.host import total_memory
from torch_utils.ops import native


def open_dataset(path: str, cond: bool, subset: int | None, mirror: bool, seed: int) -> ImageDataset:
    dataset = ImageDataset(path, use_labels=cond, max_images=subset, mirror=mirror, seed=seed)
    if subset is not None and subset > dataset.n_raw:
        raise UserError(f"--subset={subset}: {path} holds only {dataset.n_raw} images. Give that or fewer.")
    return dataset


def data_config(dataset: ImageDataset, path: str, subset: int | None) -> DataConfig:
    names = None if dataset.class_names is None else tuple(dataset.class_names)
    return DataConfig(path=path, name=dataset.name, resolution=dataset.resolution, num_channels=dataset.num_channels,
                      num_images=dataset.n_raw, label_dim=dataset.label_dim, class_names=names, subset=subset,
                      mirror=dataset.mirror)


def this_machine() -> Machine:
    cuda_devices = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return Machine(cuda_devices, total_memory(), bf16=not cuda_devices or torch.cuda.is_bf16_supported())


def launch(data: str, outdir: str, dry_run: bool, cond: bool, subset: int | None, mirror: bool,
           options: dict[str, Any], again: str) -> bool:
    """options: what was typed of the rest, by name; again: the command line to go on with.

    False when the run was stopped by Ctrl-C.
    """
    dataset = open_dataset(data, cond, subset, mirror, options.get("seed", 0))
    machine = this_machine()
    config, name = resolve(options, data_config(dataset, data, subset), machine)
    if dry_run:
        click.echo(config.to_json())
        return True
    if config.resume and "://" in config.resume:
        fetch(config.resume)  # once, here: the ranks find it in the cache
    if not machine.cuda_devices:
        click.echo("No CUDA device found: training on the CPU. Small networks and short runs suit it, at 64x64 for "
                   "example --cbase=1024 --cmax=128 --batch=4 --kimg=50 (some 25 minutes on 2 cores).")
    for note in notes(config, options):
        click.echo(note)
    if config.num_gpus == 1:
        native.load("cuda" if machine.cuda_devices else "cpu")  # while Ctrl-C stops at once and there is no folder yet
    run_dir = make_run_folder(outdir, name)
    try:
        if config.num_gpus > 1:
            return train_on_ranks(config, run_dir, "cuda", again)
        return train(config, dataset, torch.device("cuda" if machine.cuda_devices else "cpu"), run_dir, again)
    except UserError:
        if not (run_dir / "stats.jsonl").exists():  # nothing was trained yet
            shutil.rmtree(run_dir)
        raise


def train_on_ranks(config: TrainConfig, run_dir: Path, device_type: str, again: str = "") -> bool:
    """One process a device; cuda with NCCL, cpu with gloo. An error in any of them ends all, and is raised here."""
    with tempfile.TemporaryDirectory() as meeting:
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the ranks, which finish and save
        try:
            torch.multiprocessing.spawn(_rank, (config, run_dir, device_type, meeting, again), nprocs=config.num_gpus)
        except (torch.multiprocessing.ProcessRaisedException, torch.multiprocessing.ProcessExitedException):
            for kind in (UserError, Diverged):
                if (told := Path(meeting) / kind.__name__).exists():
                    raise kind(told.read_text()) from None
            raise
        finally:
            signal.signal(signal.SIGINT, before)
        return (Path(meeting) / "finished").exists()


def _rank(rank: int, config: TrainConfig, run_dir: Path, device_type: str, meeting: str, again: str) -> None:
    device = torch.device(device_type, rank) if device_type == "cuda" else torch.device("cpu")
    if device.type == "cuda":
        torch.cuda.set_device(device)
    torch.distributed.init_process_group("nccl" if device.type == "cuda" else "gloo", rank=rank,
                                         init_method=f"file://{meeting}/ranks", world_size=config.num_gpus,
                                         timeout=timedelta(hours=2))  # rank 0 alone measures and draws
    data = config.data
    try:
        dataset = open_dataset(data.path, bool(data.label_dim), data.subset, data.mirror, config.seed)
        if train(config, dataset, device, run_dir, again) and rank == 0:
            (Path(meeting) / "finished").touch()
    except (UserError, Diverged) as error:
        (Path(meeting) / type(error).__name__).write_text(error.format_message())
        raise
    torch.distributed.destroy_process_group()
