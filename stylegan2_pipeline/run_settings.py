"""The settings of a run in one vocabulary, whichever code trained it, and what was changed from the defaults."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from stylegan2_pipeline.config import CFG_NAMES, DataConfig
from stylegan2_pipeline.resolve import Machine, resolve
from torch_utils.errors import UserError

_MBSTD = "D_kwargs.epilogue_kwargs.mbstd_group_size"
SETTINGS = {  # name -> (what it is, where our options hold it, where those of the public code do)
    "data":           ("Data",                      "data.path",               "training_set_kwargs.path"),
    "resolution":     ("Resolution (pixels)",       "data.resolution",         "training_set_kwargs.resolution"),
    "channels":       ("Channels",                  "data.num_channels",       ""),
    "num_images":     ("Images",                    "data.num_images",         "training_set_kwargs.max_size"),
    "conditional":    ("Trained by class",          "data.label_dim",          "training_set_kwargs.use_labels"),
    "subset":         ("Random subset",             "data.subset",             ""),
    "mirror":         ("Doubled by mirroring",      "data.mirror",             "training_set_kwargs.xflip"),
    "fingerprint":    ("Fingerprint of the data",   "data.fingerprint",        ""),
    "cfg":            ("Preset",                    "cfg",                     ""),
    "network":        ("Generator",                 "",                        "G_kwargs.class_name"),
    "total_kimg":     ("Length (kimg)",             "schedule.total_kimg",     "total_kimg"),
    "batch":          ("Batch",                     "batch",                   "batch_size"),
    "batch_gpu":      ("Images at once",            "batch_gpu",               "batch_gpu"),
    "gpus":           ("Devices",                   "num_gpus",                "num_gpus"),
    "gamma":          ("R1 weight (gamma)",         "loss.r1_gamma",           "loss_kwargs.r1_gamma"),
    "pl_weight":      ("Path length weight",        "loss.pl_weight",          "loss_kwargs.pl_weight"),
    "style_mixing":   ("Style mixing probability",  "loss.style_mixing_prob",  "loss_kwargs.style_mixing_prob"),
    "lecam":          ("LeCam weight",              "loss.lecam_weight",       ""),
    "g_lr":           ("Learning rate of G",        "optimizer.g_lr",          "G_opt_kwargs.lr"),
    "d_lr":           ("Learning rate of D",        "optimizer.d_lr",          "D_opt_kwargs.lr"),
    "channel_base":   ("Channels times resolution", "networks.channel_base",   "D_kwargs.channel_base"),
    "channel_max":    ("Most channels of a layer",  "networks.channel_max",    "D_kwargs.channel_max"),
    "mapping_layers": ("Layers of the mapping",     "networks.mapping_layers", "G_kwargs.mapping_kwargs.num_layers"),
    "mbstd_group":    ("Minibatch std group",       "networks.mbstd_group",    _MBSTD),
    "freeze_d":       ("Frozen layers of D",        "networks.freeze_d",       "D_kwargs.block_kwargs.freeze_layers"),
    "precision":      ("Precision",                 "precision",               ""),
    "half_res":       ("Half precision (scales)",   "",                        "D_kwargs.num_fp16_res"),
    "augment":        ("Augmentation",              "augment.mode",            ""),
    "augment_pipe":   ("Augmentation pipeline",     "augment.pipe",            ""),
    "policy":         ("DiffAugment policy",        "augment.policy",          ""),
    "augment_p":      ("Augmentation probability",  "augment.p",               "augment_p"),
    "ada_target":     ("Target of r_t",             "augment.target",          "ada_target"),
    "ada_kimg":       ("kimg for p from 0 to 1",    "augment.kimg",            "ada_kimg"),
    "ema_kimg":       ("Half-life of G_ema (kimg)", "ema_kimg",                "ema_kimg"),
    "ema_rampup":     ("Ramp-up of G_ema",          "ema_rampup",              "ema_rampup"),
    "seed":           ("Seed",                      "seed",                    "random_seed"),
    "device":         ("Kind of device",            "device",                  ""),
    "tick_kimg":      ("kimg a tick",               "schedule.tick_kimg",      "kimg_per_tick"),
    "snapshot_ticks": ("Ticks a snapshot",          "schedule.snapshot_ticks", "network_snapshot_ticks"),
    "metrics":        ("Metrics",                   "metrics",                 "metrics"),
    "resume":         ("Started from",              "resume",                  "resume_pkl"),
    "on_divergence":  ("On divergence",             "on_divergence",           ""),
    "allow_tf32":     ("TF32",                      "allow_tf32",              "allow_tf32"),
    "deterministic":  ("Deterministic",             "deterministic",           ""),
    "cuda_graphs":    ("CUDA graphs",               "cuda_graphs",             ""),
    "checkpointing":  ("Gradient checkpointing",    "gradient_checkpointing",  ""),
    "workers":        ("Data workers",              "workers",                 "data_loader_kwargs.num_workers"),
    "device_name":    ("Trained on",                "",                        ""),
    "hardware":       ("Hardware",                  "",                        ""),
    "software":       ("Software",                  "",                        ""),
}  # fmt: skip
LABELS = {name: row[0] for name, row in SETTINGS.items()}
_COUNTS = {"resolution", "channels", "num_images", "subset", "batch", "batch_gpu", "gpus", "channel_base",
           "channel_max", "mapping_layers", "mbstd_group", "freeze_d", "seed", "snapshot_ticks", "workers"}
_NUMBERS = {"total_kimg", "gamma", "pl_weight", "style_mixing", "lecam", "g_lr", "d_lr", "augment_p", "ada_target",
            "ada_kimg", "ema_kimg", "ema_rampup", "tick_kimg"}
# Follow from the machine, or say nothing of how the run was to go.
_NOT_A_CHOICE = {"data", "num_images", "resolution", "channels", "fingerprint", "batch_gpu", "device", "device_name",
                 "hardware", "software", "workers", "cfg", "network", "mbstd_group", "conditional", "metrics"}


def kind_of(options: Mapping[str, Any]) -> str:
    """Which code wrote these options: ours, stylegan2-ada or stylegan3."""
    if isinstance(options.get("data"), Mapping):
        return "ours"
    if "training_set_kwargs" not in options:
        raise UserError("training_options.json is neither of this project nor of the public stylegan2-ada-pytorch or "
                        "stylegan3 code. Give a run folder of one of them.")
    newer = "kimg_per_tick" in options or "networks_stylegan" in str(lookup(options, "G_kwargs.class_name"))
    return "stylegan3" if newer else "stylegan2-ada"


def lookup(options: Mapping[str, Any], path: str) -> Any:
    """The value at keys with dots between them; None where one is missing."""
    value: Any = options
    for key in path.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def normalised(kind: str, options: Mapping[str, Any], run_name: str = "") -> dict[str, Any]:
    """The settings under the names of SETTINGS; those that are not told, or are of another type, are left out."""
    column = 1 if kind == "ours" else 2
    found = {name: lookup(options, row[column]) for name, row in SETTINGS.items() if row[column]}
    if kind != "ours":
        found |= _public_extras(options, run_name)
    found = {name: value for name, value in found.items() if value not in (None, "") and _sound(name, value)}
    return found | ({"conditional": bool(found["conditional"])} if "conditional" in found else {})


def _sound(name: str, value: Any) -> bool:
    """Whether a value is of the type that its setting has."""
    if name in _COUNTS:
        return type(value) is int and 0 <= value < 2**32
    if name in _NUMBERS:
        return type(value) in (int, float) and abs(value) < 1e100
    if name in ("metrics", "policy"):
        return isinstance(value, list | tuple) and all(isinstance(item, str) for item in value)
    return isinstance(value, str | int | float)


def as_own_options(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings, of whichever code, nested as our options are; those that are not told are left out."""
    options: dict[str, Any] = {}
    for name, (_, path, _) in SETTINGS.items():
        if path and name in settings:
            *groups, key = path.split(".")
            group = options
            for part in groups:
                group = group.setdefault(part, {})
            group[key] = settings[name]
    return options


