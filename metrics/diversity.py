"""How varied a set of images is: MS-SSIM of pairs, the Vendi score, intrinsic dimension, and images seen twice.

None needs network weights. Except for MS-SSIM they look at images of 32 pixels, as pixels32.reduced_pixels gives them.
Numbers grow with the number of images (Vendi) or depend on it (dimension), so compare them at equal counts. None
looks at how good images are: of two sets the more varied one may be noise, so what real images have is told with them.
"""

import math
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from metrics.bootstrap import Interval, Z, mean_interval
from metrics.counts import counts_of
from metrics.inputs import MetricInputs, MetricValue, Request
from metrics.one_size import one_size

# Wang, Simoncelli & Bovik 2003, "Multiscale structural similarity for image quality assessment"
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
WINDOW, SIGMA = 11, 1.5
K1, K2, RANGE = 0.01, 0.03, 255
NEAR = 0.05  # copies have at most this part of the squared distance that images have on average ...
NEAR_MOST = 0.998  # ... but need not have a higher correlation than this
_ROWS = 512  # rows of a similarity or distance matrix at a time


def msssim(inputs: MetricInputs, request: Request) -> MetricValue:
    """Mean MS-SSIM of random pairs of generated images; <name>_real of real pairs, _ratio the first over the second.

    Neither high nor low is good: the ratio is 1 for images that differ as the data does, more where they are too
    alike (collapse), less where they have noise or fall apart (Odena et al. 2017, section 4.2). UserError for less than
    a pair.
    """
    n, m = counts_of(inputs, request, least=2)
    n = min(n, request.count)
    both = {"": inputs.fake.images(m), "_real": inputs.real.images(n)}
    pairs = {end: pair_ms_ssims(one_size(images, request.name)) for end, images in both.items()}
    figures = {end: (float(values.mean()), mean_interval(values)) for end, values in pairs.items()}
    return _against_real(request.name, figures, {"real": n, "fake": m}, "more alike than real ones are: collapse",
                         "less alike than real ones are: noise, artefacts or images that fall apart")


def vendi(inputs: MetricInputs, request: Request) -> MetricValue:
    """Vendi score of generated images by their correlation at 32 pixels; <name>_real of as many real ones, and _ratio.

    It counts how many different images a set is worth, and grows with their number: compare at equal counts. A ratio
    of 1 is the variety of the data, below is collapse, above noise or images unlike the data.
    """
    n = min(counts_of(inputs, request, least=2))
    figures = {}
    for end, images in (("", inputs.fake), ("_real", inputs.real)):
        rows = embed(images.features("pixels32", n).to(inputs.device).double())
        score, error = vendi_and_error(rows)
        figures[end] = score, (score * math.exp(-Z * error), score * math.exp(Z * error))
    return _against_real(request.name, figures, {"real": n, "fake": n},
                         "more varied than real ones are: noise, artefacts or images unlike the data",
                         "less varied than real ones are: collapse")


def _against_real(name: str, figures: dict[str, tuple[float, Interval]], counts: dict[str, int], above: str,
                  below: str) -> MetricValue:
    """figures: of generated ("") and real images ("_real"), with their intervals; notes where these do not meet."""
    (fake, (low, high)), (real, (real_low, real_high)) = figures[""], figures["_real"]
    results = {name: fake, f"{name}_real": real, f"{name}_ratio": fake / real if real else math.nan}
    said = above if low > real_high else below if high < real_low else None
    notes = (f"{name}: generated images are {said}.",) if said else ()
    return MetricValue(results, counts, {name + end: interval for end, (_, interval) in figures.items()}, notes)


def ms_ssim(a: Tensor, b: Tensor) -> Tensor:
    """Multi-scale structural similarity [N] of images a, b [N,C,H,W] with values 0..255, averaged over channels.

    Equal images have 1, unrelated ones about 0. Takes the scales, of five, that hold a window of 11 pixels (images of
    176: all; 64: three; 16: one) with their exponents rescaled to the sum 1; below 11 pixels the window shrinks.
    Contrast-structure that is negative counts as 0, since its power is not real.
    """
    assert a.shape == b.shape and a.ndim == 4, (a.shape, b.shape)
    a, b = a.double(), b.double()
    scales = num_scales(min(a.shape[2:]))
    weights = torch.tensor(SCALE_WEIGHTS[:scales], dtype=torch.float64, device=a.device)
    factors = []
    for scale in range(scales):
        ssim, structure = _ssim_terms(a, b)
        factors.append((structure if scale < scales - 1 else ssim).clamp_min(0))
        a, b = _halved(a), _halved(b)
    per_channel = torch.stack(factors, dim=2) ** (weights / weights.sum())  # [NCS]
    return per_channel.prod(dim=2).mean(dim=1)


