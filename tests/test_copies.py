"""Copies in a collection: equal pixels, nearly equal ones, mirrored ones."""

import hashlib

import numpy as np
import pytest
from PIL import Image

from stylegan2_pipeline.conversion.copies import equal_sets, exact_copies, find_copies, near_copies


def pictures(count, channels, seed=0):
    """Soft spots anywhere, uint8 [N,C,96,96]; no two are alike."""
    spots = np.random.default_rng(seed).integers(0, 256, (count, channels, 6, 6), np.uint8)
    return np.stack([np.stack([np.array(Image.fromarray(plane).resize((96, 96), Image.Resampling.BICUBIC))
                               for plane in image]) for image in spots])


def thumbs_of(images):
    """uint8 [N,64,64,C] of uint8 [N,C,H,W], as the scan makes them."""
    small = [np.stack([np.array(Image.fromarray(plane).resize((64, 64), Image.Resampling.BOX)) for plane in image], 2)
             for image in images]
    return np.stack(small)


def digests_of(images):
    return [hashlib.sha256(image.tobytes()).hexdigest() for image in images]


def test_equal_pixels_are_copies_of_the_first_but_flat_images_of_nobody():
    digests, flat = ["a", "b", "a", "0", "0", "b", "a"], [False, False, False, True, True, False, False]
    assert exact_copies(digests, flat) == [0, 1, 0, 3, 4, 1, 0]
    assert equal_sets([0, 1, 0, 3, 4, 1, 0]) == [[0, 2, 6], [1, 5]]
    copies = find_copies(digests, flat)
    assert (copies.exact, copies.near) == ([2, 5, 6], [[0, 2, 6], [1, 5]])
    assert find_copies([], []).near == []


@pytest.mark.parametrize("channels", [1, 3])
def test_mirrored_and_lossy_copies_are_found_and_others_are_not(channels):
    images = pictures(150, channels)
    random = np.random.default_rng(1)
    copies = images[:40].astype(int)
    copies[:10] = copies[:10, :, :, ::-1]                                            # mirrored
    copies[10:20] += np.rint(random.normal(0, 4, copies[10:20].shape)).astype(int)   # noise
    copies[20:30] = copies[20:30] * 0.8 + 20                                         # contrast and brightness
    everything = np.concatenate([images, copies.clip(0, 255).astype(np.uint8)])
    found = find_copies(digests_of(everything), [False] * len(everything), thumbs_of(everything))
    assert found.exact == list(range(180, 190))
    assert sorted(map(tuple, found.near)) == [(i, 150 + i) for i in range(40)]


def test_flat_images_are_in_no_set():
    images = pictures(30, 1)
    images[[3, 7, 9]] = 0
    flat = [not image.any() for image in images]
    assert near_copies(thumbs_of(images), digests_of(images), flat) == []
    assert near_copies(thumbs_of(images)[:1], ["a"], [False]) == []


def test_hidden_colour_makes_no_difference():
    colour = pictures(40, 3)
    alpha = np.where(colour[:, :1] > 60, 255, 0).astype(np.uint8)
    images = np.concatenate([colour, alpha], 1)
    hidden = images[:5].copy()
    hidden[:, :3][np.broadcast_to(hidden[:, 3:] == 0, hidden[:, :3].shape)] = 200
    everything = np.concatenate([images, hidden])
    found = near_copies(thumbs_of(everything), digests_of(everything), [False] * 45)
    assert sorted(map(tuple, found)) == [(i, 40 + i) for i in range(5)]


def test_slices_of_one_volume_are_no_copies_but_those_of_a_doubled_volume_are_one_by_one():
    def volume(seed):
        ends = pictures(2, 1, seed).astype(float)
        parts = np.linspace(0, 0.1, 6)[:, None, None, None]
        return (ends[0] * (1 - parts) + ends[1] * parts).round().astype(np.uint8)  # neighbours differ by little

    volumes = np.concatenate([volume(seed) for seed in range(24)])
    again = (volumes[12:18] * 0.9 + 6).round().astype(np.uint8)[..., ::-1]  # the third, in another window, mirrored
    single = volumes[50:51]
    everything = np.concatenate([volumes, again, single])
    whose = [*(f"series {i // 6}" for i in range(144)), *["again"] * 6, None]
    arguments = thumbs_of(everything), digests_of(everything), [False] * len(everything)
    assert len(near_copies(*arguments)[0]) > 2
    found = near_copies(*arguments, whose)
    assert sorted(map(tuple, found)) == [*((12 + i, 144 + i) for i in range(6)), (50, 150)]
