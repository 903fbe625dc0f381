"""Memory that processes of one machine share: without a name, so that nothing is left behind however they end."""

import mmap
import os
import tempfile

import numpy as np


def create(nbytes: int) -> int:
    """A file descriptor of that much zeroed memory, which lives as long as somebody holds or maps it.

    On Linux it belongs to no file system: the size of /dev/shm, 64 MB in most containers, does not limit it.
    Elsewhere it is an unlinked temporary file. Raises OSError when there is no room.
    """
    try:
        fd = os.memfd_create("stylegan2-data")
    except (AttributeError, OSError):  # another system, or a sandbox that forbids it
        fd, path = tempfile.mkstemp(prefix="stylegan2-data-")
        os.unlink(path)
    os.ftruncate(fd, nbytes)
    return fd


def view(fd: int, shape: tuple[int, ...]) -> np.ndarray:
    """The memory as uint8 of a shape, writable, seen by all; the descriptor may be closed afterwards."""
    count = int(np.prod(shape))
    return np.frombuffer(mmap.mmap(fd, count), np.uint8, count).reshape(shape)


def lend(fd: int) -> str:
    """A path by which other processes of this user open the same memory, as long as this one holds the descriptor."""
    return f"/proc/{os.getpid()}/fd/{fd}"


def borrow(path: str) -> int:
    """A descriptor of one's own of memory that another process lends. Raises OSError where the system forbids it."""
    return os.open(path, os.O_RDWR)