def num_scales(size: int) -> int:
    """How many of the five scales images of this width or height have, at least 1."""
    fitting = max(size // WINDOW, 1).bit_length()
    return min(fitting, len(SCALE_WEIGHTS))


def _ssim_terms(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """SSIM and its contrast-structure part [N,C], averaged over the image."""
    c1, c2 = (K1 * RANGE) ** 2, (K2 * RANGE) ** 2
    mean_a, mean_b = _blur(a), _blur(b)
    spread = _blur(a * a) + _blur(b * b) - mean_a.square() - mean_b.square()
    together = _blur(a * b) - mean_a * mean_b
    structure = (2 * together + c2) / (spread + c2)
    luminance = (2 * mean_a * mean_b + c1) / (mean_a.square() + mean_b.square() + c1)
    return (luminance * structure).mean(dim=[2, 3]), structure.mean(dim=[2, 3])


def _blur(x: Tensor) -> Tensor:
    """The Gaussian window where it lies within the image; sums of slices, many times faster than float64 conv2d."""
    size = min(x.shape[2:])
    taps = WINDOW if size >= WINDOW else size - 1 + size % 2
    window = torch.exp(-(torch.arange(taps, dtype=torch.float64) - taps // 2) ** 2 / (2 * SIGMA**2))
    weights = (window / window.sum()).tolist()
    for dim in (2, 3):
        length = x.shape[dim] - taps + 1
        total = weights[0] * x.narrow(dim, 0, length)
        for i in range(1, taps):
            total.add_(x.narrow(dim, i, length), alpha=weights[i])
        x = total
    return x


def _halved(x: Tensor) -> Tensor:
    height, width = x.shape[2] // 2, x.shape[3] // 2
    return x[:, :, :2 * height, :2 * width].unflatten(3, (width, 2)).unflatten(2, (height, 2)).mean(dim=[3, 5])


def luminance(images: np.ndarray) -> Tensor:
    """uint8 images [N,C,H,W] as gray [N,1,H,W] float64 in 0..255 (ITU-R BT.601); what is transparent is black."""
    x = torch.from_numpy(images).double()
    if x.shape[1] == 1:
        return x
    gray = (x[:, :3] * x.new_tensor([0.299, 0.587, 0.114])[:, None, None]).sum(dim=1, keepdim=True)
    return gray * x[:, 3:] / 255 if x.shape[1] == 4 else gray


def pair_ms_ssims(batches: Iterable[np.ndarray]) -> Tensor:
    """MS-SSIM [P] of the luminance of neighbours (first and second, third and fourth, ...).

    In a stream of uint8 images [N,C,H,W] in random order, these are random pairs, each independent of the others; a
    last odd image is left out.
    """
    values = [torch.zeros(0, dtype=torch.float64)]
    left: Tensor | None = None
    for batch in batches:
        gray = luminance(batch) if left is None else torch.cat([left, luminance(batch)])
        pairs = len(gray) // 2
        if pairs:
            values.append(ms_ssim(gray[0:2 * pairs:2], gray[1:2 * pairs:2]))
        left = gray[2 * pairs:]
    return torch.cat(values)


def mean_pair_ms_ssim(batches: Iterable[np.ndarray]) -> tuple[float, int]:
    """The mean of pair_ms_ssims, and the number of pairs. Not a number for less than a pair.

    The higher, the more alike images are (Odena et al. 2017, section 4.2).
    """
    values = pair_ms_ssims(batches).tolist()
    return (math.fsum(values) / len(values) if values else math.nan), len(values)


def embed(reduced: Tensor) -> Tensor:
    """Rows [N,D] of reduced pixels less their own mean, at length 1: products are correlations of images.

    A constant image, which has no correlation, becomes a row of its own, orthogonal to all that are not constant.
    """
    centred = reduced - reduced.mean(dim=1, keepdim=True)
    length = centred.norm(dim=1, keepdim=True)
    flat = length <= 1e-9 * math.sqrt(reduced.shape[1])
    return torch.where(flat, 1 / math.sqrt(reduced.shape[1]), centred / torch.where(flat, 1, length))


def mirrored(rows: Tensor, channels: int) -> Tensor:
    """The rows [N, C*R*R] that images flipped left to right have; C = channels."""
    side = math.isqrt(rows.shape[1] // channels)
    return rows.reshape(len(rows), channels, side, side).flip(3).reshape(rows.shape)


def vendi_score(rows: Tensor) -> float:
    """The effective number of different images among rows [N,D] of length 1, 1..N (Friedman & Dieng 2023, eq. 3).

    The exponential of the entropy of the eigenvalues of K / N with K = rows rows^T; those of rows^T rows / N are the
    same, so that the smaller matrix is taken: at most 3072 x 3072 for colour at 32 pixels.
    """
    values = torch.linalg.eigvalsh(_smaller_kernel(rows.double()))
    values = values[values > 1e-12]
    return float(torch.exp(-(values * values.log()).sum()))


def vendi_and_error(rows: Tensor) -> tuple[float, float]:
    """vendi_score, and the standard error of its logarithm.

    To first order a row x adds (psi(x) - mean psi) / N to the entropy of R = rows^T rows / N, with psi(x) = -x^T log(R)
    x; its variance over the rows is the infinitesimal jackknife. The bias of few images is not in it.
    """
    rows = rows.double()
    n, dimensions = rows.shape
    values, vectors = torch.linalg.eigh(_smaller_kernel(rows))
    values, vectors = values[values > 1e-12], vectors[:, values > 1e-12]
    weights = vectors.square() * n * values if n <= dimensions else (rows @ vectors).square()  # [N,R], sums 1
    psi = -(weights @ values.log())
    return float(torch.exp(-(values * values.log()).sum())), float(psi.std() / math.sqrt(n))


def _smaller_kernel(rows: Tensor) -> Tensor:
    n, dimensions = rows.shape
    return (rows @ rows.T if n <= dimensions else rows.T @ rows) / n


def two_nn_dimension(rows: Tensor, discard: float = 0.1) -> float:
    """Intrinsic dimension of rows [N,D] from distances to the two nearest neighbours (Facco et al. 2017, eq. 5).

    The slope through the origin of -log(1 - F) over log(r2 / r1), F the empirical distribution, without the share
    `discard` of largest ratios. Rows that have an equal (r1 = 0) are left out; not a number below 3 that are left.
    """
    nearest, second = _two_distances(rows.double())
    different = nearest > 1e-9 * second
    ratios = (second[different] / nearest[different]).sort().values
    n = len(ratios)
    kept = math.floor(n * (1 - discard))
    if n < 3:
        return math.nan
    x = ratios[:kept].log()
    y = -torch.log1p(-torch.arange(1, kept + 1, dtype=torch.float64, device=x.device) / n)
    return float((x @ y) / (x @ x))


def _two_distances(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Distances [N], [N] to the nearest and second nearest other row; candidates by products, then measured exactly."""
    n = len(rows)
    if n < 3:
        return rows.new_zeros([0]), rows.new_zeros([0])
    squares = rows.square().sum(1)
    found = []
    for start in range(0, n, _ROWS):
        block = rows[start:start + _ROWS]
        distances = squares - 2 * (block @ rows.T)  # less |block|^2, which changes no order
        own = torch.arange(len(block), device=rows.device)
        distances[own, own + start] = math.inf
        candidates = distances.topk(min(4, n - 1), largest=False).indices  # [B4]
        exact = torch.stack([(block - rows[candidates[:, k]]).norm(dim=1) for k in range(candidates.shape[1])], dim=1)
        found.append(exact.sort(dim=1).values[:, :2])
    both = torch.cat(found)
    return both[:, 0], both[:, 1]


def copy_threshold(rows: Tensor) -> float:
    """The correlation from which two of the rows [N,D] of length 1 count as copies of one another.

    In homogeneous data different images are alike too: it is 0.995 for the mri kind of `sample-data` and 0.956 for the
    cigarettes. Both lie above what any two of 1200 different ones have at 64x64 (0.983, 0.901), and low enough that
    noise of deviation 8, JPEG of quality 40, less contrast or mirroring hide 0 to 4 % of copies.
    """
    mean_correlation = float(rows.mean(0).square().sum())
    return min(1 - NEAR * (1 - mean_correlation), NEAR_MOST)


def distinct(rows: Tensor, flipped: Tensor, near: float) -> Tensor:
    """Which of rows [N,D] of length 1 are no copies: bool [N]. flipped [N,D]: the same images mirrored.

    Taken in order, a row is a copy when its product with one that was kept before, or with that one mirrored, is
    `near` or more. So a chain of small changes does not become one image.
    """
    rows, flipped = rows.float(), flipped.float()
    kept = torch.zeros(len(rows), dtype=torch.bool)
    for start in range(0, len(rows), _ROWS):
        block, end = rows[start:start + _ROWS], min(start + _ROWS, len(rows))
        alike = torch.maximum(block @ rows[:end].T, block @ flipped[:end].T).cpu() >= near  # [B,end]
        for i in range(start, end):
            kept[i] = not bool((alike[i - start, :i] & kept[:i]).any())
    return kept
