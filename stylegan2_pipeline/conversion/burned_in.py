"""Where text seems to be burned into a picture: names, dates and settings in the corners of medical pictures.

A heuristic, for people to look at: characters are small bright pieces, all as bright and nearly as tall as each other,
with sharp edges, on one line, near the border of the picture. It does not read them, and misses single letters.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from stylegan2_pipeline.conversion.foreground import greatest

Box = tuple[int, int, int, int]  # left, top, right, bottom; the last two are the first outside

LONGEST = 1024        # pixels; larger pictures are looked at in a smaller copy
WIDEST = 4            # times as wide as high: characters that touch each other
CONTRAST = 50         # of 255, between a character and what is around it
HEIGHTS = 5, 1 / 9    # of characters: pixels, and a share of the picture's height
CHARACTERS = 3        # in a line, at least
UNEVEN = 0.2, 0.08    # standard deviation of their heights, of the median; of their values, of the largest
ON_LINE = 0.7         # of the characters end at the same height
BLURRED = 0.7, 0.1    # at most, and for each character: the share of values halfway between characters and ground,
                      # plus how bright the surroundings are on that scale. Of text it is up to 0.5; foliage has 0.8
BORDER = 0.3          # a line's middle is no further from the border than this share of a side
MAX_PIECES = 4000     # more are noise, not text


class Piece(NamedTuple):
    """A connected bright spot: its box, and its brightest value."""

    left: int
    top: int
    right: int
    bottom: int
    value: int

    @property
    def height(self) -> int:
        return self.bottom - self.top


def text_like(pixels: np.ndarray) -> list[Box]:
    """Boxes around suspected lines of text in uint8 [H,W,C]; empty for a picture with none. A few ms a picture."""
    gray = greatest(pixels[:, :, :3])
    step = -(-max(gray.shape) // LONGEST)
    if step > 1:  # the brightest of each block, so that thin strokes stay
        height, width = (length // step for length in gray.shape)
        rows = gray[:height * step, :width * step].reshape(height, step, width * step).max(axis=1)
        gray = greatest(rows.reshape(height, width, step))
    if min(gray.shape) < 32:
        return []
    lines = [line for line in _lines(_pieces(gray)) if _is_text(line, gray)]
    return [tuple(step * edge for edge in _around(line)) for line in lines]


def _pieces(gray: np.ndarray) -> list[Piece]:
    """Bright spots of the size of characters."""
    from scipy import ndimage  # only for who looks for text

    labels, count = ndimage.label(gray - _ground(gray) >= CONTRAST, np.ones((3, 3)))
    if not 0 < count <= MAX_PIECES:
        return []
    tallest = HEIGHTS[1] * gray.shape[0]
    return [Piece(columns.start, rows.start, columns.stop, rows.stop, int(gray[rows, columns].max()))
            for rows, columns in ndimage.find_objects(labels)
            if HEIGHTS[0] <= rows.stop - rows.start <= tallest
            and columns.stop - columns.start <= WIDEST * (rows.stop - rows.start)]


def _ground(gray: np.ndarray) -> np.ndarray:
    """The picture without what is bright and thin: of the squares of four tilings, shifted by half a square, that a
    pixel lies in, the largest of their smallest values. (A morphological opening with fewer squares, and much faster.)
    """
    half = max(3, gray.shape[0] // 80)
    height, width = (-(-length // (2 * half)) + 1 for length in gray.shape)
    rows, columns = (2 * half * count - length for count, length in zip((height, width), gray.shape, strict=True))
    padded = np.pad(gray, ((half, rows), (half, columns)), "edge")
    ground = np.zeros_like(padded)
    for down in (0, half):
        for right in (0, half):
            place = np.s_[down:down + 2 * half * height, right:right + 2 * half * width]
            flat_rows = padded[place].reshape(height, 2 * half, -1).min(axis=1)
            squares = flat_rows.reshape(height, width, 2 * half).min(axis=2)
            spread = squares.repeat(2 * half, axis=0).repeat(2 * half, axis=1)
            np.maximum(ground[place], spread, out=ground[place])
    return ground[half:half + gray.shape[0], half:half + gray.shape[1]]


def _lines(pieces: Sequence[Piece]) -> list[list[Piece]]:
    """Pieces side by side at the same height, from left to right."""
    lines: list[list[Piece]] = []
    near: list[list[Piece]] = []  # those that the next piece may still belong to
    for piece in sorted(pieces):
        near = [line for line in near if piece.left - line[-1].right <= 4 * line[-1].height]
        line = next((line for line in near if _goes_on(line[-1], piece)), None)
        if line is None:
            line = []
            lines.append(line)
            near.append(line)
        line.append(piece)
    return lines


def _goes_on(last: Piece, piece: Piece) -> bool:
    low, tall = sorted((last.height, piece.height))
    overlap = min(last.bottom, piece.bottom) - max(last.top, piece.top)
    return piece.left - last.right <= 2 * tall and tall <= 2 * low and overlap >= 0.5 * low


def _is_text(line: Sequence[Piece], gray: np.ndarray) -> bool:
    if len(line) < CHARACTERS or not _near_border(line, gray.shape):
        return False
    heights, values, bottoms = (np.array(column, float) for column in zip(
        *((piece.height, piece.value, piece.bottom) for piece in line), strict=True))
    height = float(np.median(heights))
    on_line = np.mean(abs(bottoms - np.median(bottoms)) <= 0.5 + 0.12 * height)
    return bool(on_line >= ON_LINE and heights.std() <= UNEVEN[0] * height and values.std() <= UNEVEN[1] * values.max()
                and _blur(line, gray, float(values.max())) <= min(BLURRED[0], BLURRED[1] * len(line)))


def _blur(line: Sequence[Piece], gray: np.ndarray, value: float) -> float:
    """How far a line is from two values alone, in a calm place."""
    left, top, right, bottom = _around(line)
    inside = gray[top:bottom, left:right].astype(np.float32)
    ground = float(np.percentile(inside, 15))
    span = max(value - ground, 1)
    halfway = np.mean(abs(inside - ground - 0.5 * span) < 0.25 * span)
    wider = gray[max(top - 2, 0):bottom + 2, max(left - 2, 0):right + 2].astype(np.float32)
    edge = np.concatenate([wider[0], wider[-1], wider[:, 0], wider[:, -1]])
    return float(halfway + max(0, np.percentile(edge, 90) - ground) / span)


def _near_border(line: Sequence[Piece], shape: tuple[int, ...]) -> bool:
    left, top, right, bottom = _around(line)
    across, down = (left + right) / 2 / shape[1], (top + bottom) / 2 / shape[0]
    return min(across, 1 - across, down, 1 - down) <= BORDER


def _around(line: Sequence[Piece]) -> Box:
    return (min(piece.left for piece in line), min(piece.top for piece in line),
            max(piece.right for piece in line), max(piece.bottom for piece in line))
