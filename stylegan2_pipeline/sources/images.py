"""Image files in a tree, in the order of their names, with an optional dataset.json: what an archive is, too."""

import collections
import contextlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from stylegan2_pipeline.decode import MAX_FRAMES, BrokenImage, Decoded, Header, Reel, decode_image, read_header
from stylegan2_pipeline.image_formats import ENDINGS, EXTENSIONS, may_have_frames
from stylegan2_pipeline.progress import progress
from stylegan2_pipeline.sources.base import Reading, Source, digest
from stylegan2_pipeline.sources.labels import Labels, labels_from_json
from stylegan2_pipeline.sources.trees import Tree
from torch_utils.errors import UserError

METADATA_NAME = "dataset.json"
NUMBERED = re.compile(r"(?:^|/)[0-9]{5}/img([0-9]{8})\.[a-z]+$")
HEADER_BYTES = 2 ** 16
MISNAMED = "Of another format than their ending says, and read as what they are"


class ImageFiles(Source):
    """One image a file; of animations and files of several pages all of them, when reading.frames asks for it."""

    def __init__(self, tree: Tree, reading: Reading = Reading()) -> None:  # noqa: B008 - it cannot be changed
        self.path = tree.path
        self.tree = tree
        self.reading = reading
        self._frame = 0 if reading.frames in ("first", "all") else parse_frame(reading.frames)
        self.files = [name for name in tree.files if is_image_name(name)]
        self.names: Sequence[str] = self.files
        self._frames: list[Frame] | None = None
        if reading.frames == "all":
            self._frames = list_frames(tree, self.files, reading.max_pixels)
            self.names = [str(frame) for frame in self._frames]
        self._reel: tuple[str, Reel] | None = None  # the file that the last frame came from
        self.metadata_name = find_metadata(tree.files)
        self.curated = self.metadata_name is not None  # somebody's archive
        self._groups: list[int] | None = None
        others = (name for name in tree.files if not is_image_name(name) and name != self.metadata_name)
        self._passed_over = collections.Counter(PurePosixPath(name).suffix.lower() or "no ending" for name in others)

    def decode(self, index: int) -> Decoded:
        name = self._file(index)
        if self._frames is None or not self._frames[index].several:
            decoded = decode_image(self.tree.read_bytes(name), self.reading.max_pixels, self._frame)
        else:
            decoded = replace(self._next_frame(name, self._frames[index].number), animated=False)
        if PurePosixPath(name).suffix.lower() in ENDINGS.get(decoded.format, EXTENSIONS):
            return decoded
        return replace(decoded, remarks=(*decoded.remarks, MISNAMED))

    def _file(self, index: int) -> str:
        return self.names[index] if self._frames is None else self._frames[index].name

    def _next_frame(self, name: str, number: int) -> Decoded:
        """The file stays open for the frames that follow, unless one is broken."""
        (held, reel), self._reel = self._reel or ("", None), None
        if reel is None or held != name:
            reel = Reel(self.tree.read_bytes(name), self.reading.max_pixels)
        decoded = reel.decode(number)
        self._reel = name, reel
        return decoded

    def header(self, index: int) -> Header:
        """What the image will be like, without decoding it. Raises BrokenImage."""
        try:
            return read_header(self.tree.read_bytes(self._file(index), HEADER_BYTES))
        except BrokenImage:  # or one whose header is longer, or at its end
            return read_header(self.tree.read_bytes(self._file(index)))

    def checksum(self, index: int) -> tuple[int, int]:
        """Size and a CRC-32, found without reading all of it. Raises BrokenImage."""
        size, crc = self.tree.checksum(self._file(index))
        return (size, crc) if self._frames is None else (size, crc ^ self._frames[index].number)

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
        labels = labels_from_json(record, self.files, prefix=prefix, where=self._where())
        if labels is None or self._frames is None:
            return labels
        of_file = dict(zip(self.files, labels.values, strict=True))
        return replace(labels, values=[of_file[frame.name] for frame in self._frames])

    def volume(self, index: int) -> str | None:
        """Frames of one file belong together."""
        return self._frames[index].name if self._frames is not None and self._frames[index].several else None

    def subject(self, index: int) -> str | None:
        """By the groups of an archive of ours."""
        if self._groups is None:
            try:
                record = self.record()
            except UserError:  # labels() says so, where labels are wanted
                record = None
            groups = record.get("groups") if isinstance(record, dict) else None
            if not isinstance(groups, list) or not all(isinstance(group, int) for group in groups):
                groups = []
            self._groups = self._in_order(groups) if len(self.files) == len(self.names) else []
        return f"group {self._groups[index]}" if self._groups else None

    def _in_order(self, groups: list[int]) -> list[int]:
        """By the numbers in the names that we give, so that a part of an archive keeps its groups; else one each."""
        numbers = [int(found[1]) if (found := NUMBERED.search(name)) else len(groups) for name in self.files]
        if max(numbers) < len(groups):
            return [groups[number] for number in numbers]
        return groups if len(groups) == len(self.files) else []

    def run(self, index: int) -> int:
        return index if self._frames is None else self._frames[index].file

    def _where(self) -> str:
        return f"{self.tree.flag}: {self.path}: {self.metadata_name}"

    def notes(self) -> list[str]:
        if not self._passed_over:
            return self.tree.notes()
        kinds = ", ".join(f"{count} {ending}" for ending, count in sorted(self._passed_over.items()))
        return [*self.tree.notes(), f"Passed over, because they are no images: {kinds}."]

    def close(self) -> None:
        self._reel = None
        self.tree.close()

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_reel": None}


@dataclass(frozen=True, slots=True)
class Frame:
    """file: number of the file; several: whether it has more than this one."""

    file: int
    name: str
    number: int
    several: bool

    def __str__(self) -> str:
        return f"{self.name}#{self.number:03d}" if self.several else self.name


def list_frames(tree: Tree, files: Sequence[str], max_pixels: int) -> list[Frame]:
    frames = []
    for index, name in enumerate(progress(files, len(files), "Counting frames")):
        numbers = frame_numbers(tree, name, max_pixels)
        frames += [Frame(index, name, number, len(numbers) > 1) for number in numbers]
    return frames


def frame_numbers(tree: Tree, name: str, max_pixels: int) -> list[int]:
    """[0] for most, and for files that cannot be read: decoding them will say why."""
    try:
        start = tree.read_bytes(name, HEADER_BYTES)
        if not may_have_frames(start):
            return [0]
        with contextlib.suppress(BrokenImage):
            if start[:4] == b"\x89PNG":  # says so before its pixels
                return Reel(start, max_pixels).frames()
        return Reel(tree.read_bytes(name), max_pixels).frames()
    except BrokenImage:
        return [0]


def parse_frame(text: str) -> int:
    if text.isascii() and text.isdecimal() and int(text) < MAX_FRAMES:
        return int(text)
    raise UserError(f"--frames={text}: write --frames=first, --frames=all, or the number of one frame, from 0.")


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
