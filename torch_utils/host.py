"""The machine that training runs on: processor, memory and the C allocator."""

import ctypes
import platform
from pathlib import Path


def cpu_model() -> str:
    """The processor's name as the system tells it, or its architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration, IndexError):
        return platform.machine()


def available_memory() -> float:
    """Bytes that can be taken without swapping, within the limit of a container; infinity where it is not told."""
    free = _meminfo("MemAvailable")
    group = Path("/sys/fs/cgroup")
    try:
        return min(free, float((group / "memory.max").read_text()) - float((group / "memory.current").read_text()))
    except (OSError, ValueError):  # no such file, or "max": no limit
        return free


def total_memory() -> float:
    """Bytes of memory that this machine, or the container around this process, has; infinity where it is not told."""
    try:
        return min(_meminfo("MemTotal"), float(Path("/sys/fs/cgroup/memory.max").read_text()))
    except (OSError, ValueError):
        return _meminfo("MemTotal")


def _meminfo(key: str) -> float:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) * 1024.0 for line in lines if line.startswith(key))
    except (OSError, StopIteration, ValueError):
        return float("inf")


def keep_freed_memory() -> None:
    """Lets glibc keep freed tensors instead of returning them to the kernel after each operator.

    Page faults are a third of a training step on a CPU otherwise. Does nothing with another C library.
    """
    m_trim_threshold, m_mmap_threshold = -1, -3
    try:
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(m_mmap_threshold, 1 << 30)
        libc.mallopt(m_trim_threshold, (1 << 31) - 1)
    except (OSError, AttributeError):
        return
