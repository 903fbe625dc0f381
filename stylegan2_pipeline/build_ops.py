"""Compiles the native operators ahead of time, for machines and containers that have no compiler."""

import platform
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch

from torch_utils.errors import UserError
from torch_utils.files import cache_dir
from torch_utils.ops import build, native, recipe, toolchain
from torch_utils.ops.build import Build, BuildFailure
from torch_utils.ops.toolchain import Missing, Tools
from torch_utils.resampling import native as resampling
from torch_utils.text import format_bytes, format_time

LOG_LINES = 30
NAMES = {"cpu": "CPU", "cuda": "CUDA", resampling.DEVICE: "CPU, resizing of pictures"}


class Plan(NamedTuple):
    """A library to compile: for a device in build.RECIPES, for a level or compute capabilities, with these programs."""

    device: str
    target: tuple[str, ...]
    tools: Tools


def build_ops(
    archs: tuple[str, ...], device: str | None, cpu_level: str | None, say: Callable[[str], None]
) -> list[Build]:
    """Compiles the CPU libraries and, where asked for or possible, the CUDA library; tries those that run here.

    archs: compute capabilities, several in one separated as in TORCH_CUDA_ARCH_LIST, or none: those of this machine.
    device: "cpu" or "cuda" for that one alone. cpu_level: in toolchain.CPU_LEVELS, or None: this CPU's. `say` gets the
    lines of the report. Raises UserError, before compiling anything where something is missing.
    """
    if archs and device == "cpu":
        raise UserError("--arch is for CUDA, and --device=cpu leaves CUDA out. Leave one of them out.")
    if cpu_level and device == "cuda":
        raise UserError("--cpu-level is for the CPU, and --device=cuda leaves the CPU out. Leave one of them out.")
    try:
        plans = [] if device == "cuda" else _cpu_plans(cpu_level)
        if device != "cpu":
            plans += _cuda_plans(archs, asked=bool(archs) or device == "cuda", say=say)
        time_limit = build.time_limit()
    except Missing as missing:
        raise UserError(f"{missing}.") from missing
    say(f"Compiling into {cache_dir()}/ops; each library may take up to {format_time(time_limit)}")
    made = [_compiled(plan, say) for plan in plans]
    say(f"To use them elsewhere: copy {cache_dir()}/ops into a folder there, set STYLEGAN2_CACHE to that folder, and "
        f"have the same version of this toolkit and torch {torch.__version__}. No compiler is needed there.")
    return made


def _cpu_plans(level: str | None) -> list[Plan]:
    """The operators, and what resizes pictures where this machine can run it."""
    devices = ["cpu", *([resampling.DEVICE] if platform.machine() in resampling.MACHINES else [])]
    return [Plan(device, (level or toolchain.cpu_level(),), toolchain.find_tools("cpu")) for device in devices]


def _cuda_plans(archs: tuple[str, ...], asked: bool, say: Callable[[str], None]) -> list[Plan]:
    """The CUDA library; none, which is said, where nobody asked for it and it cannot be compiled. Raises Missing."""
    try:
        if torch.version.cuda is None:
            raise Missing(f"torch {torch.__version__} is built for the CPU only, and libraries serve the torch that "
                          "they are compiled with", "Install a torch with CUDA: the GPU may be elsewhere")
        tools = toolchain.find_tools("cuda", torch.version.cuda)
    except Missing as missing:
        if asked:
            raise
        say(f"No library for CUDA: {missing}.")
        return []
    target = toolchain.parse_capabilities(" ".join(archs), "--arch") if archs else native.target_here("cuda")
    if not target:
        raise Missing("there is no GPU here to tell what to compile for",
                      "Name compute capabilities: --arch 8.6 8.9; or leave CUDA out: --device=cpu")
    toolchain.gencode(target, tools.nvcc or Path())  # whether nvcc knows them
    return [Plan("cuda", tuple(sorted(set(target), key=lambda name: float(name.split("+")[0].rstrip("af")))), tools)]


def _compiled(plan: Plan, say: Callable[[str], None]) -> Build:
    before = {made.folder for made in build.finished(plan.device)}
    programs = [program for program in (plan.tools.cxx, plan.tools.nvcc) if program]
    count = len(recipe.sources(plan.device)) if plan.device in ("cpu", "cuda") else 1
    say(f"\n{NAMES[plan.device]}: {count} file{'s' * (count > 1)} for {', '.join(plan.target)}, with "
        f"{' and '.join(f'{program.name} {toolchain.version_of(program)}' for program in programs)}")
    try:
        made = build.compile_ops(plan.device, plan.target, plan.tools, lambda line: say(f"  {line}"), retry=True)
    except Missing as missing:
        raise UserError(f"The {NAMES[plan.device]} library cannot be compiled: {missing}.{_log(missing)}") from missing
    except OSError as error:
        raise UserError(f"Cannot write {error.filename or cache_dir()}: {error.strerror or error}. Set STYLEGAN2_CACHE "
                        "to a folder that can be written to.") from error
    say(f"  {made.library}")
    took = "was there" if made.folder in before else f"compiled in {format_time(made.seconds)}"
    say(f"  {format_bytes(made.library.stat().st_size)}, {took}; {_tried(made)}")
    return made


def _log(missing: Missing) -> str:
    """The end of the log, where there is one."""
    if not isinstance(missing, BuildFailure):
        return ""
    lines = missing.log.read_text(errors="replace").splitlines()[-LOG_LINES:]
    return "\n\n" + "\n".join(f"    {line}" for line in lines) + f"\n\nThe whole log: {missing.log}"


def _tried(made: Build) -> str:
    """What the self-test says. Raises UserError where it fails."""
    if made.device == "cuda" and not torch.cuda.is_available():
        return "not tried, as there is no GPU here"
    if not native.runs_here(made):
        what = "CUDA" if made.device == "cuda" else "CPU"
        return f"not tried, as this machine's {what} does not run {', '.join(made.target)}"
    if wrong := (resampling if made.device == resampling.DEVICE else native).self_test(made):
        raise UserError(f"{made.library} is compiled, but {wrong}.")
    return "self-test passed"
