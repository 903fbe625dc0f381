"""What the doctor finds out, a section at a time; run as a process of its own it prints a line of JSON for each.

torch is imported by the probes that need it: one that does not load is something to tell, too.
"""

import contextlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

from stylegan2_pipeline import __version__
from stylegan2_pipeline.doctor import Fact
from torch_utils import host
from torch_utils.errors import UserError
from torch_utils.files import cache_dir
from torch_utils.ops import toolchain
from torch_utils.resampling import native as resampling
from torch_utils.text import format_bytes

SETTINGS = ["STYLEGAN2_OPS", "STYLEGAN2_CACHE", "STYLEGAN2_OPS_BUILD_TIMEOUT", "XDG_CACHE_HOME", "TORCH_CUDA_ARCH_LIST",
            "CUDA_HOME", "CUDA_PATH", "CXX", "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS"]
LITTLE_DISK = 1e9  # bytes; less does not hold a run's snapshots


def facts_of(key: str) -> list[Fact]:
    """The facts of a section of doctor.titles, whatever goes wrong."""
    try:
        if probe := PROBES.get(key):
            return list(probe())
        try:
            from stylegan2_pipeline import doctor_operators
        except Exception:  # without torch, which the section of versions tells
            return []
        device, _, part = key.partition("_")
        return doctor_operators.PARTS[part](device)
    except UserError as error:
        return [Fact("state", error.message.rstrip("."), level="error")]
    except Exception as error:  # a report that ends here would not say what it is for
        return [Fact("state", f"cannot be found out ({said(error)})", level="warning")]


def said(error: BaseException) -> str:
    """An error in a line."""
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:200]}"


def versions() -> Iterator[Fact]:
    yield Fact("toolkit", __version__)
    yield Fact("python", f"{platform.python_version()}, {sys.executable}", platform.python_version())
    try:
        import torch
    except Exception as error:
        yield Fact("torch", f"does not load ({said(error)})", None, "error",
                   "Install it again: pip install --force-reinstall torch")
    else:
        yield Fact("torch", f"{torch.__version__}, {Path(torch.__file__).parent}", torch.__version__)


def gpu() -> Iterator[Fact]:
    import torch

    driver = driver_version()
    yield Fact("CUDA of torch", torch.version.cuda or "none: this torch is built for the CPU only",
               torch.version.cuda or False)
    yield Fact("driver", driver or "not found", driver or False)
    told = ""
    try:
        if torch.version.cuda:
            torch.cuda.init()
        count = torch.cuda.device_count()
    except (RuntimeError, AssertionError) as error:
        count, told = 0, str(error)
    for index in range(count):
        yield _device(index)
    if not count:
        yield no_gpu(torch.__version__, torch.version.cuda, driver, _gpu_on_bus(), told)


def no_gpu(torch_version: str, cuda: str | None, driver: str, on_bus: bool, told: str) -> Fact:
    """Why torch has none. cuda: that it is built for; driver: its version; on_bus: whether the machine holds an NVIDIA
    device; told: what torch.cuda.init said.
    """
    if cuda is None:
        text, install = "no GPU: this torch is built for the CPU only", torch_version.partition("+")[0]
        if not driver and not on_bus:
            return Fact("device", text)
        return Fact("device", text, None, "warning",
                    f"To use the GPU, install torch with CUDA: pip install --force-reinstall torch=={install}")
    what = told.split(". ")[0].splitlines()[0].strip().rstrip(".") if told else "torch.cuda sees none"
    if "too old" in what:
        return Fact("device", f"no GPU: {what}", None, "warning",
                    f"Update the driver, or install a torch that is built for an older CUDA than {cuda}")
    if "no NVIDIA driver" in what:
        return Fact("device", "no GPU: there is no NVIDIA driver", None, "warning" if on_bus else "",
                    "Install the driver of the NVIDIA GPU; in a container: docker run --gpus all" if on_bus else "")
    return Fact("device", f"no GPU: {what}", None, "warning", "See CUDA_VISIBLE_DEVICES, and what nvidia-smi says")


def cpu() -> Iterator[Fact]:
    cores, usable = os.cpu_count() or 1, len(os.sched_getaffinity(0))
    free, total = host.available_memory(), host.total_memory()
    yield Fact("model", host.cpu_model())
    yield Fact("cores", f"{usable}" if usable == cores else f"{usable} of {cores}", usable)
    yield Fact("vectors", toolchain.cpu_level())
    yield Fact("memory", f"{format_bytes(free)} free of {format_bytes(total)}", {"free": free, "total": total})
    yield resizing()


