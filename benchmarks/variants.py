"""What is compared: `ours`, plain formulations, the public code - each with settings and environment of its own."""

import dataclasses
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click

from stylegan2_pipeline.config import TrainConfig

PUBLIC_CODE = "https://github.com/NVlabs/stylegan2-ada-pytorch"
PUBLIC_WAYS = ("nvlabs", "nvlabs-best")
WAYS = ("ours", "reference-ops", "batches", "plain", "plain-weights", "plain-grouped", *PUBLIC_WAYS)
ENVIRONMENT = {"reference-ops": {"STYLEGAN2_OPS": "reference"}}
BETWEEN = re.compile(r",(?![^\[]*\])")  # a comma that is not within brackets
CHECKOUT_HAS = ("dnnlib/__init__.py", "torch_utils/__init__.py", "training/networks.py")


@dataclass(frozen=True)
class Variant:
    """name: as it was typed; way: one of WAYS; env: of its process."""

    name: str
    way: str
    config: TrainConfig
    env: Mapping[str, str]

    @property
    def public(self) -> bool:
        return self.way in PUBLIC_WAYS


def parse_variants(text: str, config: TrainConfig, ways: tuple[str, ...], reference: Path | None) -> list[Variant]:
    """"ours,plain,ours:precision=bf16;env.OMP_NUM_THREADS=1" with `config` for what is not overridden.

    ways: those of WAYS that the command can measure. Raises UsageError naming --variants.
    """
    names = list(dict.fromkeys(name.strip() for name in BETWEEN.split(text) if name.strip()))
    if not names:
        raise click.UsageError(f"--variants names nothing to measure. There is: {', '.join(ways)}.")
    variants = [parse_variant(name, config, ways) for name in names]
    if reference is None and any(variant.public for variant in variants):
        raise click.UsageError(f"--variants: nvlabs is measured where --reference names a checkout of {PUBLIC_CODE}.")
    return variants


def parse_variant(name: str, config: TrainConfig, ways: tuple[str, ...]) -> Variant:
    way, _, options = name.partition(":")
    if way not in ways:
        raise click.UsageError(f"--variants: there is no {way}; there is: {', '.join(ways)}.")
    env = dict(ENVIRONMENT.get(way, {}))
    for option in filter(None, options.split(";")):
        path, equals, value = option.strip().partition("=")
        if not equals:
            raise click.UsageError(f"--variants={name}: {path} has no value. Write {way}:precision=bf16, say.")
        if path.startswith("env."):
            env[path.removeprefix("env.")] = value
        else:
            config = overridden(config, path, value, f"--variants={name}")
    return Variant(name, way, config, env)


def overridden(config: Any, path: str, text: str, where: str) -> Any:
    """config with the setting at a path such as networks.channel_base as text says. Raises UsageError."""
    head, _, rest = path.partition(".")
    names = [item.name for item in dataclasses.fields(config)]
    if head not in names:
        raise click.UsageError(f"{where}: there is no setting {head}; there is: {', '.join(names)}; and env.NAME.")
    value = getattr(config, head)
    if dataclasses.is_dataclass(value):
        if not rest:
            inner = ", ".join(f"{head}.{item.name}" for item in dataclasses.fields(value))
            raise click.UsageError(f"{where}: {head} is several settings: {inner}.")
        return replace(config, **{head: overridden(value, rest, text, where)})
    return replace(config, **{head: converted(text, value, path, where)})


def converted(text: str, like: Any, path: str, where: str) -> Any:
    """text as a value of the type that the setting has now; any where that is None."""
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        value = text
    if isinstance(like, float) and type(value) is int:
        value = float(value)
    if isinstance(like, tuple) and isinstance(value, list):
        value = tuple(value)
    if like is not None and value is not None and type(value) is not type(like):
        raise click.UsageError(f"{where}: {path} is now {json.dumps(like)}, and {text} is of another kind.")
    return value


def checked_reference(folder: Path | None) -> Path | None:
    """The folder of --reference, whole. Raises UsageError where it is not a checkout of the public code."""
    if folder is None:
        return None
    if not folder.is_dir():
        raise click.UsageError(f"--reference={folder}: there is no such folder. git clone {PUBLIC_CODE} makes one.")
    if missing := [name for name in CHECKOUT_HAS if not (folder / name).is_file()]:
        raise click.UsageError(f"--reference={folder} is no checkout of {PUBLIC_CODE}: it has no {missing[0]}. Name "
                               f"the folder that git clone made.")
    return folder.resolve()
