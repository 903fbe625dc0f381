"""The work on single images, in any process: looking at them, and drawing them as the archive will hold them."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from stylegan2_pipeline.archive import pixel_digest
from stylegan2_pipeline.conversion.burned_in import text_like
from stylegan2_pipeline.conversion.foreground import Box, foreground
from stylegan2_pipeline.conversion.scan import Drawn, Finding, examined
from stylegan2_pipeline.conversion.spool import Spool
from stylegan2_pipeline.conversion.transform import Color, Recipe, render, to_8_bits
from stylegan2_pipeline.decode import BrokenImage, Decoded
from stylegan2_pipeline.encode import Encoding, encode
from stylegan2_pipeline.sources.base import Source
from stylegan2_pipeline.sources.labels import printable
from torch_utils.errors import UserError

PADS = ("pad", "pad-only")  # transforms that show the whole picture
TEXT_REMARK = "Burned-in text is suspected"


@dataclass(frozen=True)
class Draft:
    """What is known of the recipes: all of it that was asked for; what was not is decided by the scan.

    window: of all deep images, when it was given in numbers; crop: to the foreground, before the transform.
    """

    channels: int | None
    width: int | None
    height: int | None
    transform: str | None
    resize_filter: str
    background: Color
    border: Color | str
    window: tuple[float, float] | None = None
    crop: bool = False

    def recipe(self, finding: Finding, channels: int | None, window: tuple[float, float] | None) -> Recipe | None:
        """How this image is drawn; None while that is open."""
        transform = self.transform or ("pad" if self.crop else "stretch" if finding.square else None)
        if channels is None or not self.width or not self.height or not transform or (finding.deep and window is None):
            return None
        return Recipe(channels, self.width, self.height, transform, self.resize_filter,
                      window if finding.deep else None, self.background, self.border)


@dataclass(frozen=True)
class Bench:
    """What a process that looks at images or draws them needs. foreground, text: look for these, too."""

    source: Source
    spool: Spool
    draft: Draft
    encoding: Encoding
    foreground: bool = False
    text: bool = False


@dataclass(frozen=True)
class Task:
    """One image to draw, cut to the box first."""

    index: int
    recipe: Recipe
    box: Box | None = None

    @property
    def key(self) -> str:
        return hashlib.blake2b(repr((self.recipe, self.box)).encode(), digest_size=12).hexdigest()


def examine(bench: Bench, indices: Sequence[int]) -> list[Finding]:
    return [_examine(bench, index) for index in indices]


def draw(bench: Bench, tasks: Sequence[Task]) -> list[Drawn]:
    """Raises UserError for an image that was whole in the scan and is not any more."""
    drawn = []
    for task in tasks:
        try:
            drawn.append(_draw(bench, task, bench.source.decode(task.index)))
        except BrokenImage as error:
            raise UserError(f"--source: {printable(bench.source.names[task.index])} could be read a moment ago and now "
                            f"cannot: {error}. Is something else writing there?") from None
    return drawn


def _examine(bench: Bench, index: int) -> Finding:
    try:
        image = bench.source.decode(index)
    except BrokenImage as error:
        return Finding(index, error=str(error))
    finding, details = examined(index, image)
    if bench.foreground:
        box, filled = foreground(image.pixels)
        finding = replace(finding, box=box, filled=filled)
    if bench.text and text_like(_visible(image)):
        finding = replace(finding, remarks=(*finding.remarks, TEXT_REMARK))
    finding = replace(finding, details=bench.spool.put(details.to_bytes()))
    task = early_task(bench.draft, finding, bench.source.volume(index))
    return replace(finding, drawn=_draw(bench, task, image)) if task else finding


def early_task(draft: Draft, finding: Finding, volume: str | None) -> Task | None:
    """How the image will be drawn, as far as can be told from it alone: right for all but a few sets.

    The guess: colour is kept, and gray stays gray, also where it is stored as RGB. Transparent images wait.
    """
    if draft.crop and volume is not None:
        return None
    guess = draft.channels or (None if finding.transparent else 3 if finding.colour else 1)
    recipe = draft.recipe(finding, guess, draft.window)
    return Task(finding.index, recipe, finding.box if draft.crop else None) if recipe else None


def _draw(bench: Bench, task: Task, image: Decoded) -> Drawn:
    pixels = render(image, task.recipe, task.box)
    piece = bench.spool.put(encode(pixels, bench.encoding))
    return Drawn(piece, task.key, pixel_digest(pixels))


def _visible(image: Decoded) -> np.ndarray:
    if not image.deep:
        return image.pixels
    low, high = (float(value) for value in np.percentile(image.pixels, (0.5, 99.5)))
    return to_8_bits(image.pixels, (low, max(high, low + 1)))
