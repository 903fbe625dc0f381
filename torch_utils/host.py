"""The machine that training runs on: memory and the C allocator."""

import ctypes
from pathlib import Path


def available_memory() -> float:
    """Bytes of memory that can be taken without swapping; infinity where the system does not tell."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) * 1024.0 for line in lines if line.startswith("MemAvailable"))
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
