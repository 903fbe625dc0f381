"""The arithmetic of metrics against numbers of torch-fidelity 0.4.0 and pytorch-fid 0.3.0, frozen in
tests/golden/metric_arithmetic.npz by test_parity_arithmetic.py."""

import pytest
from arithmetic_cases import CASES, ours
from golden_data import Golden

GOLDEN = Golden("metric_arithmetic").meta


@pytest.mark.parametrize("case", CASES)
def test_equals_the_frozen_numbers_of_other_packages(case):
    found = ours(case)
    assert found == pytest.approx(GOLDEN["torch-fidelity"][case], rel=1e-6)
    assert found["fid"] == pytest.approx(GOLDEN["pytorch-fid"][case], rel=1e-6)