def _public_extras(options: Mapping[str, Any], run_name: str) -> dict[str, Any]:
    """What the public code tells elsewhere: the preset in the folder's name, the widths in different places."""
    synthesis = lookup(options, "G_kwargs.synthesis_kwargs") or {}
    base = {name: lookup(options, f"D_kwargs.{name}") or lookup(options, f"G_kwargs.{name}") or synthesis.get(name)
            for name in ("channel_base", "channel_max")}
    half_res = lookup(options, "D_kwargs.num_fp16_res")
    augment = options.get("augment_kwargs")
    mode = "noaug" if not augment else "ada" if options.get("ada_target") is not None else "fixed"
    match = re.search(rf"-({'|'.join(CFG_NAMES)})\d*(?=-|$)", run_name)
    return base | {
        "network": str(lookup(options, "G_kwargs.class_name") or "").removeprefix("training."),
        "cfg": match[1] if match else None,
        "augment": mode,
        "precision": None if half_res is None else "fp16" if half_res else "fp32",
    }


def log_facts(path: Path) -> dict[str, Any]:
    """What only the log tells: the device; of public code the image shape and their number."""
    try:
        with (path / "log.txt").open(encoding="utf-8", errors="replace") as file:
            head = file.read(1 << 16)
    except OSError:
        return {}
    patterns: dict[str, tuple[str, Callable[[str], Any]]] = {
        "device_name": (r"^Training for [\d.e+]+ kimg on (.+)$", str),
        "channels":    (r"^Image shape:\s*\[(\d+),", int),
    }
    found = {name: (re.search(pattern, head, re.MULTILINE), make) for name, (pattern, make) in patterns.items()}
    return {name: make(match[1].strip()) for name, (match, make) in found.items() if match}


