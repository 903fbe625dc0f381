"""A file that grows until it is whole, in one process at a time, over several attempts."""

import contextlib
import fcntl
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any


class PartialFile:
    """Open for appending; beside it NAME.part.json says of what it is the beginning."""

    def __init__(self, path: Path, file: IO[bytes]) -> None:
        self.path, self._file = path, file
        self._about = path.with_name(f"{path.name}.json")

    def about(self) -> dict[str, Any]:
        """What remember() was given last; nothing when that is not known."""
        with contextlib.suppress(OSError, ValueError):
            about = json.loads(self._about.read_text("utf-8"))
            if isinstance(about, dict):
                return about
        return {}

    def remember(self, about: dict[str, Any]) -> None:
        if about != self.about():
            self._about.write_text(json.dumps(about), "utf-8")

    @property
    def size(self) -> int:
        self._file.flush()
        return os.fstat(self._file.fileno()).st_size

    def append(self, data: bytes) -> None:
        self._file.write(data)

    def clear(self) -> None:
        self._file.flush()
        self._file.truncate(0)
        self._about.unlink(missing_ok=True)

    def remove(self) -> None:
        for path in (self.path, self._about):
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)

    def become(self, path: Path) -> None:
        """The whole file, on the disk and under its name."""
        self._file.flush()
        os.fsync(self._file.fileno())
        os.replace(self.path, path)
        self._about.unlink(missing_ok=True)


@contextlib.contextmanager
def growing(path: Path, waiting: Callable[[], None]) -> Iterator[PartialFile | None]:
    """The partial file of `path`, for this process alone; None when another one has made it whole meanwhile.

    waiting() is called before waiting for another process. Where the file system has no locks, each process has a
    partial file of its own.
    """
    name = path.with_name(f"{path.name}.part")
    own = path.with_name(f"{path.name}.{os.getpid()}.part")
    while not path.exists():
        with open(name, "ab") as file:
            if not _locked(file, waiting) and name != own:
                name = own
            elif _is_file_at(file, name):  # else its holder has renamed or removed it
                partial = PartialFile(name, file)
                if not path.exists():
                    yield partial
                    return
                partial.remove()  # made after the whole had its name
    yield None


def _locked(file: IO[bytes], waiting: Callable[[], None]) -> bool:
    """Waits for the lock, which ends with its process. False where the file system has none."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        waiting()
        fcntl.flock(file, fcntl.LOCK_EX)
    except OSError:
        return False
    return True


def _is_file_at(file: IO[bytes], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(path))
    except FileNotFoundError:
        return False
