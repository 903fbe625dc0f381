"""The Inception score: its ends, its formula, its parts."""

import numpy as np
import pytest
import torch
from image_sets import FeatureSet, feature_inputs
from torch import nn

from metrics.detectors.base import Detector
from metrics.inception_score import inception_score, score, split_scores
from metrics.inputs import MetricInputs, Request
from torch_utils.errors import UserError

CLASSES = 7


def network(weight):
    module = nn.Module()
    module.fc = nn.Linear(weight.shape[1], weight.shape[0])
    module.fc.weight.data = weight
    return module


def measure(features, weight=None, count=50000):
    weight = torch.eye(features.shape[1]) if weight is None else weight
    return inception_score(feature_inputs(features[:1], features, module=network(weight)), Request("is50k", count))


def test_uniform_is_one_and_sure_and_balanced_is_the_number_of_classes():
    assert measure(np.ones([40, CLASSES])).results == {"is50k_mean": pytest.approx(1), "is50k_std": pytest.approx(0)}
    sure = 100 * np.tile(np.eye(CLASSES), [20, 1])
    assert measure(sure).results["is50k_mean"] == pytest.approx(CLASSES, rel=1e-9)
    collapsed = 100 * np.tile(np.eye(CLASSES)[:1], [20, 1])
    assert measure(collapsed).results["is50k_mean"] == pytest.approx(1)


def test_formula_and_parts():
    """103 images: ten parts that differ in size by at most one, without the bias of the last layer."""
    rng = np.random.RandomState(0)
    features, weight = rng.randn(103, 4).astype(np.float32), rng.randn(CLASSES, 4).astype(np.float32)
    logits = features.astype(np.float64) @ weight.T
    scores = []
    for part in range(10):
        p = np.exp(logits[part * 103 // 10:(part + 1) * 103 // 10])
        p /= p.sum(1, keepdims=True)
        scores.append(np.exp(np.mean(np.sum(p * np.log(p / p.mean(0)), 1))))
    value = measure(features, torch.from_numpy(weight))
    assert value.results == {"is50k_mean": pytest.approx(np.mean(scores)), "is50k_std": pytest.approx(np.std(scores))}
    low, high = value.intervals["is50k_mean"]
    assert 1 <= low < np.mean(scores) < high
    assert value.counts == {"fake": 103}
    assert "medical" in value.notes[0] and "too low" in value.notes[1]


def test_extreme_logits_stay_finite():
    logits = torch.tensor([[1e4, 0.0, -1e4], [0.0, 1e4, -1e4]]).double()
    assert float(score(logits)) == pytest.approx(2)


def test_only_the_first_images_count_and_batches_do_not():
    features = np.random.RandomState(0).randn(60, CLASSES)
    assert measure(features, count=40) == measure(features[:40])
    stream = FeatureSet({"inception": features}, batch=7)
    opened = Detector("inception", "none", None, module=network(torch.eye(CLASSES)))
    found = inception_score(MetricInputs(stream, stream, lambda name: opened), Request("is50k", 60))
    assert found == measure(features)
    assert split_scores(torch.from_numpy(features), torch.eye(CLASSES)).shape == (10,)


def test_fewer_images_than_parts_are_refused():
    with pytest.raises(UserError, match=r"is50k takes at least 10 generated images.*there are 9.*--num"):
        measure(np.ones([9, CLASSES]))
