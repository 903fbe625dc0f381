"""The probe: what each figure says of images made to have or lack what it measures."""

import math

import numpy as np
import pytest
import torch
from pictures import heads, sticks

from stylegan2_pipeline.augment import AUGPIPES, AugmentPipe
from stylegan2_pipeline.health.probe import HealthProbe, effective_number, nearest_distances, small_images


def augmented(images, pipe, p, seed=1000):
    augment = AugmentPipe(AUGPIPES[pipe])
    draws = augment.draw([torch.Generator().manual_seed(seed + i) for i in range(len(images))])
    changed = augment(torch.from_numpy(images).float() / 127.5 - 1, p=p, draws=draws)
    return (changed * 127.5 + 128).clamp(0, 255).to(torch.uint8).numpy()


@pytest.fixture(scope="module")
def data():
    """240 images to know and 64 others of the same kind, by kind."""
    return {make.__name__: (make(240), make(64, seed=1)) for make in (heads, sticks)}


@pytest.fixture(scope="module")
def probes(data):
    return {kind: HealthProbe(reals) for kind, (reals, _) in data.items()}


def noise(n, channels=3, size=16, low=0, high=256, seed=0):
    return np.random.RandomState(seed).randint(low, high, (n, channels, size, size)).astype(np.uint8)


@pytest.mark.parametrize("kind", ["heads", "sticks"])
def test_other_images_of_the_data_are_like_the_data(data, probes, kind):
    figures = probes[kind].measure(data[kind][1])
    for name in ("diversity", "distinct", "nearest_pair", "contrast", "sharpness", "nearest_real"):
        assert figures[f"Health/{name}"] == pytest.approx(1, abs=0.25), name
    assert figures["Health/variety"] == pytest.approx(1, abs=0.4)
    assert abs(figures["Health/brightness"]) < 0.3 and abs(figures["Health/extreme"]) < 0.1
    assert all(abs(value) < 0.2 for name, value in figures.items() if "leak" in name)


def test_diversity_of_the_data_itself_is_one_and_scales_with_the_deviation_from_the_mean():
    reals = noise(20)
    assert HealthProbe(reals).measure(reals)["Health/diversity"] == pytest.approx(1, abs=1e-5)
    centre = reals.astype(float).mean(0)
    closer = (centre + (reals - centre) / 4).round().astype(np.uint8)
    figures = HealthProbe(reals).measure(closer)
    for name in ("diversity", "nearest_pair"):
        assert figures[f"Health/{name}"] == pytest.approx(0.25, rel=0.02)
    assert figures["Health/variety"] == pytest.approx(1, rel=0.02)  # alike, but in as many ways


def test_a_few_repeated_pictures_lack_variety_and_their_pairs_are_near():
    few = np.tile(noise(3, seed=1), (10, 1, 1, 1))
    figures = HealthProbe(noise(30)).measure(few)
    assert figures["Health/diversity"] > 0.6
    assert figures["Health/nearest_pair"] == pytest.approx(0, abs=1e-3)
    assert figures["Health/variety"] < 0.15


def test_garish_copies_of_one_picture_are_not_distinct():
    """Far apart in pixels, as flaws in a picture of full colours are, and still one picture."""
    one = (noise(1, size=32, seed=2) > 127).astype(np.uint8) * 255
    fakes = np.repeat(one, 40, 0)
    flaws = np.random.RandomState(0).rand(*fakes.shape) < 0.01
    fakes[flaws] = 255 - fakes[flaws]
    reals = noise(40, size=32, low=100, high=156)
    figures = HealthProbe(reals).measure(fakes)
    assert figures["Health/diversity"] > 0.5
    assert figures["Health/distinct"] < 0.3
    assert figures["Health/extreme"] > 0.95


def test_effective_number_of_directions():
    basis = torch.eye(64).reshape(64, 1, 8, 8)
    assert effective_number(basis) == pytest.approx(63, rel=1e-4)
    line = torch.linspace(0, 1, 20)[:, None, None, None] * basis[:1]
    assert effective_number(line) == pytest.approx(1)
    assert effective_number(basis[:1]) == 1


def test_nearest_distances_by_definition():
    x = torch.rand(7, 1, 4, 4)
    expected = [min((x[i] - x[j]).norm() for j in range(7) if j != i) for i in range(7)]
    assert torch.allclose(nearest_distances(x), torch.stack(expected), atol=1e-5)


