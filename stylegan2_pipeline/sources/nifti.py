"""NIfTI volumes (.nii, .nii.gz, and .hdr with .img), cut into slices that all lie the same way.

Every volume is turned to the nearest of the patient's axes first. Pictures are as a radiologist looks, and as scanners
store theirs: the patient's left is on the right of axial and coronal slices, the front on the left of sagittal ones;
the front, or the top, is up. Nothing of a header's text is ever read.
"""

from collections import Counter
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from stylegan2_pipeline.decode import BrokenImage, Decoded
from stylegan2_pipeline.progress import progress
from stylegan2_pipeline.sources.base import Reading, Source, digest, require
from stylegan2_pipeline.sources.folder import FileTree
from stylegan2_pipeline.sources.labels import some
from stylegan2_pipeline.sources.nifti_header import Header, data_file, is_there, read_header, read_voxels
from stylegan2_pipeline.sources.nifti_names import is_label_name, sequence_of, subject_of
from stylegan2_pipeline.sources.trees import Tree
from stylegan2_pipeline.sources.volumes import AXES, Background, background_of, chosen, square_pixels, stretching
from torch_utils.errors import UserError

WEIGHT = 100           # slices that a volume is taken for while none has been opened
LABEL_VALUES = 64      # a volume of whole numbers with no more different ones is a mask or a map of labels
PACKED_LABELS = 0.04   # such volumes pack to less than this; only those that do are looked into
NO_CHANNEL = "has no channel"
LAID = {
    "axial": "Axial slices, front up, as a radiologist looks: the patient's left is on the right.",
    "coronal": "Coronal slices, top up, as a radiologist looks: the patient's left is on the right.",
    "sagittal": "Sagittal slices, top up, the patient's front on the left; they go from the left side to the right.",
}


class Volume(NamedTuple):
    """The one that was read last: voxels [X,Y,Z] to the right, front and top, as stored."""

    number: int
    voxels: np.ndarray
    background: Background


class Nifti(Source):
    """One image a slice, named after its file and its number in the volume; a file that cannot be read is one image."""

    def __init__(self, tree: Tree, reading: Reading = Reading()) -> None:  # noqa: B008 - it cannot be changed
        require("nibabel", "nifti", f"{tree.flag}: NIfTI files")
        self.path = tree.path
        self.tree = tree
        self.reading = reading
        self.files: list[str] = []
        self.headers: list[Header | str] = []  # or why there is none
        self._left_out: list[tuple[str, str]] = []
        self._last: Volume | None = None
        wanted = volume_files(tree)
        for name in progress(wanted, len(wanted), "Reading headers"):
            self._add(name, alone=isinstance(tree, FileTree))
        self._where = [(file, number) for file, header in enumerate(self.headers) for number in self._slices(header)]
        self.names = [self._name(file, number) for file, number in self._where]
        self._check_channel()

    def _add(self, name: str, alone: bool) -> None:
        """alone: the user named this very file, so it is read whatever it looks like."""
        header: Header | str
        try:
            header = read_header(self.tree, name)
            reason = self._unwanted(name, header, alone)
        except BrokenImage as error:
            header, reason = str(error), ""
        if reason:
            self._left_out.append((name, reason))
        else:
            self.files.append(name)
            self.headers.append(header)

    def _unwanted(self, name: str, header: Header, alone: bool) -> str:
        if (self.reading.channel or 0) >= header.channels:
            return f"{NO_CHANNEL} {self.reading.channel}, only {header.channels}, counted from 0"
        if alone:
            return ""
        if is_label_name(name):
            return "a mask or a map of labels, by its name"
        if (count := few_values(self.tree, header)) is not None:
            return f"a mask or a map of labels: it holds whole numbers, and only {count} different ones"
        return ""

    def _check_channel(self) -> None:
        if not self.files and any(reason.startswith(NO_CHANNEL) for _, reason in self._left_out):
            raise UserError(f"--channel={self.reading.channel}: no volume in {self.path} has that many channels; they "
                            f"are counted from 0, and volumes with three dimensions have one.")

    def _slices(self, header: Header | str) -> list[int]:
        if isinstance(header, str):
            return [-1]
        return list(chosen(header.lengths[AXES[self.reading.axis]], self.reading.slices, self.reading.every))

    def _name(self, file: int, number: int) -> str:
        return self.files[file] if number < 0 else f"{self.files[file]}#{number:04d}"

    def decode(self, index: int) -> Decoded:
        file, number = self._where[index]
        header = self.headers[file]
        if isinstance(header, str):
            raise BrokenImage(header)
        if self._last is None or self._last.number != file:
            self._last = self._read(file, header)
        rows, columns = plane(self.reading.axis)
        upright = np.moveaxis(self._last.voxels, AXES[self.reading.axis], 0)[number].T[::-1, ::-1]
        pixels, background = colours(upright), self._last.background
        if pixels is None:
            pixels = background.fill(scaled(upright, header))[:, :, np.newaxis]
        pixels = square_pixels(pixels, header.spacing[rows], header.spacing[columns], self.reading.max_pixels)
        deep = pixels.dtype != np.uint8
        return Decoded(np.ascontiguousarray(pixels), mode=type_name(header), format="NIfTI",
                       empty=background.empty if deep else None, remarks=REMARKS[background.gaps])

    def _read(self, file: int, header: Header) -> Volume:
        self._last = None  # two would take twice the memory
        height, width = (header.lengths[side] for side in plane(self.reading.axis))
        if height * width > self.reading.max_pixels:
            raise BrokenImage(f"too large: slices of {width}x{height}")
        voxels = read_voxels(self.tree, header, self.reading.channel or 0)
        if voxels.dtype.names:
            return Volume(file, voxels, Background(None, 0.0))
        slabs = (scaled(voxels[:, :, number], header) for number in range(voxels.shape[2]))
        return Volume(file, voxels, background_of(slabs, scaled(voxels[::_end(voxels, 0), ::_end(voxels, 1),
                                                                       ::_end(voxels, 2)], header)))

    def state(self) -> str:
        stamps = [(name, *self.tree.stamp(name)) for name in self.tree.files]
        return digest([*stamps, self.reading])

    def notes(self) -> list[str]:
        known = [header for header in self.headers if isinstance(header, Header)]
        return [*self.tree.notes(), *([LAID[self.reading.axis]] if known else []), *self._notes_on_lying(known),
                *self._notes_on_choice(known)]

    def _notes_on_lying(self, known: list[Header]) -> list[str]:
        rows, columns = plane(self.reading.axis)
        ratios = [stretching(header.spacing[rows], header.spacing[columns]) for header in known]
        uneven = [max(ratio, 1 / ratio) for ratio in ratios if ratio != 1]
        unknown = [name for name, header in zip(self.files, self.headers, strict=True)
                   if isinstance(header, Header) and not header.known]
        notes = []
        if unknown:
            notes.append(f"{len(unknown)} of {len(known)} volumes do not say how they lie ({some(unknown)}): their "
                         f"left and right, and even which way is up, are guesses.")
        if uneven:
            notes.append(f"The slices of {len(uneven)} of {len(known)} volumes have pixels that are not square, up to "
                         f"{max(uneven):.1f} times as long as wide; they are enlarged along that side.")
        return notes

    def _notes_on_choice(self, known: list[Header]) -> list[str]:
        several = Counter(header.channels for header in known if header.channels > 1)
        kinds = Counter(sequence_of(name) for name in self.files)
        kinds.pop("", None)
        notes = []
        if several:
            taken = "channel 0 is taken, --channel takes another" if self.reading.channel is None else \
                f"channel {self.reading.channel} is taken"
            notes.append(f"{several.total()} of {len(known)} volumes have several channels "
                         f"({', '.join(map(str, sorted(several)))}): {taken}.")
        if len(kinds) > 1:
            counts = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
            notes.append(f"Volumes of different kinds become one set ({counts}, by their names). For one kind alone, "
                         f"give a folder with links to its files.")
        return notes

    def left_out(self) -> list[tuple[str, str]]:
        return self._left_out

    def volume(self, index: int) -> str | None:
        return self.files[self._where[index][0]]

    def subject(self, index: int) -> str | None:
        return subject_of(self.files[self._where[index][0]])

    def run(self, index: int) -> int:
        return self._where[index][0]

    def close(self) -> None:
        self._last = None
        self.tree.close()

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_last": None}


