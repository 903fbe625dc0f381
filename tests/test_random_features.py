import hashlib

import numpy as np
import pytest
import torch
from image_sets import image_inputs
from test_swd import textures

from metrics.detectors import random_features
from metrics.detectors.random_features import GRID, RandomFeatures, _Numbers, open_random_features, unit_filters

CPU = torch.device("cpu")


def rows(images):
    with torch.no_grad():
        return open_random_features(CPU).rows(torch.from_numpy(np.ascontiguousarray(images)))


def test_numbers_are_those_of_splitmix64():
    """The sequence of seed 1234567 that the generator's reference gives, and numbers drawn in parts."""
    expected = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431,
                16408922859458223821]
    assert _Numbers(1234567).words(5).tolist() == expected
    parts = _Numbers(1234567)
    assert [*parts.words(2).tolist(), *parts.words(3).tolist()] == expected


def test_bells_and_uniform_numbers_have_the_moments_of_their_names():
    bells = _Numbers(3).bells(100000) / 2**16
    assert abs(bells.mean()) < 0.02 and bells.var() == pytest.approx(4 * 4 / 12, rel=0.02)
    assert (bells**4).mean() / bells.var() ** 2 == pytest.approx(2.7, rel=0.03)  # four uniform ones: 3 - 1.2 / 4
    uniform = _Numbers(4).uniform(100000)
    assert -1 <= uniform.min() < -0.999 and 0.999 < uniform.max() < 1 and abs(uniform.mean()) < 0.01


def test_filters_have_length_one_and_those_of_detail_no_sum():
    filters = unit_filters(_Numbers(5).bells(6 * 3 * 9).reshape(6, 3, 9), 4)
    np.testing.assert_allclose(np.square(filters).sum(axis=(1, 2)), 1)
    np.testing.assert_allclose(filters[:4].sum(axis=2), 0, atol=1e-12)
    assert np.abs(filters[4:].sum(axis=2)).min() > 1e-3


def test_weights_follow_from_the_seed_and_a_change_is_noticed(monkeypatch):
    assert RandomFeatures().digest() == random_features.DIGEST == RandomFeatures().digest()
    assert RandomFeatures(seed=2).digest() != random_features.DIGEST
    assert open_random_features(CPU).digest == f"random:{random_features.DIGEST}"
    monkeypatch.setattr(random_features, "DETAIL", 19.0)
    with pytest.raises(AssertionError, match="have changed"):
        open_random_features(CPU)


def test_digest_is_that_of_the_bytes():
    state = RandomFeatures().state_dict()
    everything = b"".join(value.numpy().tobytes() for value in state.values())
    assert hashlib.sha256(everything).hexdigest() == random_features.DIGEST
    assert {value.dtype for value in state.values()} == {torch.float32}


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 8, 8), (4, 64, 64), (1, 33, 50), (3, 1, 1), (3, 300, 520)])
def test_any_image_has_512_finite_features(shape):
    images = np.random.RandomState(0).randint(0, 256, [3, *shape], np.uint8)
    found = rows(images)
    assert found.shape == (3, 512) and found.dtype == torch.float32 and found.isfinite().all()
    assert rows(np.zeros([1, *shape], np.uint8)).isfinite().all()


def test_gray_is_gray_colour_and_transparency_is_black():
    gray = textures(2)
    torch.testing.assert_close(rows(gray), rows(gray.repeat(3, axis=1)), rtol=0, atol=1e-5)
    opaque = np.concatenate([gray.repeat(3, axis=1), np.full_like(gray, 255)], axis=1)
    torch.testing.assert_close(rows(opaque), rows(gray), rtol=0, atol=1e-5)
    hidden = np.concatenate([gray.repeat(3, axis=1), np.zeros_like(gray)], axis=1)
    torch.testing.assert_close(rows(hidden), rows(np.zeros_like(gray)), rtol=0, atol=1e-5)


def test_a_row_depends_on_its_image_alone(monkeypatch):
    images = textures(5, 3)
    together = rows(images)
    monkeypatch.setattr(random_features, "_PIXELS", {"cpu": 1})
    torch.testing.assert_close(rows(images), together, rtol=0, atol=1e-5)
    torch.testing.assert_close(rows(images[3:4]), together[3:4], rtol=0, atol=1e-5)


def test_features_are_means_and_deviations_of_the_layers_of_a_convolution():
    """The first layer by scipy, at one image."""
    from scipy.ndimage import correlate

    image = textures(1, 3, 16)
    layer = RandomFeatures().first
    weight, bias = layer.weight.detach().numpy().astype(np.float64), layer.bias.detach().numpy()
    x = image[0] / 127.5 - 1
    sums = np.stack([sum(correlate(x[c], weight[o, c], mode="constant") for c in range(3)) + bias[o]
                     for o in range(16)])
    out = sums / (1 + np.abs(sums))
    found = rows(image)[0].numpy()
    np.testing.assert_allclose(found[:16], out.mean(axis=(1, 2)), atol=1e-5)
    np.testing.assert_allclose(found[16:32], out.std(axis=(1, 2)), atol=1e-5)


def test_large_images_cost_no_more_than_the_grid_and_keep_what_lies_between_pixels():
    """A checkerboard, which halving the image would have taken away, is seen."""
    gray = np.full([1, 1, 2 * GRID, 2 * GRID], 128, np.uint8)
    board = gray + (np.indices(gray.shape[2:]).sum(0) % 2 * 20 - 10).astype(np.uint8)
    small = np.ascontiguousarray(gray[:, :, :GRID, :GRID])
    torch.testing.assert_close(rows(gray), rows(small), rtol=0, atol=0.01)
    assert (rows(board) - rows(gray)).abs().max() > 0.3


def test_the_detector_is_found_by_its_name():
    assert image_inputs(textures(2), textures(2)).detector("random_v1").digest.startswith("random:")
