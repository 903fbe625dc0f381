"""The compiled library that resizes pictures: compiled at the first use, tried against Pillow, and called.

It is of use only where it gives what Pillow gives, to the bit. Where it does not, or cannot be compiled, Pillow serves,
and nothing but the time tells the difference.
"""

import ctypes
import os
import platform
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image

from torch_utils.ops import build, toolchain
from torch_utils.ops.build import Build
from torch_utils.ops.toolchain import Missing

MODE = "STYLEGAN2_OPS"  # "reference": Pillow
DEVICE = "pictures"  # among the builder's
FILTERS = {"box": Image.Resampling.BOX, "bicubic": Image.Resampling.BICUBIC,
           "lanczos": Image.Resampling.LANCZOS}  # in the order of kFilters in csrc/resample.cpp
MODES = {1: "L", 3: "RGB", 4: "RGBa"}  # channels -> of the picture that is resized; RGBa is premultiplied
MACHINES = ("x86_64", "AMD64")
LARGEST = 2 ** 16  # sides; blocks of rows of larger pictures would take much memory

Size = tuple[int, int]  # width, height
Order = Callable[[Size, Size], bool]  # (from, to) -> whether rows are resized before columns


@dataclass(frozen=True)
class Resampler:
    """A library, and the order in which the Pillow that is installed makes its passes."""

    library: ctypes.CDLL
    rows_first: Order

    def takes(self, pixels: np.ndarray, size: Size) -> bool:
        """Whether a call can be made; everything else is Pillow's."""
        sides = (*pixels.shape[:2], *size)
        return pixels.dtype == np.uint8 and pixels.shape[2] in MODES and min(sides) > 0 and max(sides) <= LARGEST

    def __call__(self, pixels: np.ndarray, size: Size, name: str) -> np.ndarray:
        """uint8 [H,W,C], C in MODES -> uint8 [height,width,C] of another size, by a filter of FILTERS.

        The channels are resized each on its own: those of transparent pictures must be premultiplied.
        Raises MemoryError.
        """
        height, width, channels = pixels.shape
        if pixels.strides[1:] != (channels, 1):
            pixels = np.ascontiguousarray(pixels)
        made = np.empty((size[1], size[0], channels), np.uint8)
        if self.library.stylegan2_resample(
                pixels.ctypes.data, pixels.strides[0], width, height, channels, list(FILTERS).index(name), *size,
                self.rows_first((width, height), size), made.ctypes.data):
            raise MemoryError(f"no room to resize a picture of {width}x{height}")
        return made


@dataclass(frozen=True)
class State:
    """What resizes pictures in this process: the resampler, or Pillow, and then `reason` and `remedy` say why.

    expected: Pillow is what was asked for, or all that there is for such a machine.
    """

    resampler: Resampler | None
    reason: str = ""
    remedy: str = ""
    expected: bool = False
    build: Build | None = None


_deciding = threading.Lock()
_state: State | None = None


def state(say: Callable[[str], None] = lambda line: None) -> State:
    """Settled at the first call, which may compile for some seconds: `say` gets a line before that."""
    global _state
    with _deciding:
        if _state is None:
            _state = _settle(say)
        return _state


def summary() -> str:
    """What resizes pictures, in a few words; settles it as state does."""
    found = state()
    return f"native ({found.build.target[0]}; {found.build.versions})" if found.build else f"Pillow ({found.reason})"


def open_library(made: Build) -> Resampler:
    """Loads a build and tries it. Raises Missing where it cannot be loaded or gives other pixels than Pillow."""
    try:
        library = ctypes.CDLL(str(made.library))
        library.stylegan2_resample.argtypes = [ctypes.c_void_p, ctypes.c_ssize_t, *[ctypes.c_int] * 7, ctypes.c_void_p]
    except (OSError, AttributeError) as error:
        raise Missing(f"{made.library} cannot be loaded ({error})", f"Remove {made.folder}: it is compiled again then"
                      ) from error
    wrong = ""
    for order in ORDERS:
        resampler = Resampler(library, order)
        if not (wrong := disagreement(resampler)):
            return resampler
    raise Missing(f"its self-test fails: {wrong}", "Please report it, with the version of Pillow")


