"""A folder, with all folders inside it; or a single file."""

import os
import zlib
from pathlib import Path

from stylegan2_pipeline.decode import MAX_BYTES, BrokenImage
from stylegan2_pipeline.sources.trees import Tree
from torch_utils.errors import UserError

EDGE_BYTES = 4096  # of a file's beginning and end


class FolderTree(Tree):
    """Links are followed; a folder that is reached twice, as through a link to its own parent, is read once."""

    def __init__(self, path: Path, flag: str = "--source") -> None:
        super().__init__(path, list_files(path, flag), flag)
        self._root = path

    def read_bytes(self, name: str, most: int = -1) -> bytes:
        path = self._root / name
        try:
            if most < 0 and path.stat().st_size > MAX_BYTES:
                raise BrokenImage(f"too large: more than {MAX_BYTES >> 30} GiB")
            with path.open("rb") as file:
                return file.read(most)
        except OSError as error:
            raise BrokenImage(error.strerror or str(error)) from None

    def checksum(self, name: str) -> tuple[int, int]:
        """Of the first and last bytes: an image that was drawn or encoded anew differs in its size or there."""
        try:
            with (self._root / name).open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                crc = zlib.crc32(file.read(EDGE_BYTES))
                file.seek(max(size - EDGE_BYTES, 0))
                return size, zlib.crc32(file.read(EDGE_BYTES), crc)
        except OSError as error:
            raise BrokenImage(error.strerror or str(error)) from None

    def stamp(self, name: str) -> tuple[int, int]:
        try:
            found = (self._root / name).stat()
        except OSError as error:
            raise BrokenImage(error.strerror or str(error)) from None
        return found.st_size, found.st_mtime_ns

    def local(self, name: str) -> Path | None:
        return self._root / name


class FileTree(FolderTree):
    """One file, by its name; `beside` tells whether another one lies in the same folder, which can then be read too."""

    def __init__(self, path: Path, flag: str = "--source") -> None:
        Tree.__init__(self, path, [path.name], flag)
        self.files = [path.name]  # also where its name begins with a dot
        self._root = path.parent

    def beside(self, name: str) -> bool:
        return (self._root / name).is_file()


def list_files(root: Path, flag: str) -> list[str]:
    """Names of all files below root, relative to it, '/' between folders, sorted."""
    def refuse(error: OSError) -> None:
        raise UserError(f"{flag}: the folder {error.filename} cannot be read: {error.strerror}.")

    files: list[str] = []
    seen: set[tuple[int, int]] = set()
    for folder, subfolders, names in os.walk(root, onerror=refuse, followlinks=True):
        identity = os.stat(folder)
        if (identity.st_dev, identity.st_ino) in seen:
            subfolders.clear()
            continue
        seen.add((identity.st_dev, identity.st_ino))
        subfolders.sort()
        relative = Path(folder).relative_to(root)
        files.extend((relative / name).as_posix() for name in names)
    return sorted(files)
