"""The files of a zip. Nothing is ever unpacked to disk, so that no name in it can reach outside."""

import os
import zipfile
from pathlib import Path

from stylegan2_pipeline.decode import MAX_BYTES, BrokenImage
from stylegan2_pipeline.sources.labels import printable, some
from stylegan2_pipeline.sources.trees import Tree, is_safe
from torch_utils.errors import UserError


class ZipTree(Tree):
    """Opened again in each process that reads it: processes that share an open file move each other's position."""

    def __init__(self, path: Path, flag: str = "--source") -> None:
        self._zip: zipfile.ZipFile | None = None
        self._pid = 0
        try:
            with zipfile.ZipFile(path) as opened:
                files = {info.filename for info in opened.infolist() if not info.is_dir()}
        except (zipfile.BadZipFile, OSError, NotImplementedError) as error:
            raise UserError(f"{flag}: {path} cannot be read as a zip: {error}. Was it copied whole?") from None
        self._unsafe = sorted(name for name in files if not is_safe(name))
        super().__init__(path, [name for name in files if is_safe(name)], flag)

    def read_bytes(self, name: str, most: int = -1) -> bytes:
        try:
            opened = self._opened()
            if most < 0 and opened.getinfo(name).file_size > MAX_BYTES:
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

    def stamp(self, name: str) -> tuple[int, int]:
        return self.checksum(name)

    def notes(self) -> list[str]:
        if not self._unsafe:
            return []
        return [f"Left out, because their names lead out of the zip: {len(self._unsafe)} ({some(self._unsafe)})."]

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