def default_settings(settings: Mapping[str, Any], options: Mapping[str, Any], kind: str) -> dict[str, Any] | None:
    """What the preset gives for this data and number of devices; None where it is not known.

    The presets of stylegan2-ada-pytorch are ours; stylegan3 has others, and its folders do not tell the values.
    """
    if kind == "stylegan3" or settings.get("cfg") not in CFG_NAMES or not settings.get("resolution"):
        return None
    data = options["data"] if kind == "ours" else {}
    known = {field.name: data[field.name] for field in fields(DataConfig) if field.name in data}
    about = dict(path="", name="", resolution=settings["resolution"], num_channels=settings.get("channels", 3),
                 num_images=settings.get("num_images") or 1) | known
    gpus = settings.get("gpus") or 1
    on_gpu = settings.get("device", "cuda") == "cuda"
    try:
        config, _ = resolve({"cfg": settings["cfg"], "gpus": gpus, "device": None if on_gpu else "cpu"},
                            DataConfig(**about), Machine(gpus if on_gpu else 0, 2**40))
    except (UserError, TypeError, ValueError, ZeroDivisionError, AttributeError):
        return None
    return normalised("ours", json.loads(json.dumps(asdict(config)))) | {"mirror": False, "subset": None}


def split_changed(settings: Mapping[str, Any],
                  defaults: Mapping[str, Any] | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """(changed, others): the settings that somebody chose otherwise than the preset has them, and all the rest."""
    if defaults is None:
        return {}, dict(settings)
    changed = {name: value for name, value in settings.items()
               if name not in _NOT_A_CHOICE and name in {*defaults, "resume"} and not alike(value, defaults.get(name))}
    return changed, {name: value for name, value in settings.items() if name not in changed}


def alike(a: Any, b: Any) -> bool:
    """Equal values, whether a number is written 10 or 10.0."""
    if isinstance(a, int | float) and isinstance(b, int | float):
        return abs(a - b) <= 1e-9 * max(abs(a), abs(b))
    return bool(a == b) or (a in (None, False, 0) and b in (None, False, 0))
