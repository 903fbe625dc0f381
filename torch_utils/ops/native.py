"""Which kernels the operators run on a device: the native ones where they can be built, else the pure-torch reference.

The reference is what torch.library knows for every device. Called for the first time on a device it loads the native
library, which registers its kernels with torch's dispatcher, and hands the call on; from then on the dispatcher finds
them directly. Where that fails one line says why, and the reference goes on. STYLEGAN2_OPS=auto|native|reference.
"""

import contextlib
import ctypes
import functools
import importlib
import math
import os
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from torch_utils import distributed
from torch_utils.errors import UserError
from torch_utils.ops import build, toolchain
from torch_utils.ops.build import Build
from torch_utils.ops.registration import Registered
from torch_utils.ops.toolchain import Missing

MODE = "STYLEGAN2_OPS"
NAMES = {"cpu": "the CPU", "cuda": "CUDA"}
MODULES = ("bias_act", "upfirdn2d", "synthesis_act", "winograd", "energy")
COST = {"cpu": "training takes some 1.4 times as long",
        "cuda": "training takes longer (by the bytes that it moves, up to twice as long)"}
TOLERANCE = {torch.float32: 1e-5, torch.float16: 1e-2, torch.bfloat16: 5e-2}


class Operator(NamedTuple):
    """reference: the pure-torch kernel. examples: (device, dtype) -> argument lists that reach every native kernel.

    devices: the types of devices that there are native kernels for.
    """

    reference: Callable
    examples: Callable[[torch.device, torch.dtype], list[tuple]]
    devices: tuple[str, ...]


@dataclass(frozen=True)
class State:
    """What runs on a device type, "cpu" or "cuda". reason: why not the native kernels, empty where they run."""

    device: str
    native: bool
    reason: str = ""
    remedy: str = ""
    build: Build | None = None
    log: Path | None = None


OPERATORS: dict[str, Operator] = {}
_states: dict[str, State] = {}
_libraries: dict[str, ctypes.CDLL] = {}
_deciding = threading.RLock()
_settling_thread: int | None = None
_suspended = False


def operator(name: str, examples: Callable[[torch.device, torch.dtype], list[tuple]],
             devices: tuple[str, ...] = ("cpu", "cuda")) -> Callable:
    """Decorates the reference of stylegan2::name: registers it with torch's dispatcher, and here for native kernels."""

    def register(reference: Callable) -> Registered:
        @functools.wraps(reference)
        def kernel(*args: Any) -> Any:
            if _settling_thread == threading.get_ident():
                raise RuntimeError(f"there is no native {name}")
            device = args[0].device.type
            if not _suspended and device not in _states and not _capturing(device) and load(device) \
                    and device in devices:
                return registered.call(*args)
            with no_autocast(device):
                return reference(*args)

        OPERATORS[name] = Operator(reference, examples, devices)
        registered = Registered(name, kernel)
        return registered

    return register


def operators(device: str | None = None) -> dict[str, Operator]:
    """By name those with native kernels for "cpu" or "cuda" (None: all), whichever modules have been imported."""
    for name in MODULES:
        importlib.import_module(f"torch_utils.ops.{name}")
    return {name: op for name, op in OPERATORS.items() if device is None or device in op.devices}


def load(device: str) -> bool:
    """Whether the native kernels run on "cpu" or "cuda"; the first call builds and loads them, or tells why not.

    Raises UserError where STYLEGAN2_OPS=native and they cannot run.
    """
    return state(device).native


def state(device: str) -> State:
    """What runs on "cpu" or "cuda", settled at the first call. Raises UserError as load does."""
    if device not in ("cpu", "cuda"):
        return State(device, False, "there are native operators for the CPU and for CUDA only")
    with _deciding:
        if device not in _states:
            _states[device] = _settle(device, mode())
        return _states[device]


def summary(device: str) -> str:
    """What runs on "cpu" or "cuda", in a few words; settles it as state does."""
    found = state(device)
    if found.build is None:
        return f"pure torch ({found.reason})"
    return f"native ({', '.join(found.build.target)}; {found.build.versions})"