def test_appearance(data, probes):
    others = data["sticks"][1]
    brighter = (others.astype(int) + 60).clip(0, 255).astype(np.uint8)
    blurred = others.reshape(64, 3, 16, 2, 16, 2).mean((3, 5)).repeat(2, 2).repeat(2, 3).astype(np.uint8)
    first, bright, soft = (probes["sticks"].measure(x) for x in (others, brighter, blurred))
    assert bright["Health/brightness"] - first["Health/brightness"] > 0.8
    assert soft["Health/sharpness"] < 0.75 * first["Health/sharpness"]
    black = probes["sticks"].measure(np.zeros_like(others))
    assert black["Health/contrast"] == 0 and black["Health/extreme"] > 0.9 and black["Health/diversity"] == 0


def test_images_of_the_data_repeated_are_found_near_to_it(data):
    reals = data["heads"][0]
    copies = HealthProbe(reals).measure(reals[:30])
    assert copies["Health/nearest_real"] < 0.01


def test_change_is_measured_against_the_call_before():
    probe = HealthProbe(noise(30))
    first = noise(8, seed=3)
    assert "Health/change" not in probe.measure(first)
    assert probe.measure(first)["Health/change"] == 0
    assert probe.measure(noise(8, seed=4))["Health/change"] == pytest.approx(1, rel=0.1)
    assert "Health/change" not in probe.measure(noise(9, seed=3))


@pytest.mark.parametrize("p", [0.3, 0.6, 1.0])
def test_leaks_are_measured_as_the_part_of_images_that_is_augmented(data, probes, p):
    """Of unseen images a part p was turned; p to 1 - (1 - p)^5 was recoloured, by one or more of five operations."""
    turned = probes["heads"].measure(augmented(data["heads"][1], "blit", p))
    assert turned["Health/leak_turn"] == pytest.approx(p, abs=0.2)
    shifted = probes["heads"].measure(augmented(data["heads"][1], "geom", p))
    assert shifted["Health/leak_border"] > 0.5 * p
    for kind, probe in probes.items():
        recoloured = probe.measure(augmented(data[kind][1], "color", p))
        assert 0.7 * p < recoloured["Health/leak_color"] < 1.15, kind


def test_gauges_do_not_take_one_augmentation_for_another(data, probes):
    figures = probes["heads"].measure(augmented(data["heads"][1], "bg", 1.0))
    assert figures["Health/leak_color"] < 0.25 and figures["Health/leak_turn"] > 0.7


def test_a_gauge_that_cannot_work_for_the_data_is_left_out(data, probes):
    """The sticks lie in all directions, on several grounds."""
    figures = probes["sticks"].measure(data["sticks"][1])
    assert "Health/leak_color" in figures
    assert "Health/leak_turn" not in figures and "Health/leak_border" not in figures


@pytest.mark.parametrize(("n", "m", "channels", "size"), [(1, 1, 1, 8), (1, 4, 3, 16), (2, 1, 4, 32), (3, 5, 4, 64),
                                                         (9, 70, 1, 8), (20, 8, 3, 128)])
def test_any_numbers_sizes_and_channels(n, m, channels, size):
    figures = HealthProbe(noise(n, channels, size)).measure(noise(m, channels, size, seed=1))
    assert figures and all(isinstance(value, float) and math.isfinite(value) for value in figures.values())
    assert all(name.startswith("Health/") for name in figures)


def test_data_that_is_all_the_same():
    probe = HealthProbe(np.full([12, 3, 32, 32], 77, np.uint8))
    figures = probe.measure(noise(12, size=32))
    assert "Health/diversity" not in figures and all(map(math.isfinite, figures.values()))


def test_small_images_are_block_means():
    images = noise(3, size=64)
    expected = images.reshape(3, 3, 32, 2, 32, 2).mean((3, 5)) / 255
    assert np.allclose(small_images(images).numpy(), expected, atol=1e-6)
    assert np.allclose(small_images(images[:, :, :8, :8]).numpy() * 255, images[:, :, :8, :8], atol=1e-4)


def test_measuring_changes_no_random_state():
    torch.manual_seed(5)
    state = torch.random.get_rng_state()
    HealthProbe(noise(12)).measure(noise(6))
    assert torch.equal(state, torch.random.get_rng_state())
