"""What compiling the native operators takes: sources, flags, and the ninja file that joins them."""

import shlex
from pathlib import Path

import torch

from torch_utils.ops import toolchain
from torch_utils.ops.toolchain import Tools

SUFFIXES = (".cpp", ".h", ".cu", ".cuh")
CSRC = Path(__file__).parent / "csrc"
TORCH = Path(torch.__file__).parent
CXX_FLAGS = ["-std=c++17", "-O3", "-fPIC", "-fvisibility=hidden", "-fno-math-errno", "-fno-trapping-math",
             "-ffp-contract=fast", "-DTORCH_TARGET_VERSION=0x020b000000000000"]  # the stable ABI of torch 2.11
NVCC_FLAGS = ["-std=c++17", "-O3", "--expt-relaxed-constexpr", "-Xcompiler=-fPIC,-fvisibility=hidden"]


def sources(device: str) -> list[Path]:
    """The bindings, and the kernels for "cpu" or "cuda"."""
    kernels = sorted(CSRC.glob("*.cu" if device == "cuda" else "*.cpp"))
    return [CSRC / "bindings.cpp", *(path for path in kernels if path.name != "bindings.cpp")]


def ingredients() -> bytes:
    """All that decides what any build makes, apart from target and compilers."""
    files = [path.name.encode() + b"\0" + path.read_bytes() for path in sorted(CSRC.glob("*.*"))
             if path.suffix in SUFFIXES]
    return b"\0".join([f"{torch.__version__} {CXX_FLAGS} {NVCC_FLAGS}".encode(), *files])


def library_name(device: str) -> str:
    return f"stylegan2_{device}.so"


def ninja_file(device: str, target: tuple[str, ...], tools: Tools) -> str:
    """One object a source, one library. target: a name in CPU_LEVELS, or compute capabilities. Raises Missing."""
    cxx = [tools.cxx, *CXX_FLAGS, "-isystem", TORCH / "include", "-I", CSRC]
    if tools.nvcc:
        cxx.append("-DSTYLEGAN2_CUDA")
        nvcc = [tools.nvcc, *NVCC_FLAGS, f"-ccbin={tools.cxx}", "-I", CSRC, *toolchain.gencode(target, tools.nvcc)]
        link = [tools.nvcc, "-shared", "-cudart=static", f"-ccbin={tools.cxx}", *_libraries("-Xlinker=", tools.nvcc)]
    else:
        cxx += ["-DSTYLEGAN2_CPU", *toolchain.CPU_LEVELS[target[0]][1]]
        nvcc = []
        link = [tools.cxx, "-shared", *_libraries("-Wl,")]
    objects = [(f"{source.name}.o", "nvcc" if source.suffix == ".cu" else "cxx", source) for source in sources(device)]
    return "\n".join([
        f"rule cxx\n  command = {_command(cxx)} -c $in -o $out",
        f"rule nvcc\n  command = {_command(nvcc)} -c $in -o $out" if nvcc else "",
        f"rule link\n  command = {_command(link[:2])} -o $out $in {_command(link[2:])}",
        *(f"build {name}: {rule} {_path(source)}" for name, rule, source in objects),
        f"build {library_name(device)}: link {' '.join(name for name, _, _ in objects)}", ""])


def _libraries(linker: str, nvcc: Path | None = None) -> list[str]:
    """torch's libraries; they are loaded long before ours, so that no path to them is needed at run time.

    -zdefs: a kernel that is missing fails the link, not the run.
    """
    folders = [TORCH / "lib"]
    names = ["torch_cpu"]
    if nvcc:
        folders += filter(None, [toolchain.cuda_libraries(nvcc)])
        names += ["torch_cuda"] if (TORCH / "lib" / "libtorch_cuda.so").exists() else []
    return [f"{linker}-zdefs", f"{linker}--no-as-needed", *(f"-L{folder}" for folder in folders),
            *(f"-l{name}" for name in names)]


def _command(words: list) -> str:
    return shlex.join(map(str, words)).replace("$", "$$")


def _path(path: Path) -> str:
    return "".join(f"${char}" if char in "$ :" else char for char in str(path))
