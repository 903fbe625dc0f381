"""Images that a collection holds more than once: with equal pixels, or nearly so, mirrored or not."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Copies:
    """Positions in a set. first [N]: for each image the first one with its pixels, which may be itself. exact: the
    images that have the pixels of an earlier one. near: sets of two or more that show the same, equal ones included,
    the largest sets first."""

    first: list[int]
    exact: list[int]
    near: list[list[int]]


def find_copies(digests: Sequence[str], flat: Sequence[bool], thumbs: np.ndarray | None = None) -> Copies:
    """digests: of the pixels at full size; flat: images that show nothing. thumbs: uint8 [N,64,64,C], the whole images
    at that size; without them near copies are those with equal pixels."""
    first = exact_copies(digests, flat)
    near = equal_sets(first) if thumbs is None else near_copies(thumbs, digests, flat)
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


def near_copies(thumbs: np.ndarray, digests: Sequence[str], flat: Sequence[bool]) -> list[list[int]]:
    """Sets of two or more positions, largest first, by what the search for memorized images takes for duplicates
    (metrics.memorization.duplicates): alike in brightness-free gray or colour, also mirrored, but not shifted, turned
    or cut. How alike they must be is judged by how alike the images of this set are.

    thumbs: uint8 [N,64,64,C], the whole images at that size, alpha as a fourth channel.
    """
    import torch

    from metrics.memorization.duplicates import find_duplicates
    from metrics.memorization.thumbnails import Thumbnails, premultiplied, smooth

    showing = np.flatnonzero(~np.asarray(flat, bool))
    if len(showing) < 2:
        return []
    grids = [smooth(premultiplied(torch.from_numpy(thumbs[part]).permute(0, 3, 1, 2).float())).add_(0.5)
             .to(torch.uint8) for part in np.array_split(showing, len(showing) // 1024 + 1)]
    names = tuple(digests[i].encode() for i in showing.tolist())
    found = find_duplicates(Thumbnails(torch.cat(grids), names, torch.arange(len(showing))))
    return [showing[members].tolist() for members in found.sets]
