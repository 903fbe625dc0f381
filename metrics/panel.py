"""The panel: numbers that need no network weights, each with what real images differ by among themselves.

None of them is an FID, and none compares with one, with a paper, or between datasets. What makes them honest is the
ratio: about 1 means that generated images are as close to the data as another sample of the data is, for what this
number can see. The sliced Wasserstein distance, in metrics/swd.py, belongs to them.
"""

from dataclasses import replace

from metrics.counts import counts_of
from metrics.fid import fid
from metrics.inputs import MetricInputs, MetricValue, Request
from metrics.neighbours import K, density_coverage, precision_recall
from torch_utils.errors import UserError


def rfd(inputs: MetricInputs, request: Request) -> MetricValue:
    """Random-feature Frechet distance, at equal counts: keys <name>, _floor, _ratio, as metrics.fid.fid has them.

    It sees sharpness, noise, artefacts, contrast and colour, and collapse, and hardly where in the image things are.
    """
    return fid(inputs, _equal(inputs, request, 2), detector="random_v1")


def pfd32(inputs: MetricInputs, request: Request) -> MetricValue:
    """Pixel Frechet distance at 32x32, intensities in [0, 1], at equal counts: keys <name>, _floor, _ratio.

    It sees layout, brightness, contrast and collapse, and is blind to detail. Raises UserError for sets of images whose
    pixels at 32x32 are not equally many.
    """
    return fid(inputs, _equal_pixels(inputs, request, 2), detector="pixels32")


def prdc32(inputs: MetricInputs, request: Request) -> MetricValue:
    """Precision, recall, density, coverage and authenticity of pixels at 32x32, k = 5, at equal counts.

    Keys <name>_precision and so on, each with _floor and _ratio; metrics.neighbours says what they are. Low precision
    is images that are laid out like no real one, low recall or coverage real ones that nothing generated is like.
    """
    request = _equal_pixels(inputs, request, K + 1)
    fidelity = precision_recall(inputs, request, k=K, detector="pixels32")
    variety = density_coverage(inputs, request, k=K, detector="pixels32")
    return MetricValue(fidelity.results | variety.results, fidelity.counts, fidelity.intervals | variety.intervals,
                       fidelity.notes + variety.notes, fidelity.about)


def _equal(inputs: MetricInputs, request: Request, least: int) -> Request:
    """The request at as many real as generated images."""
    n = min(counts_of(inputs, request, least))
    return replace(request, count=n, real_most=n)


def _equal_pixels(inputs: MetricInputs, request: Request, least: int) -> Request:
    request = _equal(inputs, request, least)
    real, fake = (images.features("pixels32", request.count).shape[1] for images in (inputs.real, inputs.fake))
    if real != fake:
        raise UserError(f"{request.name} compares images pixel by pixel; the real ones have {real} numbers at 32x32, "
                        f"the others {fake}: another number of channels, or smaller images. Convert them with "
                        f"dataset_tool.py.")
    return request
