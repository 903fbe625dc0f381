"""The dataset format: images and labels of a folder or zip.

Written: PNG or WebP files 00000/img00000000.png and dataset.json {"labels": [[name, label], ...] | null}, which other
programs of this ecosystem read. What else is in it is ours, and ignored by them: "class_names"; "groups", a number an
image, the same for images of one subject; "holdout", whether images were set aside, and how; "content", a hash of each
image's pixels, with one of the files that it holds for.
Read: any image files in any folders, in the order of their names, with labels by name.
"""

import contextlib
import hashlib
import json
import os
import shutil
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from stylegan2_pipeline.decode import BrokenImage
from stylegan2_pipeline.png import encode_png
from stylegan2_pipeline.sources.images import METADATA_NAME
from stylegan2_pipeline.sources.labels import Label, printable
from stylegan2_pipeline.sources.registry import open_files
from torch_utils.errors import UserError
from torch_utils.files import CannotWrite

ZIP_TIME = (1980, 1, 1, 0, 0, 0)  # a fixed time, so that the same images give the same bytes


class Archive:
    """A view of the images below a folder or inside a zip; it can be pickled, forked and read from several threads.

    names: sorted, '/' between folders. labels: one an image, or None unless every image has one, as the ecosystem
    reads them; unlabelled: names of the images without one, when others have one. class_names: or None.
    Raises UserError, naming `flag`, when there is nothing to read.
    """

    def __init__(self, path: str | Path, flag: str = "--data") -> None:
        self.path = Path(path)
        self.flag = flag
        self._files = open_files(path, flag)
        self.names = self._files.names
        if not self.names:
            raise UserError(" ".join([f"{flag}: there are no images in {path}.", *self._files.notes(),
                                      "Give an archive made by dataset_tool.py, or a folder of images."]))
        self.labels: list[Label] | None = None
        self.class_names: list[str] | None = None
        self._digests: list[str] | None = None
        self.unlabelled: list[str] = []
        labels = self._files.labels()
        if labels is not None:
            self.unlabelled = [self.names[index] for index in labels.missing()]
            self.labels = [value for value in labels.values if value is not None] if not self.unlabelled else None
            self.class_names = labels.class_names

    def __len__(self) -> int:
        return len(self.names)

    def read(self, index: int) -> np.ndarray:
        """Image number `index`, uint8 [C,H,W], C = 1, 3 or 4. Raises UserError, naming the file, if it is broken."""
        with self._naming(index):
            image = self._files.decode(index)
            self._check_depth(image.deep)
            return np.ascontiguousarray(image.pixels.transpose(2, 0, 1))

    def shape(self, index: int) -> tuple[int, int, int]:
        """(C,H,W) from the header of the file, before EXIF rotation; raises as read() does."""
        with self._naming(index):
            header = self._files.header(index)
            self._check_depth(header.deep)
            return header.channels, header.height, header.width

    def checksum(self, index: int) -> tuple[int, int]:
        """Size and a CRC-32 of image number `index`, found without reading all of it; raises as read() does."""
        with self._naming(index):
            return self._files.checksum(index)

    def subjects(self) -> list[int] | None:
        """A number an image, the same for images of one patient, volume or file; None where that is not known."""
        found = [self._files.subject(index) for index in range(len(self))]
        numbers = {name: number for number, name in enumerate(dict.fromkeys(found))}
        return None if None in numbers or len(numbers) == len(found) else [numbers[name] for name in found]

    def pixel_digest(self, index: int) -> str:
        """Of the pixels of image number `index` (see pixel_digest below), as recorded in a zip that has not been
        changed since; read otherwise, and then it raises as read() does."""
        if self._digests is None:
            self._digests = self._recorded_digests() or []
        return self._digests[index] if self._digests else pixel_digest(self.read(index))

    def _recorded_digests(self) -> list[str] | None:
        """Of a folder none: its files could have changed in the middle, where nothing shows it but reading them."""
        try:
            record = self._files.record() if self.path.is_file() else None
            content = record["content"] if isinstance(record, dict) else None
            files = file_digest((name, *self._files.checksum(index)) for index, name in enumerate(self.names))
            digests = content["images"] if isinstance(content, dict) and content["files"] == files else None
        except (UserError, BrokenImage, KeyError):
            return None
        if not isinstance(digests, list) or len(digests) != len(self.names):
            return None
        return digests if all(isinstance(digest, str) for digest in digests) else None

    @contextlib.contextmanager
    def _naming(self, index: int) -> Iterator[None]:
        try:
            yield
        except BrokenImage as error:
            raise UserError(f"{self.flag}: {self.path}: {printable(self.names[index])}: {error}. Take it out, or let "
                            f"dataset_tool.py make an archive of the good ones.") from None

    @staticmethod
    def _check_depth(deep: bool) -> None:
        if deep:
            raise BrokenImage("more than 8 bits a pixel, which need one window for the whole set")

    def close(self) -> None:
        self._files.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class ArchiveWriter:
    """Writes a .zip, or a folder for any other name, under a temporary name and renames it when it is whole.

    `with ArchiveWriter("data.zip", class_names) as writer: writer.add(pixels, label)`. When the block is left by an
    exception nothing remains. Labels are kept if all images have one, groups likewise. ending: of the files' names;
    folder: where the temporary file lies, on the same disk, by default beside dest; record: what else dataset.json
    says. Raises UserError, naming `flag`, if dest is in the way or the disk is full.
    """

    def __init__(self, dest: str | Path, class_names: list[str] | None = None, flag: str = "--dest", *,
                 ending: str = ".png", folder: Path | None = None, record: Mapping[str, Any] | None = None) -> None:
        check_free(Path(dest), flag)
        self.dest = Path(dest)
        self.flag = flag
        self.partial = folder / self.dest.name if folder else self.dest.with_name(
            f"{self.dest.name}.partial-{os.getpid()}")
        self._class_names = class_names
        self._ending = ending
        self._record = dict(record or {})
        self._labels: list[tuple[str, Label | None]] = []
        self._groups: list[int | None] = []
        self._digests: list[str] = []
        self._files: list[tuple[str, int, int]] = []
        self._zip: zipfile.ZipFile | None = None
        self._finished = False

    def add(self, pixels: np.ndarray, label: Label | None = None) -> None:
        """The next image, uint8 [C,H,W]."""
        self.add_file(encode_png(pixels), label, pixel_digest(pixels))

    def add_file(self, data: bytes, label: Label | None, digest: str, group: int | None = None) -> None:
        """The next image, as the bytes of a file, with pixel_digest of what they decode to."""
        number = f"{len(self._labels):08d}"
        name = f"{number[:5]}/img{number}{self._ending}"
        self._files.append((name, len(data), self._write(name, data)))
        self._labels.append((name, label))
        self._digests.append(digest)
        self._groups.append(group)

    def __enter__(self) -> Self:
        self._discard()
        with self._disk_errors():
            self.dest.parent.mkdir(parents=True, exist_ok=True)
            if self.dest.suffix.lower() == ".zip":
                self._zip = zipfile.ZipFile(self.partial, "w", zipfile.ZIP_STORED)
            else:
                self.partial.mkdir()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        try:
            if kind is None:
                self.finish()
                with self._disk_errors():
                    if self._zip is None and self.dest.exists():
                        self.dest.rmdir()
                    self.partial.replace(self.dest)
        finally:
            self._discard()

    def finish(self) -> None:
        """All is written; leaving the block gives it its name. So two archives can appear together, or none."""
        if self._finished:
            return
        self._finished = True
        labelled = bool(self._labels) and all(label is not None for _, label in self._labels)
        record = {**self._record, "labels": [list(pair) for pair in self._labels] if labelled else None}
        if labelled and self._class_names is not None:
            record["class_names"] = self._class_names
        if self._groups and None not in self._groups:
            record["groups"] = self._groups
        record["content"] = {"images": self._digests, "files": file_digest(self._files)}
        self._write(METADATA_NAME, json.dumps(record).encode())
        with self._disk_errors():
            if self._zip is not None:
                self._zip.close()

    def _write(self, name: str, data: bytes) -> int:
        """Returns the CRC-32; 0 in a folder, where nobody asks for it."""
        with self._disk_errors():
            if self._zip is not None:
                info = zipfile.ZipInfo(name, ZIP_TIME)
                info.create_system = 3  # Unix, wherever this runs
                info.external_attr = 0o644 << 16
                self._zip.writestr(info, data)
                return info.CRC
            path = self.partial / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(data)
            return 0

    def _discard(self) -> None:
        if self._zip is not None and self._zip.fp is not None:
            with contextlib.suppress(OSError, ValueError):
                self._zip.close()
        if self.partial.is_dir():
            shutil.rmtree(self.partial, ignore_errors=True)
        else:
            self.partial.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _disk_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise CannotWrite(f"{self.flag}: {self.dest}", error) from None


