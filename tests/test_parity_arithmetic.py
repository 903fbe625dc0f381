"""Distances and shares equal to those of torch-fidelity and pytorch-fid, of the same features. Their numbers are frozen
in tests/golden/metric_arithmetic.npz, which test_metric_arithmetic.py compares with where they are not installed."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from arithmetic_cases import CASES, SUBSET_SIZE, SUBSETS, K, features, ours
from golden_data import Golden
from parity import pytorch_fid, torch_fidelity

from metrics.frechet import frechet_of_samples


def by_torch_fidelity(case):
    torch_fidelity()
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
    from torch_fidelity.metric_isc import isc_features_to_metric
    from torch_fidelity.metric_kid import kid_features_to_metric
    from torch_fidelity.metric_prc import prc_features_to_metric

    real, fake = (x.double() for x in features(case))
    statistics = [fid_features_to_statistics(x) for x in (fake, real)]
    kid = kid_features_to_metric(fake, real, kid_subsets=SUBSETS, kid_subset_size=SUBSET_SIZE, verbose=False)
    prc = prc_features_to_metric(fake, real, prc_neighborhood=K, verbose=False)
    isc = isc_features_to_metric(fake, shuffle=False)
    fid = fid_statistics_to_metric(*statistics, verbose=False)["frechet_inception_distance"]
    return {
        "fid": fid, "fid of moments": fid,
        "kid": kid["kernel_inception_distance_mean"], "kid std": kid["kernel_inception_distance_std"],
        "precision": prc["precision"], "recall": prc["recall"],
        "is": isc["inception_score_mean"], "is std": isc["inception_score_std"],
    }


def by_pytorch_fid(case):
    found = pytorch_fid().fid_score
    moments = [(np.mean(x, axis=0), np.cov(x, rowvar=False)) for x in (f.double().numpy() for f in features(case))]
    return float(found.calculate_frechet_distance(*moments[0], *moments[1]))


@pytest.mark.parametrize("case", CASES)
def test_torch_fidelity(case):
    assert ours(case) == pytest.approx(by_torch_fidelity(case), rel=1e-6)


@pytest.mark.parametrize("case", CASES)
def test_pytorch_fid(case):
    assert ours(case)["fid"] == pytest.approx(by_pytorch_fid(case), rel=1e-6)


def test_frozen_numbers_are_those_of_the_packages():
    frozen = Golden("metric_arithmetic").meta
    for case in CASES:
        # their roots of matrices differ by 2e-9 between processors with and without AVX-512
        assert frozen["torch-fidelity"][case] == pytest.approx(by_torch_fidelity(case), rel=1e-8)
        assert frozen["pytorch-fid"][case] == pytest.approx(by_pytorch_fid(case), rel=1e-6)


@pytest.mark.slow
def test_as_many_dimensions_as_inception():
    """Theirs takes roots of some 1,700 eigenvalues that are 0 but for rounding: 2e-6 too much."""
    torch_fidelity()
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric

    rng = np.random.RandomState(0)
    real, fake = (torch.from_numpy(rng.randn(n, 2048) * np.arange(1, 2049) ** -0.5) for n in (300, 250))
    statistics = [fid_features_to_statistics(x) for x in (fake, real)]
    expected = fid_statistics_to_metric(*statistics, verbose=False)["frechet_inception_distance"]
    assert frechet_of_samples(real, fake, ddof=1) == pytest.approx(expected, rel=1e-5)


def freeze():
    """Writes metric_arithmetic.npz."""
    numbers = {"torch-fidelity": {case: by_torch_fidelity(case) for case in CASES},
               "pytorch-fid": {case: by_pytorch_fid(case) for case in CASES}}
    np.savez_compressed(Path(__file__).parent / "golden" / "metric_arithmetic.npz", meta=np.array(json.dumps(numbers)))
