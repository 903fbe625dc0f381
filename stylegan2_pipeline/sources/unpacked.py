"""A temporary file for what lies compressed in a source, so that any part of it can be read by any process."""

import contextlib
import errno
import fcntl
import io
import os
import shutil
import tempfile
import weakref
from collections.abc import Iterable
from pathlib import Path

from torch_utils.errors import UserError
from torch_utils.text import format_bytes

PREFIX = "stylegan2-unpacked-"
RESERVE = 2 ** 28      # bytes of the disk that stay free for others
BOMB_BYTES = 2 ** 32   # what is unpacked may be this large whatever it came from,
BOMB_RATIO = 200       # beyond that, so many times as large as it was
ALIGNMENT = 64


class Unpacked:
    """One file in the folder for temporary files, under a name of ours.

    The process that made it removes it: at close(), or when it exits. Elsewhere, where it arrives by pickle, it can
    only be read. Files that a killed process left behind are removed when the next one is made: their lock is free.
    """

    def __init__(self, what: str) -> None:
        """what begins the messages of a UserError, such as "--source: a.tar.gz"."""
        self._what = what
        _sweep(Path(tempfile.gettempdir()))
        try:
            self._file, self.path = _make()
        except OSError as error:
            raise UserError(f"{what} must be unpacked, and no temporary file can be made: {error.strerror}. TMPDIR "
                            f"names the folder for it.") from None
        self._remove = weakref.finalize(self, _remove, self.path, os.getpid())

    def add(self, chunks: Iterable[bytes], packed: int) -> int:
        """Append what `packed` compressed bytes hold; returns where it begins. Raises UserError if it is too much."""
        begin = end = -(-self._file.seek(0, os.SEEK_END) // ALIGNMENT) * ALIGNMENT
        self._file.seek(begin)
        most = max(BOMB_BYTES, BOMB_RATIO * packed)
        for chunk in chunks:
            end += len(chunk)
            if end - begin > most:
                raise UserError(f"{self._what} unpacks to more than {format_bytes(most)}, from {format_bytes(packed)}: "
                                f"it is taken for a decompression bomb. If it is none, unpack it yourself.")
            self._write(chunk)
        return begin

    def _write(self, chunk: bytes) -> None:
        room = shutil.disk_usage(self.path.parent).free
        try:
            if room < RESERVE + len(chunk):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            while chunk:
                chunk = chunk[self._file.write(chunk):]
        except OSError as error:
            self.close()
            raise UserError(f"{self._what} must be unpacked, and {self.path.parent} cannot take it: {error.strerror}. "
                            f"Make room there, set TMPDIR to a folder with more, or unpack it yourself.") from None

    def close(self) -> bool:
        """Remove the file, where it was made; whether this is there."""
        if self._remove is None:
            return False
        self._remove()
        self._file.close()
        return True

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_file": None, "_remove": None}


def _make() -> tuple[io.FileIO, Path]:
    while True:
        handle, name = tempfile.mkstemp(prefix=PREFIX)
        file = io.FileIO(handle, "w")
        with contextlib.suppress(OSError):  # a file system without locks: nobody can take it for a stale one there
            fcntl.flock(file, fcntl.LOCK_SH)
        if os.path.exists(name):  # else another process took it for a stale one before it was locked
            return file, Path(name)
        file.close()


def _remove(path: Path, pid: int) -> None:
    if os.getpid() == pid:  # a forked child must not
        path.unlink(missing_ok=True)


def _sweep(folder: Path) -> None:
    for path in folder.glob(f"{PREFIX}*"):
        if not path.is_file():
            continue
        with contextlib.suppress(OSError), path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
