"""What a conversion has done so far, on the disk: an interrupted one goes on from there.

A folder beside the destination holds files of pieces, which each process appends to on its own, and a journal, which
the process that decides writes: what was found of each image, and where its picture lies.
"""

import contextlib
import dataclasses
import fcntl
import json
import os
import re
import shutil
import time
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, Self

from stylegan2_pipeline.sources.labels import some
from torch_utils.errors import UserError
from torch_utils.files import CannotWrite, atomic_path

FORMAT = 1  # of the folder: raised whenever what is found or drawn changes
_OURS = re.compile(r"lock|journal\.jsonl|\.settings\..*|[0-9]+-[0-9]+\.bin")


@dataclasses.dataclass(frozen=True, slots=True)
class Piece:
    """Bytes in a file of the spool, with their CRC-32."""

    file: str
    offset: int
    size: int
    crc: int


class DamagedSpoolError(UserError):
    """A piece is not what was put there; nothing of the folder can be relied on."""


class Spool:
    """Pieces in a folder. It can be pickled: each process that puts something writes a file of its own.

    what: where that is, for the message when the disk is full.
    """

    def __init__(self, folder: Path, what: str | None = None) -> None:
        self.folder = folder
        self._what = what or f"--dest: {folder}"
        self._writing: IO[bytes] | None = None
        self._reading: dict[str, IO[bytes]] = {}
        self._pid = 0

    def put(self, data: bytes) -> Piece:
        """Raises CannotWrite when the disk is full."""
        try:
            if self._writing is None or self._pid != os.getpid():
                self._pid = os.getpid()
                self._writing = (self.folder / f"{self._pid}-{time.time_ns()}.bin").open("xb", buffering=0)
            offset = self._writing.tell()
            view = memoryview(data)
            while view:
                view = view[self._writing.write(view):]
        except OSError as error:
            raise CannotWrite(self._what, error) from None
        return Piece(Path(self._writing.name).name, offset, len(data), zlib.crc32(data))

    def get(self, piece: Piece) -> bytes:
        """Raises DamagedSpoolError where the bytes are not those that were put, as after a crash of the machine."""
        try:
            if piece.file not in self._reading:
                self._reading[piece.file] = (self.folder / piece.file).open("rb", buffering=0)
            data = os.pread(self._reading[piece.file].fileno(), piece.size, piece.offset)
        except OSError as error:
            raise DamagedSpoolError(f"{self.folder / piece.file} cannot be read: {error.strerror}. Start anew: what "
                                    f"was done is given up.") from None
        if zlib.crc32(data) != piece.crc:
            raise DamagedSpoolError(f"{self.folder / piece.file} is damaged, as after a crash of the machine. "
                            f"Start anew: what was done is given up.")
        return data

    def has(self, piece: Piece) -> bool:
        """Whether the piece is there whole."""
        try:
            return (self.folder / piece.file).stat().st_size >= piece.offset + piece.size
        except OSError:
            return False

    def close(self) -> None:
        for file in (self._writing, *self._reading.values()):
            if file is not None:
                file.close()
        self._writing, self._reading = None, {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_writing": None, "_reading": {}, "_pid": 0}


class Journal:
    """Lines of JSON about images, for one process at a time, and the settings that they hold for.

    lines: those of an earlier process, if its settings are the same; a last one that is not whole is left out. begun:
    there were such lines. kept: set it, and the folder outlives this process; done: all is written, and there is
    nothing to go on with.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any], anew: bool = True) -> None:
        """anew: begin again where the settings are others, instead of a UserError that leaves everything as it is.

        Raises UserError also when another process works in the folder, it cannot be made, or it holds other things.
        """
        self.folder = folder
        self.kept = False
        self.done = False
        self.differs = ""  # why an earlier process's lines do not hold any more
        with contextlib.ExitStack() as opened:
            try:
                folder.mkdir(parents=True, exist_ok=True)
                _check_ours(folder)
                self._lock = opened.enter_context((folder / "lock").open("a"))
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self.lines = self._earlier({"version": FORMAT, **settings}, anew)
                self.begun = bool(self.lines)
                self._file = (folder / "journal.jsonl").open("a", encoding="utf-8")
            except BlockingIOError:
                raise UserError(f"Another process is at work in {folder}. Wait for it, or stop it first.") from None
            except OSError as error:
                raise CannotWrite(f"--dest: {folder}", error) from None
            opened.pop_all()

    def taken(self) -> list[dict[str, Any]]:
        """The lines of an earlier process, which are given away: they are many."""
        lines, self.lines = self.lines, []
        return lines

    def add(self, line: Mapping[str, Any]) -> None:
        try:
            self._file.write(json.dumps(line) + "\n")
            self._file.flush()
        except OSError as error:
            raise CannotWrite(f"--dest: {self.folder}", error) from None

    def _earlier(self, settings: dict[str, Any], anew: bool) -> list[dict[str, Any]]:
        path, journal = self.folder / "settings.json", self.folder / "journal.jsonl"
        before = _read_json(path)
        text = json.loads(json.dumps(settings))
        if before == text and journal.exists():
            return _whole_lines(journal)
        if before is not None:
            self.differs = ", ".join(sorted(name for name in text if before.get(name) != text[name]))
        if not anew:
            raise UserError(f"--continue: {self.folder} was begun with something else "
                            f"({self.differs or 'what it was is lost'}). Leave --continue out to start anew.")
        for file in self.folder.iterdir():
            if file.name not in ("lock", path.name):  # which says whose the folder is
                shutil.rmtree(file) if file.is_dir() else file.unlink()
        with atomic_path(path) as partial:
            partial.write_text(json.dumps(settings), encoding="utf-8")
        return []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        """Without `kept`, nothing of the folder remains."""
        with contextlib.suppress(OSError):
            self._file.close()
        if not self.kept:
            shutil.rmtree(self.folder, ignore_errors=True)
        self._lock.close()


def _check_ours(folder: Path) -> None:
    """What is there will be removed. Raises UserError where somebody else may have put it there."""
    names = os.listdir(folder)
    strange = [name for name in names if not _OURS.fullmatch(name) and name != folder.stem]
    if strange and "settings.json" not in names:
        raise UserError(f"--dest: {folder}, where work would be done before it is finished, holds something else "
                        f"({some(sorted(strange))}). Move that away, or choose another name.")


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) else {}


def _whole_lines(path: Path) -> list[dict[str, Any]]:
    """The file is cut behind the last whole line, so that more can follow."""
    lines, length = [], 0
    with path.open("rb") as file:
        for line in _ended(file):
            try:
                record = json.loads(line)
            except ValueError:
                break
            if not isinstance(record, dict):
                break
            lines.append(record)
            length += len(line)
    os.truncate(path, length)
    return lines


def _ended(file: IO[bytes]) -> Iterator[bytes]:
    for line in file:
        if not line.endswith(b"\n"):
            return
        yield line
