"""Files below a path - a folder, a zip, a tar, or one file - as every reader of a format sees them: names and bytes."""

import abc
import fnmatch
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Self

from stylegan2_pipeline.decode import BrokenImage
from stylegan2_pipeline.sources.labels import printable
from torch_utils.errors import UserError


class Tree(abc.ABC):
    """files: sorted names, '/' between folders, without those that tools leave behind; flag: the option that named
    `path`, for error messages. It can be pickled, and reads in the process that it arrives in."""

    def __init__(self, path: Path, files: Sequence[str], flag: str) -> None:
        self.path = path
        self.flag = flag
        self.files = sorted(name for name in set(files) if not is_hidden(name))
        self._known = frozenset(self.files)

    def narrow(self, patterns: Sequence[str]) -> None:
        """Only the files whose path matches a pattern, and what dataset.json says of them. Raises UserError if none
        does."""
        kept = [name for name in self.files
                if any(fnmatch.fnmatchcase(name.lower(), pattern.lower()) for pattern in patterns)]
        if not kept and self.files:
            raise UserError(f"--only={patterns[0]}: none of {len(self.files)} files in {self.path} has such a path, of "
                            f"which the first is {printable(self.files[0])}. For example: --only='*t1ce*'")
        records = {name for name in self.files if PurePosixPath(name).name == "dataset.json"}
        self.files = sorted(records.union(kept))
        self._known = frozenset(self.files)

    def __contains__(self, name: str) -> bool:
        return name in self._known

    @abc.abstractmethod
    def read_bytes(self, name: str, most: int = -1) -> bytes:
        """All of a file, or its first `most` bytes. Raises BrokenImage with the reason."""

    @abc.abstractmethod
    def checksum(self, name: str) -> tuple[int, int]:
        """Size and a CRC-32 of a file, found without reading all of it. Raises BrokenImage with the reason."""

    @abc.abstractmethod
    def stamp(self, name: str) -> tuple[int, int]:
        """Size and another number that changes when the file does, found without reading it. Raises BrokenImage."""

    def local(self, name: str) -> Path | None:
        """Where the file lies on the disk by itself, for libraries that want to open it; None within an archive."""
        return None

    def notes(self) -> list[str]:
        """Sentences about files that were passed over."""
        return []

    def close(self) -> None:  # noqa: B027 - most have nothing open
        """Give files back; a later read opens them again."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def starts_with(tree: Tree, name: str, magic: bytes, offset: int = 0) -> bool:
    """Whether these bytes stand there; False for a file that cannot be read."""
    try:
        return tree.read_bytes(name, offset + len(magic))[offset:] == magic
    except BrokenImage:
        return False


def is_hidden(name: str) -> bool:
    """Files that tools leave behind: .ipynb_checkpoints, .thumbnails, macOS's __MACOSX and ._ copies."""
    return any(part.startswith(".") or part == "__MACOSX" for part in PurePosixPath(name).parts)


def is_safe(name: str) -> bool:
    """Whether a name within an archive stays inside when taken as a path: not absolute, no drive, no '..'."""
    path = PurePosixPath(name.replace("\\", "/"))
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts and not path.parts[0].endswith(":")
