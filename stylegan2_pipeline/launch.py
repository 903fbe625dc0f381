"""Starting a training run, or going on with one: look at the data and the machine, settle the options, train."""

import os
import platform
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import torch

from metrics.names import expand, first_judge
from metrics.table import split_available
from metrics.weights import WeightsSource
from stylegan2_pipeline import __version__, ranks
from stylegan2_pipeline.config import DataConfig, TrainConfig
from stylegan2_pipeline.continuing import (
    check_data,
    check_length,
    continued_config,
    find_run,
    read_config,
    started_before,
)
from stylegan2_pipeline.dataset import ImageDataset
from stylegan2_pipeline.devices import prepare
from stylegan2_pipeline.download import fetch
from stylegan2_pipeline.job import Job
from stylegan2_pipeline.memory_estimate import table
from stylegan2_pipeline.resolve import Machine, notes, resolve
from stylegan2_pipeline.run_folder import RunRecord, is_held, make_run_folder
from stylegan2_pipeline.trackers import check_trackers
from stylegan2_pipeline.training_loop import train
from stylegan2_pipeline.training_state import newest_good, state_path, states
from torch_utils import distributed
from torch_utils.errors import UserError
from torch_utils.host import cpu_model, total_memory
from torch_utils.ops import native
from torch_utils.text import format_bytes


def open_dataset(path: str, cond: bool, subset: int | None, mirror: bool, seed: int) -> ImageDataset:
    dataset = ImageDataset(path, use_labels=cond, max_images=subset, mirror=mirror, seed=seed)
    if subset is not None and subset > dataset.n_raw:
        raise UserError(f"--subset={subset}: {path} holds only {dataset.n_raw} images. Give that or fewer.")
    return dataset


def data_config(dataset: ImageDataset, path: str, subset: int | None) -> DataConfig:
    names = None if dataset.class_names is None else tuple(dataset.class_names)
    return DataConfig(path=os.path.abspath(path), name=dataset.name, resolution=dataset.resolution,
                      num_channels=dataset.num_channels, num_images=dataset.n_raw, label_dim=dataset.label_dim,
                      class_names=names, subset=subset, mirror=dataset.mirror, fingerprint=dataset.fingerprint())


def this_machine() -> Machine:
    cuda_devices = torch.cuda.device_count() if torch.cuda.is_available() else 0
    bf16 = not cuda_devices or torch.cuda.is_bf16_supported()
    tf32 = not cuda_devices or torch.cuda.get_device_capability() >= (8, 0)
    return Machine(cuda_devices, total_memory(), bf16, tf32)


def launch(outdir: str, typed: dict[str, Any], *, dry_run: bool = False, continue_run: str | None = None,
           override: bool = False) -> int:
    """typed: the options that were given, by name. Returns the exit code: 0, or 128 + the signal that stopped the run.

    Raises UserError, and Diverged when a loss stopped being a number.
    """
    if not ranks.under_torchrun():
        job = plan(outdir, typed, this_machine(), dry_run, continue_run, override)
        if job is None:
            return 0
        return guarded(job, train_here)
    with ranks.torchrun_rank(typed.get("device", "auto")) as device:
        world_size = ranks.torchrun_gpus(typed.get("gpus"))
        machine = replace(this_machine(), cuda_devices=world_size if device.type == "cuda" else 0)
        given = {"gpus": world_size, "device": device.type}
        job = distributed.from_main(lambda: plan_again(outdir, given, machine) or plan(
            outdir, typed | given, machine, dry_run, continue_run, override))
        return 0 if job is None else guarded(job, lambda job: train(job, device))


def train_here(job: Job) -> int:
    """In as many processes of this machine as the settings say."""
    return ranks.spawn(job, train) if job.config.num_gpus > 1 else train(job, torch.device(job.config.device))


def guarded(job: Job, run: Callable[[Job], int]) -> int:
    """run(job); where that ends before anything was trained, its folder goes again."""
    try:
        return run(job)
    except UserError:
        if distributed.rank() == 0 and job.state is None and states(job.run_dir)[:1] in (
                [], [state_path(job.run_dir, 0)]):
            shutil.rmtree(job.run_dir)
        raise


