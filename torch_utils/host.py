"""The machine that training runs on: processor, memory and the C allocator."""

import contextlib
import ctypes
import platform
from collections.abc import Iterator
from pathlib import Path

PROC, GROUPS = Path("/proc"), Path("/sys/fs/cgroup")
GROUP_FILES = {  # of version 1 or not -> limit, use, and the line of memory.stat that tells what of it is cache
    False: ("memory.max", "memory.current", "inactive_file"),
    True:  ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}  # fmt: skip


def cpu_model() -> str:
    """The processor's name as the system tells it, or its architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration, IndexError):
        return platform.machine()


def available_memory() -> float:
    """Bytes that can be taken without swapping, within the limits of containers and jobs; infinity if not told."""
    return min([_meminfo("MemAvailable"), *(limit - used for limit, used in _group_memory())])


def total_memory() -> float:
    """Bytes of memory that this machine, or the container or job around this process, has; infinity if not told."""
    return min([_meminfo("MemTotal"), *(limit for limit, _ in _group_memory())])


def _group_memory() -> Iterator[tuple[float, float]]:
    """Limit and use, in bytes, of each control group around this process, of either version.

    What files are cached is not counted as used, as far as the kernel would give it back first.
    """
    for line in _lines(PROC / "self/cgroup"):
        _, controllers, inside = line.split(":", 2)
        if controllers not in ("", "memory") and "memory" not in controllers.split(","):
            continue
        root = GROUPS / controllers if controllers else GROUPS
        limit, used, cache = GROUP_FILES[bool(controllers)]
        path = root / inside.lstrip("/")
        for folder in (path, *path.parents):
            if not folder.is_relative_to(root):
                break
            with contextlib.suppress(OSError, ValueError):  # no such file, or "max": no limit
                stat = dict(line.split() for line in _lines(folder / "memory.stat"))
                yield (float((folder / limit).read_text()),
                       float((folder / used).read_text()) - float(stat.get(cache, 0)))


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []


def _meminfo(key: str) -> float:
    try:
        lines = _lines(PROC / "meminfo")
        return next(int(line.split()[1]) * 1024.0 for line in lines if line.startswith(key))
    except (StopIteration, ValueError):
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
