"""From the options of `train` as typed to a complete TrainConfig, and the name of the run."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from metrics.names import expand, first_judge, parse, split
from stylegan2_pipeline.config import (
    CPU_METRIC_IMAGES,
    DIFFAUGMENT_NAMES,
    TRACKER_NAMES,
    AugmentConfig,
    DataConfig,
    LossConfig,
    NetworkConfig,
    OptimizerConfig,
    Preset,
    ScheduleConfig,
    TrainConfig,
    estimated_micro_batch,
    preset,
)
from stylegan2_pipeline.run_folder import run_name
from torch_utils.errors import UserError

PUBLIC_NETWORKS = {  # names that --resume knows -> files in the transfer-learning folder of the public release
    "ffhq256": "ffhq-res256-mirror-paper256-noaug.pkl",
    "ffhq512": "ffhq-res512-mirror-stylegan2-noaug.pkl",
    "ffhq1024": "ffhq-res1024-mirror-stylegan2-noaug.pkl",
    "celebahq256": "celebahq-res256-mirror-paper256-kimg100000-ada-target0.5.pkl",
    "lsundog256": "lsundog-res256-paper256-kimg100000-noaug.pkl",
}
PUBLIC_FOLDER = "https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/transfer-learning-source-nets/"
CHANNEL_MAX = 512
PUBLIC_MAPPING_LAYERS = 8  # of all of them


@dataclass(frozen=True)
class Machine:
    """What the run may use: CUDA devices in all; the memory in bytes, for a run on the CPU; bfloat16; TF32 on CUDA."""

    cuda_devices: int
    memory: float
    bf16: bool = True
    tf32: bool = True


def notes(config: TrainConfig, given: dict[str, Any]) -> list[str]:
    """What somebody who typed these options should know."""
    wanted = given.get("mbstd_group", preset(config.cfg, config.data.resolution, config.num_gpus).mbstd_group)
    told = []
    if config.resume and config.networks.mapping_layers != preset(
            config.cfg, config.data.resolution, config.num_gpus).mapping_layers and "map_depth" not in given:
        told.append(f"The mapping network has {config.networks.mapping_layers} layers, as in {given['resume']}.")
    if config.networks.mbstd_group < wanted:
        told.append(f"The minibatch deviation layer compares groups of {config.networks.mbstd_group} images, not "
                    f"{wanted}: they must divide the {config.batch_gpu} that a device computes at once. D sees less of "
                    f"the variety of a batch; --batch-gpu or --batch changes that.")
    return told


def resolve(options: dict[str, Any], data: DataConfig, machine: Machine) -> tuple[TrainConfig, str]:
    """options: the parameters of commands/train.py by name, None where not given. Returns settings and run name.

    Raises UserError, naming the option, for values that do not go together.
    """
    given = {name: value for name, value in options.items() if value is not None}
    if given.get("resume") == "noresume":
        del given["resume"]
    gpus = given.get("gpus", 1)
    machine = pick_device(given, machine)
    if given.get("device") != "cpu" and gpus > max(machine.cuda_devices, 1):
        raise UserError(f"--gpus={gpus}: this machine has {machine.cuda_devices} CUDA device(s). Give --gpus="
                        f"{max(machine.cuda_devices, 1)}, or make more visible (CUDA_VISIBLE_DEVICES); "
                        f"--device=cpu --gpus={gpus} trains in as many processes on the CPU.")
    cfg = given.get("cfg", "auto")
    spec = preset(cfg, data.resolution, gpus)
    batch = given.get("batch", spec.batch)
    if batch % gpus:
        raise UserError(f"--batch={batch} cannot be shared by --gpus={gpus}: give a multiple of {gpus}.")
    precision = pick_precision(given, machine)
    freezable = count_freezable(data.resolution, "orig" if cfg == "cifar" else "resnet")
    if given.get("freezed", 0) > freezable:
        raise UserError(f"--freezed={given['freezed']}: the discriminator has {freezable} layers that can be frozen at "
                        f"{data.resolution}x{data.resolution}.")
    channel_base = given.get("cbase", spec.channel_base)
    if channel_base < data.resolution:
        raise UserError(f"--cbase={channel_base} leaves no channels at {data.resolution}x{data.resolution}: give at "
                        f"least {data.resolution}; the preset's is {spec.channel_base}.")
    batch_gpu = pick_batch_gpu(given, spec, batch, gpus, machine, channel_base, data)
    augment = pick_augment(given)
    config = TrainConfig(
        data=data,
        networks=NetworkConfig(
            mapping_layers=given.get("map_depth", PUBLIC_MAPPING_LAYERS if given.get("resume") in PUBLIC_NETWORKS
                                     else spec.mapping_layers),
            channel_base=channel_base,
            channel_max=given.get("cmax", CHANNEL_MAX),
            mbstd_group=largest_divisor(batch_gpu, given.get("mbstd_group", spec.mbstd_group)),
            d_architecture="orig" if cfg == "cifar" else "resnet",
            freeze_d=given.get("freezed", 0),
        ),
        loss=LossConfig(
            r1_gamma=given.get("gamma", spec.gamma),
            pl_weight=0.0 if cfg == "cifar" else 2.0,
            style_mixing_prob=0.0 if cfg == "cifar" else 0.9,
            lecam_weight=given.get("lecam", 0.0),
        ),
        optimizer=OptimizerConfig(g_lr=given.get("glr", spec.lr), d_lr=given.get("dlr", spec.lr)),
        augment=augment,
        schedule=ScheduleConfig(total_kimg=float(given.get("kimg", spec.kimg)), tick_kimg=given.get("tick", 4.0),
                                snapshot_ticks=given.get("snap", 50), save_minutes=given.get("save_minutes", 15.0),
                                keep_last=given.get("keep_last"), keep_every_kimg=given.get("keep_every")),
        cfg=cfg, batch=batch, batch_gpu=batch_gpu, num_gpus=gpus,
        ema_kimg=spec.ema_kimg, ema_rampup=None if "resume" in given else spec.ema_rampup,
        seed=given.get("seed", 0), device="cuda" if machine.cuda_devices else "cpu", precision=precision,
        allow_tf32=given.get("precision") == "tf32" or given.get("allow_tf32", False),
        benchmark=not (given.get("nobench") or given.get("deterministic")),
        deterministic=given.get("deterministic", False), cuda_graphs=pick_cuda_graphs(given, machine),
        gradient_checkpointing=given.get("gradient_checkpointing", False),
        workers=given.get("workers", 2), cache=pick_cache(given, machine), metrics=pick_metrics(given, machine),
        best_metric=pick_best_metric(given, machine), on_divergence=given.get("on_divergence", "stop"),
        max_rollbacks=given.get("max_rollbacks", 3), track=pick_trackers(given),
        resume=pick_resume(given["resume"]) if "resume" in given else None,
        allow_partial=given.get("allow_partial", False),
    )
    return config, run_name(data.name, name_parts(given, config))


def pick_device(given: dict[str, Any], machine: Machine) -> Machine:
    """The machine as far as the run is to see it."""
    if given.get("device") == "cuda" and not machine.cuda_devices:
        raise UserError("--device=cuda: torch finds no CUDA device. `stylegan2 doctor` says why; --device=cpu trains "
                        "without.")
    return replace(machine, cuda_devices=0, bf16=True) if given.get("device") == "cpu" else machine


def pick_cache(given: dict[str, Any], machine: Machine) -> str:
    if given.get("cache") == "gpu" and not machine.cuda_devices:
        raise UserError("--cache=gpu needs a CUDA device, and there is none. Take --cache=ram.")
    return given.get("cache", "auto")


def pick_precision(given: dict[str, Any], machine: Machine) -> str:
    """fp16 on CUDA and fp32 on a CPU, unless told otherwise; tf32 is fp32 with --allow-tf32=1."""
    if given.get("fp32") and given.get("precision", "fp32") != "fp32":
        raise UserError(f"--fp32=1 and --precision={given['precision']} contradict each other: give one of them.")
    precision = "fp32" if given.get("fp32") else given.get("precision", "auto")
    if precision == "fp16" and not machine.cuda_devices:
        raise UserError("--precision=fp16 needs a CUDA device, and there is none. On a CPU take --precision=fp32, or "
                        "bf16 where the processor has it (avx512_bf16 or amx_bf16 in /proc/cpuinfo).")
    if precision == "bf16" and not machine.bf16:
        raise UserError("--precision=bf16: this device has no bfloat16 arithmetic. Take --precision=auto.")
    if precision == "tf32":
        check_tf32(given, machine)
        return "fp32"
    if precision == "auto":
        return "fp16" if machine.cuda_devices else "fp32"
    return precision


def check_tf32(given: dict[str, Any], machine: Machine) -> None:
    if given.get("allow_tf32") is False:
        raise UserError("--precision=tf32 and --allow-tf32=0 contradict each other: give one of them.")
    if not machine.cuda_devices:
        raise UserError("--precision=tf32 needs a CUDA device, and there is none. On a CPU take --precision=fp32.")
    if not machine.tf32:
        raise UserError("--precision=tf32: this device has no TF32 arithmetic (NVIDIA GPUs have it from Ampere on). "
                        "Take --precision=auto.")


def pick_cuda_graphs(given: dict[str, Any], machine: Machine) -> bool:
    if given.get("cuda_graphs") and not machine.cuda_devices:
        raise UserError("--cuda-graphs=1 needs a CUDA device, and there is none. Leave it out.")
    return given.get("cuda_graphs", False)


def pick_batch_gpu(given: dict[str, Any], spec: Preset, batch: int, gpus: int, machine: Machine, channel_base: int,
                   data: DataConfig) -> int:
    """Samples at once on one device: as asked, as the preset has it on its own GPUs, or (CPU) what fits the memory."""
    share = batch // gpus
    if given.get("batch_gpu") == "auto" and machine.cuda_devices:
        return share  # the first step finds out what fits
    if given.get("batch_gpu", "auto") != "auto":
        if share % given["batch_gpu"]:
            raise UserError(f"--batch-gpu={given['batch_gpu']} does not divide the {share} images that each GPU gets "
                            f"of --batch={batch}.")
        return given["batch_gpu"]
    if not machine.cuda_devices:
        widest = given.get("cmax", CHANNEL_MAX)
        return largest_divisor(share, estimated_micro_batch(data, channel_base, widest, machine.memory / 2))
    return largest_divisor(share, spec.batch // spec.ref_gpus)


def count_freezable(resolution: int, d_architecture: str) -> int:
    """Layers of the discriminator's blocks: conv0, conv1, in resnets skip, and one fromrgb in all."""
    blocks = resolution.bit_length() - 3
    return 1 + blocks * (3 if d_architecture == "resnet" else 2)


