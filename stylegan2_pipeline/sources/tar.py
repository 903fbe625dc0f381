"""The files of a .tar, also a compressed one, by random access. Nothing is unpacked under a name from inside."""

import bz2
import gzip
import io
import lzma
import tarfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Any, NamedTuple

from stylegan2_pipeline.decode import MAX_BYTES, BrokenImage
from stylegan2_pipeline.progress import progress
from stylegan2_pipeline.sources.folder import EDGE_BYTES
from stylegan2_pipeline.sources.labels import printable, some
from stylegan2_pipeline.sources.trees import Tree, is_safe
from stylegan2_pipeline.sources.unpacked import Unpacked
from torch_utils.errors import UserError

OPENERS: dict[bytes, Callable[[IO[bytes]], Any]] = {
    b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\x00": lzma.open,
}
HEADER_BYTES = 2 ** 20  # of one header with its extensions; more would only fill the memory
BLOCK = 512
CHUNK = 2 ** 20
TROUBLES = (tarfile.TarError, EOFError, OSError, zlib.error, lzma.LZMAError, ValueError, OverflowError, RecursionError)


class Member(NamedTuple):
    offset: int
    size: int


class TarTree(Tree):
    """A compressed one is unpacked, as one tar, into a temporary file, which the other processes read too."""

    def __init__(self, path: Path, flag: str = "--source") -> None:
        self._unpacked: Unpacked | None = None
        self.path, self.flag = path, flag
        try:
            self._changed = path.stat().st_mtime_ns
            self._opener = _opener(path)
            self._members, self._left_out = index(self._place())
        except TROUBLES as error:
            self.close()
            raise UserError(f"{flag}: {path} cannot be read as a tar: {printable(str(error))}. Was it copied "
                            f"whole?") from None
        super().__init__(path, list(self._members), flag)

    def read_bytes(self, name: str, most: int = -1) -> bytes:
        size = self._members[name].size
        if most < 0 and size > MAX_BYTES:
            raise BrokenImage(f"too large: more than {MAX_BYTES >> 30} GiB")
        return self._read(name, 0, size if most < 0 else min(size, most))

    def checksum(self, name: str) -> tuple[int, int]:
        """Of the first and last bytes, as in a folder."""
        size = self._members[name].size
        edge = min(EDGE_BYTES, size)
        return size, zlib.crc32(self._read(name, size - edge, edge), zlib.crc32(self._read(name, 0, edge)))

    def stamp(self, name: str) -> tuple[int, int]:
        """Where it lies, and when the tar was written."""
        offset, size = self._members[name]
        return size, self._changed + offset

    def notes(self) -> list[str]:
        return [f"{reason}: {len(names)} ({some(sorted(names))})." for reason, names in self._left_out.items()]

    def close(self) -> None:
        if self._unpacked is not None and self._unpacked.close():
            self._unpacked = None

    def _read(self, name: str, begin: int, count: int) -> bytes:
        try:
            with self._place().open("rb") as file:
                file.seek(self._members[name].offset + begin)
                data = file.read(count)
        except OSError as error:
            raise BrokenImage(error.strerror or str(error)) from None
        if len(data) < count:
            raise BrokenImage("cut short: the tar has become smaller")
        return data

    def _place(self) -> Path:
        """Of the tar, uncompressed."""
        if self._opener is None:
            return self.path
        if self._unpacked is None:
            self._unpacked = Unpacked(f"{self.flag}: {self.path}")
            size = self.path.stat().st_size
            self._unpacked.add(_chunks(self.path, self._opener, size), size)
        return self._unpacked.path


def index(path: Path) -> tuple[dict[str, Member], dict[str, list[str]]]:
    """Plain files of an uncompressed tar, by name, and what was left out, by reason. Raises one of TROUBLES."""
    members: dict[str, Member] = {}
    left_out: dict[str, list[str]] = {}
    with _Headers(io.FileIO(path)) as file, tarfile.open(fileobj=file, mode="r:") as tar:
        end = 0
        while (info := tar.next()) is not None:
            if info.size < 0 or tar.offset <= end:
                raise tarfile.ReadError("a size in it is negative")
            end = tar.offset
            tar.members.clear()  # type: ignore[attr-defined] # it would keep all of them, with all that headers say
            reason = _why_not(info)
            name = PurePosixPath(info.name).as_posix()  # without the "./" of `tar -c .`
            if reason:
                left_out.setdefault(reason, []).append(name)
            elif not info.isdir():
                members[name] = Member(info.offset_data, info.size)  # the last of the same name counts, as in unpacking
        _check_end(file, tar.offset)
    return members, left_out


def _why_not(info: tarfile.TarInfo) -> str | None:
    if info.isdir():
        return None
    if info.issym() or info.islnk():
        return "Left out, because they are links within the tar"
    if not info.isreg() or info.issparse():
        return "Left out, because they are no plain files"
    return None if is_safe(info.name) else "Left out, because their names lead out of the tar"


def _check_end(file: io.BufferedReader, offset: int) -> None:
    """tarfile takes a damaged header for the end; the end is marked by zeros, or the file is over."""
    file.seek(offset)
    block = file.read(BLOCK)
    if any(block) or 0 < len(block) < BLOCK:
        raise tarfile.ReadError(f"it is damaged at byte {offset}")


class _Headers(io.BufferedReader):
    """Refuses to read more at once than a header has: sizes in extended headers are what the file says they are."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or not 0 <= size <= HEADER_BYTES:
            raise tarfile.ReadError("a header in it is too large")
        return super().read(size)


def _opener(path: Path) -> Callable[[IO[bytes]], Any] | None:
    """What reads the compression that the file is in, told by its first bytes; None for none."""
    with path.open("rb") as file:
        start = file.read(8)
    return next((opener for magic, opener in OPENERS.items() if start.startswith(magic)), None)


def _chunks(path: Path, opener: Callable[[IO[bytes]], Any], size: int) -> Iterator[bytes]:
    """What the file holds, with a progress bar over its compressed bytes."""
    steps = size // CHUNK + 1
    with path.open("rb") as packed, opener(packed) as file:
        first = file.read(BLOCK)
        tarfile.TarInfo.frombuf(first, "utf-8", "surrogateescape")  # an error, before gigabytes of anything else
        yield first
        for step in progress(range(1, steps + 1), steps, "Unpacking"):
            while (step == steps or packed.tell() < step * CHUNK) and (chunk := file.read(CHUNK)):
                yield chunk
