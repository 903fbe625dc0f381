"""What in a picture is not its background, such as a head in the air of a scanner; and how to cut to it."""

import functools

import numpy as np

Box = tuple[int, int, int, int]  # left, top, right, bottom

NOISES = 6.0        # this many standard deviations of the border's noise away from it is no noise any more
LEAST_PART = 0.05   # of the picture's range; less is shading, or the blocks of a JPEG file
LEAST_LEVELS = 4    # of 255
TOGETHER = 4        # pixels of 3x3 that must stand out: a corner of a shape has as many, a hot pixel has not
LAG = 4             # pixels, farther than noise is smeared by a scanner's interpolation
LIKENESS = 0.3      # correlation at that distance; of noise it is 0, of most photographs 0.5 and more
MARGIN = 0.04       # of the longer side, around a box


def foreground(pixels: np.ndarray) -> tuple[Box | None, float]:
    """The box around everything that differs from the background, and the share of pixels that do.

    pixels: uint8 or float32 [H,W,1|3|4]. The background is the usual value along the border of the picture, with its
    noise; where that is transparent, all transparent pixels are. (None, 0.0) when nothing differs from it, as in
    slices of air. A picture along whose border light and colours change, as in most photographs, has no background: it
    is foreground everywhere.
    """
    mask = _stands_out(pixels)
    columns, rows = np.flatnonzero(mask.any(0)), np.flatnonzero(mask.any(1))
    if not len(rows):
        return None, 0.0
    box = int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
    return box, float(mask.mean())


def roomy(box: Box, size: tuple[int, int], shape: tuple[int, int] = (1, 1)) -> Box:
    """A box inside a picture of `size` (width, height) with a margin, as near to the proportions `shape` as can be.

    It reaches into the surroundings rather than leave pixels of the box out, and is moved rather than cut. A box that
    lies not inside, of a volume whose other pictures are larger, gives the whole picture.
    """
    if box[2] > size[0] or box[3] > size[1]:
        return 0, 0, *size
    margin = round(MARGIN * max(box[2] - box[0], box[3] - box[1]))
    left, top, right, bottom = (max(0, box[0] - margin), max(0, box[1] - margin),
                                min(size[0], box[2] + margin), min(size[1], box[3] + margin))
    width = max(right - left, round((bottom - top) * shape[0] / shape[1]))
    height = max(bottom - top, round((right - left) * shape[1] / shape[0]))
    left, right = _widened(left, right, width, size[0])
    top, bottom = _widened(top, bottom, height, size[1])
    return left, top, right, bottom


def _widened(start: int, stop: int, length: int, limit: int) -> tuple[int, int]:
    """start, stop of this length about the same middle, within 0 to limit."""
    length = min(length, limit)
    start = min(max(0, (start + stop - length) // 2), limit - length)
    return start, start + length


def _stands_out(pixels: np.ndarray) -> np.ndarray:
    """bool [H,W]"""
    away = _away_from_border(pixels)
    noise = 1.4826 * float(np.median(_border(away)))  # of a normal distribution, from its median deviation
    brightest = float(np.quantile(away, 0.995))
    if NOISES * noise > brightest / 2 and _goes_on(away):
        return np.ones(away.shape, bool)
    least = max(NOISES * noise, LEAST_PART * brightest)
    mask = away > max(least, LEAST_LEVELS if pixels.dtype == np.uint8 else 0)
    padded = np.pad(mask.astype(np.uint8), 1)
    rows = padded[:-2] + padded[1:-1] + padded[2:]
    return mask & (rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:] >= TOGETHER)


def _goes_on(away: np.ndarray) -> bool:
    """Whether what is at the border is like what is a few pixels on: a scene, and not noise."""
    lines = [line - line.mean() for line in (away[0], away[-1], away[:, 0], away[:, -1]) if len(line) > LAG]
    product = sum(float((line[LAG:] * line[:-LAG]).mean()) for line in lines)
    return product > LIKENESS * sum(float(np.square(line).mean()) for line in lines)


def _away_from_border(pixels: np.ndarray) -> np.ndarray:
    """How far each pixel is from the usual one of the border, float32 [H,W], the channel that differs most."""
    values = pixels.astype(np.float32)
    if values.shape[2] == 4:
        if np.median(_border(values[:, :, 3])) < 128:
            return values[:, :, 3]
        values = values[:, :, :3] * (values[:, :, 3:] / np.float32(255))
    return greatest(abs(values - np.median(_border(values), 0)))


def greatest(values: np.ndarray) -> np.ndarray:
    """values.max(2) of [H,W,C] with few channels, many times faster than numpy's."""
    return functools.reduce(np.maximum, (values[:, :, channel] for channel in range(values.shape[2])))


def _border(values: np.ndarray) -> np.ndarray:
    """[N] or [N,C] of [H,W] or [H,W,C], where H, W may be 1."""
    return np.concatenate([values[0], values[-1], values[:, 0], values[:, -1]])
