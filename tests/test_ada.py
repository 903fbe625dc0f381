import math

import pytest

from stylegan2_pipeline.ada import AdaController


def test_full_range_takes_the_named_number_of_images():
    ada = AdaController(kimg=500)
    updates = math.ceil(500e3 / (32 * 4))
    for _ in range(updates - 2):
        ada.update(0.9, batch=32)
    assert 0.99 < ada.p < 1
    for _ in range(3):
        ada.update(0.9, batch=32)
    assert ada.p == 1


@pytest.mark.parametrize(("sign_mean", "p"), [(0.7, 0.3 + 2.56e-4), (0.6, 0.3), (0.5, 0.3 - 2.56e-4), (math.nan, 0.3)])
def test_direction(sign_mean, p):
    assert AdaController(p=0.3).update(sign_mean, batch=32) == pytest.approx(p, abs=1e-12)


def test_p_stays_a_probability():
    assert AdaController(p=0.0).update(-1.0, batch=64) == 0
    assert AdaController(p=1.0).update(1.0, batch=64) == 1


def test_it_settles_where_the_sign_crosses_the_target():
    ada = AdaController(target=0.5, kimg=10)
    for _ in range(200):
        ada.update(1 - ada.p / 0.6, batch=64)  # overfitting that augmentation cures
    assert ada.p == pytest.approx(0.3, abs=0.03)
