"""Every setting of a training run, its default and its presets; plain data.

Presets are those of StyleGAN2-ADA (arXiv 2006.06676, appendix D, table 9) under the names that the ecosystem uses.
"""

import dataclasses
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch_utils.files import atomic_path


@dataclass(frozen=True)
class DataConfig:
    path: str
    name: str
    resolution: int
    num_channels: int
    num_images: int
    label_dim: int = 0
    class_names: tuple[str, ...] | None = None
    subset: int | None = None
    mirror: bool = False
    fingerprint: str = ""


@dataclass(frozen=True)
class NetworkConfig:
    """Widths: channels(resolution) = min(channel_base // resolution, channel_max)."""

    z_dim: int = 512
    w_dim: int = 512
    mapping_layers: int = 8
    channel_base: int = 32768
    channel_max: int = 512
    num_half_res: int = 4
    conv_clamp: float | None = 256.0
    mbstd_group: int = 4
    d_architecture: str = "resnet"
    freeze_d: int = 0


@dataclass(frozen=True)
class LossConfig:
    r1_gamma: float = 10.0
    pl_weight: float = 2.0
    pl_decay: float = 0.01
    pl_batch_shrink: int = 2
    style_mixing_prob: float = 0.9
    g_reg_interval: int = 4
    d_reg_interval: int = 16
    lecam_weight: float = 0.0
    lecam_decay: float = 0.99


@dataclass(frozen=True)
class OptimizerConfig:
    g_lr: float = 0.002
    d_lr: float = 0.002
    betas: tuple[float, float] = (0.0, 0.99)
    eps: float = 1e-8


@dataclass(frozen=True)
class AugmentConfig:
    """mode noaug, ada (p follows the target), fixed or diffaugment (by `policy`); pipe: a name of augment.AUGPIPES."""

    mode: str = "ada"
    pipe: str = "bgc"
    policy: tuple[str, ...] = ("color", "translation", "cutout")
    p: float = 0.0
    target: float = 0.6
    interval: int = 4
    kimg: float = 500.0


@dataclass(frozen=True)
class ScheduleConfig:
    """tick_kimg: a status line every so many thousand images; snapshot_ticks: a snapshot and a grid every so many.

    save_minutes: between training states. keep_last, keep_every_kimg: which snapshots stay (both None: all of them).
    """

    total_kimg: float = 25000.0
    tick_kimg: float = 4.0
    snapshot_ticks: int = 50
    save_minutes: float = 15.0
    keep_last: int | None = None
    keep_every_kimg: float | None = None


@dataclass(frozen=True)
class TrainConfig:
    data: DataConfig
    networks: NetworkConfig = field(default_factory=NetworkConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    cfg: str = "auto"
    batch: int = 32
    batch_gpu: int = 32
    num_gpus: int = 1
    ema_kimg: float = 10.0
    ema_rampup: float | None = None
    seed: int = 0
    device: str = "cpu"
    precision: str = "fp32"
    allow_tf32: bool = False
    benchmark: bool = True
    deterministic: bool = False
    cuda_graphs: bool = False
    gradient_checkpointing: bool = False
    workers: int = 2
    cache: str = "auto"
    metrics: tuple[str, ...] = ()
    best_metric: str | None = None
    on_divergence: str = "stop"
    max_rollbacks: int = 3
    track: tuple[str, ...] = ()
    resume: str | None = None
    allow_partial: bool = False

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), indent=2)

    def write(self, run_dir: Path) -> None:
        """Whole or not at all. Raises UserError where the disk is full."""
        with atomic_path(run_dir / "training_options.json", durable=True) as partial:
            partial.write_text(self.to_json() + "\n", encoding="utf-8")

    @classmethod
    def from_json(cls, text: str) -> "TrainConfig":
        """What to_json wrote. Raises ValueError or TypeError for anything else."""
        return _restored(cls, json.loads(text))


def _restored(cls: Any, values: Any) -> Any:
    """A dataclass from what json made of it: with its inner ones, and lists as the tuples that they were."""
    if not isinstance(values, dict):
        raise TypeError(f"{cls.__name__} is not made from {values!r}")
    kinds = {item.name: item.default_factory for item in dataclasses.fields(cls)} | {"data": DataConfig}
    made = {}
    for name, value in values.items():
        inner = dataclasses.is_dataclass(kinds.get(name))
        made[name] = _restored(kinds[name], value) if inner else tuple(value) if isinstance(value, list) else value
    return cls(**made)