def pixel_digest(pixels: np.ndarray) -> str:
    """128 bits of the SHA-256 of uint8 [C,H,W] and its shape, pixel by pixel as files have them; in hexadecimal."""
    state = hashlib.sha256(repr(pixels.shape).encode())
    state.update(np.ascontiguousarray(pixels.transpose(1, 2, 0)).data)
    return state.hexdigest()[:32]


def file_digest(files: Iterable[tuple[str, int, int]]) -> str:
    """Of (name, size, CRC-32), in the order of the names."""
    state = hashlib.blake2b(digest_size=16)
    for file in sorted(files):
        state.update(repr(file).encode("utf-8", "backslashreplace"))
    return state.hexdigest()


def check_free(dest: Path, flag: str) -> None:
    """Raise UserError unless an archive can be made at dest without touching what is there."""
    if dest.suffix.lower() == ".zip":
        if os.path.lexists(dest):
            raise UserError(f"{flag}: {dest} exists already; remove it, or choose another name.")
    elif dest.suffix.lower() in (".tar", ".gz", ".tgz", ".rar", ".7z"):
        raise UserError(f"{flag}: {dest.name} is not what this makes: choose a name that ends in .zip, or a folder.")
    elif os.path.islink(dest):
        raise UserError(f"{flag}: {dest} is a link; name the folder that it leads to, or a new one.")
    elif os.path.exists(dest) and not dest.is_dir():
        raise UserError(f"{flag}: {dest} exists and is not a folder; choose a name that ends in .zip, or a new folder.")
    elif os.path.isdir(dest) and next(dest.iterdir(), None) is not None:
        raise UserError(f"{flag}: the folder {dest} is not empty; choose a new or an empty one, or a name that ends "
                        f"in .zip.")