def self_test(made: Build) -> str:
    """What is wrong with a build for this machine; empty where nothing."""
    try:
        open_library(made)
    except Missing as missing:
        return str(missing)
    return ""


def runs_here(made: Build) -> bool:
    return platform.machine() in MACHINES and toolchain.runs_cpu_level(made.target[0])


def disagreement(resampler: Resampler) -> str:
    """Where its pixels are not those of Pillow; empty where they are the same everywhere."""
    for pixels, size, name in examples():
        if not np.array_equal(resampler(pixels, size, name), by_pillow(pixels, size, name)):
            (height, width, channels) = pixels.shape
            return f"{name} from {width}x{height} to {size[0]}x{size[1]} with {channels} channels is not as in Pillow"
    return ""


def by_pillow(pixels: np.ndarray, size: Size, name: str) -> np.ndarray:
    """As Resampler's call."""
    height, width, channels = pixels.shape
    picture = Image.frombytes(MODES[channels], (width, height), pixels.tobytes())
    return np.asarray(picture.resize(size, FILTERS[name])).reshape(size[1], size[0], channels)


def examples() -> Iterator[tuple[np.ndarray, Size, str]]:
    """Smaller, larger, of the same width or height, and where the order of the passes changes; black and white noise,
    whose sums must be cut off, and any other noise."""
    random = np.random.default_rng(0)
    sizes = [((40, 30), (17, 11)), ((9, 14), (23, 35)), ((33, 21), (33, 40)), ((21, 33), (50, 33)), ((50, 40), (1, 1)),
             ((20, 40), (15, 29)), ((20, 40), (15, 30)), ((20, 40), (25, 39)), ((20, 40), (25, 41)),
             ((60, 120), (45, 90)), ((60, 120), (45, 89)), ((60, 40), (61, 39)), ((40, 60), (39, 58))]
    for (width, height), size in sizes:
        for name in FILTERS:
            for channels in MODES:
                noise = random.integers(0, 256, (height, width, channels), np.uint8)
                yield (noise if channels != 3 else (noise & 128) // 128 * 255), size, name


def rows_always_first(from_size: Size, to_size: Size) -> bool:
    """Pillow 12 and earlier."""
    return True


def rows_first_unless_much_lower(from_size: Size, to_size: Size) -> bool:
    """Pillow 13: columns first where they shrink by more than twice what the rows shrink by."""
    lower, narrower = from_size[1] - to_size[1], from_size[0] - to_size[0]
    return lower <= 0 or lower <= 2 * narrower


ORDERS: tuple[Order, ...] = (rows_first_unless_much_lower, rows_always_first)


def _settle(say: Callable[[str], None]) -> State:
    if os.environ.get(MODE) == "reference":
        return State(None, f"{MODE}=reference", f"Unset {MODE}", expected=True)
    if platform.machine() not in MACHINES:
        return State(None, f"it is written for x86-64, and this is {platform.machine()}", expected=True)
    try:
        made = _find_or_compile(say)
        return State(open_library(made), build=made)
    except Missing as missing:
        return State(None, missing.reason, missing.remedy)
    except OSError as error:
        return State(None, f"{error.filename or 'the cache folder'}: {error.strerror or error}",
                     "Set STYLEGAN2_CACHE to a folder that can be written to")
    except Exception as error:  # whatever it is, Pillow can go on
        return State(None, f"{type(error).__name__}: {error}", "Please report it")


def _find_or_compile(say: Callable[[str], None]) -> Build:
    """A build by this machine's compiler for its CPU, else the best that runs. Raises Missing, OSError."""
    levels = list(toolchain.CPU_LEVELS)
    usable = sorted(filter(runs_here, build.finished(DEVICE)), key=lambda made: levels.index(made.target[0]))
    try:
        target, tools = (toolchain.cpu_level(),), toolchain.find_tools("cpu")
        for made in usable:
            if (made.compilers, made.target) == (tools.identity, target):
                return made
        return build.compile_ops(DEVICE, target, tools, say)
    except (Missing, OSError):
        if usable:
            return usable[0]
        raise
