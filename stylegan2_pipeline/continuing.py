"""Going on with a run: which one, with which settings, and what may not change."""

import contextlib
import dataclasses
import glob
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stylegan2_pipeline.config import DataConfig, TrainConfig
from stylegan2_pipeline.resolve import Machine, resolve
from stylegan2_pipeline.run_folder import RunRecord, is_held
from stylegan2_pipeline.training_state import states
from torch_utils.errors import UserError

# Options that change what is told and kept, how long or on what the run trains, but not what it computes (the number
# of GPUs, the size of micro-batches and CUDA graphs to the rounding of sums).
FREE = ("kimg", "snap", "tick", "save_minutes", "keep_last", "keep_every", "workers", "cache", "metrics", "best_metric",
        "on_divergence", "max_rollbacks", "track", "nobench", "cuda_graphs",
        "gradient_checkpointing", "gpus", "batch_gpu", "data")
# Options that decide which networks and data there are: with others nothing saved would fit.
FIXED = ("cfg", "cbase", "cmax", "map_depth", "mbstd_group", "cond", "subset", "mirror", "freezed", "resume",
         "allow_partial")
APART = ("gpus", "batch_gpu", "data")  # settled after the others, see share


def find_run(wanted: str, outdir: str) -> Path:
    """The run folder named by itself or by a file in it; "newest": the unfinished run under outdir saved last."""
    if wanted == "newest":
        return newest_unfinished(Path(outdir))
    path = Path(wanted)
    run_dir = path.parent if path.is_file() else path
    if not (run_dir / "training_options.json").exists():
        if any(run_dir.glob("*/run.json")):  # a folder of runs
            return newest_unfinished(run_dir)
        near = sorted(Path(outdir).glob(f"{glob.escape(wanted)}*")) if wanted.isalnum() else []
        if len(near) == 1 and (near[0] / "training_options.json").exists():
            return near[0]
        raise UserError(f"--continue={wanted}: there is no training_options.json there. Give the folder of a run, such "
                        f"as {outdir}/00000-..., or its number.")
    return run_dir


def by_time(outdir: Path) -> list[Path]:
    """The run folders under outdir, that saved last first."""
    found = {path: path.stat().st_mtime for path in outdir.glob("*/run.json")}
    return [path.parent for path in sorted(found, key=lambda path: (found[path], path), reverse=True)]


def started_before(outdir: Path, is_ours: Callable[[str | None], bool]) -> Path | None:
    """The newest unfinished run whose launch_id is ours, whatever else there is under outdir."""
    for run in by_time(outdir):
        with contextlib.suppress(UserError):
            record = RunRecord.read(run)
            if not record.finished and is_ours(record.launch_id) and states(run):
                return run
    return None


def newest_unfinished(outdir: Path) -> Path:
    """Raises UserError, naming what there is, when there is none."""
    runs = by_time(outdir)
    unfinished = [run for run in runs if states(run) and not is_finished(run)]
    for run in unfinished:
        if not is_held(run):
            return run
    if unfinished:
        raise UserError(f"--continue: {unfinished[0]} is being trained by another process. Wait for it, or stop it.")
    done = f"{runs[0]} is finished: --continue={runs[0]} --kimg=MORE trains it longer" if runs else "there is no run"
    raise UserError(f"--continue: no unfinished run under --outdir={outdir}; {done}.")


def is_finished(run_dir: Path) -> bool:
    """A folder whose run.json is damaged counts as unfinished: whoever goes on with it is told."""
    with contextlib.suppress(UserError):
        return RunRecord.read(run_dir).finished
    return False


def read_config(run_dir: Path) -> TrainConfig:
    path = run_dir / "training_options.json"
    try:
        return TrainConfig.from_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"--continue: {path} is damaged or of another version ({error}). Start a new run from its "
                        f"weights with --resume={run_dir}.") from error


def check_data(old: DataConfig, new: DataConfig) -> None:
    """Raises UserError unless the images and labels are those that the run has seen."""
    if old.fingerprint and old.fingerprint != new.fingerprint:
        what = "has changed since the run began" if new.path == old.path else f"is not the run's data, {old.path}"
        raise UserError(f"--continue: {new.path} {what} ({old.num_images} images there, {new.num_images} here, or "
                        f"other contents). Give the data as it was with --data, or start a new run from its weights "
                        f"with --resume.")


def check_length(run_dir: Path, record: RunRecord, config: TrainConfig, cur_nimg: int) -> None:
    """Raises UserError where there is nothing left to train."""
    kimg, total = cur_nimg / 1000, config.schedule.total_kimg
    if record.finished and total <= kimg:
        raise UserError(f"--continue: {run_dir} is finished, at {kimg:g} kimg. Give more with --kimg, such as "
                        f"--kimg={2 * kimg:g}.")
    if total < kimg:
        raise UserError(f"--kimg={total:g}: {run_dir} is at {kimg:g} kimg already. --kimg is the length of the whole "
                        f"run, such as --kimg={kimg + 1:g} for one more.")


