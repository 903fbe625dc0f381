"""Perceptual path length: how far images move for a small step of the latent (Karras et al. 2018, arXiv 1812.04948).

Small where the generator is smooth. Needs a network, and no real images; figures compare networks of one resolution and
kind of data only.
"""

import math

from torch import Tensor

from metrics.bootstrap import bootstrap
from metrics.inputs import MetricInputs, MetricValue, Request
from torch_utils.errors import UserError

EPSILON = 1e-4  # the step along the path between two latents
KEPT = (0.01, 0.99)  # quantiles: what lies outside is left out, as rare jumps would decide the mean


def ppl(inputs: MetricInputs, request: Request, kind: str = "ppl2_wend") -> MetricValue:
    """The mean over pairs of images of their LPIPS distance over the square of the step (section 4.1), tails left out.

    kind: which space and part of the path, see stylegan2_pipeline/path_distances.py; inputs.fake.features(kind, n) are
    the distances [n,1]. Raises UserError for generated images without a network, and for a network that makes images
    which are not numbers.
    """
    if inputs.fake.size is not None:
        raise UserError(f"{request.name} follows paths through the latents of a network; of images alone there are "
                        f"none. Give --network, or leave {request.name} out of --metrics.")
    count = inputs.num_fake(request.count)
    distances = inputs.fake.features(kind, count).flatten().double()
    lost = int((~distances.isfinite()).sum())
    if lost:
        raise UserError(f"{request.name}: {lost} of {count} path lengths are not finite: the network makes images that "
                        f"are not numbers. Give an earlier snapshot with --network.")
    return MetricValue(
        results={request.name: trimmed_mean(distances)},
        counts={"fake": count, "kept": len(within(distances))},
        intervals={request.name: bootstrap(distances, trimmed_mean, inputs.seed)},
        about={"estimator": "mean of LPIPS / epsilon^2 between the 1 % and 99 % quantiles", "epsilon": EPSILON,
               "path": kind})


def trimmed_mean(distances: Tensor) -> float:
    return float(within(distances).mean())


def within(distances: Tensor) -> Tensor:
    """Those of [N] between the quantiles KEPT, each of which is one of the values: the outer one where it would lie
    between two."""
    ordered = distances.sort().values
    last = len(ordered) - 1
    low, high = ordered[math.floor(KEPT[0] * last)], ordered[math.ceil(KEPT[1] * last)]
    return ordered[(ordered >= low) & (ordered <= high)]
