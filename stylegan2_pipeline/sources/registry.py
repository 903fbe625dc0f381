"""Which reader opens a path: the one list to which a new kind of source is added."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from stylegan2_pipeline.sources.base import FileSource, Source
from stylegan2_pipeline.sources.folder import FolderSource
from stylegan2_pipeline.sources.zip import ZipSource
from torch_utils.errors import UserError


class Reader(NamedTuple):
    """A kind of source: what to call it, which paths it takes, and how it opens one (path, flag)."""

    what: str
    matches: Callable[[Path], bool]
    open: Callable[[Path, str], Source]


FILE_READERS = (
    Reader("a folder of images", Path.is_dir, FolderSource),
    Reader("a .zip of images", lambda path: path.suffix.lower() == ".zip", ZipSource),
)
READERS: tuple[Reader, ...] = FILE_READERS  # the first that matches opens the path


def open_source(path: str | Path, flag: str = "--source") -> Source:
    """Open any collection of images. Raises UserError, naming the flag, for a path that no reader takes."""
    return _open(Path(path), flag, READERS)


def open_files(path: str | Path, flag: str = "--data") -> FileSource:
    """Open a collection that is a tree of image files: a folder or a zip."""
    opened = _open(Path(path), flag, FILE_READERS)
    assert isinstance(opened, FileSource)
    return opened


def _open(path: Path, flag: str, readers: tuple[Reader, ...]) -> Source:
    if not path.exists():
        raise UserError(f"{flag}: {path} does not exist.")
    for reader in readers:
        if reader.matches(path):
            return reader.open(path, flag)
    raise UserError(f"{flag}: {path} is none of what can be read: {', '.join(reader.what for reader in readers)}.")