def mode() -> str:
    """auto, native or reference, from STYLEGAN2_OPS. Raises UserError for anything else."""
    value = os.environ.get(MODE) or "auto"
    if value not in ("auto", "native", "reference"):
        raise UserError(f"{MODE}={value} is none of auto, native and reference. Unset it, or choose one of them.")
    return value


@contextlib.contextmanager
def reference() -> Iterator[None]:
    """Within it every operator runs its reference, on every device and thread; none may run as it begins or ends."""
    global _suspended
    _call_all("stylegan2_unregister")
    _suspended = True
    try:
        yield
    finally:
        _suspended = False
        _call_all("stylegan2_register")


def target_here(device: str) -> tuple[str, ...]:
    """What to compile for on this machine: the CPU's level, or the GPUs' capabilities or TORCH_CUDA_ARCH_LIST."""
    if device == "cpu":
        return (toolchain.cpu_level(),)
    if listed := os.environ.get("TORCH_CUDA_ARCH_LIST"):
        return toolchain.parse_capabilities(listed, "TORCH_CUDA_ARCH_LIST")
    return tuple(sorted({f"{major}.{minor}" for major, minor in _gpus()}))


def errors(device: torch.device) -> Iterator[tuple[str, torch.dtype, float]]:
    """How far off the kernels that run on the device are in each example: (operator, type, error).

    The error is the largest difference from the reference, relative to the reference's largest value.
    """
    for name, op in operators(device.type).items():
        for dtype in TOLERANCE:
            for args in op.examples(device, dtype):
                with torch.no_grad(), no_autocast(device.type), torch.backends.cudnn.flags(allow_tf32=False):
                    expected, found = op.reference(*args), getattr(torch.ops.stylegan2, name)(*args)
                for a, b in zip(_tensors(expected), _tensors(found), strict=True):
                    yield name, dtype, _relative_error(a, b)


def disagreement(device: torch.device) -> str:
    """What the kernels that run on the device compute differently from the references; empty where nothing."""
    for name, dtype, error in errors(device):
        if not error <= TOLERANCE[dtype]:
            return f"{name} in {str(dtype).removeprefix('torch.')} is off by {error:.1e}"
    return ""


def runs_here(made: Build) -> bool:
    """Whether this machine's CPU, or each of its GPUs, runs what the build is compiled for."""
    return _runs(made.target, _gpus() if made.device == "cuda" else [])


def self_test(made: Build) -> str:
    """What is wrong with a build for a device of this machine, whatever else is in use; empty where nothing."""
    with reference():
        try:
            _registered(made).stylegan2_unregister()
        except Missing as missing:
            return str(missing)
    return ""


