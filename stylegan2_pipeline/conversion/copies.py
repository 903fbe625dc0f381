"""Images that a collection holds more than once: with equal pixels, or nearly so, mirrored or not."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from metrics.memorization.thumbnails import Thumbnails

BLANK_LEVELS, BLANK_SHARE = 16, 0.05  # of an image whose pixels differ by so much, of 255, in less than this part


@dataclass(frozen=True)
class Copies:
    """Positions in a set. first [N]: for each image the first one with its pixels, which may be itself. exact: the
    images that have the pixels of an earlier one. near: sets of two or more that show the same, equal ones included,
    the largest sets first."""

    first: list[int]
    exact: list[int]
    near: list[list[int]]


def find_copies(digests: Sequence[str], flat: Sequence[bool], thumbs: np.ndarray | None = None,
                volumes: Sequence[str | None] | None = None) -> Copies:
    """digests: of the pixels at full size; flat: images that show nothing. thumbs: uint8 [N,64,64,C], the whole images
    at that size; without them near copies are those with equal pixels. volumes: as near_copies takes them."""
    first = exact_copies(digests, flat)
    near = equal_sets(first) if thumbs is None else near_copies(thumbs, digests, flat, volumes)
    return Copies(first, [position for position, other in enumerate(first) if other != position], near)


def exact_copies(digests: Sequence[str], flat: Sequence[bool]) -> list[int]:
    """The first position with the same digest. Flat images, such as black slices, are nobody's copies."""
    seen: dict[str, int] = {}
    return [position if blank else seen.setdefault(digest, position)
            for position, (digest, blank) in enumerate(zip(digests, flat, strict=True))]


def equal_sets(first: Sequence[int]) -> list[list[int]]:
    """Of what exact_copies returns: the sets of two or more, the largest first."""
    sets: dict[int, list[int]] = {}
    for position, other in enumerate(first):
        sets.setdefault(other, []).append(position)
    return sorted((members for members in sets.values() if len(members) > 1), key=len, reverse=True)


def near_copies(thumbs: np.ndarray, digests: Sequence[str], flat: Sequence[bool],
                volumes: Sequence[str | None] | None = None) -> list[list[int]]:
    """Sets of two or more positions, largest first, by what the search for memorized images takes for duplicates
    (metrics.memorization.duplicates): alike but for brightness and contrast, also mirrored, but not shifted, turned or
    cut. How alike they must be is judged by how alike the images of this set are.

    thumbs: uint8 [N,64,64,C], the whole images at that size, alpha as a fourth channel. volumes: of which each is a
    slice, or None: slices of one volume are alike and no copies, unless their pixels are equal, and a slice is at most
    a copy of that of another volume which is most like it. The ends of volumes, which hardly show anything, are alike
    in all of them, and nobody's copies.
    """
    import torch

    from metrics.memorization.duplicates import find_duplicates
    from metrics.memorization.thumbnails import Thumbnails, premultiplied, smooth

    own = volumes or [None] * len(thumbs)
    showing = np.array([place for place, (blank, volume) in enumerate(zip(flat, own, strict=True))
                        if not blank and not (volume and nearly_blank(thumbs[place]))], np.int64)
    if len(showing) < 2:
        return []
    grids = [smooth(premultiplied(torch.from_numpy(thumbs[part]).permute(0, 3, 1, 2).float())).add_(0.5)
             .to(torch.uint8) for part in np.array_split(showing, len(showing) // 1024 + 1)]
    names = tuple(digests[i].encode() for i in showing.tolist())
    images = Thumbnails(torch.cat(grids), names, torch.arange(len(showing)))
    shown = [own[i] for i in showing.tolist()]
    sets = _sets_of_slices(images, shown) if any(shown) else find_duplicates(images).sets
    return [showing[members].tolist() for members in sets]


def nearly_blank(thumbnail: np.ndarray) -> bool:
    """uint8 [64,64,C] with so little to see that all such images are alike, as the ends of volumes are."""
    gray = thumbnail.astype(np.int16).max(2)
    return bool((abs(gray - np.median(gray)) > BLANK_LEVELS).mean() < BLANK_SHARE)


def _sets_of_slices(images: "Thumbnails", volumes: Sequence[str | None]) -> list[list[int]]:
    import torch

    from metrics.diversity import mirrored
    from metrics.memorization.duplicates import Joined, alike, copy_distance
    from metrics.memorization.thumbnails import FINE

    joined = Joined(len(images))
    for place, first in enumerate(exact_copies([digest.hex() for digest in images.digests], [False] * len(images))):
        joined.join(place, first)
    rows, channels = images.rows(FINE), images.grids.shape[1]
    nearest: dict[tuple[int, str | int], tuple[float, int]] = {}  # by slice and another volume: distance and slice
    limit = max(copy_distance(images), copy_distance(images.part(torch.tensor(middles(volumes)))))
    for a, b in alike(images, limit):
        volume_a, volume_b = volumes[a] or a, volumes[b] or b
        if volume_a == volume_b:
            continue
        pair = rows[[b]]
        distance = min(float((rows[a] - pair).norm()), float((rows[a] - mirrored(pair, channels)).norm()))
        for one, other, volume in ((a, b, volume_b), (b, a, volume_a)):
            nearest[one, volume] = min(nearest.get((one, volume), (distance, other)), (distance, other))
    for (one, _), (_, other) in nearest.items():
        if nearest[other, volumes[one] or one][1] == one:
            joined.join(one, other)
    return equal_sets([joined.root(place) for place in range(len(images))])


def middles(volumes: Sequence[str | None]) -> list[int]:
    """One slice of each volume, which are as alike as different images get."""
    slices: dict[str | int, list[int]] = {}
    for place, volume in enumerate(volumes):
        slices.setdefault(volume or place, []).append(place)
    return [places[len(places) // 2] for places in slices.values()]