def plan(outdir: str, typed: dict[str, Any], machine: Machine, dry_run: bool, continue_run: str | None,
         override: bool) -> Job | None:
    """What is to be trained, in a folder that exists; None where only the settings were wanted, which are printed."""
    for name, value in typed.items():
        if value == "":
            raise UserError(f"--{name.replace('_', '-')}= is empty: give a value, or leave the option out.")
    check_trackers([name.strip() for name in typed.get("track", "").split(",") if name.strip()])
    if continue_run is not None:
        return plan_to_continue(find_run(continue_run, outdir), typed, machine, dry_run, override)
    if "data" not in typed:
        raise UserError("--data is missing: give the images to train on, a zip or folder made by dataset_tool.py; or "
                        "--continue to go on with a run.")
    data = typed["data"]
    dataset = open_dataset(data, typed.get("cond", False), typed.get("subset"), typed.get("mirror", False),
                           typed.get("seed", 0))
    config, name = resolve(typed, data_config(dataset, data, typed.get("subset")), machine)
    if dry_run:
        show(config)
        return None
    if config.resume and "://" in config.resume:
        fetch(config.resume)  # once, here: the ranks find it in the cache
    if config.device == "cpu" and not machine.cuda_devices:
        click.echo("No CUDA device found: training on the CPU. Small networks and short runs suit it, at 64x64 for "
                   "example --cbase=1024 --cmax=128 --batch=4 --kimg=50 (some 25 minutes on 2 cores).")
    for note in notes(config, typed):
        click.echo(note)
    config, in_effect = with_measurable(config, typed)
    compile_operators(config)
    run_dir = make_run_folder(outdir, name)
    config.write(run_dir)
    RunRecord(typed | in_effect, launch_id=ranks.launch_id(), environment=environment(config.device)).write(run_dir)
    return Job(config, run_dir)


def with_measurable(config: TrainConfig, typed: dict[str, Any]) -> tuple[TrainConfig, dict[str, Any]]:
    """Says what is left out; and the options that stand for what is measured, so that typing them again later, when
    there are weights, is a change."""
    config, left_out = measurable(config, typed)
    for sentence in left_out:
        click.echo(sentence)
    return config, {"metrics": ",".join(config.metrics)} if left_out else {}


def measurable(config: TrainConfig, typed: dict[str, Any]) -> tuple[TrainConfig, list[str]]:
    """Without the metrics whose weights cannot be had, which the sentences say; weights that can be are fetched.

    Where nothing is left of what was asked for, the panel that needs no weights takes its place. Raises UserError when
    the metric is left out that --best-metric wants.
    """
    usable, sentences = split_available(config.metrics, WeightsSource())
    if not sentences:
        return config, []
    metrics = usable or expand(["panel"])
    best = config.best_metric
    if best not in (None, *metrics):
        if "best_metric" in typed:
            raise UserError(f"--best-metric={typed['best_metric']} cannot be measured. {' '.join(sentences)}")
        best = first_judge(metrics)
    instead = f"Measured {'besides' if usable else 'instead'}: {', '.join(metrics)}."
    return replace(config, metrics=tuple(metrics), best_metric=best), [*sentences, instead]


def plan_again(outdir: str, given: dict[str, Any], machine: Machine) -> Job | None:
    """The unfinished run that this torchrun started, when it has started its processes again; None the first time."""
    run_dir = started_before(Path(outdir), ranks.restarted)
    return None if run_dir is None else plan_to_continue(run_dir, given, machine, dry_run=False, override=False)


def plan_to_continue(run_dir: Path, typed: dict[str, Any], machine: Machine, dry_run: bool,
                     override: bool) -> Job | None:
    old, record = read_config(run_dir), RunRecord.read(run_dir)
    if is_held(run_dir):
        raise UserError(f"Another process is training in {run_dir}. Wait for it, or stop it first.")
    data = old.data
    path = typed.get("data", data.path)
    if "data" not in typed and not Path(path).exists():
        raise UserError(f"--continue: the run's data, {path}, is gone. If it was moved, say where to: --data=PATH.")
    dataset = open_dataset(path, bool(data.label_dim), data.subset, data.mirror, old.seed)
    now = data_config(dataset, path, data.subset)
    check_data(data, now)
    config = continued_config(run_dir, old, typed, now, machine, override)
    check_length(run_dir, record, config, record.cur_nimg)
    if dry_run:
        show(config)
        return None
    state = newest_good(run_dir, click.echo)
    if state is None:
        raise UserError(f"--continue: {run_dir} has no training state that is whole. Start a new run from its weights "
                        f"with --resume={run_dir}.")
    in_effect: dict[str, Any] = {}
    if "metrics" in typed:
        config, in_effect = with_measurable(config, typed)
    compile_operators(config)
    config.write(run_dir)
    options = record.options | {name: value for name, value in typed.items() if value is not None} | in_effect
    record.updated(options=options, finished=False, launch_id=ranks.launch_id() or record.launch_id).write(run_dir)
    return Job(config, run_dir, state)


def environment(device: str) -> dict[str, str]:
    """Software and hardware of a run, in words."""
    hardware = f"{cpu_model()}, {format_bytes(total_memory())} of memory"
    if device == "cuda":
        gpu = torch.cuda.get_device_properties(0)
        hardware = f"{gpu.name} with {format_bytes(gpu.total_memory)}, {hardware}"
    software = f"stylegan2-pipeline {__version__}, torch {torch.__version__}, Python {platform.python_version()}"
    return {"software": software, "hardware": hardware}


def show(config: TrainConfig) -> None:
    """The settings as JSON on standard output, and what fits which card beside it."""
    click.echo(config.to_json())
    click.echo("\n" + table(config), err=True)


def compile_operators(config: TrainConfig) -> None:
    """While Ctrl-C stops at once and there is no folder yet; several ranks do it themselves, one after the other."""
    prepare(config)
    if config.num_gpus == 1:
        native.load(config.device)
