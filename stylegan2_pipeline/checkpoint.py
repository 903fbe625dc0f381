"""Network snapshots: plain containers and numpy arrays in a pickle, written atomically, opened without running code.

    {"format": "stylegan2-pipeline snapshot 1",
     "G", "D", "G_ema": {"kwargs": constructor arguments, "state": {name: array}},
     "options": the run's settings, "class_names": [name] | None, "cur_nimg": int, "augment_p", "pl_mean": float}

The pickles of the public stylegan2-ada-pytorch (and the StyleGAN2 networks of stylegan3) open the same way.
"""

import inspect
import pickle
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from stylegan2_pipeline.download import fetch
from stylegan2_pipeline.layers import MappingNetwork, SynthesisLayer
from stylegan2_pipeline.networks import (
    Discriminator,
    DiscriminatorBlock,
    DiscriminatorEpilogue,
    Generator,
    SynthesisBlock,
    SynthesisNetwork,
)
from stylegan2_pipeline.safe_pickle import PublicModule, read_pickle
from torch_utils.errors import UserError
from torch_utils.files import atomic_path

FORMAT = "stylegan2-pipeline snapshot 1"
CLASSES: dict[str, type[nn.Module]] = {"G": Generator, "D": Discriminator, "G_ema": Generator}


@dataclass
class Snapshot:
    """Networks in eval mode (None: not in the file, or not asked for) and what is known of their training."""

    G: Generator | None
    D: Discriminator | None
    G_ema: Generator | None
    options: dict[str, Any] = field(default_factory=dict)
    class_names: list[str] | None = None
    cur_nimg: int = 0
    augment_p: float = 0.0
    pl_mean: float = 0.0


def pack(net: nn.Module, kwargs: dict[str, Any]) -> dict[str, Any]:
    state = {name: value.detach().cpu().numpy() for name, value in net.state_dict().items()}
    return {"kwargs": kwargs, "state": state}


def save_snapshot(path: Path, networks: dict[str, nn.Module], kwargs: dict[str, dict[str, Any]], **about: Any) -> None:
    """networks G, D, G_ema with the constructor arguments of each; about: the other fields of Snapshot."""
    packed = {name: pack(net, kwargs[name]) for name, net in networks.items()}
    with atomic_path(path, durable=True) as partial, open(partial, "wb") as file:
        pickle.dump({"format": FORMAT, **packed, **about}, file, protocol=4)


def newest_snapshot(outdir: str | Path) -> Path | None:
    """The snapshot written last in any run folder under outdir."""
    found = list(Path(outdir).glob("**/network-snapshot-*.pkl"))
    return max(found, key=lambda path: (path.stat().st_mtime_ns, str(path)), default=None)


def find_snapshot(source: str | Path) -> Path:
    """The file at a path or http(s) URL; of a folder the newest snapshot in it. Raises UserError naming what is not."""
    if str(source).startswith(("http://", "https://")):
        return fetch(str(source))
    path = newest_snapshot(source) if Path(source).is_dir() else Path(source)
    if path is not None and path.name.startswith("training-state-"):
        raise UserError(f"{path} is a training state, from which train.py --continue={path.parent} goes on. The "
                        f"network is in the network-snapshot-*.pkl beside it.")
    if path is None or not path.exists():
        what = "there is no network-snapshot-*.pkl in this folder" if path is None else "there is no such file"
        raise UserError(f"Cannot read the network {source}: {what}. Give the path of a network-snapshot-*.pkl, of its "
                        f"run folder, or a URL.")
    return path


def load_snapshot(source: str | Path, device: str | torch.device = "cpu",
                  networks: tuple[str, ...] = ("G", "D", "G_ema")) -> Snapshot:
    """source: as find_snapshot takes it. Raises UserError naming it when it is missing, unsafe or of another kind."""
    path = find_snapshot(source)
    data = read_pickle(path)
    if not isinstance(data, dict) or not any(name in data for name in CLASSES):
        raise UserError(f"{path} holds no networks: expected G, D and G_ema of a StyleGAN2 snapshot.")
    ours = data.get("format") == FORMAT
    rebuild = rebuild_own if ours else rebuild_public
    nets: dict[str, Any] = dict.fromkeys(CLASSES)
    for name in networks:
        if data.get(name) is not None:
            nets[name] = rebuild(name, data[name], path).eval().requires_grad_(False).to(device)
    if not ours:
        return Snapshot(**nets, options=public_options(data), augment_p=public_augment_p(data))
    return Snapshot(**nets, options=data["options"], class_names=data["class_names"], cur_nimg=data["cur_nimg"],
                    augment_p=data["augment_p"], pl_mean=data["pl_mean"])


