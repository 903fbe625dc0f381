"""A run as a short film: the same latents from the first grid of pictures to the last, with the kimg written below."""

import importlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont, features

from stylegan2_pipeline.history import read_run
from stylegan2_pipeline.progress import progress
from torch_utils.errors import UserError
from torch_utils.files import atomic_path

FPS = {".gif": 12.5, ".webp": 25.0, ".mp4": 25.0}  # 8 hundredths of a second, which is what a GIF counts in, or 4
CELLS = 12
SIDES = (64, 128)        # least and most pixels of an image where --size does not say
GRID_SEC, SECONDS = 0.5, (4.0, 16.0)  # time for a grid, and for all of them, where --seconds does not say
GRIDS_A_SECOND = 10      # at most; large ones take about a second each to read
END_SEC = 2.0            # how long the last grid is held
STRIP, BAR = 20, 2       # pixels of the strip below the images and of the line in it
DARK, LIGHT, DIM = 24, 235, 110
PAPER = 255              # what shows through where images are transparent
PALETTE_GRIDS, PALETTE_SAMPLE = 24, (256, 256)  # how many grids, at what size, the palette of a GIF is made from
PALETTE_PIXELS, PALETTE_ROUNDS = 1 << 15, 8


class Step(NamedTuple):
    """What is seen for a number of frames: grid `grid`, blended with the next one by `weight`, 0..1."""

    grid: int
    weight: float
    frames: int


def timelapse(run: str | Path, out: str | Path | None = None, *, cells: int = CELLS, seconds: float | None = None,
              size: int | None = None, blend: bool = True) -> Path:
    """Writes a film of the grids in a run folder and returns its path; out: .gif, .webp or .mp4 (RUN/progress.gif).

    cells: how many images of a grid, spread over it evenly. seconds: its length without the last grid, which is held
    for 2 s; too many grids for it are thinned out. size: pixels of an image. blend: fade from grid to grid.
    Raises UserError when there are fewer than two grids, when they do not match, and when `out` cannot be written.
    """
    out = Path(out or Path(run) / "progress.gif")
    write = _writer(out)
    history = read_run(run)
    resolution = history.settings.get("resolution")
    grids = history.grids
    if len(grids) < 2:
        found = f"just one grid of pictures, {grids[0][1].name}" if grids else "no grids of pictures (fakes*.png)"
        raise UserError(f"{run} holds {found}; a timelapse takes two or more. Train on, or with a smaller --snap.")
    fps = FPS[out.suffix.lower()]
    seconds = seconds or min(max(GRID_SEC * (len(grids) - 1), SECONDS[0]), SECONDS[1])
    grids = thinned(grids, math.floor(seconds * GRIDS_A_SECOND) + 1)
    film = Film(grids, _Layout.of(grids[0][1], resolution, cells, size))
    steps = plan(len(grids), seconds, fps, blend)
    with atomic_path(out) as partial:
        write(film, steps, fps, partial)
    return out


def thinned(grids: Sequence[tuple[float, Path]], most: int) -> list[tuple[float, Path]]:
    """At most `most` of them, 2 or more, evenly; the first and last stay."""
    most = max(most, 2)
    if len(grids) <= most:
        return list(grids)
    return [grids[round(i * (len(grids) - 1) / (most - 1))] for i in range(most)]


def plan(grids: int, seconds: float, fps: float, blend: bool) -> list[Step]:
    """Every grid for the same time, but for rounding to frames; its second half fades into the next."""
    total = seconds * fps
    starts = [round(i * total / (grids - 1)) for i in range(grids)]
    steps = []
    for grid in range(grids - 1):
        frames = max(starts[grid + 1] - starts[grid], 1)
        fade = frames // 2 if blend else 0
        steps.append(Step(grid, 0.0, frames - fade))
        for k in range(1, fade + 1):
            x = k / (fade + 1)
            steps.append(Step(grid, x * x * (3 - 2 * x), 1))
    return [*steps, Step(grids - 1, 0.0, round(END_SEC * fps))]


