"""What a collection of images must offer to be converted, and the part that folders and zips share."""

import abc
import collections
import json
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Protocol

from stylegan2_pipeline.decode import EXTENSIONS, BrokenImage, Decoded, Header, decode_image, read_header
from stylegan2_pipeline.sources.labels import Labels, labels_from_json
from torch_utils.errors import UserError

METADATA_NAME = "dataset.json"
HEADER_BYTES = 2 ** 16


class Source(Protocol):
    """A collection of images in a fixed order. It can be pickled, and reads in the process that it arrives in."""

    path: Path
    names: Sequence[str]  # unique, '/' between folders

    def decode(self, index: int) -> Decoded:
        """Image number `index`. Raises BrokenImage."""

    def labels(self) -> Labels | None:
        """What the collection says about its images; None if nothing. Raises UserError for a damaged record."""

    def notes(self) -> list[str]:
        """Sentences a user should read about what was left out."""

    def close(self) -> None:
        """Give files back; a later decode opens them again."""


class FileSource(abc.ABC):
    """Images that lie as files in a tree, in the order of their names, with an optional dataset.json."""

    def __init__(self, path: Path, files: list[str], flag: str) -> None:
        """files: every file's name in the tree; flag: the option that named `path`, for error messages."""
        self.path = path
        self.flag = flag
        visible = [name for name in files if not is_hidden(name)]
        self.names: Sequence[str] = sorted(name for name in visible if is_image_name(name))
        self.metadata_name = find_metadata(visible)
        others = (name for name in visible if not is_image_name(name) and name != self.metadata_name)
        self._passed_over = collections.Counter(PurePosixPath(name).suffix.lower() or "no ending" for name in others)

    @abc.abstractmethod
    def read_bytes(self, name: str, most: int = -1) -> bytes:
        """All of a file, or its first `most` bytes. Raises BrokenImage with the reason."""

    @abc.abstractmethod
    def checksum(self, name: str) -> tuple[int, int]:
        """Size and a CRC-32 of a file, found without reading all of it. Raises BrokenImage with the reason."""

    def decode(self, index: int) -> Decoded:
        return decode_image(self.read_bytes(self.names[index]))

    def header(self, index: int) -> Header:
        """What the image will be like, without decoding it. Raises BrokenImage."""
        try:
            return read_header(self.read_bytes(self.names[index], HEADER_BYTES))
        except BrokenImage:  # or one whose header is longer, or at its end
            return read_header(self.read_bytes(self.names[index]))

    def labels(self) -> Labels | None:
        if self.metadata_name is None:
            return None
        where = f"{self.flag}: {self.path}: {self.metadata_name}"
        try:
            record = json.loads(self.read_bytes(self.metadata_name).decode("utf-8-sig"))
        except (BrokenImage, ValueError) as error:
            raise UserError(f"{where} cannot be read ({error}); repair it, or take it away.") from None
        return labels_from_json(record, self.names, prefix=self.metadata_name[:-len(METADATA_NAME)], where=where)

    def notes(self) -> list[str]:
        if not self._passed_over:
            return []
        kinds = ", ".join(f"{count} {ending}" for ending, count in sorted(self._passed_over.items()))
        return [f"Passed over, because they are no images: {kinds}."]

    def close(self) -> None:  # noqa: B027 - most have nothing open
        pass

    def __enter__(self) -> "FileSource":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def is_image_name(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in EXTENSIONS


def is_hidden(name: str) -> bool:
    """Files that tools leave behind: .ipynb_checkpoints, .thumbnails, macOS's __MACOSX and ._ copies."""
    return any(part.startswith(".") or part == "__MACOSX" for part in PurePosixPath(name).parts)


def find_metadata(files: Sequence[str]) -> str | None:
    """dataset.json at the root, or at the root of the one folder that holds everything."""
    if METADATA_NAME in files:
        return METADATA_NAME
    tops = {name.partition("/")[0] for name in files}
    nested = f"{next(iter(tops))}/{METADATA_NAME}" if len(tops) == 1 else METADATA_NAME
    return nested if nested in files else None
