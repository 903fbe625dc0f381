"""Sets of images as small pictures in memory: what the search for copies sees of them."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

SIDES = (64, 32, 16, 8)  # pixels a side of what is kept of an image: the largest that it has
FINE = 32    # pixels a side at which images are compared
COARSE = 16  # pixels a side at which candidates are found
REACH = 16   # images are compared without a margin of this part of their width; it is how far they may be shifted
FLAT = 0.5   # images whose pixels deviate less from their mean, of 255, show nothing that could be recognised
_ROWS = 1024


@dataclass(frozen=True)
class Thumbnails:
    """grids: uint8 [N,C,S,S], 4 KB a channel; digests: of the pixels at full size; numbers [N]: places in the set."""

    grids: Tensor
    digests: tuple[bytes, ...]
    numbers: Tensor

    def __len__(self) -> int:
        return len(self.grids)

    @property
    def side(self) -> int:
        return self.grids.shape[3]

    def part(self, index: Tensor) -> "Thumbnails":
        """index: bool [N] or places [n]."""
        places = torch.nonzero(index).flatten() if index.dtype == torch.bool else index
        return Thumbnails(self.grids[places], tuple(self.digests[i] for i in places.tolist()), self.numbers[places])

    def beginning(self, count: int) -> "Thumbnails":
        return self.part(torch.arange(min(count, len(self))))

    def showing(self) -> "Thumbnails":
        """Without images that show nothing, such as black slices: all of them are alike, and nobody's."""
        spread = [part.float().std(dim=[2, 3], correction=0).amax(1) for part in self.grids.split(_ROWS)]
        return self.part(torch.cat(spread) >= FLAT)

    def colored(self) -> "Thumbnails":
        """With 3 channels, so that it can be compared with others."""
        return Thumbnails(self.grids[:, :3].expand(-1, 3, -1, -1), self.digests, self.numbers)

    def rows(self, side: int) -> Tensor:
        """[N,D]: what is within the margin of each image at `side` pixels for the whole, as in unit_rows."""
        inner = slice(margin(self.side), self.side - margin(self.side))
        return torch.cat([unit_rows(reduced(part[:, :, inner, inner].float(), block(self.side, side)))
                          for part in self.grids.split(_ROWS)])


def grid_side(height: int, width: int) -> int:
    """The pixels a side of the thumbnails of such images."""
    return next((side for side in SIDES if side <= min(height, width)), min(height, width))


def margin(side: int) -> int:
    """Pixels at each edge of a thumbnail that shifts may bring in or lose."""
    return side // REACH


def block(side: int, smaller: int) -> int:
    """Pixels of a thumbnail to one at a smaller size."""
    return max(side // smaller, 1)


def thumbnails(batches: Iterable[np.ndarray], device: torch.device) -> Thumbnails:
    """Of uint8 images [n,C,H,W]; alpha stays as a channel beside the colour, which is multiplied by it."""
    grids, digests = [], []
    for batch in batches:
        batch = np.ascontiguousarray(batch)
        digests += [hashlib.sha256(image).digest() for image in batch]
        x = premultiplied(torch.from_numpy(batch).to(device).float())
        grids.append(smooth(F.adaptive_avg_pool2d(x, grid_side(*x.shape[2:]))).add_(0.5).to(torch.uint8).cpu())
    return Thumbnails(torch.cat(grids), tuple(digests), torch.arange(len(digests)))


def smooth(x: Tensor) -> Tensor:
    """Pictures [N,C,H,W] by [1,2,1]/4 along both axes: so that halves of pixels can be told from their neighbours.

    It also brings copies nearer, in relation to other images (blurred or turned ones by a quarter).
    """
    for dim in (2, 3):
        padded = F.pad(x, (0, 0, 1, 1) if dim == 2 else (1, 1, 0, 0), mode="replicate")
        before, same, after = (padded.narrow(dim, i, x.shape[dim]) for i in range(3))
        x = (before + 2 * same + after) / 4
    return x


def premultiplied(x: Tensor) -> Tensor:
    """Images [N,C,H,W] of 0..255, so that what is transparent is black."""
    return torch.cat([x[:, :3] * x[:, 3:] / 255, x[:, 3:]], dim=1) if x.shape[1] == 4 else x


def reduced(x: Tensor, size: int) -> Tensor:
    """Pictures [..., H,W] by means of blocks of size x size."""
    return x.unflatten(-1, (-1, size)).unflatten(-3, (-1, size)).mean(dim=[-3, -1]) if size > 1 else x


def unit_rows(x: Tensor) -> Tensor:
    """Pictures [..., C,H,W] as rows [..., C*H*W] that differ from their mean, at length 1.

    The mean is taken of each channel, so that products of rows do not depend on brightness, contrast or tint: they are
    correlations.
    """
    x = (x - x.mean(dim=[-2, -1], keepdim=True)).flatten(-3)
    return x / x.norm(dim=-1, keepdim=True).clamp_min(1e-6)
