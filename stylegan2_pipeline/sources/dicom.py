"""DICOM files: series of slices in their order in the patient, with one scale a series, upright."""

import collections
import math
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath
from typing import Any

from stylegan2_pipeline.decode import BrokenImage, Decoded
from stylegan2_pipeline.progress import progress
from stylegan2_pipeline.sources import volumes
from stylegan2_pipeline.sources.base import Reading, Source, digest, require
from stylegan2_pipeline.sources.dicom_headers import KEEPABLE, FileHeader, parse, read_file_header
from stylegan2_pipeline.sources.dicom_pixels import decode_frame
from stylegan2_pipeline.sources.trees import Tree, starts_with

ENDINGS = frozenset((".dcm", ".dicom", ".dic", ".ima"))
MARK, MARK_AT = b"DICM", 128
MOST_LOOKS = 32  # files of a tree that claims() opens
HEADS_NOTE = ("These are heads: from a whole head scan the face can be rebuilt, so take faces off before pictures or a "
              "network trained on them are shared.")
KEEP_NOTE = "Localisers, secondary captures and colour pictures of scanners are left out; --keep-localizers keeps them."
VIEW_NOTE = ("Left and right are as a radiologist looks: in axial and coronal pictures the patient's left is on the "
             "right, and axial ones have the face up; in sagittal ones the face is on the left.")

Place = tuple[int, int]  # of an image: number of its file in `headers`, number of its frame


class DicomFiles(Source):
    """One image a frame, named as its file, with #0000 and so on where a file has several."""

    def __init__(self, tree: Tree, reading: Reading = Reading()) -> None:  # noqa: B008 - it cannot be changed
        require("pydicom", "dicom", f"{tree.flag}: DICOM files")
        self.path = tree.path
        self.tree = tree
        self.reading = reading
        files = [name for name in tree.files if is_dicom_name(name) or (may_be_dicom(name) and _has_mark(tree, name))]
        headers = [read_file_header(tree, name, reading.keep_localizers)
                   for name in progress(files, len(files), "Reading headers")]
        self._left_out = [(header.name, header.left_out) for header in headers if header.left_out]
        self.headers = [header for header in headers if not header.left_out]
        self._places = chosen(self.headers, reading)
        self.names: Sequence[str] = [frame_name(self.headers[file], frame) for file, frame in self._places]
        known = set(files)
        self._others = collections.Counter(_ending(name) for name in tree.files if name not in known)
        self._open: tuple[str, Any] | None = None  # the last file of several frames

    def decode(self, index: int) -> Decoded:
        file, frame = self._places[index]
        header = self.headers[file]
        if header.error:
            raise BrokenImage(header.error)
        return decode_frame(self._dataset(header), frame, self.reading)

    def state(self) -> str:
        return digest([*((name, *self.tree.stamp(name)) for name in self.tree.files), self.reading])

    def volume(self, index: int) -> str | None:
        header = self.headers[self._places[index][0]]
        return header.series or None

    def subject(self, index: int) -> str | None:
        return self.headers[self._places[index][0]].subject

    def run(self, index: int) -> int:
        return self._places[index][0]

    def left_out(self) -> list[tuple[str, str]]:
        return self._left_out

    def notes(self) -> list[str]:
        lines = self.tree.notes()
        if self._others:
            kinds = ", ".join(f"{count} {ending}" for ending, count in sorted(self._others.items()))
            lines.append(f"Passed over, because they are no DICOM files: {kinds}.")
        if any(reason in KEEPABLE for _, reason in self._left_out):
            lines.append(KEEP_NOTE)
        if self.names:
            lines.extend(self._about_images())
        return lines

    def close(self) -> None:
        self._open = None
        self.tree.close()

    def _about_images(self) -> list[str]:
        good = [(self.headers[file], frame) for file, frame in self._places if not self.headers[file].error]
        series = {header.series for header, _ in good}
        subjects = {header.subject for header, _ in good if header.subject}
        patients = f" of {_count(len(subjects), 'patient')}" if subjects else ""
        lines = [f"{_count(len(good), 'DICOM image')} in {_count(len(series), 'series', 'series')}{patients}."]
        views = collections.Counter(header.planes[frame].view for header, frame in good)
        unknown = views.pop("", 0)
        if views:
            said = ", ".join(f"{count} {view}" for view, count in views.most_common())
            mixed = " A network learns best from one direction: give it folders of one." if len(views) > 1 else ""
            lines.append(f"Directions: {said}.{mixed}")
            lines.append(VIEW_NOTE)
        if unknown:
            lines.append(f"{_count(unknown, 'image')} of no known direction in the patient: left as stored.")
        if any(header.head for header, _ in good):
            lines.append(HEADS_NOTE)
        return lines

    def _dataset(self, header: FileHeader) -> Any:
        if self._open is not None and self._open[0] == header.name:
            return self._open[1]
        self._open = None  # before the next one takes memory
        dataset, _ = parse(self.tree.read_bytes(header.name), pixels=True)
        if len(header.planes) > 1:
            self._open = header.name, dataset
        return dataset

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_open": None}


def chosen(headers: Sequence[FileHeader], reading: Reading) -> list[Place]:
    """Images in order, of each stack those that Reading.slices and .every ask for."""
    stacks: dict[tuple[str, str], list[Place]] = {}
    for place in in_order(headers):
        header = headers[place[0]]
        stacks.setdefault((header.series or header.name, header.planes[place[1]].view), []).append(place)
    return [stack[number] for stack in stacks.values()
            for number in volumes.chosen(len(stack), reading.slices, reading.every)]


def in_order(headers: Sequence[FileHeader]) -> Iterable[Place]:
    """Series in the order of their first file; within one by direction, place along the normal, number, and name.

    Files of several frames stay together, so that each is opened once.
    """
    first: dict[str, int] = {}
    for file, header in enumerate(headers):
        first.setdefault(header.series or header.name, file)

    def key(place: Place) -> tuple:
        header = headers[place[0]]
        view, position = header.planes[place[1]]
        alone = -1 if len(header.planes) == 1 else place[0]
        return (first[header.series or header.name], view, alone, math.inf if position is None else position,
                header.instance, place)

    places = [(file, frame) for file, header in enumerate(headers) for frame in range(len(header.planes))]
    return sorted(places, key=key)


def frame_name(header: FileHeader, frame: int) -> str:
    return header.name if len(header.planes) == 1 else f"{header.name}#{frame:04d}"


def is_dicom_name(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in ENDINGS


def may_be_dicom(name: str) -> bool:
    """Scanners name files without an ending, or by numbers with dots between them: their first bytes tell."""
    ending = PurePosixPath(name).suffix[1:]
    return not ending or ending.isdigit()


def claims(tree: Tree) -> int:
    """Of names that do not tell, a few are opened, and the rest is taken to be like them."""
    named = sum(map(is_dicom_name, tree.files))
    maybe = [name for name in tree.files if may_be_dicom(name)]
    looked = maybe[::max(1, -(-len(maybe) // MOST_LOOKS))]
    found = sum(_has_mark(tree, name) for name in looked)
    return named + (math.ceil(found * len(maybe) / len(looked)) if found else 0)


def _has_mark(tree: Tree, name: str) -> bool:
    return starts_with(tree, name, MARK, MARK_AT)


def _ending(name: str) -> str:
    return PurePosixPath(name).suffix.lower() or "without ending"


def _count(number: int, one: str, several: str = "") -> str:
    return f"{number} {one if number == 1 else several or one + 's'}"