def largest_divisor(n: int, most: int) -> int:
    """Of n, at most `most`, at least 1."""
    return max(k for k in range(1, n + 1) if n % k == 0 and k <= max(most, 1))


def pick_augment(given: dict[str, Any]) -> AugmentConfig:
    mode = given.get("aug", "ada")
    if "p" in given and mode != "fixed":
        raise UserError(f"--p={given['p']:g} is the probability of --aug=fixed; with --aug={mode} leave it out.")
    if mode == "fixed" and "p" not in given:
        raise UserError("--aug=fixed needs the probability of the augmentations, e.g. --p=0.2.")
    if "target" in given and mode != "ada":
        raise UserError(f"--target={given['target']:g} steers --aug=ada; with --aug={mode} leave it out.")
    if "augpipe" in given and mode == "noaug":
        raise UserError(f"--augpipe={given['augpipe']} has no use with --aug=noaug; leave one of them out.")
    if "augpipe" in given and mode == "diffaugment":
        raise UserError(f"--augpipe={given['augpipe']} is for --aug=ada and fixed; --aug=diffaugment takes --policy.")
    if "policy" in given and mode != "diffaugment":
        raise UserError(f"--policy={given['policy']} is for --aug=diffaugment; with --aug={mode} leave it out.")
    return AugmentConfig(mode=mode, pipe=given.get("augpipe", "bgc"), policy=pick_policy(given), p=given.get("p", 0.0),
                         target=given.get("target", 0.6), kimg=100.0 if "resume" in given else 500.0)


