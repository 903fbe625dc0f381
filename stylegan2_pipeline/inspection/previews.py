"""Small pictures of chosen images, made by any process; no torch here."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from stylegan2_pipeline.conversion.drawing import Bench
from stylegan2_pipeline.conversion.passes import runs_of
from stylegan2_pipeline.conversion.scan import Drawn, Finding
from stylegan2_pipeline.conversion.spool import Spool
from stylegan2_pipeline.conversion.transform import to_8_bits
from stylegan2_pipeline.decode import BrokenImage, decode_image
from stylegan2_pipeline.parallel import WorkerPool
from stylegan2_pipeline.progress import progress
from stylegan2_pipeline.sources.base import Source

SIDE = 160  # pixels, at most
WHITE = (255, 255, 255, 255)

Previews = Mapping[int, np.ndarray]  # uint8 [H,W,1|3], by index in the source


@dataclass(frozen=True)
class Look:
    """Which image, and which of its values become 0 and 255 where it is deep."""

    index: int
    window: tuple[float, float] | None = None


def previews(pool: WorkerPool, source: Source, windows: Mapping[str | None, tuple[float, float]],
             wanted: Iterable[Finding]) -> dict[int, np.ndarray]:
    """Of each image, whole, at most SIDE pixels a side, by index; windows: of deep ones, by volume. The context of the
    pool is a Bench. Images that cannot be read any more are left out."""
    findings = {finding.index: finding for finding in wanted}
    looks = {index: Look(index, windows[source.volume(index)] if findings[index].deep else None)
             for index in sorted(findings)}
    runs = ([looks[index] for index in run] for run in runs_of(source, looks))
    made = (one for found in pool.map(look, runs) for one in found)
    small = progress(made, len(looks), "Making previews")
    return {index: pixels for index, pixels in zip(looks, small, strict=True) if pixels is not None}


def look(bench: Bench, looks: Sequence[Look]) -> list[np.ndarray | None]:
    return [_look(bench, one) for one in looks]


def _look(bench: Bench, one: Look) -> np.ndarray | None:
    try:
        image = bench.source.decode(one.index)
    except BrokenImage:
        return None
    return fitted(to_8_bits(image.pixels, one.window))


def drawn_previews(spool: Spool, drawn: Mapping[int, Drawn], wanted: Iterable[int]) -> dict[int, np.ndarray]:
    """Of images as the archive holds them."""
    return {index: fitted(decode_image(spool.get(drawn[index].piece)).pixels) for index in wanted}


def fitted(pixels: np.ndarray, side: int = SIDE) -> np.ndarray:
    """uint8 [H,W,1|3|4] -> uint8 [H,W,1|3] with no side longer than `side`, over white."""
    picture = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    times = max(picture.size) / side
    if times > 1:
        size = max(1, round(picture.width / times)), max(1, round(picture.height / times))
        picture = picture.resize(size, Image.Resampling.LANCZOS, reducing_gap=2.0)
    if picture.mode == "RGBA":
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, WHITE), picture).convert("RGB")
    small = np.asarray(picture)
    return small if small.ndim == 3 else small[:, :, np.newaxis]


def squares(found: Sequence[np.ndarray], side: int) -> np.ndarray:
    """uint8 [N,C,side,side] of previews [H,W,1|3], made square; C = 1 if all are gray."""
    channels = max(one.shape[2] for one in found)
    small = [np.asarray(Image.fromarray(one[:, :, 0] if one.shape[2] == 1 else one).resize(
        (side, side), Image.Resampling.BOX if min(one.shape[:2]) >= side else Image.Resampling.BICUBIC))
        for one in found]
    return np.stack([np.broadcast_to(np.atleast_3d(one).transpose(2, 0, 1), (channels, side, side)) for one in small])