@dataclass(frozen=True)
class Preset:
    """ref_gpus: the GPUs that the batch is meant for; on fewer the micro-batch stays and gradients accumulate."""

    ref_gpus: int
    kimg: float
    batch: int
    mbstd_group: int
    channel_base: int
    lr: float
    gamma: float
    ema_kimg: float
    ema_rampup: float | None
    mapping_layers: int


PRESETS = {  #                ref_gpus  kimg  batch  mbstd  channels     lr  gamma   ema  rampup  mapping
    "stylegan2": Preset(            8, 25000,    32,     4,    32768, 0.002,  10.0,   10,   None,       8),
    "paper256":  Preset(            8, 25000,    64,     8,    16384, 0.0025,  1.0,   20,   None,       8),
    "paper512":  Preset(            8, 25000,    64,     8,    32768, 0.0025,  0.5,   20,   None,       8),
    "paper1024": Preset(            8, 25000,    32,     4,    32768, 0.002,   2.0,   10,   None,       8),
    "cifar":     Preset(            2, 100000,   64,    32,    32768, 0.0025, 0.01,  500,   0.05,       2),
}
CFG_NAMES = ("auto", *PRESETS)
PRECISIONS = ("auto", "fp32", "tf32", "fp16", "bf16")  # as typed; settings have tf32 as fp32 with allow_tf32
AUGPIPE_NAMES = ("blit", "geom", "color", "filter", "noise", "cutout", "bg", "bgc", "bgcf", "bgcfn", "bgcfnc")
DIFFAUGMENT_NAMES = ("color", "translation", "cutout")
TRACKER_NAMES = ("wandb", "mlflow")
CPU_METRIC_IMAGES = 1000  # generated for a metric during training on a CPU, where its own number would take an hour


def auto_preset(resolution: int, gpus: int) -> Preset:
    """The preset that fits a resolution. As with the others, --batch changes neither gamma nor the EMA."""
    batch = max(min(gpus * min(4096 // resolution, 32), 64 // gpus * gpus), gpus)
    return Preset(
        ref_gpus=gpus, kimg=25000, batch=batch, mbstd_group=min(batch // gpus, 4),
        channel_base=32768 if resolution >= 512 else 16384,
        lr=0.002 if resolution >= 1024 else 0.0025,
        gamma=0.0002 * resolution**2 / batch,
        ema_kimg=batch * 10 / 32, ema_rampup=0.05, mapping_layers=2,
    )


def preset(cfg: str, resolution: int, gpus: int) -> Preset:
    return auto_preset(resolution, gpus) if cfg == "auto" else PRESETS[cfg]


def network_kwargs(config: TrainConfig) -> tuple[dict[str, Any], dict[str, Any]]:
    """Constructor arguments of Generator and Discriminator."""
    net, data = config.networks, config.data
    half_dtype = "bfloat16" if config.precision == "bf16" else "float16"
    num_fp16_res = 0 if config.precision == "fp32" else net.num_half_res
    shared: dict[str, Any] = dict(channel_base=net.channel_base, channel_max=net.channel_max,
                                  num_fp16_res=num_fp16_res, conv_clamp=net.conv_clamp if num_fp16_res else None)
    image: dict[str, Any] = dict(c_dim=data.label_dim, img_resolution=data.resolution, img_channels=data.num_channels)
    generator = dict(image, z_dim=net.z_dim, w_dim=net.w_dim, mapping_kwargs={"num_layers": net.mapping_layers},
                     synthesis_kwargs=dict(shared, half_dtype=half_dtype))
    discriminator = dict(image, **shared, architecture=net.d_architecture,
                         block_kwargs={"freeze_layers": net.freeze_d, "half_dtype": half_dtype},
                         epilogue_kwargs={"mbstd_group_size": net.mbstd_group})
    return generator, discriminator


def estimated_micro_batch(data: DataConfig, channel_base: int, channel_max: int, memory_bytes: float) -> int:
    """How many samples at once the memory holds in float32; a closed form of memory_estimate, within a tenth of it.

    A sample keeps about nine copies of each resolution's feature maps, and 32 of the image.
    """
    sides = [2**k for k in range(2, data.resolution.bit_length())]
    maps = sum(min(channel_base // side, channel_max) * side**2 for side in sides)
    return max(1, math.floor(memory_bytes / (4 * (9 * maps + 32 * data.num_channels * data.resolution**2))))