REMARKS = {False: (), True: ("Values that are no finite numbers, taken for background",)}


def plane(axis: str) -> tuple[int, int]:
    """Which of right, front and top (0, 1, 2) goes up in slices along `axis`, and which goes to the left."""
    rows, columns = (side for side in (2, 1, 0) if side != AXES[axis])
    return rows, columns


def _end(voxels: np.ndarray, axis: int) -> int:
    """The step from the first to the last place along an axis."""
    return max(1, voxels.shape[axis] - 1)


def scaled(stored: np.ndarray, header: Header) -> np.ndarray:
    """float32 in the units that the header gives; what float32 cannot hold becomes infinite."""
    with np.errstate(all="ignore"):
        if (header.slope, header.inter) == (1.0, 0.0):
            return stored.astype(np.float32)
        return (stored.astype(np.float64) * header.slope + header.inter).astype(np.float32)


def colours(stored: np.ndarray) -> np.ndarray | None:
    """uint8 [H,W,3|4] of voxels in colour; None for others."""
    if not stored.dtype.names:
        return None
    return np.stack([stored[name] for name in stored.dtype.names], axis=-1)


def type_name(header: Header) -> str:
    return "".join(header.dtype.names) if header.dtype.names else header.dtype.name


def few_values(tree: Tree, header: Header) -> int | None:
    """How many different values a volume has, where they are whole numbers and few; None for a picture.

    A packed file that is not small for its volume is no such thing, and is not read; of others, the middle is.
    """
    if header.dtype.names:
        return None
    if header.packed and tree.stamp(header.data)[0] > PACKED_LABELS * header.volume_bytes * header.channels:
        return None
    header = header if header.packed else middle_of(header)
    step = max(1, round((np.prod(header.shape) / 2 ** 20) ** (1 / 3)))
    sample = scaled(read_voxels(tree, header, 0)[::step, ::step, ::step], header)
    values = np.unique(sample)
    few = len(values) <= min(LABEL_VALUES, sample.size // 8)
    return len(values) if few and (values == np.rint(values)).all() else None


def middle_of(header: Header) -> Header:
    """The same for a few planes in the middle of the stored volume."""
    width, height, depth = header.shape
    first, count = depth // 2, min(4, depth - depth // 2)
    return replace(header, shape=(width, height, count),
                   offset=header.offset + first * width * height * header.dtype.itemsize)


def volume_files(tree: Tree) -> list[str]:
    """Of an .hdr with its .img, the .hdr; other files of these endings are something else."""
    data = ((name, data_file(name)) for name in tree.files)
    return [name for name, voxels in data if voxels is not None and is_there(tree, voxels)]


def claims(tree: Tree) -> int:
    return WEIGHT * len(volume_files(tree))