def pick_policy(given: dict[str, Any]) -> tuple[str, ...]:
    names = split_names(given.get("policy", ",".join(DIFFAUGMENT_NAMES)))
    if not names or set(names) - set(DIFFAUGMENT_NAMES):
        raise UserError(f"--policy={given.get('policy')}: give one or more of {','.join(DIFFAUGMENT_NAMES)}.")
    return names


def pick_best_metric(given: dict[str, Any], machine: Machine) -> str | None:
    """The metric by which the best snapshot is known: the first of --metrics, unless told."""
    names = pick_metrics(given, machine)
    wanted = given.get("best_metric")
    if wanted in (None, "none"):
        return None if wanted else first_judge(names)
    chosen = on_machine(expand([wanted])[0], machine)
    if not parse(chosen).kind.judges:
        raise UserError(f"--best-metric={wanted}: no network is better by more or less of it. Take another metric.")
    if chosen not in names:
        raise UserError(f"--best-metric={wanted} is not among those that --metrics measures "
                        f"({', '.join(names) or 'none'}). Add it there, or give --best-metric=none.")
    return chosen


def pick_trackers(given: dict[str, Any]) -> tuple[str, ...]:
    names = split_names(given.get("track", ""))
    if set(names) - set(TRACKER_NAMES):
        raise UserError(f"--track={given['track']}: give {' or '.join(TRACKER_NAMES)}, or both with a comma.")
    return names


