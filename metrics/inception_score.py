"""The Inception score (Salimans et al. 2016): exp of the mean divergence KL(p(y|x) || p(y)) of predicted classes.

It says how sure a classifier of photographs is of single images, and how many of its classes occur. It does not look
at real images, and means nothing for images of other kinds, medical ones among them.
"""

import math

import torch
from torch import Tensor

from metrics.bootstrap import mean_interval
from metrics.detectors.base import Detector
from metrics.inputs import MetricInputs, MetricValue, Request
from torch_utils.errors import UserError

SPLITS = 10
FEW = 10000


def inception_score(inputs: MetricInputs, request: Request) -> MetricValue:
    """<name>_mean and <name>_std, over ten parts of the images in their order; the deviation is that of a population.

    Classes are those of the network without the bias of its last layer, as in the original and in stylegan2-ada.
    The interval is of the mean, by Student's t over the parts. Few images of many classes score too low.
    """
    count = inputs.num_fake(request.count)
    if count < SPLITS:
        raise UserError(f"{request.name} takes at least {SPLITS} generated images, one for each part; there are "
                        f"{count}. Raise --num, or give more with --images.")
    scores = split_scores(inputs.fake.features("inception", count), last_layer(inputs.detector("inception")))
    low, high = mean_interval(scores)
    results = {f"{request.name}_mean": float(scores.mean()), f"{request.name}_std": float(scores.std(correction=0))}
    return MetricValue(results, {"fake": count}, {f"{request.name}_mean": (max(low, 1.0), high)}, tuple(_notes(count)),
                       {"estimator": "float64", "splits": SPLITS, "logits": "without bias"})


def last_layer(detector: Detector) -> Tensor:
    """[classes,D], which takes features to logits."""
    assert detector.module is not None
    return detector.module.get_parameter("fc.weight").detach()


def split_scores(features: Tensor, weight: Tensor) -> Tensor:
    """[SPLITS] float64 scores of parts of the images, in their order; features [N,D], weight [classes,D]."""
    n, to_logits = len(features), weight.double().T
    parts = (features[i * n // SPLITS:(i + 1) * n // SPLITS] for i in range(SPLITS))
    return torch.stack([score(part.to(weight.device).double() @ to_logits) for part in parts]).cpu()


def score(logits: Tensor) -> Tensor:
    """exp of the mean over images of KL(p(y|x) || p(y)), of logits [N,classes] float64: from 1 to the classes."""
    log_p = logits.log_softmax(1)
    log_mean = log_p.logsumexp(0) - math.log(len(logits))
    return (log_p.exp() * (log_p - log_mean)).sum(1).mean().exp()


def _notes(count: int) -> list[str]:
    notes = ["The Inception score does not compare with real images, and says nothing of images that are not "
             "photographs of everyday things, such as medical ones."]
    if count < FEW:
        notes.append(f"Each part has {count // SPLITS} images: fewer than there are classes, so the score is too low; "
                     f"compare it only with scores of as many images.")
    return notes