def pattern(*shape: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Numbers between -1 and 1 for examples, drawn from no random stream."""
    count = torch.Size(shape).numel()
    return torch.sin(torch.arange(1, count + 1, dtype=torch.float64) * 12.9898).reshape(shape).to(device, dtype)


def _settle(device: str, wanted: str) -> State:
    if wanted == "reference":
        return State(device, False, f"{MODE}=reference")
    try:
        made = _find_or_compile(device)
        _libraries[device] = _registered(made)
        return State(device, True, build=made)
    except Missing as missing:
        state = State(device, False, missing.reason, missing.remedy, log=getattr(missing, "log", None))
    except OSError as error:
        state = State(device, False, f"{error.filename or 'the cache folder'}: {error.strerror or error}",
                      "Set STYLEGAN2_CACHE to a folder that can be written to")
    except Exception as error:  # whatever it is, a run that could go on without must not end here
        state = State(device, False, f"{type(error).__name__}: {error}", "Please report it")
    log = f" Log: {state.log}." if state.log else ""
    what = f"the native operators for {NAMES[device]} cannot be used: {state.reason}. {state.remedy}."
    if wanted == "native":
        raise UserError(f"{MODE}=native, but {what}{log}")
    _say(f"{what[0].upper()}{what[1:]}{log} Without them {COST[device]}; the results are the same but for rounding.")
    return state


def _find_or_compile(device: str) -> Build:
    """A build by the compilers of this machine for its target, else the best that runs. Raises Missing, OSError."""
    if device == "cuda" and torch.version.cuda is None:
        raise Missing("this torch is not built for CUDA", "With another kind of GPU this is as it must be")
    gpus = _gpus() if device == "cuda" else []
    usable = sorted((made for made in build.finished(device) if _runs(made.target, gpus)), key=_level)
    try:
        target = target_here(device)
        if not _runs(target, gpus):
            raise Missing(f"TORCH_CUDA_ARCH_LIST leaves out this machine's GPUs ({gpus})", "Unset it")
        tools = toolchain.find_tools(device, torch.version.cuda)
        for made in usable:
            if made.compilers == tools.identity and (device == "cuda" or made.target == target):
                return made
        return build.compile_ops(device, target, tools, _say)
    except (Missing, OSError) as error:
        if usable:
            return usable[0]
        if isinstance(error, Missing) and any(build.cache_folder(device).parent.glob(f"{device}-*/*/*.so")):
            error.reason += ", and no library in the cache is whole and for this machine, torch and version"
        raise


def _runs(target: tuple[str, ...], gpus: list[tuple[int, int]]) -> bool:
    if target[0] in toolchain.CPU_LEVELS:
        return toolchain.runs_cpu_level(target[0])
    return all(toolchain.covers(target, gpu) for gpu in gpus)


def _level(made: Build) -> int:
    """The place of a CPU build among the levels, the best first."""
    return list(toolchain.CPU_LEVELS).index(made.target[0]) if made.device == "cpu" else 0


def _gpus() -> list[tuple[int, int]]:
    """The compute capabilities of the visible GPUs."""
    return sorted({torch.cuda.get_device_capability(i) for i in range(torch.cuda.device_count())})


def _registered(made: Build) -> ctypes.CDLL:
    """The library, its kernels registered. Raises Missing where they do not compute what the references do."""
    try:
        library = ctypes.CDLL(str(made.library))
    except OSError as error:
        raise Missing(f"{made.library} cannot be loaded ({error})", f"Remove {made.folder}: it is compiled again then"
                      ) from error
    if library.stylegan2_register():
        library.stylegan2_unregister()
        raise Missing(f"torch {torch.__version__} refuses the kernels of {made.library}", "Please report it")
    global _settling_thread
    _settling_thread = threading.get_ident()
    wrong = "it was interrupted"
    try:
        wrong = disagreement(torch.device(made.device))
    except RuntimeError as error:
        wrong = str(error).splitlines()[0]
    finally:
        _settling_thread = None
        if wrong:
            library.stylegan2_unregister()
    if "driver version is insufficient" in wrong:
        raise Missing(f"they are compiled by {made.versions}, which is newer than the driver of the GPU",
                      toolchain.install_nvcc(torch.version.cuda))
    if wrong:
        raise Missing(f"their self-test fails ({wrong})", "Please report it, with what `stylegan2 doctor` prints")
    return library


def _capturing(device: str) -> bool:
    """Whether a CUDA graph is recorded: no time to load a library and try it."""
    return device == "cuda" and torch.cuda.is_current_stream_capturing()


def no_autocast(device: str) -> contextlib.AbstractContextManager:
    """A registered operator keeps its types, so that what a reference is made of must not be cast."""
    cast = device in NAMES and torch.is_autocast_enabled(device)
    return torch.autocast(device, enabled=False) if cast else contextlib.nullcontext()


def _call_all(function: str) -> None:
    for library in _libraries.values():
        getattr(library, function)()


def _tensors(outputs: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return (outputs,) if isinstance(outputs, Tensor) else tuple(outputs)


def _relative_error(expected: Tensor, found: Tensor) -> float:
    """Of the largest value; infinite where shapes or types differ."""
    if expected.shape != found.shape or expected.dtype != found.dtype:
        return math.inf
    if expected.numel() == 0:
        return 0.0
    largest = expected.double().abs().max().clamp_min(1e-9)
    return ((expected.double() - found.double()).abs().max() / largest).item()


def _say(line: str) -> None:
    if distributed.rank() == 0 and os.environ.get("LOCAL_RANK", "0") == "0":
        print(line, file=sys.stderr, flush=True)
