"""The doctor's look at the operators of a device: what they run, whether it is right, and how fast it is."""

import contextlib
import math
import os
from collections.abc import Callable

import torch

from stylegan2_pipeline.doctor import Fact
from torch_utils import host
from torch_utils.errors import UserError
from torch_utils.ops import native
from torch_utils.ops.native import State, pattern
from torch_utils.ops.upfirdn2d import setup_filter
from torch_utils.text import format_time
from torch_utils.timing import interleaved

SHAPES = {"cpu": (4, 128, 64, 64), "cuda": (16, 128, 128, 128)}
SECONDS = 0.4  # for each line of the speed section


def operators(device: str) -> list[Fact]:
    """What runs on "cpu" or "cuda", and why; nothing where torch has no such device. Raises UserError as mode does."""
    if not there(device):
        return []
    asked, state, names = native.mode(), settled(device), list(native.operators(device))
    facts = [_state(state, asked), Fact("operators", ", ".join(names), names)]
    if state.build:
        made = state.build
        facts += [Fact("library", str(made.library)), Fact("target", ", ".join(made.target), list(made.target)),
                  Fact("compiled", f"by {made.versions} in {format_time(made.seconds)}",
                       {"compilers": made.versions, "seconds": made.seconds})]
    if state.log:
        facts.append(Fact("log", str(state.log)))
    return facts


def self_test(device: str) -> list[Fact]:
    """The largest error of each native operator in each type, relative to the largest value."""
    if not in_use(device):
        return []
    found: dict[str, dict[torch.dtype, list[float]]] = {}
    try:
        for name, dtype, error in native.errors(torch.device(device)):
            found.setdefault(name, {}).setdefault(dtype, []).append(math.inf if math.isnan(error) else error)
    except RuntimeError as error:
        return [Fact("state", f"fails ({str(error).splitlines()[0]})", False, "error", "Please report it")]
    return [_verdict(name, {dtype: max(errors) for dtype, errors in of.items()}) for name, of in found.items()]


def speed(device: str) -> list[Fact]:
    """Seconds a call of each native operator and its reference, in float32."""
    if not in_use(device):
        return []
    host.keep_freed_memory()  # as training does
    where, shape = torch.device(device), SHAPES[device]
    facts = [Fact("images", f"{'x'.join(map(str, shape))} in float32", list(shape))]
    with torch.no_grad():
        for name in native.operators(device):
            facts += [_timed(name, label, args, where) for label, args in cases(name, shape, where)]
    return facts


PARTS: dict[str, Callable[[str], list[Fact]]] = {"operators": operators, "self_test": self_test, "speed": speed}


def there(device: str) -> bool:
    return device == "cpu" or torch.cuda.is_available()


def in_use(device: str) -> bool:
    """Whether native operators run on the device."""
    with contextlib.suppress(UserError):  # told in the section of operators
        return there(device) and settled(device).native
    return False


def settled(device: str) -> State:
    """As native.state, but told and not raised where STYLEGAN2_OPS=native does not hold."""
    asked = os.environ.get(native.MODE)
    if native.mode() == "native":
        os.environ[native.MODE] = "auto"
    try:
        return native.state(device)
    finally:
        if asked is not None:
            os.environ[native.MODE] = asked


def cases(name: str, shape: tuple[int, ...], device: torch.device) -> list[tuple[str, tuple]]:
    """Arguments as training has them for images of that shape, each with a word for it; else one of its examples."""
    n, c, h, w = shape

    def made(*size: int) -> torch.Tensor:
        t = pattern(*size, device=device, dtype=torch.float32)
        return t.contiguous(memory_format=torch.channels_last) if t.ndim == 4 else t  # as training has images

    x, b, scale, noise = made(*shape), made(c), made(n, c), made(n, 1, h, w)
    f, lrelu = setup_filter([1, 3, 3, 1]).to(device), (0.2, math.sqrt(2), 256.0)
    known: dict[str, list[tuple[str, tuple]]] = {
        "bias_act": [("", (x, b, 1, *lrelu))],
        "bias_act_grad": [("", (x, x, *lrelu))],
        "upfirdn2d": [("up 2", (x, f, [2, 2], [1, 1], [2, 1, 2, 1], False, 4.0)),
                      ("down 2", (x, f, [1, 1], [2, 2], [1, 1, 1, 1], False, 1.0))],
        "synthesis_act": [("", (x, scale, noise, b[0], b, *lrelu))],
        "synthesis_act_grad": [("", (x, x, x, scale, noise, True, *lrelu))],
        "winograd": [("", (x, made(c, c, 3, 3), 1, False))],
        "winograd_weight_grad": [("", (x, x, 1))],
        "energy": [("", (pattern(c, c, 3, 3, device=device, dtype=torch.float32),))],
    }
    return known.get(name) or [("small", native.operators()[name].examples(device, torch.float32)[0])]


def _state(state: State, asked: str) -> Fact:
    if state.native:
        return Fact("state", "native", {"native": True}, "ok")
    level = {"native": "error", "reference": "", "auto": "warning"}[asked]
    text = f"pure torch: {state.reason}"
    value = {"native": False, "reason": state.reason, "remedy": state.remedy}
    return Fact("state", f"{native.MODE}=native, but {text}" if asked == "native" else text, value, level, state.remedy)


def _verdict(name: str, errors: dict[torch.dtype, float]) -> Fact:
    named = {str(dtype).removeprefix("torch."): error for dtype, error in errors.items()}
    text = ", ".join(f"{error:.1e} in {dtype}" for dtype, error in named.items())
    if all(error <= native.TOLERANCE[dtype] for dtype, error in errors.items()):
        return Fact(name, text, named, "ok")
    return Fact(name, f"{text}: it disagrees with the reference", named, "error",
                f"Please report it; until then: export {native.MODE}=reference")


def _timed(name: str, label: str, args: tuple, device: torch.device) -> Fact:
    kernel, reference = getattr(torch.ops.stylegan2, name), native.operators()[name].reference
    sec = interleaved({"native": lambda: kernel(*args), "reference": lambda: reference(*args)}, device, SECONDS)
    text = (f"{sec['native'] * 1e3:7.2f} ms, reference {sec['reference'] * 1e3:7.2f} ms: "
            f"{sec['reference'] / sec['native']:.1f} times as fast")
    return Fact(f"{name} {label}".strip(), text, {"native_sec": sec["native"], "reference_sec": sec["reference"]})