def split_names(text: str) -> tuple[str, ...]:
    """Names between commas, each once."""
    return tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))


def pick_metrics(given: dict[str, Any], machine: Machine) -> tuple[str, ...]:
    return tuple(dict.fromkeys(on_machine(name, machine) for name in split(given.get("metrics", "panel"))))


def on_machine(name: str, machine: Machine) -> str:
    """On a CPU a metric is of fewer images, and its name says so."""
    parsed = parse(name)
    return name if machine.cuda_devices else parsed.of(min(parsed.count, CPU_METRIC_IMAGES)).text


def pick_resume(source: str) -> str:
    """A path or URL as it is; a name of a public network as its URL."""
    if source in PUBLIC_NETWORKS:
        return PUBLIC_FOLDER + PUBLIC_NETWORKS[source]
    if "://" not in source and not Path(source).exists():
        raise UserError(f"--resume={source}: there is no such file. Give the path (of a snapshot or run folder), a "
                        f"URL, or one of {', '.join(PUBLIC_NETWORKS)}.")
    return source


def name_parts(given: dict[str, Any], config: TrainConfig) -> list[str]:
    """The settings that differ from the defaults, in the order and words of the ecosystem."""
    parts = ["cond"] if config.data.label_dim else []
    parts += [f"subset{config.data.subset}"] if config.data.subset else []
    parts += ["mirror"] if config.data.mirror else []
    parts.append(f"auto{config.num_gpus}" if config.cfg == "auto" else config.cfg)
    parts += [f"{name}{given[name]:g}" for name in ("gamma", "kimg", "batch") if name in given]
    parts += [config.augment.mode] if config.augment.mode != "ada" else []
    parts += ["-".join(config.augment.policy)] if "policy" in given else []
    parts += [f"{name}{given[name]:g}" for name in ("p", "target", "lecam") if name in given]
    parts += [given["augpipe"]] if "augpipe" in given else []
    if "resume" in given:
        parts.append(f"resume{given['resume']}" if given["resume"] in PUBLIC_NETWORKS else "resumecustom")
    parts += [f"freezed{given['freezed']}"] if given.get("freezed") else []
    parts += [given["precision"]] if given.get("precision", "auto") != "auto" else []
    return parts
