"""The panel: numbers that need no network weights, each with what real images differ by among themselves.

None of them is an FID, and none compares with one, with a paper, or between datasets. What makes them honest is the
ratio: about 1 means that generated images are as close to the data as another sample of the data is, for what this
number can see.
"""

import math

from metrics.frechet import frechet_of_samples
from metrics.inputs import MetricInputs, MetricValue, Request
from torch_utils.errors import UserError


def pfd32(inputs: MetricInputs, request: Request) -> MetricValue:
    """Frechet distance of pixels at 32x32, at equal counts of real and generated images; intensities in [0, 1].

    It sees layout, brightness, contrast and collapse, and is blind to detail. <name>_floor is the distance between two
    disjoint halves of the real images, <name>_ratio that of a generated and a real half over it.
    """
    n = _equal_count(inputs, request)
    real = inputs.real.features("pixels32", n).to(inputs.device).double()
    fake = inputs.fake.features("pixels32", n).to(inputs.device).double()
    half = n // 2
    floor = frechet_of_samples(real[:half], real[half:2 * half])
    same_count = frechet_of_samples(real[:half], fake[:half])
    results = {
        request.name: frechet_of_samples(real, fake),
        f"{request.name}_floor": floor,
        f"{request.name}_ratio": same_count / floor if floor else math.nan,
    }
    return MetricValue(results, {"real": n, "fake": n, "floor": half})


def _equal_count(inputs: MetricInputs, request: Request, least: int = 2) -> int:
    n = min(inputs.num_real, request.real_most or inputs.num_real, inputs.num_fake(request.count))
    if n < least:
        raise UserError(f"{request.name} compares at least {least} images with as many; got {n}. Raise --num or give "
                        f"more --data.")
    return n
