"""Numpy arrays of images: .npy and .npz files."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np

from stylegan2_pipeline.decode import BrokenImage, Decoded
from stylegan2_pipeline.progress import progress
from stylegan2_pipeline.sources.array_files import Array, arrays_in, chunks, read_array
from stylegan2_pipeline.sources.array_labels import (
    choose_images,
    is_for_tests,
    label_names,
    labels_fit,
    values_of,
    why_no_images,
)
from stylegan2_pipeline.sources.array_layout import Layout, Scale, choose_scale, layout_of
from stylegan2_pipeline.sources.base import Reading, Source, digest
from stylegan2_pipeline.sources.labels import Label, Labels, printable, some
from stylegan2_pipeline.sources.rows import Rows
from stylegan2_pipeline.sources.trees import Tree
from stylegan2_pipeline.sources.unpacked import Unpacked
from torch_utils.errors import UserError

ENDINGS = (".npy", ".npz")
SMALL = 2 ** 25   # bytes; compressed arrays up to here are unpacked whole where they are needed, if there are several
SAMPLE = 64       # images that tell the range of colours
MOST_LOOKS = 16   # files that tell how many images there are
USUAL = 100       # images in an .npz


@dataclass
class Part:
    """The images of one file; rows: where they lie as they are, in the file or unpacked; None: to be read whole."""

    array: Array
    layout: Layout
    labels: Array | None
    rows: Rows | None = None

    def name(self, index: int) -> str:
        return self.array.file if self.layout.single else f"{self.array.file}#{index:05d}"


class ArrayImages(Source):
    """uint8 and bool arrays are pictures as they are. Gray of any other type is deep, in the array's own units, with
    one window a file where several files hold several images each. Colour of other types is made 8 bits."""

    def __init__(self, tree: Tree, reading: Reading = Reading()) -> None:  # noqa: B008 - it cannot be changed
        self.path, self.tree, self.reading = tree.path, tree, reading
        self._unpacked: Unpacked | None = None
        self._whole: tuple[int, np.ndarray] | None = None  # number of the last part that was read whole
        self._left_out: list[tuple[str, str]] = []
        self._notes: list[str] = []
        self._parts = self._choose()
        self._unpack()
        self.names = [part.name(index) for part in self._parts for index in range(part.layout.count)]
        self._ends = np.cumsum([part.layout.count for part in self._parts])
        self._scale = self._find_scale()
        self._volumes = sum(not part.layout.single for part in self._parts) > 1

    def decode(self, index: int) -> Decoded:
        part, values = self._values(index)
        kind = part.array.dtype.name
        if values.dtype in (np.uint8, np.bool_):
            pixels = values if values.dtype == np.uint8 else values.astype(np.uint8) * 255
            return Decoded(np.ascontiguousarray(pixels), kind, format="numpy")
        if part.layout.channels > 1:
            assert self._scale is not None  # there is one as soon as one part needs it
            return Decoded(np.ascontiguousarray(self._scale.apply(values)), kind, format="numpy",
                           remarks=(self._scale.remark,))
        with np.errstate(over="ignore"):
            deep = np.ascontiguousarray(values, np.float32)
        if not np.isfinite(deep).all():
            raise BrokenImage("holds values that are not finite")
        return Decoded(deep, kind, format="numpy")

    def state(self) -> str:
        names = [name for name in self.tree.files if _is_array(name)]
        return digest([(name, *self.tree.stamp(name)) for name in names])

    def labels(self) -> Labels | None:
        """From the arrays named as labels beside the images; None unless some part has them."""
        if not any(part.labels for part in self._parts):
            return None
        values: list[Label | None] = []
        tables = []
        for part in self._parts:
            tables.append(self._labels_of(part))
        words = sorted({name for _, names in tables for name in names or ()})
        for found, names in tables:
            values += [words.index(names[number]) if names and isinstance(number, int) else number for number in found]
        if len({type(value) for value in values} - {type(None)}) > 1:
            raise UserError(f"{self.tree.flag}: {self.path}: some arrays of labels hold class numbers, others vectors; "
                            f"use one kind for all images.")
        return Labels(values, words or None)

    def notes(self) -> list[str]:
        return [*self.tree.notes(), *self._notes]

    def left_out(self) -> list[tuple[str, str]]:
        return self._left_out

    def volume(self, index: int) -> str | None:
        """The file, of deep images in several files."""
        part = self._parts[self._part(index)]
        deep = part.array.dtype not in (np.uint8, np.bool_) and part.layout.channels == 1
        return part.array.file if self._volumes and deep else None

    def run(self, index: int) -> int:
        part = self._part(index)
        return part if self._parts[part].rows is None else len(self._parts) + index

    def close(self) -> None:
        self._whole = None
        if self._unpacked is not None and self._unpacked.close():
            self._unpacked, self._closed = None, True
        self.tree.close()

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_whole": None}

    def _choose(self) -> list[Part]:
        """The images of each file, and their labels."""
        files = [name for name in self.tree.files if _is_array(name)]
        train = [name for name in files if "train" in name.lower()]
        tests = [name for name in files if is_for_tests(PurePosixPath(name).stem)] if train else []
        if tests:
            self._notes.append(f"Left out, because they are for tests: {some(tests)}.")
        found: dict[str, list[Array]] = {}
        for name in progress(files, len(files), "Reading headers"):
            try:
                found[name] = arrays_in(self.tree, name)
            except BrokenImage as error:
                self._left_out.append((name, str(error)))
        labels = {_folder_key(array): array for arrays in found.values() for array in arrays if not array.key}
        parts = [part for name, arrays in found.items() if name not in tests
                 and (part := self._part_of(name, arrays, labels))]
        used = {part.labels.file for part in parts if part.labels and not part.labels.key}
        parts = [part for part in parts if part.array.file not in used]
        self._left_out = [(name, reason) for name, reason in self._left_out if name not in used]
        if not parts:
            raise UserError(f"{self.tree.flag}: there are no arrays of images in {self.path}. "
                            + " ".join(f"{printable(name)}: {reason}." for name, reason in self._left_out[:5]))
        return parts

    def _part_of(self, name: str, arrays: Sequence[Array], beside: dict[str, Array]) -> Part | None:
        images = choose_images(arrays)
        if images is None:
            reasons = {why_no_images(array) or "" for array in arrays} or {"it holds no arrays"}
            self._left_out.append((name, "; ".join(sorted(reasons))))
            return None
        layout = layout_of(images.shape)
        labels = [array for array in _label_arrays(images, arrays, beside) if labels_fit(array, layout.count)]
        others = [array.key for array in arrays if array is not images and array not in labels]
        if others and len(self._notes) < 5:
            self._notes.append(f"Read: {printable(images.key)} in {printable(name)}; left out: {some(others)}.")
        if layout.single and layout.first and len(self._notes) < 5:
            self._notes.append(f"{printable(name)}, of shape {list(images.shape)}, is read as one image of "
                               f"{layout.channels} channels.")
        return Part(images, layout, labels[0] if labels else None)

    def _unpack(self) -> None:
        """Say of each part where its rows lie; compressed ones that are large go to a temporary file."""
        self._closed = False
        for part in self._parts:
            array, layout = part.array, part.layout
            shape = (1, *array.shape) if layout.single else array.shape
            if layout.single and array.fortran:
                part.rows = None  # its one row is the whole array
            elif array.place is not None:
                part.rows = Rows(*array.place, shape, array.dtype, array.fortran)
            elif array.nbytes > SMALL or (len(self._parts) == 1 and not layout.single):
                self._unpacked = self._unpacked or Unpacked(f"{self.tree.flag}: {self.path}")
                begin = self._unpacked.add(self._chunks(array), self.tree.stamp(array.file)[0])
                part.rows = Rows(self._unpacked.path, begin, shape, array.dtype, array.fortran)

    def _chunks(self, array: Array) -> Iterator[bytes]:
        try:
            yield from chunks(self.tree, array)
        except BrokenImage as error:
            self.close()
            raise UserError(f"{self.tree.flag}: {self.path}: {printable(array.file)} {error}. Was it copied "
                            f"whole?") from None

    def _part(self, index: int) -> int:
        return int(np.searchsorted(self._ends, index, "right"))

    def _values(self, index: int) -> tuple[Part, np.ndarray]:
        """An image as it lies in its array, [H,W,C]. Raises BrokenImage."""
        if self._closed:
            self._unpack()
        number = self._part(index)
        part = self._parts[number]
        if part.layout.height * part.layout.width > self.reading.max_pixels:
            raise BrokenImage(f"too large: {part.layout.width}x{part.layout.height} pixels")
        place = index - int(self._ends[number]) + part.layout.count
        return part, part.layout.pixels(part.rows.row(place) if part.rows else self._from_whole(number, place))

    def _from_whole(self, number: int, place: int) -> np.ndarray:
        if self._whole is None or self._whole[0] != number:
            self._whole = number, read_array(self.tree, self._parts[number].array)
        return self._whole[1] if self._parts[number].layout.single else self._whole[1][place]

    def _find_scale(self) -> Scale | None:
        """Of colours that are not uint8, from images spread over the set; None where there are none."""
        wide = [number for number, part in enumerate(self._parts)
                if part.layout.channels > 1 and part.array.dtype not in (np.uint8, np.bool_)]
        if not wide:
            return None
        types = {self._parts[number].array.dtype for number in wide}
        indices = np.concatenate([np.arange(self._ends[n] - self._parts[n].layout.count, self._ends[n]) for n in wide])
        low, high = math.inf, -math.inf
        for index in indices[np.linspace(0, len(indices) - 1, min(SAMPLE, len(indices))).astype(int)]:
            try:
                _, values = self._values(int(index))
            except BrokenImage:
                continue
            finite = values[np.isfinite(values)]
            if finite.size:
                low, high = min(low, float(finite.min())), max(high, float(finite.max()))
        try:
            return choose_scale(max(types, key=lambda kind: (kind.kind == "f", kind.itemsize)), low, high)
        except ValueError as error:
            self.close()
            raise UserError(f"{self.tree.flag}: {self.path}: {error}.") from None

    def _labels_of(self, part: Part) -> tuple[list[Label | None], list[str] | None]:
        if part.labels is None:
            return [None] * part.layout.count, None
        where = f"{self.tree.flag}: {self.path}: {printable(part.labels.file)}"
        try:
            return values_of(read_array(self.tree, part.labels), part.layout.count)
        except (BrokenImage, ValueError) as error:
            raise UserError(f"{where}: the labels {printable(part.labels.key)} {error}. --labels=none leaves them "
                            f"out.") from None


def _label_arrays(images: Array, arrays: Sequence[Array], beside: dict[str, Array]) -> Iterator[Array]:
    """Arrays that are named as the labels of `images`: in the same .npz, or .npy files in the same folder."""
    if images.key:
        keys = {array.key.lower(): array for array in arrays}
        yield from (keys[name] for name in label_names(images.key) if name in keys)
        return
    folder, stem = PurePosixPath(images.file).parent, PurePosixPath(images.file).stem
    names = (f"{folder}/{name}" for name in label_names(stem))
    yield from (beside[name] for name in names if name in beside and beside[name] is not images)


def _folder_key(array: Array) -> str:
    path = PurePosixPath(array.file)
    return f"{path.parent}/{path.stem.lower()}"


def _is_array(name: str) -> bool:
    return name.lower().endswith(ENDINGS)


def claims(tree: Tree) -> int:
    """The headers of a few files are read, and the rest is taken to be like them."""
    files = [name for name in tree.files if _is_array(name)]
    looked = files[::max(1, -(-len(files) // MOST_LOOKS))]
    found = sum(_count(tree, name) for name in looked)
    return max(1, found * len(files) // len(looked)) if files else 0


def _count(tree: Tree, name: str) -> int:
    """How many images a file holds; of an .npz within an archive, which is costly to look into, a usual number."""
    if name.lower().endswith(".npz") and tree.local(name) is None:
        return USUAL
    try:
        images = choose_images(arrays_in(tree, name))
    except BrokenImage:
        return 0
    return layout_of(images.shape).count if images else 0
