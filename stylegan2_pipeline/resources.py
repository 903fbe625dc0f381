"""What training uses of the machine, found without waiting for a device."""

import os
import sys
from pathlib import Path

import torch


def cpu_mem_gb() -> float:
    """Memory this process holds now, in GiB; its peak where the system does not tell the present figure."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        import resource

        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**30


def peak_gpu_mem_gb(device: str | torch.device) -> float:
    """The most GPU memory tensors held since the last call, in GiB; 0 where the device is no CUDA device."""
    if torch.device(device).type != "cuda":
        return 0.0
    peak = torch.cuda.max_memory_allocated(device) / 2**30
    torch.cuda.reset_peak_memory_stats(device)
    return peak


class MachineUse:
    """GPU use and memory, and memory of this process, in words; of the GPU that is the current one when it is made."""

    def __init__(self) -> None:
        self._gpu = torch.cuda.current_device() if torch.cuda.is_initialized() else None
        self._tells_use = True

    def words(self) -> list[str]:
        """Such as ["GPU 97 %", "10.2 of 23.7 GB", "CPU 3.2 GB"]; the first is missing where nvidia-ml-py is."""
        cpu = f"CPU {cpu_mem_gb():.1f} GB"
        if self._gpu is None:
            return [cpu]
        held = torch.cuda.memory_reserved(self._gpu) / 2**30
        total = torch.cuda.get_device_properties(self._gpu).total_memory / 2**30
        return [*self._use(self._gpu), f"GPU memory {held:.1f} of {total:.1f} GB", cpu]

    def _use(self, gpu: int) -> list[str]:
        if self._tells_use:
            try:
                return [f"GPU {torch.cuda.utilization(gpu)} %"]
            except Exception:  # no nvidia-ml-py, a driver that does not tell, a part of a GPU: then not asked again
                self._tells_use = False
        return []