def continued_config(run_dir: Path, old: TrainConfig, typed: dict[str, Any], data: DataConfig, machine: Machine,
                     override: bool) -> TrainConfig:
    """The run's settings with what was typed now.

    Raises UserError naming the option where it would change the result, unless `override`, or can never be changed.
    """
    before = RunRecord.read(run_dir).options
    new = {name: value for name, value in typed.items() if value is not None and before.get(name) != value
           and not (name in FIXED and value == fixed_value(name, old))}
    if bad := [name for name in new if name in FIXED]:
        raise UserError(f"--continue: {words(bad, new, before)} cannot be changed in a run. Leave it out, "
                        f"or start a new run from its weights with --resume={run_dir}.")
    if "device" in new and new["device"] in ("auto", old.device):
        del new["device"]
    if (old.device == "cuda") > bool(machine.cuda_devices) and "device" not in new:
        raise UserError("--continue: the run was trained on a CUDA device, and there is none here. --device=cpu "
                        "--override goes on without, with numbers that round differently.")
    kept = {name: value for name, value in before.items() if name == "cfg" or name not in (*FIXED, *APART)}
    kept |= {"gpus": old.num_gpus, "device": old.device}
    apart = {name: new.pop(name) for name in APART if name in new}
    here = as_if(machine, old, new.get("device", old.device))
    base, _ = resolve(kept, old.data, as_if(machine, old, old.device))
    changing = [name for name, value in new.items() if name not in FREE
                and resolve(kept | {name: value}, old.data, here)[0] != base]
    if changing and not override:
        raise UserError(f"--continue: {words(changing, new, before)} would change the result. Leave it "
                        f"out, or add --override to go on with it all the same.")
    config, _ = resolve(kept | new, old.data, here)
    merged = with_changes(old, base, config)
    moved = dataclasses.replace(merged, data=dataclasses.replace(old.data, path=data.path))
    return share(moved, apart, machine, override)


def fixed_value(name: str, old: TrainConfig) -> object:
    """What a run has for an option that decides which networks and data there are."""
    return {"cfg": old.cfg, "cbase": old.networks.channel_base, "cmax": old.networks.channel_max,
            "map_depth": old.networks.mapping_layers, "mbstd_group": old.networks.mbstd_group,
            "cond": bool(old.data.label_dim), "subset": old.data.subset, "mirror": old.data.mirror,
            "freezed": old.networks.freeze_d, "resume": old.resume, "allow_partial": old.allow_partial}[name]


def as_if(machine: Machine, old: TrainConfig, device: str) -> Machine:
    """The machine with as many CUDA devices as the run began with, where it is to see any."""
    return dataclasses.replace(machine, cuda_devices=max(machine.cuda_devices, old.num_gpus) if device == "cuda" else 0)


def with_changes(old: Any, base: Any, new: Any) -> Any:
    """The dataclass `old` with the fields in which `new` differs from `base`."""
    changes = {}
    for item in dataclasses.fields(old):
        a, b, kept = getattr(base, item.name), getattr(new, item.name), getattr(old, item.name)
        if dataclasses.is_dataclass(kept):
            changes[item.name] = with_changes(kept, a, b)
        elif a != b:
            changes[item.name] = b
    return dataclasses.replace(old, **changes)


def share(config: TrainConfig, typed: dict[str, Any], machine: Machine, override: bool) -> TrainConfig:
    """The same batch on as many GPUs, in such parts, as were typed."""
    gpus = typed.get("gpus", config.num_gpus)
    if config.batch % gpus:
        raise UserError(f"--gpus={gpus} cannot share the run's batch of {config.batch}: give a divisor of it.")
    if config.device == "cuda" and gpus > machine.cuda_devices:
        raise UserError(f"--gpus={gpus}: this machine has {machine.cuda_devices} CUDA device(s).")
    most = typed.get("batch_gpu", config.batch_gpu)
    part, group = config.batch // gpus, config.networks.mbstd_group
    sizes = [size for size in range(1, part + 1) if part % size == 0 and (most == "auto" or size <= most)]
    size = max(sizes) if isinstance(typed.get("batch_gpu"), int) else max(sizes, key=lambda n: (n % group == 0, n))
    if isinstance(most, int) and "batch_gpu" in typed and size != most:
        raise UserError(f"--batch-gpu={most} does not divide the {part} images of each GPU.")
    if size % group and not override:
        raise UserError(f"--continue: parts of {size} images do not hold whole minibatch deviation groups of {group}, "
                        f"which the run has: that would change the result. Choose --gpus and --batch-gpu so that each "
                        f"part is a multiple of {group}, or add --override to go on with smaller groups.")
    return dataclasses.replace(config, num_gpus=gpus, batch_gpu=size)


def words(names: list[str], values: dict[str, Any], before: dict[str, Any]) -> str:
    """E.g. --gamma=20 (the run: 10), --seed=3 (the run: its default)."""
    return ", ".join(f"--{name.replace('_', '-')}={values[name]} (the run: {before.get(name, 'its default')})"
                     for name in names)
