"""Sliced Wasserstein distance between patches of Laplacian pyramids (Karras et al. 2018, arXiv 1710.10196, section 5).

Needs no network weights. The finest level speaks of texture and noise, the coarsest of layout. Because patches are
normalised per set, the distance is blind to brightness, contrast and colour gain; and because patches are compared as
one heap, to where in the image they were and to which of them belong together.
"""

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from metrics.bootstrap import mean_interval
from metrics.counts import alarm, counts_of, half_of
from metrics.inputs import MetricInputs, MetricValue, Request
from metrics.one_size import one_size
from torch_utils.errors import UserError
from torch_utils.seeding import derive_seed

PATCH = 7
PATCHES_PER_IMAGE = 128
MIN_RESOLUTION = 16
DIRECTIONS = 128
REPEATS = 4
PARTS = 8        # that an interval is taken from
IN_A_PART = 10   # images, at least
SCALE = 1000  # figures are reported in thousandths, as in the paper
_ROWS = 1 << 16  # patches normalised and projected at a time

# Patches of a set by level, finest first: float16 [N*P, C, PATCH*PATCH] in host memory, 12.5 KB an image, level and
# channel. Against float32 that halves the bulk of the memory and moves figures of 7 to 60 by 0.0005 (measured).
Patches = dict[int, Tensor]


def swd(inputs: MetricInputs, request: Request) -> MetricValue:
    """Keys <name>_<resolution> and their mean <name>, at equal counts of real and generated images; in thousandths.

    <name>_floor is the distance between two disjoint halves of the real images, <name>_ratio the distance of a
    generated and a real half over it: near 1 when generated images are as close to the data as the data is to itself.
    With mirrored copies among the real images there is neither.
    Raises UserError for fewer than 2 images, and for images that have no pyramid or not the same one.
    """
    n = min(counts_of(inputs, request, least=2))
    real = patches_of(inputs.real.images(n), n, inputs.device, inputs.seed)
    fake = patches_of(inputs.fake.images(n), n, inputs.device, inputs.seed, like=real)
    levels = distances(real, fake, inputs.device, inputs.seed)
    results = {request.name: _mean(levels)} | {f"{request.name}_{res}": value for res, value in levels.items()}
    notes: tuple[str, ...] = ()
    if half := half_of(n, n, least=1, mirror=request.mirror):
        first, second, generated = rows(real, 0, half), rows(real, half, 2 * half), rows(fake, 0, half)
        floor = _mean(distances(first, second, inputs.device, inputs.seed))
        same_count = _mean(distances(first, generated, inputs.device, inputs.seed))
        results |= {f"{request.name}_floor": floor, f"{request.name}_ratio": same_count / floor if floor else math.nan}
        chances = [chance(first, other, half, inputs.device, inputs.seed) for other in (second, generated)]
        notes = (alarm(request.name),) if floor - same_count > math.hypot(*chances) else ()
    value, give = results[request.name], chance(real, fake, n, inputs.device, inputs.seed)
    intervals = {request.name: (max(value - give, 0.0), value + give)} if math.isfinite(give) else {}
    about = {"estimator": "sliced Wasserstein, thousandths", "patches": PATCHES_PER_IMAGE, "patch": PATCH,
             "directions": REPEATS * DIRECTIONS}
    return MetricValue(results, {"real": n, "fake": n, "floor": half}, intervals, notes, about)


