"""Files that appear whole or not at all, and where those are kept that can be made again."""

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from torch_utils.errors import UserError


class CannotWrite(UserError):
    """A file that cannot be written, because the disk is full or for another reason of the system's."""

    def __init__(self, what: str, error: OSError) -> None:
        """what: the option and the path, such as "--dest: a.zip"."""
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        remedy = "The disk is full: free some space, or choose another place." if full else "Choose another place."
        super().__init__(f"{what} cannot be written: {error.strerror or error}. {remedy}")
        self._arguments = what, error

    def __reduce__(self) -> tuple[type["CannotWrite"], tuple[str, OSError]]:
        """So that it can be told by a worker process: exceptions are copied by their message alone otherwise."""
        return type(self), self._arguments


CANNOT_WRITE = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.ENOTDIR, errno.EEXIST,
                errno.ENOENT, errno.EFBIG, errno.EIO}


def cache_dir() -> Path:
    """$STYLEGAN2_CACHE, or the user's cache folder."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("STYLEGAN2_CACHE") or Path(root) / "stylegan2-pipeline")


@contextlib.contextmanager
def atomic_path(path: str | Path, *, durable: bool = False) -> Iterator[Path]:
    """A temporary path beside `path` to write to; renamed to it when the block ends well, removed when it does not.

    durable: it is on the disk before it is renamed, so that a machine that vanishes right after leaves no empty file.

    Raises UserError naming the path when the folder cannot be written to or the disk is full.
    """
    path = Path(path)
    partial = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        if durable:
            with open(partial, "rb") as file:
                os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        if error.errno in CANNOT_WRITE:
            raise UserError(f"Cannot write {path}: {error.strerror}. Choose another folder, or make room.") from error
        raise
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
