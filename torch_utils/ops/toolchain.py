"""The compilers on this machine, and what to compile for: the CPU's vector units and the GPUs' compute capabilities.

Nothing here runs a compiler but `known_capabilities`, so that looking costs next to nothing at every start.
"""

import functools
import os
import re
import shlex
import shutil
import subprocess
import sysconfig
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

LAUNCHERS = ("ccache", "sccache", "distcc", "icecc")
ANSWER_SECONDS = 30  # for a compiler to say what it is
USUAL_NVCC = Path("/usr/local/cuda/bin/nvcc")
CPU_LEVELS = {  # name -> (flags of /proc/cpuinfo that it needs, compiler flags); the best first
    "avx512": (("avx2", "fma", "f16c", "bmi2", "avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512cd"),
               ("-mavx2", "-mfma", "-mf16c", "-mbmi2", "-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl",
                "-mavx512cd", "-mprefer-vector-width=512")),
    "avx2":   (("avx2", "fma", "f16c", "bmi2"), ("-mavx2", "-mfma", "-mf16c", "-mbmi2")),
    "baseline": ((), ()),
}  # fmt: skip


class Missing(Exception):
    """What cannot be built here: `reason` says what is missing, `remedy` what to type."""

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(f"{reason}. {remedy}")
        self.reason = reason
        self.remedy = remedy


@dataclass(frozen=True)
class Tools:
    """The programs that one build takes; nvcc only for CUDA."""

    ninja: Path
    cxx: Path
    nvcc: Path | None = None

    @property
    def identity(self) -> str:
        """Changes when a program is replaced by another."""
        return ";".join(_identity(tool) for tool in (self.cxx, self.nvcc) if tool)


def find_tools(device: str, cuda_version: str | None = None) -> Tools:
    """What a build for "cpu" or "cuda" takes; cuda_version is torch's. Raises Missing."""
    nvcc = find_nvcc(cuda_version) if device == "cuda" else None
    return Tools(find_ninja(), find_cxx(), nvcc)


def find_cxx() -> Path:
    """The compiler that $CXX names, whatever launcher stands before it, or the first of the usual ones on PATH."""
    try:
        named = [word for word in shlex.split(os.environ.get("CXX", "")) if Path(word).name not in LAUNCHERS]
    except ValueError as error:
        raise Missing(f"CXX={os.environ['CXX']} is no command ({error})", "Unset CXX, or name a compiler") from error
    for name in [*named[:1], "g++", "c++", "clang++"]:
        if found := shutil.which(name):
            return Path(found)
    raise Missing("there is no C++ compiler on PATH", "Install one: apt install g++, or conda install gxx")


def find_ninja() -> Path:
    """The ninja of this environment, or one on PATH."""
    if found := shutil.which("ninja", path=sysconfig.get_path("scripts")) or shutil.which("ninja"):
        return Path(found)
    raise Missing("there is no ninja", "Install it: pip install ninja")


def find_nvcc(cuda_version: str | None = None) -> Path:
    """In CUDA_HOME or CUDA_PATH; else on PATH, /usr/local/cuda or a pip package, first of torch's CUDA version."""
    for variable in ("CUDA_HOME", "CUDA_PATH"):
        if home := os.environ.get(variable):
            if (nvcc := Path(home, "bin", "nvcc")).exists():
                return nvcc
            raise Missing(f"{variable}={home} has no bin/nvcc", f"Unset {variable}, or name a CUDA toolkit")
    found = list(_nvccs())
    if found:
        return min(found, key=lambda nvcc: _major(nvcc) not in (None, (cuda_version or "").split(".")[0]))
    raise Missing("there is no CUDA compiler (nvcc)", install_nvcc(cuda_version))


def cpu_level() -> str:
    """The name in CPU_LEVELS of the best that this CPU runs."""
    flags = _cpu_flags()
    return next(name for name, (needs, _) in CPU_LEVELS.items() if flags.issuperset(needs))


def runs_cpu_level(name: str) -> bool:
    return name in CPU_LEVELS and _cpu_flags().issuperset(CPU_LEVELS[name][0])


def parse_capabilities(text: str, source: str) -> tuple[str, ...]:
    """("8.6", "9.0+PTX") of "8.6;9.0+PTX", as in TORCH_CUDA_ARCH_LIST. Raises Missing naming `source`."""
    names = tuple(re.split(r"[;,\s]+", text.strip()))
    wrong = [name for name in names if not re.fullmatch(r"\d+\.\d[af]?(\+PTX)?", name)]
    if wrong:
        raise Missing(f"{source} has {wrong[0]!r}, which is no compute capability",
                      "Write them as numbers, such as 8.6 9.0")
    return names


