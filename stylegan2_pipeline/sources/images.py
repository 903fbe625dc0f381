"""Image files in a tree, in the order of their names, with an optional dataset.json: what an archive is, too."""

import collections
import json
from collections.abc import Sequence
from pathlib import PurePosixPath

from stylegan2_pipeline.decode import BrokenImage, Decoded, Header, decode_image, read_header
from stylegan2_pipeline.image_formats import EXTENSIONS
from stylegan2_pipeline.sources.base import Reading, Source, digest
from stylegan2_pipeline.sources.labels import Labels, labels_from_json
from stylegan2_pipeline.sources.trees import Tree
from torch_utils.errors import UserError

METADATA_NAME = "dataset.json"
HEADER_BYTES = 2 ** 16


class ImageFiles(Source):
    """One image a file."""

    def __init__(self, tree: Tree, reading: Reading = Reading()) -> None:  # noqa: B008 - it cannot be changed
        self.path = tree.path
        self.tree = tree
        self.reading = reading
        self.names: Sequence[str] = [name for name in tree.files if is_image_name(name)]
        self.metadata_name = find_metadata(tree.files)
        others = (name for name in tree.files if not is_image_name(name) and name != self.metadata_name)
        self._passed_over = collections.Counter(PurePosixPath(name).suffix.lower() or "no ending" for name in others)

    def decode(self, index: int) -> Decoded:
        return decode_image(self.tree.read_bytes(self.names[index]))

    def header(self, index: int) -> Header:
        """What the image will be like, without decoding it. Raises BrokenImage."""
        try:
            return read_header(self.tree.read_bytes(self.names[index], HEADER_BYTES))
        except BrokenImage:  # or one whose header is longer, or at its end
            return read_header(self.tree.read_bytes(self.names[index]))

    def checksum(self, index: int) -> tuple[int, int]:
        """Size and a CRC-32, found without reading all of it. Raises BrokenImage."""
        return self.tree.checksum(self.names[index])

    def state(self) -> str:
        return digest([(name, *self.tree.stamp(name)) for name in self.tree.files])

    def record(self) -> object:
        """The content of dataset.json; None where there is none. Raises UserError."""
        if self.metadata_name is None:
            return None
        try:
            return json.loads(self.tree.read_bytes(self.metadata_name).decode("utf-8-sig"))
        except (BrokenImage, ValueError, RecursionError) as error:
            raise UserError(f"{self._where()} cannot be read ({error}); repair it, or take it away.") from None

    def labels(self) -> Labels | None:
        record = self.record()
        if record is None or self.metadata_name is None:
            return None
        prefix = self.metadata_name[:-len(METADATA_NAME)]
        return labels_from_json(record, self.names, prefix=prefix, where=self._where())

    def _where(self) -> str:
        return f"{self.tree.flag}: {self.path}: {self.metadata_name}"

    def notes(self) -> list[str]:
        if not self._passed_over:
            return self.tree.notes()
        kinds = ", ".join(f"{count} {ending}" for ending, count in sorted(self._passed_over.items()))
        return [*self.tree.notes(), f"Passed over, because they are no images: {kinds}."]

    def close(self) -> None:
        self.tree.close()


def is_image_name(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in EXTENSIONS


def find_metadata(files: Sequence[str]) -> str | None:
    """dataset.json at the root, or at the root of the one folder that holds everything."""
    if METADATA_NAME in files:
        return METADATA_NAME
    tops = {name.partition("/")[0] for name in files}
    nested = f"{next(iter(tops))}/{METADATA_NAME}" if len(tops) == 1 else METADATA_NAME
    return nested if nested in files else None


def claims(tree: Tree) -> int:
    return sum(map(is_image_name, tree.files))
