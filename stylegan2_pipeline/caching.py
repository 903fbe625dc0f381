"""Where the images wait for their turn: on the GPU, decoded in memory once a machine, or in the archive.

What is read is the same wherever it lies; only the time differs.
"""

import os
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from stylegan2_pipeline import shared_memory
from stylegan2_pipeline.dataset import ImageDataset
from torch_utils import distributed
from torch_utils.distributed import gather_objects
from torch_utils.errors import UserError
from torch_utils.host import available_memory, total_memory
from torch_utils.text import format_bytes

GPU_SHARE = 0.1  # of its free memory, which --cache=auto gives to images; networks have more use for it
RAM_SHARE = 0.5
CHUNK_BYTES = 64 << 20



@dataclass(frozen=True)
class Host:
    """What a rank tells the others of its machine: which it is, and its bytes of memory, free and in all."""

    name: str
    free: float
    total: float


def cache_dataset(dataset: ImageDataset, mode: str, device: torch.device) -> str:
    """Brings the images where --cache=auto|gpu|ram|none wants them, if they fit there; says what was done.

    All ranks call it together. Those of one machine decode a share each, into memory that all of them see. On the GPU
    dataset.device_images is set. Raises UserError, on all ranks alike, for an image that cannot be read, and when
    there is no room for what was asked for by name.
    """
    if mode == "none":
        return from_archive("--cache=none")
    hosts = gather_objects(Host(host_name(), available_memory(), total_memory()))
    here = [rank for rank, host in enumerate(hosts) if host.name == hosts[distributed.rank()].name]
    size, free = dataset.nbytes, min(hosts[rank].free for rank in here)
    if mode == "ram" and size > (total := min(host.total for host in hosts)):
        raise UserError(f"--cache=ram: the images need {format_bytes(size)}, and there are {format_bytes(total)} of "
                        f"memory in all. Take --cache=auto.")
    why = f"they need {format_bytes(size)}, {format_bytes(free)} are free"
    if not load(dataset, here, mode == "ram" or size < free * RAM_SHARE):
        why = f"this system lets processes share no memory, and {why}"
    together(lambda: to_device(dataset, mode, device))
    if dataset.device_images is not None:
        return f"decoded once, kept on the GPU{' and in memory' if dataset.preloaded else ''} ({format_bytes(size)})"
    shared = f", shared by {len(here)} processes" if len(here) > 1 else ""
    return f"decoded once, kept in memory ({format_bytes(size)}{shared})" if dataset.preloaded else from_archive(why)


def from_archive(why: str) -> str:
    return f"read from the archive as they are needed ({why})"


def host_name() -> str:
    """Alike for the ranks that can share memory: those under one kernel that see each other's processes."""
    name = socket.gethostname()
    with suppress(OSError):
        name += Path("/proc/sys/kernel/random/boot_id").read_text() + os.readlink("/proc/self/ns/pid")
    return name


def together(action: Callable[[], None]) -> None:
    """Does it on every rank; when any raises UserError, all do."""
    error = None
    try:
        action()
    except UserError as caught:
        error = caught.format_message()
    if (found := next(filter(None, gather_objects(error)), None)) is not None:
        raise UserError(found)


def load(dataset: ImageDataset, here: list[int], wanted: bool) -> bool:
    """Decodes into memory of the ranks here, if wanted; every rank calls it. False: it was, and cannot be shared."""
    pixels = shared_pixels(dataset, here, wanted)
    if not wanted or pixels is None:
        together(lambda: None)
        return not wanted
    share = range(here.index(distributed.rank()), dataset.n_raw, len(here))
    threads = max(min((os.cpu_count() or 1) // len(here), 16), 1)
    together(lambda: dataset.decode_into(pixels[share.start::share.step], share, threads, quiet=share.start > 0))
    dataset.keep(pixels)
    return True


def shared_pixels(dataset: ImageDataset, here: list[int], wanted: bool) -> np.ndarray | None:
    """Memory for all images, one block for the ranks here, made by the first of them; None where that fails."""
    shape = (dataset.n_raw, *dataset.image_shape)
    is_first = wanted and distributed.rank() == here[0]
    fd = shared_memory.create(dataset.nbytes) if is_first else -1
    path = gather_objects(shared_memory.lend(fd))[here[0]]
    if wanted and not is_first:
        with suppress(OSError):
            fd = shared_memory.borrow(path)
    pixels = shared_memory.view(fd, shape) if fd >= 0 else None
    opened = gather_objects(pixels is not None)  # nobody needs the path from here on
    if fd >= 0:
        os.close(fd)
    return pixels if all(opened[rank] for rank in here) else None


def to_device(dataset: ImageDataset, mode: str, device: torch.device) -> None:
    """Copies all images to the device if the mode says so, piece by piece: from memory, or decoding on the way."""
    size, free = dataset.nbytes, device_memory(device)
    if not (mode == "gpu" or (mode == "auto" and device.type == "cuda" and size < free * GPU_SHARE)):
        return
    if size > free:
        raise UserError(f"--cache=gpu: the images need {format_bytes(size)}, and {format_bytes(free)} of the GPU's "
                        f"memory are free. Take --cache=ram or auto.")
    images = torch.empty([dataset.n_raw, *dataset.image_shape], dtype=torch.uint8, device=device)
    count = max(CHUNK_BYTES * dataset.n_raw // size, 1)
    for first in range(0, dataset.n_raw, count):
        numbers = range(first, min(first + count, dataset.n_raw))
        piece = np.empty((len(numbers), *dataset.image_shape), np.uint8)
        dataset.decode_into(piece, numbers, quiet=True)
        images[first:numbers.stop] = torch.from_numpy(piece).to(device)
    dataset.device_images = images


def device_memory(device: torch.device) -> float:
    """Bytes that can still be taken."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else available_memory()