def gencode(capabilities: Iterable[str], nvcc: Path) -> list[str]:
    """nvcc's flags for them; for a GPU newer than nvcc, portable code of its newest target. Raises Missing."""
    known = known_capabilities(nvcc)
    flags = []
    for capability in capabilities:
        name, _, ptx = capability.partition("+")
        number = _number(name)
        if number < min(known):
            oldest = f"{min(known) // 10}.{min(known) % 10}"
            raise Missing(f"{nvcc} compiles for compute capability {oldest} and later, not for {name}",
                          "Install an older CUDA toolkit and set CUDA_HOME to it")
        if number not in known:
            number, name, ptx = max(n for n in known if n < number), "", "PTX"
        arch = f"{number}{name[-1] if name[-1:] in ('a', 'f') else ''}"
        if name:
            flags.append(f"-gencode=arch=compute_{arch},code=sm_{arch}")
        if ptx:
            flags.append(f"-gencode=arch=compute_{arch},code=compute_{arch}")
    return list(dict.fromkeys(flags))


def covers(capabilities: Iterable[str], device: tuple[int, int]) -> bool:
    """Whether code for these runs on a device of this capability: the same major and no later minor, or PTX."""
    for capability in capabilities:
        name, _, ptx = capability.partition("+")
        major, minor = divmod(_number(name), 10)
        if name[-1] == "a":  # for nothing but that
            same, portable = (major, minor) == device, False
        else:
            same, portable = major == device[0] and minor <= device[1], bool(ptx) and (major, minor) <= device
        if same or portable:
            return True
    return False


@functools.cache
def known_capabilities(nvcc: Path) -> frozenset[int]:
    """What nvcc compiles for, as 86 for 8.6. Raises Missing where it does not answer."""
    try:
        done = subprocess.run([nvcc, "--list-gpu-arch"], capture_output=True, text=True, check=True,
                              timeout=ANSWER_SECONDS)
        known = frozenset(int(n) for n in re.findall(r"compute_(\d+)\b", done.stdout))
    except (OSError, subprocess.SubprocessError) as error:
        raise Missing(f"{nvcc} --list-gpu-arch fails: {error}", "Repair the CUDA toolkit, or set CUDA_HOME to another"
                      ) from error
    if not known:
        raise Missing(f"{nvcc} --list-gpu-arch names none", "Repair the CUDA toolkit, or set CUDA_HOME to another")
    return known


def version_of(tool: Path) -> str:
    """The version that a compiler prints, or "unknown"."""
    try:
        text = subprocess.run([tool, "--version"], capture_output=True, text=True, timeout=ANSWER_SECONDS).stdout
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    found = re.search(r"release (\d+\.\d+)", text) or re.search(r"(\d+\.\d+\.\d+)", text)
    return found[1] if found else "unknown"


def cuda_libraries(nvcc: Path) -> Path | None:
    """The folder of nvcc's own static runtime library, where it is in one of the usual places beside nvcc."""
    root = nvcc.resolve().parent.parent
    folders = [root / "lib64", root / "lib", root / "targets" / "x86_64-linux" / "lib"]
    return next((folder for folder in folders if (folder / "libcudart_static.a").exists()), None)


def _number(capability: str) -> int:
    major, minor = capability.rstrip("af").split(".")
    return int(major) * 10 + int(minor)


def _nvccs() -> Iterator[Path]:
    if found := shutil.which("nvcc"):
        yield Path(found)
    packages = Path(sysconfig.get_path("purelib"), "nvidia")
    for nvcc in [USUAL_NVCC, *sorted(packages.glob("cu*/bin/nvcc"), reverse=True)]:
        if nvcc.exists():
            yield nvcc


def _major(nvcc: Path) -> str | None:
    """The major version of the toolkit that holds nvcc, as far as its path tells."""
    found = re.search(r"cu(?:da-)?(\d\d)", str(nvcc.resolve()))
    return found[1] if found else None


def install_nvcc(cuda_version: str | None) -> str:
    if cuda_version and int(cuda_version.split(".")[0]) >= 13:
        # one version of all parts: nvidia-cuda-nvcc by itself takes the newest nvvm, whose code an older ptxas refuses
        return f"Install it: pip install 'cuda-toolkit[nvcc,cccl]=={cuda_version}.*'"
    return f"Install it: conda install -c nvidia cuda-nvcc={cuda_version or 'VERSION'}, or the CUDA toolkit"


def _identity(tool: Path) -> str:
    real = tool.resolve()
    stat = real.stat()
    return f"{real}:{stat.st_size}:{stat.st_mtime_ns}"


@functools.cache
def _cpu_flags() -> frozenset[str]:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return frozenset()
    found = re.search(r"^flags\s*:(.*)$", text, re.MULTILINE)
    return frozenset(found[1].split()) if found else frozenset()
