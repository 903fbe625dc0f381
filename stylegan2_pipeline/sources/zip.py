"""A zip of image files. Nothing is ever unpacked to disk, so that no name in it can reach outside."""

import os
import zipfile
from pathlib import Path, PurePosixPath

from stylegan2_pipeline.decode import MAX_BYTES, BrokenImage
from stylegan2_pipeline.sources.base import FileSource
from stylegan2_pipeline.sources.labels import printable, some
from torch_utils.errors import UserError


class ZipSource(FileSource):
    """Opened again in each process that reads it: processes that share an open file move each other's position."""

    def __init__(self, path: Path, flag: str = "--source") -> None:
        self._zip: zipfile.ZipFile | None = None
        self._pid = 0
        try:
            with zipfile.ZipFile(path) as opened:
                files = [info.filename for info in opened.infolist() if not info.is_dir()]
        except (zipfile.BadZipFile, OSError, NotImplementedError) as error:
            raise UserError(f"{flag}: {path} cannot be read as a zip: {error}. Was it copied whole?") from None
        self._unsafe = sorted(name for name in set(files) if not is_safe(name))
        super().__init__(path, sorted(name for name in set(files) if is_safe(name)), flag)

    def read_bytes(self, name: str, most: int = -1) -> bytes:
        try:
            opened = self._opened()
            if opened.getinfo(name).file_size > MAX_BYTES:
                raise BrokenImage(f"too large: more than {MAX_BYTES >> 30} GiB unpacked")
            with opened.open(name) as file:
                return file.read(most)
        except BrokenImage:
            raise
        except Exception as error:  # BadZipFile, zlib.error, RuntimeError (encrypted), OSError, NotImplementedError ...
            raise BrokenImage(f"cannot be unpacked: {printable(str(error))}") from None

    def checksum(self, name: str) -> tuple[int, int]:
        """Both stand in the directory of the zip."""
        try:
            info = self._opened().getinfo(name)
        except Exception as error:
            raise BrokenImage(f"cannot be unpacked: {printable(str(error))}") from None
        return info.file_size, info.CRC

    def notes(self) -> list[str]:
        if not self._unsafe:
            return super().notes()
        return [f"Left out, because their names lead out of the zip: {len(self._unsafe)} ({some(self._unsafe)}).",
                *super().notes()]

    def close(self) -> None:
        if self._zip is not None and self._pid == os.getpid():
            self._zip.close()
        self._zip = None

    def _opened(self) -> zipfile.ZipFile:
        if self._zip is None or self._pid != os.getpid():
            self._zip = zipfile.ZipFile(self.path)
            self._pid = os.getpid()
        return self._zip

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_zip": None}


def is_safe(name: str) -> bool:
    """Whether a name stays inside when it is taken as a path: not absolute, no drive, no '..'."""
    path = PurePosixPath(name.replace("\\", "/"))
    return not path.is_absolute() and ".." not in path.parts and not path.parts[0].endswith(":")