def rebuild_own(name: str, packed: dict[str, Any], path: Path) -> nn.Module:
    try:
        net = CLASSES[name](**packed["kwargs"])
        net.load_state_dict({key: torch.from_numpy(np.array(value)) for key, value in packed["state"].items()})
    except (KeyError, TypeError, RuntimeError, AssertionError) as error:
        raise UserError(f"{path}: network {name} is damaged or from a newer version: {error}") from error
    return net


def rebuild_public(name: str, record: Any, path: Path) -> nn.Module:
    expected = CLASSES[name].__name__
    if not isinstance(record, PublicModule) or record.class_name != expected:
        raise UserError(f"{path}: {name} is not a StyleGAN2 {expected}; other architectures are not supported.")
    try:
        kwargs = generator_arguments(record) if expected == "Generator" else discriminator_arguments(record)
        net = CLASSES[name](**kwargs)
        net.load_state_dict(record.state_dict())
    except (KeyError, IndexError, TypeError, RuntimeError, AssertionError) as error:
        raise UserError(f"{path}: network {name} is not a StyleGAN2 {expected} as this project knows it: "
                        f"{error}") from error
    return net


def public_options(data: dict[str, Any]) -> dict[str, Any]:
    """What it was trained on, nested as our options are."""
    given = data.get("training_set_kwargs")
    if not isinstance(given, dict):
        return {}
    path = given.get("path")
    return {"data": {"path": path if isinstance(path, str) else None, "mirror": bool(given.get("xflip", False))}}


def public_augment_p(data: dict[str, Any]) -> float:
    pipe = data.get("augment_pipe")
    return float(pipe.state_dict()["p"]) if isinstance(pipe, PublicModule) and "p" in pipe.state_dict() else 0.0


def known(arguments: dict[str, Any], *classes: type) -> dict[str, Any]:
    """The arguments that our constructors have; the others choose among equal ways of computing in the public code."""
    names = {name for cls in classes for name in inspect.signature(cls).parameters}
    return {key: value for key, value in arguments.items() if key in names}


def blocks_of(record: PublicModule, class_name: str) -> list[dict[str, Any]]:
    return [module.attributes for module in record.modules() if module.class_name == class_name]


def precision_arguments(record: PublicModule, block_class: str, layer_class: str) -> dict[str, Any]:
    """Read off the blocks themselves, because the defaults differ between the public releases."""
    return dict(num_fp16_res=sum(bool(block["use_fp16"]) for block in blocks_of(record, block_class)),
                conv_clamp=blocks_of(record, layer_class)[0]["conv_clamp"])


def generator_arguments(record: PublicModule) -> dict[str, Any]:
    kwargs = record.kwargs
    synthesis = known(dict(kwargs.get("synthesis_kwargs", {})), SynthesisNetwork, SynthesisBlock, SynthesisLayer)
    synthesis.update(precision_arguments(record, "SynthesisBlock", "SynthesisLayer"))
    mapping = known(dict(kwargs.get("mapping_kwargs", {})), MappingNetwork)
    return dict(known(kwargs, Generator), mapping_kwargs=mapping, synthesis_kwargs=synthesis)


def discriminator_arguments(record: PublicModule) -> dict[str, Any]:
    kwargs = record.kwargs
    arguments = known(kwargs, Discriminator)
    arguments.update(precision_arguments(record, "DiscriminatorBlock", "Conv2dLayer"))
    arguments["block_kwargs"] = known(dict(kwargs.get("block_kwargs", {})), DiscriminatorBlock)
    arguments["mapping_kwargs"] = known(dict(kwargs.get("mapping_kwargs", {})), MappingNetwork)
    arguments["epilogue_kwargs"] = known(dict(kwargs.get("epilogue_kwargs", {})), DiscriminatorEpilogue)
    return arguments