def chance(a: Patches, b: Patches, n: int, device: torch.device, seed: int) -> float:
    """Half a 95 % interval of the mean distance of two sets of n images; infinite for few.

    From the distances of up to eight disjoint parts of both, along fewer directions: they scatter by as much more as
    they are smaller. What they have in common, a larger distance for being fewer, does not matter.
    """
    parts = min(PARTS, n // IN_A_PART)
    if parts < 2:
        return math.inf
    size = n // parts
    found = [_mean(distances(rows(a, k * size, (k + 1) * size), rows(b, k * size, (k + 1) * size), device, seed, 1))
             for k in range(parts)]
    low, high = mean_interval(torch.tensor(found, dtype=torch.float64))
    return (high - low) / 2


def laplacian_pyramid(images: Tensor) -> dict[int, Tensor]:
    """Images [N,C,R,R] to {resolution: [N,C,res,res]} from R down to 16 (Burt & Adelson 1983); the last is low-pass."""
    levels = {}
    while images.shape[-1] > MIN_RESOLUTION:
        smaller = _smooth(_smooth(images, 2), 3)[:, :, ::2, ::2]
        levels[images.shape[-1]] = images - _enlarge(smaller)
        images = smaller
    levels[images.shape[-1]] = images
    return levels


def _enlarge(images: Tensor) -> Tensor:
    n, channels, height, width = images.shape
    spread = images.new_zeros([n, channels, 2 * height, 2 * width])
    spread[:, :, ::2, ::2] = images * 4
    return _smooth(_smooth(spread, 2), 3)


def _smooth(x: Tensor, dim: int) -> Tensor:
    """The binomial filter [1,4,6,4,1]/16 along one axis, mirrored ends; elementwise, so no image sees its batch."""
    length = x.shape[dim]
    x = F.pad(x, (2, 2, 0, 0) if dim == 3 else (0, 0, 2, 2), mode="reflect")
    t = [x.narrow(dim, i, length) for i in range(5)]
    return (t[0] + t[4] + 4 * (t[1] + t[3]) + 6 * t[2]) / 16


def patches_of(
    batches: Iterator[np.ndarray], n: int, device: torch.device, seed: int, like: Patches | None = None
) -> Patches:
    """Random patches of the pyramids of n images; their places follow from the seed, n and the image's number.

    like: the patches of the images that these are compared with.

    Raises UserError for images without a pyramid, or without that of `like`.
    """
    patches: Patches = {}
    places: dict[int, Tensor] = {}
    start = 0
    for batch in one_size(batches, "swd"):
        if start == 0:
            _check_shape(batch.shape[1:], like)
        for res, level in laplacian_pyramid(torch.from_numpy(batch).to(device).float()).items():
            if res not in patches:
                patches[res] = torch.empty([n * PATCHES_PER_IMAGE, level.shape[1], PATCH**2], dtype=torch.float16)
                places[res] = _places(res, n, seed)
            end = start + len(batch)
            found = _cut(level, places[res][start:end].to(device).long())
            patches[res][start * PATCHES_PER_IMAGE:end * PATCHES_PER_IMAGE] = found.half().cpu()
        start += len(batch)
    return patches


def _check_shape(shape: tuple[int, ...], like: Patches | None) -> None:
    channels, height, width = shape
    if height != width or height < PATCH + 1 or height & (height - 1):
        raise UserError(f"swd halves images until 16 pixels are left, so they must be square, with a power of two of "
                        f"pixels a side, 8 or more; these are {width}x{height}. Convert them with dataset_tool.py "
                        f"--resolution, or leave swd out of --metrics.")
    if like is not None and (max(like), like[max(like)].shape[1]) != (height, channels):
        raise UserError(f"swd compares images of one size and number of channels: the real ones are {max(like)}x"
                        f"{max(like)} with {like[max(like)].shape[1]}, the others {width}x{height} with {channels}. "
                        f"Convert them with dataset_tool.py.")


def _places(res: int, n: int, seed: int) -> Tensor:
    """Corners [n, P, 2] of patches, uniform over the level; those of the second half of images are the first half's.

    Sets that are compared have patches in the same places, which brings them nearer to each other. So must halves of
    one set, or what is measured against them would look too good.
    """
    half = max(n // 2, 1)
    generator = torch.Generator().manual_seed(derive_seed(seed, "swd places", res))
    corners = torch.randint(res - PATCH + 1, [half, PATCHES_PER_IMAGE, 2], generator=generator, dtype=torch.int16)
    return corners[torch.arange(n) % half]


def _cut(level: Tensor, corners: Tensor) -> Tensor:
    """Patches [B*P, C, PATCH*PATCH] of level [B,C,res,res] at corners [B,P,2]."""
    batch, channels, _, res = level.shape
    steps = torch.arange(PATCH, device=level.device)
    offsets = (steps[:, None] * res + steps).flatten()
    index = (corners[:, :, 0] * res + corners[:, :, 1])[:, :, None] + offsets  # [B,P,49]
    index = index.reshape(batch, 1, -1).expand(-1, channels, -1)
    found = level.flatten(2).gather(2, index).reshape(batch, channels, -1, PATCH**2)
    return found.transpose(1, 2).flatten(0, 1)


def rows(patches: Patches, start: int, end: int) -> Patches:
    """The patches of images start..end-1."""
    return {res: x[start * PATCHES_PER_IMAGE:end * PATCHES_PER_IMAGE] for res, x in patches.items()}


def distances(a: Patches, b: Patches, device: torch.device, seed: int, repeats: int = REPEATS) -> dict[int, float]:
    """The sliced Wasserstein distance by level, in thousandths; a and b hold equally many patches."""
    return {res: SCALE * sliced_wasserstein(a[res], b[res], device, seed, repeats) for res in a}


def sliced_wasserstein(a: Tensor, b: Tensor, device: torch.device, seed: int, repeats: int = REPEATS) -> float:
    """Mean over repeats of DIRECTIONS random directions of the 1-D Wasserstein distance of projections; a, b [M,C,K],
    normalised first.
    """
    moments = channel_moments(a), channel_moments(b)
    total = 0.0
    for repeat in range(repeats):
        generator = torch.Generator().manual_seed(derive_seed(seed, "swd directions", repeat))
        directions = torch.randn([a[0].numel(), DIRECTIONS], generator=generator)
        directions = (directions / directions.norm(dim=0)).to(device)
        sorted_a = sorted_projections(a, moments[0], directions)
        sorted_b = sorted_projections(b, moments[1], directions)
        total += float(sorted_a.sub_(sorted_b).abs_().mean(dim=1).double().mean())
    return total / repeats


def channel_moments(patches: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation [C,1] of each channel over the set; a channel that is constant gets deviation 1."""
    total = torch.zeros([2, patches.shape[1]], dtype=torch.float64)
    for chunk in patches.split(_ROWS):
        x = chunk.double()
        total += torch.stack([x.sum(dim=[0, 2]), x.square().sum(dim=[0, 2])])
    mean, square = total / (patches.shape[0] * patches.shape[2])
    variance = (square - mean.square()).clamp_min(0)
    std = torch.where(variance > 1e-10 * square, variance.sqrt(), torch.ones_like(variance))
    return mean.float()[:, None], std.float()[:, None]


def sorted_projections(patches: Tensor, moments: tuple[Tensor, Tensor], directions: Tensor) -> Tensor:
    """Normalised patches on each direction, in ascending order [DIRECTIONS, M]."""
    mean, std = (m.to(directions.device) for m in moments)
    parts = [directions.T @ ((chunk.to(directions.device).float() - mean) / std).flatten(1).T
             for chunk in patches.split(_ROWS)]
    projected = torch.cat(parts, dim=1)
    if projected.device.type != "cpu":
        return projected.sort(dim=1).values
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:  # numpy sorts floats several times faster than torch
        list(pool.map(np.ndarray.sort, projected.numpy()))
    return projected


def _mean(levels: dict[int, float]) -> float:
    return sum(levels.values()) / len(levels)