def resizing() -> Fact:
    """What the dataset tool changes the size of pictures with; the pixels are the same."""
    state = resampling.state()
    slower = "" if state.resampler else "; the pixels are the same, and take about ten times as long"
    trouble = state.reason and not state.expected
    return Fact("resizing", resampling.summary() + slower, state.resampler is not None,
                "warning" if trouble else "ok" * (state.resampler is not None), state.remedy if trouble else "")


def compilers() -> Iterator[Fact]:
    try:
        import torch

        cuda = torch.version.cuda
    except Exception:  # told in the section of versions
        cuda = None
    finders: dict[str, Callable[[], Path]] = {"C++": toolchain.find_cxx, "ninja": toolchain.find_ninja,
                                              "nvcc": lambda: toolchain.find_nvcc(cuda)}
    for name, find in finders.items():
        try:
            path = find()
        except toolchain.Missing as missing:
            yield Fact(name, f"not found: {missing.reason}", {"path": None, "reason": missing.reason},
                       remedy=missing.remedy)
        else:
            version = toolchain.version_of(path)
            yield Fact(name, f"{path.name} {version}, {path}", {"path": str(path), "version": version})


def cache() -> Iterator[Fact]:
    folder = cache_dir()
    yield Fact("folder", str(folder))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"x")
        yield Fact("writable", "yes", True, "ok")
    except OSError as error:
        enough = _contents(folder / "ops")[1] > 0  # libraries that were made for those who only read
        yield Fact("writable", f"no: {error.strerror or error}", False, "warning" if enough else "error",
                   "Set STYLEGAN2_CACHE to a folder that can be written to, unless all that is needed is there")
    size, count = _contents(folder / "ops")
    yield Fact("operators", f"{format_bytes(size)}, libraries: {count}", {"bytes": size, "libraries": count})
    existing = next(path for path in [folder, *folder.parents] if path.exists())
    free = shutil.disk_usage(existing).free
    yield Fact("free disk", format_bytes(free), free, "warning" if free < LITTLE_DISK else "",
               "Make room, or set STYLEGAN2_CACHE to a folder on another disk" if free < LITTLE_DISK else "")


def settings() -> Iterator[Fact]:
    for name in SETTINGS:
        if value := os.environ.get(name):
            yield Fact(name, value)
        elif name == "STYLEGAN2_OPS":
            yield Fact(name, "not set: auto", "auto")


PROBES: dict[str, Callable[[], Iterator[Fact]]] = {
    "versions": versions, "gpu": gpu, "cpu": cpu, "compilers": compilers, "cache": cache, "settings": settings}


def driver_version() -> str:
    """Of NVIDIA's kernel module, from the system or from nvidia-smi; empty where there is none."""
    with contextlib.suppress(OSError, IndexError):
        line = Path("/proc/driver/nvidia/version").read_text().splitlines()[0]
        if found := re.search(r"\s(\d+\.\d+(\.\d+)?)\s", line):
            return found[1]
    try:
        done = subprocess.run(["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"],
                              capture_output=True, text=True, timeout=20, check=True)
        return (done.stdout.splitlines() or [""])[0].strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def _device(index: int) -> Fact:
    import torch

    name = f"device {index}"
    try:
        properties = torch.cuda.get_device_properties(index)
        capability = f"{properties.major}.{properties.minor}"
        about = f"{properties.name}, compute capability {capability}"
        value = {"name": properties.name, "capability": capability}
    except Exception as error:
        return Fact(name, f"cannot be asked ({said(error)})", None, "error", "See what nvidia-smi says")
    try:
        free, total = torch.cuda.mem_get_info(index)
        assert torch.ones(2, device=f"cuda:{index}").add(1).sum().item() == 4
    except Exception as error:
        return Fact(name, f"{about}, does not compute ({said(error)})", value, "error",
                    "Install a torch that is built for this GPU, or free its memory")
    return Fact(name, f"{about}, {format_bytes(free)} free of {format_bytes(total)}",
                value | {"free": free, "total": total}, "ok")


def _gpu_on_bus() -> bool:
    """Whether the machine holds a display or 3-D controller of NVIDIA's."""
    for device in Path("/sys/bus/pci/devices").glob("*"):
        try:
            if (device / "vendor").read_text().strip() == "0x10de" and (device / "class").read_text()[:4] == "0x03":
                return True
        except OSError:
            continue
    return False


def _contents(folder: Path) -> tuple[int, int]:
    """Bytes, and libraries in finished builds."""
    size = count = 0
    for root, _, names in os.walk(folder):
        for name in names:
            path = Path(root, name)
            try:
                size += path.stat().st_size
            except OSError:
                continue
            count += path.suffix == ".so" and (path.parent / "manifest.json").exists()
    return size, count


def main() -> None:
    """Prints the facts of each section that the arguments name, and keeps whatever else prints away from them."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for key in sys.argv[1:]:
        print(json.dumps([asdict(fact) for fact in facts_of(key)]), file=answers, flush=True)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
