"""What a collection of images must offer to be converted, whatever format it is in."""

import abc
import hashlib
import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Self

from stylegan2_pipeline.decode import MAX_PIXELS, BrokenImage, Decoded
from stylegan2_pipeline.sources.labels import Labels
from torch_utils.errors import UserError


@dataclass(frozen=True)
class Reading:
    """What a user asks of a reader. Each reader takes some of it: the registry refuses what it does not take.

    max_pixels: of one image; a file that claims more is taken for a decompression bomb. frames: of animations and
    multi-page files, "first", "all", or a number from 0. window: "header" for the display window that DICOM files
    bring along, else what conversion.scan makes of it. axis: of volumes, axial, coronal or sagittal. slices: which
    part of a volume along the axis, from 0 to 1. every: only every so many slices. channel: of 4-D volumes, a number
    from 0. keep_localizers: also what DICOM calls localisers, secondary captures and screenshots.
    """

    max_pixels: int = MAX_PIXELS
    frames: str = "first"
    window: str = "auto"
    axis: str = "axial"
    slices: tuple[float, float] = (0.0, 1.0)
    every: int = 1
    channel: int | None = None
    keep_localizers: bool = False


class Source(abc.ABC):
    """A collection of images in a fixed order. It can be pickled, and reads in the process that it arrives in.

    path: what the user named; names: unique, one an image, '/' between folders, for messages and the labels of
    dataset.json. curated: a set that others use just as it is, so that nothing is left out of it unasked. beside:
    sentences about what else lies there.
    """

    curated: bool = False
    beside: Sequence[str] = ()
    path: Path
    names: Sequence[str]

    @abc.abstractmethod
    def decode(self, index: int) -> Decoded:
        """Image number `index`. Raises BrokenImage."""

    @abc.abstractmethod
    def state(self) -> str:
        """Changes when the collection does; found without reading the images."""

    def labels(self) -> Labels | None:
        """What the collection says about its images; None if nothing. Raises UserError for a damaged record."""
        return None

    def notes(self) -> list[str]:
        """Sentences a user should read about the collection as a whole."""
        return []

    def remarks(self) -> list[str]:
        """All that is to be said of the collection."""
        return [*self.notes(), *self.beside]

    def left_out(self) -> list[tuple[str, str]]:
        """(name, reason) of files that were looked at and are no images to train on."""
        return []

    def volume(self, index: int) -> str | None:
        """Images with the same name here are parts of one volume or series: they share one window and one crop."""
        return None

    def subject(self, index: int) -> str | None:
        """Of whom the image is, where the collection says so. Never shown, and never written anywhere."""
        return None

    def run(self, index: int) -> int:
        """Neighbours with one number lie in one file that is best read by one process."""
        return index

    def close(self) -> None:  # noqa: B027 - most have nothing open
        """Give files back; a later decode opens them again."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def require(module: str, extra: str, what: str) -> ModuleType:
    """A package that is not part of the installation; UserError with the line that installs it.

    `what` begins the message, such as "--source: DICOM files".
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UserError(f"{what} need the package {module.partition('.')[0]}, which is not here ({error}): "
                        f"pip install '.[{extra}]'") from None


def digest(parts: Sequence[object]) -> str:
    """Of the repr of parts, for Source.state."""
    state = hashlib.blake2b(digest_size=16)
    for part in parts:
        state.update(repr(part).encode("utf-8", "backslashreplace"))
    return state.hexdigest()

__all__ = ["BrokenImage", "Decoded", "Labels", "Reading", "Source", "digest", "require"]
