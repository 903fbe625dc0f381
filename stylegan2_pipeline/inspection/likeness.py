"""What pictures have in common, by how they look at 64 pixels and less: nothing here reads an image."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

SIGNS = 499           # random turns by which chance is judged
LEAST_IMAGES = 20     # fewer say nothing of a set
SIDED = 0.05          # share of the left-right differences that all have in common, from which on mirroring harms
CHANCE = 0.01
DARK, LIGHT = 40, 215
_SMALL = 16


@dataclass(frozen=True)
class Sides:
    """share: how much of the difference between left and right halves is the same in all images, 0 to 1; p: how
    often chance does as much."""

    share: float
    p: float

    @property
    def sided(self) -> bool:
        return self.p <= CHANCE and self.share >= SIDED


@dataclass(frozen=True)
class Edges:
    """Shares of the images with an even black, or white, border around what they show."""

    black: float = 0.0
    white: float = 0.0


def gray(thumbs: np.ndarray, size: int = 64) -> np.ndarray:
    """uint8 [N,64,64,C] -> float32 [N,size,size] by means of blocks."""
    block = thumbs.shape[1] // size
    small = [part.reshape(len(part), size, block, size, block, -1).mean((2, 4, 5), dtype=np.float32)
             for part in np.array_split(thumbs, len(thumbs) // 2048 + 1)]
    return np.concatenate(small)


def borders(thumbs: np.ndarray) -> Edges:
    """thumbs: uint8 [N,64,64,C]."""
    if not len(thumbs):
        return Edges()
    rim = np.concatenate([thumbs[:, 0], thumbs[:, -1], thumbs[:, :, 0], thumbs[:, :, -1]], axis=1)  # [N,256,C]
    most = np.quantile(rim.max(2), 0.75, axis=1, method="higher")
    least = np.quantile(rim.min(2), 0.25, axis=1, method="lower")
    return Edges(float((most <= DARK).mean()), float((least >= LIGHT).mean()))


def sidedness(thumbs: np.ndarray, groups: Sequence[int], seed: int = 0) -> Sides | None:
    """Whether left and right differ in the same way in all images; None for a few.

    thumbs: uint8 [N,64,64,C]; groups: a number an image, those of one group count as one. If mirrored images were as
    likely as they are, then the sum of all left-right differences would be as long as any other with signs at random,
    a sign a group; that is what p counts. share is the squared length of the mean difference, without bias, over the
    mean squared length.
    """
    numbers = np.unique(np.asarray(groups, np.int64), return_inverse=True)[1] if len(groups) else np.zeros(0, np.int64)
    count = int(numbers.max()) + 1 if len(numbers) else 0
    if count < LEAST_IMAGES:
        return None
    small = gray(thumbs, _SMALL)
    differences = (small - small[:, :, ::-1])[:, :, :_SMALL // 2].reshape(len(small), -1).astype(np.float64)
    sums = np.zeros([count, differences.shape[1]])
    np.add.at(sums, numbers, differences)
    sums /= np.bincount(numbers)[:, None]
    length, each = float(np.square(sums.sum(0)).sum()), float(np.square(sums).sum())
    if each == 0:
        return Sides(0.0, 1.0)
    random = np.random.default_rng(seed)
    signs = random.choice([-1.0, 1.0], size=(SIGNS, count))
    chance = np.square(signs @ sums).sum(1)
    p = (1 + int((chance >= length).sum())) / (1 + SIGNS)
    return Sides(max(0.0, (length - each) / (each * max(count - 1, 1))), p)


def oddest(thumbs: np.ndarray, most: int) -> list[int]:
    """Positions of those farthest from the mean of all, the farthest first. thumbs: uint8 [N,64,64,C]."""
    small = gray(thumbs, _SMALL)
    distances = np.square(small - small.mean(0)).mean((1, 2))
    return np.argsort(-distances, kind="stable")[:most].tolist()


def kinds(thumbs: np.ndarray, most: int, rounds: int = 20) -> list[list[int]]:
    """Positions of images that look alike, in at most so many kinds, the largest first (k-means of 16x16 gray pixels
    without brightness and contrast, begun at images far from one another). thumbs: uint8 [N,64,64,C]."""
    rows = gray(thumbs, _SMALL).reshape(len(thumbs), -1)
    rows = rows - rows.mean(1, keepdims=True)
    rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-6)
    centres = rows[_far_apart(rows, most)]
    nearest = np.zeros(len(rows), np.int64)
    for _ in range(rounds):
        before, nearest = nearest, (rows @ centres.T * 2 - np.square(centres).sum(1)).argmax(1)
        centres = np.stack([rows[nearest == number].mean(0) if (nearest == number).any() else centres[number]
                            for number in range(len(centres))])
        if (before == nearest).all():
            break
    found = [np.flatnonzero(nearest == number).tolist() for number in range(len(centres))]
    return sorted((members for members in found if members), key=len, reverse=True)


def _far_apart(rows: np.ndarray, most: int) -> list[int]:
    """Of a sample: the one nearest to the mean, then always one far from all chosen ones, but not the very farthest,
    which are odd ones."""
    sample = rows[:: len(rows) // 4096 + 1]
    chosen = [int(np.square(sample - sample.mean(0)).sum(1).argmin())]
    distances = np.square(sample - sample[chosen[0]]).sum(1)
    while len(chosen) < min(most, len(sample)):
        place = int(np.argsort(distances, kind="stable")[int(0.98 * (len(sample) - 1))])
        if distances[place] < 1e-6:
            break
        chosen.append(place)
        distances = np.minimum(distances, np.square(sample - sample[place]).sum(1))
    return [place * (len(rows) // 4096 + 1) for place in chosen]
