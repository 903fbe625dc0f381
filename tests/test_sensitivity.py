"""Which damage moves which number, and which cannot see it; docs/metrics.md has the table of larger images."""

import math
from functools import cache

import pytest

from benchmarks.sensitivity import damaged, measured, rendered

IMAGES, SIZE = 100, 64
SEEN = {  # figures that become this many times what undamaged images have, at least; or at most, below 1
    "blur, sigma 1":            {"swd_64": 3, "rfd": 3, "spectrum": 10, "prdc32_recall": 0.5},
    "blur, sigma 2.5":          {"swd_16": 1.5, "rfd": 10, "pfd32": 3, "msssim": 1.15, "vendi": 0.7},
    "noise, sd 8":              {"swd_64": 1.5, "rfd": 1.8, "spectrum": 2},
    "JPEG, quality 20":         {"swd_64": 1.2, "rfd": 1.25, "spectrum": 1.5},
    "contrast x 0.85":          {"rfd": 1.4, "pfd32": 1.6, "tone": 5, "prdc32_recall": 0.5},
    "brightness + 12":          {"rfd": 1.25, "pfd32": 1.5, "tone": 5, "prdc32_density": 0.5},
    "shift by 4 %":             {"swd_16": 5, "pfd32": 5, "prdc32_coverage": 0.1},
    "checkerboard, +-10":       {"swd_64": 2.5, "rfd": 10, "spectrum": 3},
    "warped":                   {"pfd32": 3, "prdc32_precision": 0.1, "spectrum": 3},
    "collapse to 20":           {"pfd32": 1.4, "rfd": 1.4, "prdc32_recall": 0.8, "prdc32_coverage": 0.8, "vendi": 0.95},
    "training copies, noise 2": {"swd": 0.4, "rfd": 0.3, "pfd32": 0.1, "prdc32_authenticity": 0.1},
}  # fmt: skip
BLIND = {  # those that stay what they are within 20 %
    "blur, sigma 1":            ("swd_16", "prdc32_coverage"),
    "noise, sd 8":              ("swd_32", "pfd32", "prdc32_precision", "prdc32_coverage", "msssim", "vendi"),
    "JPEG, quality 20":         ("swd_32", "swd_16", "pfd32", "prdc32_precision", "prdc32_coverage", "msssim", "vendi"),
    "contrast x 0.85":          ("swd_64", "swd_32", "swd_16", "msssim", "vendi"),
    "brightness + 12":          ("swd_64", "swd_32", "swd_16", "msssim", "vendi", "spectrum"),
    "shift by 4 %":             ("tone", "msssim", "vendi"),
    "checkerboard, +-10":       ("swd_32", "swd_16", "pfd32", "prdc32_precision", "prdc32_coverage", "msssim", "vendi"),
    "collapse to 20":           ("swd_64", "prdc32_precision", "tone", "spectrum"),
}  # fmt: skip


@cache
def figures():
    both = rendered("mri", SIZE, 2 * IMAGES)
    return {name: measured(both[:IMAGES], fake) for name, fake in damaged(both[:IMAGES], both[IMAGES:])}


@pytest.mark.slow
def test_images_held_out_are_at_the_floor():
    clean = figures()["held out, as they are"]
    for name in ("swd", "rfd", "pfd32"):
        assert 0.6 < clean[f"{name}_ratio"] < 1.4
    for name in ("precision", "recall", "density", "coverage", "authenticity"):
        assert 0.8 < clean[f"prdc32_{name}_ratio"] < 1.25
    assert 0.8 < clean["msssim_ratio"] < 1.25 and 0.8 < clean["vendi_ratio"] < 1.25


@pytest.mark.slow
@pytest.mark.parametrize("damage", SEEN)
def test_damage_moves_what_can_see_it(damage):
    clean, hurt = figures()["held out, as they are"], figures()[damage]
    for key, factor in SEEN[damage].items():
        moved = hurt[key] / clean[key]
        assert moved > factor if factor > 1 else moved < factor, (key, moved)
    assert set(hurt) == set(clean) and all(math.isfinite(value) for value in hurt.values())


@pytest.mark.slow
@pytest.mark.parametrize("damage", BLIND)
def test_damage_leaves_what_cannot_see_it(damage):
    clean, hurt = figures()["held out, as they are"], figures()[damage]
    for key in BLIND[damage]:
        assert hurt[key] == pytest.approx(clean[key], rel=0.2), key
