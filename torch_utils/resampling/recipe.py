"""What compiling csrc/resample.cpp takes: flags, and the ninja file."""

import shlex
from pathlib import Path

from torch_utils.ops import toolchain
from torch_utils.ops.toolchain import Tools

SOURCE = Path(__file__).parent / "csrc" / "resample.cpp"
# Weights are computed without fused operations, as in Pillow; sums that overflow do so in the same way.
CXX_FLAGS = ["-std=c++17", "-O3", "-fPIC", "-fvisibility=hidden", "-ffp-contract=off", "-fwrapv"]


def ingredients() -> bytes:
    """All that decides what any build makes, apart from target and compiler."""
    return f"{CXX_FLAGS}".encode() + b"\0" + SOURCE.read_bytes()


def library_name(device: str) -> str:
    return f"stylegan2_{device}.so"


def ninja_file(device: str, target: tuple[str, ...], tools: Tools) -> str:
    """target: a name in CPU_LEVELS."""
    words = [str(tools.cxx), *CXX_FLAGS, *toolchain.CPU_LEVELS[target[0]][1], "-shared"]
    source = "".join(f"${char}" if char in "$ :" else char for char in str(SOURCE))
    return "\n".join([f"rule cxx\n  command = {shlex.join(words).replace('$', '$$')} $in -o $out",
                      f"build {library_name(device)}: cxx {source}", ""])