@dataclass(frozen=True)
class _Layout:
    """Which cells of a grid are shown, and how: mode L or RGB, `side` pixels each, `cols` to a row."""

    grid_size: tuple[int, int]
    resolution: int
    mode: str
    chosen: tuple[int, ...]
    cols: int
    side: int

    @classmethod
    def of(cls, first: Path, resolution: object, cells: int, size: int | None) -> "_Layout":
        with _opened(first) as grid:
            width, height = grid.size
            mode = "L" if grid.mode in ("1", "L") else "RGB"
        if not isinstance(resolution, int) or resolution < 1 or width % resolution or height % resolution:
            raise UserError(f"{first} is {width}x{height}, which is no grid of the images of {resolution} pixels that "
                            f"training_options.json names. Take the pictures of another run out of this folder.")
        total = (width // resolution) * (height // resolution)
        n = min(cells, total)
        chosen = tuple(i * total // n for i in range(n))
        return cls((width, height), resolution, mode, chosen, _columns(n), size or _side(resolution))

    @property
    def rows(self) -> int:
        return -(-len(self.chosen) // self.cols)

    @property
    def picture_size(self) -> tuple[int, int]:
        """Width and height with the strip; both even, as video wants it."""
        width, height = self.cols * self.side, self.rows * self.side + STRIP
        return width + width % 2, height + height % 2

    def picture(self, path: Path) -> Image.Image:
        """The chosen cells of a grid on dark ground, with room for the strip."""
        with _opened(path) as grid:
            if grid.size != self.grid_size:
                raise UserError(f"{path} is {grid.width}x{grid.height}, but the first grid of this run is "
                                f"{self.grid_size[0]}x{self.grid_size[1]}. Take it out of the folder, or whichever of "
                                f"the two belongs to another run.")
            picture = Image.new(self.mode, self.picture_size, _gray(self.mode, DARK))
            for k, cell in enumerate(self.chosen):
                y, x = divmod(cell, self.grid_size[0] // self.resolution)
                corner = x * self.resolution, y * self.resolution
                box = (*corner, corner[0] + self.resolution, corner[1] + self.resolution)
                image = _resized(_opaque(grid.crop(box), self.mode), self.side)
                picture.paste(image, (k % self.cols * self.side, k // self.cols * self.side))
        return picture


def _columns(n: int) -> int:
    """As many as there are rows, or up to half more where that leaves fewer places empty."""
    root = n**0.5
    return min(range(math.ceil(root), math.ceil(1.5 * root) + 1), key=lambda cols: (-n % cols, cols))


def _side(resolution: int) -> int:
    least, most = SIDES
    return min(resolution, most) if resolution >= least else resolution * -(-least // resolution)


def _opened(path: Path) -> Image.Image:
    try:
        grid = Image.open(path)
        grid.load()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(f"{path} cannot be read ({error}). Take it out of the folder to do without it.") from error
    return grid


def _opaque(image: Image.Image, mode: str) -> Image.Image:
    if image.mode not in ("LA", "RGBA", "PA"):
        return image.convert(mode)
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, (PAPER,) * 3), image).convert(mode)


def _resized(image: Image.Image, side: int) -> Image.Image:
    """Whole multiples keep their pixels square and sharp."""
    if image.width == side:
        return image
    way = Image.Resampling.LANCZOS if side % image.width else Image.Resampling.NEAREST
    return image.resize((side, side), way)


def _gray(mode: str, value: int) -> int | tuple[int, ...]:
    return value if mode == "L" else (value,) * 3


class Film:
    """The frames of a plan, drawn one after the other; two grids at a time are in memory."""

    def __init__(self, grids: Sequence[tuple[float, Path]], layout: _Layout) -> None:
        self.grids = grids
        self.layout = layout
        self._kept: dict[int, Image.Image] = {}
        self._font = _font(f"{grids[-1][0]:g} kimg", layout.picture_size[0])

    def frames(self, steps: Sequence[Step]) -> Iterator[Image.Image]:
        for grid, weight, _ in steps:
            picture = self.picture(grid)
            if weight:
                picture = Image.blend(picture, self.picture(grid + 1), weight)
            kimg = self.grids[grid][0]
            after = self.grids[min(grid + 1, len(self.grids) - 1)][0]
            yield self._with_strip(picture, kimg if weight < 0.5 else after, kimg + weight * (after - kimg))

    def picture(self, grid: int) -> Image.Image:
        if grid not in self._kept:
            self._kept = {i: picture for i, picture in self._kept.items() if i == grid - 1}
            self._kept[grid] = self.layout.picture(self.grids[grid][1])
        return self._kept[grid]

    def _with_strip(self, picture: Image.Image, kimg: float, exact_kimg: float) -> Image.Image:
        """kimg in words, and a line as long as the part of the run that is over."""
        picture = picture.copy()
        width, height = picture.size
        mode, ink = picture.mode, ImageDraw.Draw(picture)
        ink.rectangle((0, height - STRIP, width, height), _gray(mode, DARK))
        ink.text((6, height - (STRIP + BAR) // 2), f"{kimg:g} kimg", _gray(mode, LIGHT), self._font, anchor="lm")
        done = exact_kimg / self.grids[-1][0] if self.grids[-1][0] else 1.0
        if done:
            ink.rectangle((0, height - BAR, max(round(done * width) - 1, 0), height), _gray(mode, DIM))
        return picture


def _font(longest: str, width: int) -> Any:
    """The largest that the strip is high and wide enough for."""
    for size in range(13, 6, -1):
        font = ImageFont.load_default(size)
        if font.getlength(longest) <= width - 8:
            break
    return font


Writer = Callable[[Film, Sequence[Step], float, Path], None]


def _writer(out: Path) -> Writer:
    """What writes files of this suffix. Raises UserError when nothing here does, before any work is done."""
    suffix = out.suffix.lower()
    if suffix == ".gif":
        return _write_gif
    if suffix == ".webp":
        if not features.check("webp"):
            raise UserError(f"--out={out}: this build of Pillow cannot write WebP. Name a .gif, or install Pillow "
                            f"from PyPI: pip install --force-reinstall pillow")
        return _write_webp
    if suffix == ".mp4":
        try:
            importlib.import_module("av")
        except ImportError:
            raise UserError(f"--out={out}: video takes the package av, which is not installed: pip install '.[video]' "
                            f"in the folder of this project, or pip install av. A .gif or .webp takes no "
                            f"more.") from None
        return _write_mp4
    raise UserError(f"--out={out}: the name must end in .gif, .webp or .mp4.")


def _told(film: Film, steps: Sequence[Step], path: Path) -> Iterator[Image.Image]:
    return progress(film.frames(steps), len(steps), f"Writing {path.suffix[1:].upper()}")


def _milliseconds(steps: Sequence[Step], fps: float) -> list[int]:
    return [round(step.frames * 1000 / fps) for step in steps]


def _write_gif(film: Film, steps: Sequence[Step], fps: float, path: Path) -> None:
    """One palette for all frames, so that colours do not flicker; gray pictures are kept exactly."""
    frames = _told(film, steps, path)
    if film.layout.mode == "L":
        palette = bytes(value for value in range(256) for _ in range(3))
    else:
        palette = _palette(film)
        paints = Image.new("P", (1, 1))
        paints.putpalette(palette)
        frames = (frame.quantize(palette=paints) for frame in frames)
    first = next(frames)
    first.save(path, save_all=True, append_images=frames, duration=_milliseconds(steps, fps), loop=0, optimize=False,
               palette=palette)


def _palette(film: Film) -> bytes:
    """256 RGB colours of grids from the whole run, by k-means.

    It starts from colours that are frequent (median cut) and ones that are far apart (octree): the first alone lose
    what is rare, the second alone the shades of pictures that are nearly gray.
    """
    chosen = thinned(film.grids, PALETTE_GRIDS)
    frames = film.frames([Step(i, 0.0, 1) for i, grid in enumerate(film.grids) if grid in chosen])
    pixels = np.concatenate([np.asarray(frame.resize(PALETTE_SAMPLE, Image.Resampling.NEAREST)) for frame in frames])
    pixels = pixels.reshape(-1, 3)[np.random.RandomState(0).randint(pixels.size // 3, size=PALETTE_PIXELS)]
    sample = Image.fromarray(pixels[None])
    colours = np.concatenate([_colours(sample, 192, Image.Quantize.MEDIANCUT),
                              _colours(sample, 64, Image.Quantize.FASTOCTREE)])
    x = pixels.astype(np.float32)
    for _ in range(PALETTE_ROUNDS):
        nearest = (np.square(colours).sum(axis=1) - 2 * x @ colours.T).argmin(axis=1)
        counts = np.bincount(nearest, minlength=len(colours))[:, None]
        sums = np.stack([np.bincount(nearest, channel, len(colours)) for channel in x.T], axis=1)
        colours = np.where(counts > 0, sums / np.maximum(counts, 1), colours).astype(np.float32)
    return np.rint(colours).astype(np.uint8).tobytes()


def _colours(sample: Image.Image, count: int, method: Image.Quantize) -> np.ndarray:
    """float32 [256 or fewer of them, 3]; Pillow may find fewer than asked for."""
    return np.array(sample.quantize(count, method).getpalette(), np.float32).reshape(-1, 3)[:count]


def _write_webp(film: Film, steps: Sequence[Step], fps: float, path: Path) -> None:
    frames = (frame.convert("RGB") for frame in _told(film, steps, path))
    first = next(frames)
    first.save(path, save_all=True, append_images=frames, duration=_milliseconds(steps, fps), loop=0, quality=85)


def _write_mp4(film: Film, steps: Sequence[Step], fps: float, path: Path) -> None:
    """H.264 at a constant rate; players take it everywhere with colours at half resolution (yuv420p)."""
    av: Any = importlib.import_module("av")
    with av.open(str(path), "w", options={"movflags": "faststart"}) as video:
        stream = video.add_stream("libx264", rate=round(fps), options={"crf": "18"})
        stream.width, stream.height = film.layout.picture_size
        stream.pix_fmt = "yuv420p"
        for step, frame in zip(steps, _told(film, steps, path), strict=True):
            for _ in range(step.frames):
                video.mux(stream.encode(av.VideoFrame.from_image(frame.convert("RGB"))))
        video.mux(stream.encode(None))
