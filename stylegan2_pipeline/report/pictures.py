"""Pictures of a report: cells cut from a run's grids, made small enough to be held in one page."""

import base64
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image, features

from stylegan2_pipeline.history import RunHistory
from stylegan2_pipeline.images import image_grid, to_pil
from stylegan2_pipeline.progress import progress

GRID_WIDTH, GRID_HEIGHT = 1024, 512  # pixels of a grid on the page, at most
CELL = 128             # pixels of an image in a grid; smaller images keep their size
STRIP_CELL = 96
STRIP_ROWS, STRIP_COLUMNS = 6, 12
STATISTICS_CELLS = 256  # images that averages and spectra are made of, at most
QUALITY = 82
_SHARP = 256 * 256     # pictures up to so many pixels are kept nearly as they are
T = TypeVar("T")


@dataclass(frozen=True)
class Picture:
    """uri: the image itself as a data: address; width, height in its pixels; note: how it was reduced, or empty."""

    uri: str
    width: int
    height: int
    alt: str
    note: str = ""

    @property
    def nbytes(self) -> int:
        return len(self.uri)


@dataclass(frozen=True)
class Cells:
    """The images of a grid, uint8 [N,C,R,R], row by row; cols of them to a row."""

    images: np.ndarray
    cols: int

    @property
    def rows(self) -> int:
        return len(self.images) // self.cols

    @cached_property
    def filled(self) -> np.ndarray:
        """Without cells that no image fills, which are all zero."""
        return self.images[self.images.reshape(len(self.images), -1).any(axis=1)]


class UnreadablePicture(Exception):
    """A picture of a run that is damaged, or not what its name says."""


def read_pixels(path: Path) -> np.ndarray:
    """uint8 [C,H,W], C = 1, 3 or 4. Raises UnreadablePicture."""
    try:
        with Image.open(path) as picture:
            mode = picture.mode if picture.mode in ("L", "RGB", "RGBA") else "RGB"
            pixels = np.asarray(picture.convert(mode))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UnreadablePicture(f"{path.name} cannot be read ({error}).") from error
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def read_grid(path: Path, resolution: int) -> Cells:
    """The cells of a grid of images of this resolution. Raises UnreadablePicture."""
    pixels = read_pixels(path)
    channels, height, width = pixels.shape
    if not resolution or height % resolution or width % resolution:
        raise UnreadablePicture(f"{path.name} ({width}x{height}) is no grid of images of {resolution} pixels.")
    rows, cols = height // resolution, width // resolution
    cells = pixels.reshape(channels, rows, resolution, cols, resolution).transpose(1, 3, 0, 2, 4)
    return Cells(cells.reshape(rows * cols, channels, resolution, resolution), cols)


def encoded(pixels: np.ndarray, alt: str, note: str = "") -> Picture:
    """A uint8 picture [C,H,W] as it goes into the page."""
    buffer = io.BytesIO()
    picture = to_pil(pixels)
    kind = "webp" if features.check("webp") else "png"
    small = pixels.shape[1] * pixels.shape[2] <= _SHARP
    picture.save(buffer, kind, quality=95 if small else QUALITY, method=4)
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    return Picture(f"data:image/{kind};base64,{data}", pixels.shape[2], pixels.shape[1], alt, note)


def shrunk(images: np.ndarray, size: int) -> np.ndarray:
    """uint8 images [N,C,R,R] at `size` pixels where they are larger."""
    if images.shape[2] <= size:
        return images
    small = [np.asarray(to_pil(image).resize((size, size), Image.Resampling.LANCZOS)) for image in images]
    return np.stack([pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1) for pixels in small])


def grid_picture(cells: Cells, alt: str) -> Picture:
    """The upper left of a grid, as much as stays well visible."""
    resolution = cells.images.shape[2]
    size = min(resolution, CELL)
    cols = min(cells.cols, GRID_WIDTH // size, 16)
    rows = min(cells.rows, GRID_HEIGHT // size, 8)
    chosen = cells.images.reshape(cells.rows, cells.cols, *cells.images.shape[1:])[:rows, :cols]
    pixels = image_grid(shrunk(chosen.reshape(-1, *cells.images.shape[1:]), size), (cols, rows))
    shown = f"{cols}x{rows} of {cells.cols}x{cells.rows} images" if (cols, rows) != (cells.cols, cells.rows) else ""
    reduced = f"reduced from {resolution} to {size} pixels" if size < resolution else ""
    return encoded(pixels, alt, "; ".join(filter(None, [shown, reduced])))


def sheet(images: np.ndarray, cols: int, alt: str, size: int = CELL) -> Picture:
    """uint8 images [N,C,R,R] side by side, `cols` to a row."""
    small = shrunk(images, size)
    note = f"reduced from {images.shape[2]} to {size} pixels" if size < images.shape[2] else ""
    return encoded(image_grid(small, (cols, math.ceil(len(small) / cols))), alt, note)


def spread(items: Sequence[T], most: int) -> list[T]:
    """At most so many of the items, evenly, the first and the last among them."""
    if len(items) <= most:
        return list(items)
    return [items[round(i * (len(items) - 1) / (most - 1))] for i in range(most)]


@dataclass(frozen=True)
class Frame:
    """What a run made at a time: a part of its grid, and a column of the same latents for the film strip."""

    kimg: float
    grid: Picture
    column: Picture


def frames(history: RunHistory, most: int, problems: list[str]) -> list[Frame]:
    """Through time, at most so many; pictures that cannot be read are told in problems."""
    found = []
    chosen = spread(history.grids, most)
    for kimg, path in progress(chosen, len(chosen), "Reading pictures"):
        try:
            cells = read_grid(path, int(history.settings.get("resolution") or 0))
        except UnreadablePicture as error:
            problems.append(str(error))
            continue
        column = sheet(cells.images[:STRIP_ROWS], 1, f"The same latents at {kimg:g} kimg", STRIP_CELL)
        found.append(Frame(kimg, grid_picture(cells, f"Generated images at {kimg:g} kimg"), column))
    return found


@dataclass(frozen=True)
class Sets:
    """The images of the last readable grid of generated images and of the real ones, equally many: [N,C,R,R]."""

    kimg: float
    fake: np.ndarray
    real: np.ndarray
    real_grid: Cells


def last_sets(history: RunHistory, problems: list[str]) -> Sets | None:
    """None where the run has no such pictures."""
    if history.reals is None or not history.grids:
        return None
    resolution = int(history.settings.get("resolution") or 0)
    try:
        real, fake = read_grid(history.reals, resolution), read_grid(history.grids[-1][1], resolution)
    except UnreadablePicture as error:
        problems.append(str(error))
        return None
    n = min(len(real.filled), len(fake.filled), STATISTICS_CELLS)
    if n == 0 or real.images.shape[1] != fake.images.shape[1]:
        return None
    return Sets(history.grids[-1][0], fake.filled[:n], real.filled[:n], real)


def average_picture(images: np.ndarray, alt: str) -> Picture:
    """The mean of uint8 images [N,C,R,R] beside twice their standard deviation."""
    x = images.astype(np.float32)
    both = np.stack([x.mean(0), x.std(0) * 2]).clip(0, 255).round().astype(np.uint8)
    if both.shape[1] == 4:
        both[1, 3] = 255
    return sheet(both, 2, alt, 2 * CELL)
