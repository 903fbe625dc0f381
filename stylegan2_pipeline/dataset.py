"""Uniform images with labels, by number: what training and metrics read."""

import collections
import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stylegan2_pipeline.archive import Archive, pixel_digest
from stylegan2_pipeline.progress import progress
from stylegan2_pipeline.sources.labels import printable, some
from torch_utils.errors import UserError
from torch_utils.seeding import derive_seed

if TYPE_CHECKING:
    import torch

MIN_RESOLUTION = 8


class ImageDataset:
    """The images of an archive, all square, of one size and number of channels, with labels if asked for.

    path: a folder or zip. use_labels: give each image its label; otherwise label_dim is 0. max_images: keep a random
    subset that depends on `seed` alone; a smaller one is part of a larger one. mirror: append the images flipped
    left to right, image i as number i + n_raw.
    Raises UserError, naming --data and the remedy, for whatever cannot be trained on. That all images are alike is
    checked from their headers at once, and as they are read.
    """

    def __init__(self, path: str | Path, *, use_labels: bool = False, max_images: int | None = None,
                 mirror: bool = False, seed: int = 0) -> None:
        assert max_images is None or max_images > 0
        self._archive = Archive(path)
        self._indices = subset(len(self._archive), max_images, seed)
        self._pixels: np.ndarray | None = None
        self.device_images: torch.Tensor | None = None  # [n_raw,C,H,W] uint8 where the training computes, if they fit
        self._digest: str | None = None
        self.mirror = mirror
        self.image_shape: list[int] = list(self._archive.read(int(self._indices[0])).shape)
        self._check_shape()
        for index in progress(self._indices, self.n_raw, "Checking images"):
            self._check_alike(int(index), list(self._archive.shape(int(index))))
        self.label_dim = 0
        self.class_names: list[str] | None = None
        if use_labels:
            self._read_labels()

    @property
    def name(self) -> str:
        return self._archive.path.resolve().stem

    @property
    def image_names(self) -> list[str]:
        """Of the files, image by image; mirrored copies left out."""
        return [self._archive.names[index] for index in self._indices]

    def subjects(self) -> list[int] | None:
        """For each image without its mirrored copy, a number for whom or what it is of; None if not known."""
        subjects = self._archive.subjects()
        return [subjects[index] for index in self._indices] if subjects else None

    @property
    def zipped(self) -> bool:
        return self._archive.path.is_file()

    @property
    def resolution(self) -> int:
        return self.image_shape[1]

    @property
    def num_channels(self) -> int:
        return self.image_shape[0]

    @property
    def n_raw(self) -> int:
        """Images without their mirrored copies."""
        return len(self._indices)

    @property
    def nbytes(self) -> int:
        """Memory that preload() needs."""
        return self.n_raw * int(np.prod(self.image_shape))

    @property
    def preloaded(self) -> bool:
        return self._pixels is not None

    def __len__(self) -> int:
        return self.n_raw * (2 if self.mirror else 1)

    def image(self, index: int) -> np.ndarray:
        """uint8 [C,H,W], contiguous."""
        flipped, raw = divmod(index, self.n_raw)
        assert 0 <= index < len(self)
        pixels = self._pixels[raw] if self._pixels is not None else self._decode(raw)
        return np.ascontiguousarray(pixels[:, :, ::-1]) if flipped else pixels

    def label(self, index: int) -> np.ndarray:
        """float32 [label_dim]: one-hot for a class, the vector itself otherwise."""
        assert 0 <= index < len(self)
        vector = np.zeros(self.label_dim, np.float32)
        if self.label_dim:
            assert self._archive.labels is not None
            value = self._archive.labels[self._indices[index % self.n_raw]]
            if isinstance(value, int):
                vector[value] = 1
            else:
                vector[:] = value
        return vector

    def decode_into(self, pixels: np.ndarray, numbers: Sequence[int], threads: int | None = None,
                    quiet: bool = False) -> None:
        """Write image numbers[k] to pixels[k]; threads: by default one a core; quiet: without a progress bar."""
        def load(place: int) -> None:
            pixels[place] = self.image(numbers[place])

        pool = ThreadPoolExecutor(threads or min(os.cpu_count() or 1, 16))
        try:
            done = pool.map(load, range(len(numbers)))
            collections.deque(done if quiet else progress(done, len(numbers), "Loading images"), maxlen=0)
        finally:
            pool.shutdown(cancel_futures=True)

    def keep(self, pixels: np.ndarray) -> None:
        """Use pixels [n_raw,C,H,W], which nobody may change any more, instead of the archive."""
        assert pixels.shape == (self.n_raw, *self.image_shape) and pixels.dtype == np.uint8
        pixels.flags.writeable = False
        self._pixels = pixels

    def digest(self) -> str:
        """A hash of the pixels and labels, whatever the path, file names and encoding; not of mirrored copies."""
        if self._digest is None:
            state = hashlib.blake2b(repr((self.n_raw, self.label_dim)).encode(), digest_size=16)
            for index in progress(range(self.n_raw), self.n_raw, "Hashing images"):
                state.update(self._pixel_digest(index).encode())
                state.update(self.label(index).tobytes())
            self._digest = state.hexdigest()
        return self._digest

    def _pixel_digest(self, raw: int) -> str:
        if self._pixels is not None:
            return pixel_digest(self._pixels[raw])
        return self._archive.pixel_digest(int(self._indices[raw]))

    def fingerprint(self) -> str:
        """A hash of the images' names, sizes and checksums and of their labels; cheap, because no image is read.

        The same wherever the archive lies and whenever it was written. Where it differs, training cannot go on as if
        nothing had happened.
        """
        archive, state = self._archive, hashlib.blake2b(digest_size=16)
        for index in self._indices:
            state.update(repr((archive.names[index], archive.checksum(int(index)))).encode("utf-8", "backslashreplace"))
            if self.label_dim:
                assert archive.labels is not None
                state.update(repr(archive.labels[index]).encode())
        state.update(repr((self.label_dim, self.class_names)).encode("utf-8", "backslashreplace"))
        return state.hexdigest()

    def close(self) -> None:
        self._archive.close()

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_pixels": None, "device_images": None}  # the copy reads the archive

    def _decode(self, raw: int) -> np.ndarray:
        index = int(self._indices[raw])
        try:
            pixels = self._archive.read(index)
        except UserError:
            if os.path.exists(self._archive.path):  # unlike Path.exists, False for a stale mount too
                raise
            raise UserError(f"--data: {self._archive.path} is gone: it was moved, removed or unmounted while it was "
                            f"being read. Bring it back, then go on.") from None
        self._check_alike(index, list(pixels.shape))
        return pixels

    def _check_alike(self, index: int, shape: list[int]) -> None:
        if shape != self.image_shape:
            first = self._archive.names[self._indices[0]]
            raise UserError(f"--data: {self._archive.path} holds images of different kinds: {printable(first)} is "
                            f"{describe(self.image_shape)}, {printable(self._archive.names[index])} is "
                            f"{describe(shape)}. {self._remedy()}")

    def _check_shape(self) -> None:
        _, height, width = self.image_shape
        where = f"--data: the images of {self._archive.path} are {width}x{height}"
        if height != width:
            raise UserError(f"{where}, and must be square. {self._remedy(' --transform=center-crop')}")
        if width < MIN_RESOLUTION or width & (width - 1):
            raise UserError(f"{where}; the size must be a power of two, {MIN_RESOLUTION} or more. {self._remedy()}")

    def _remedy(self, more: str = "") -> str:
        size = max(MIN_RESOLUTION, 1 << (min(self.image_shape[1:]).bit_length() - 1))
        return (f"Make them alike first: python dataset_tool.py --source {self._archive.path} --dest NEW.zip "
                f"--resolution={size}x{size}{more}")

    def _read_labels(self) -> None:
        archive = self._archive
        if archive.labels is None:
            reason = (f"{len(archive.unlabelled)} of its {len(archive)} images have no label in dataset.json "
                      f"({some(archive.unlabelled)})" if archive.unlabelled else "it has no labels")
            raise UserError(f"--data: classes are wanted of {archive.path}, but {reason}. Train without --cond, or "
                            f"make an archive with labels: dataset_tool.py --labels=folders, or a dataset.json in its "
                            f"--source.")
        # Over the whole archive, not the subset, so that a class keeps its number.
        self.label_dim = max(len(label) if isinstance(label, list) else label + 1 for label in archive.labels)
        if archive.class_names and isinstance(archive.labels[0], int):  # of a holdout, which may lack the last class
            self.label_dim = max(self.label_dim, len(archive.class_names))
        self.class_names = archive.class_names[:self.label_dim] if archive.class_names else None


def subset(count: int, most: int | None, seed: int) -> np.ndarray:
    """Sorted numbers of a random `most` of `count` images; all of them when most is None."""
    if most is None or most >= count:
        return np.arange(count)
    keys = np.random.PCG64(derive_seed(seed, "subset")).random_raw(count)
    return np.sort(np.argsort(keys, kind="stable")[:most])


def describe(shape: list[int]) -> str:
    kind = {1: "gray", 3: "RGB", 4: "RGBA"}[shape[0]]
    return f"{shape[2]}x{shape[1]} {kind}"
