"""The LPIPS distance; numbers of torch-fidelity for the same weights stand in golden/lpips.npz."""

import numpy as np
import pytest
import torch
from seeded_weights import golden_cases, lpips_images, seeded_images, small_heads, small_vgg16, weights_file

from metrics.detectors.lpips import LPIPS, new_heads, open_lpips
from metrics.detectors.vgg16 import Convolutions
from torch_utils.errors import UserError


def images(seed, n=2, size=32):
    return seeded_images((n, 3, size, size), seed).float()


def opened(folder, network, heads):
    return open_lpips(weights_file(folder, "vgg16", network), weights_file(folder, "lpips", heads), torch.device("cpu"))


@pytest.fixture
def lpips(tmp_path):
    return opened(tmp_path, small_vgg16(), small_heads())


@pytest.mark.parametrize("size, expected", golden_cases("lpips"))
def test_distances_are_those_of_torch_fidelity(lpips, size, expected):
    distances = lpips(*lpips_images(size))
    assert distances.shape == (3,)
    np.testing.assert_allclose(distances, expected, rtol=1e-5)


def test_it_is_a_distance_but_for_the_triangle(lpips):
    a, b = images(1), images(2)
    assert torch.equal(lpips(a, a), torch.zeros(2))
    assert (lpips(a, b) > 0).all()
    torch.testing.assert_close(lpips(a, b), lpips(b, a))


def test_by_hand_on_a_network_that_passes_one_colour_through():
    """A vector of one number is 1 where there is intensity and 0 where there is none, however strong it is."""
    network, heads = Convolutions((1, 1, 1, 1, 1)), new_heads((1, 1, 1, 1, 1))
    for parameter in [*network.parameters(), *heads.parameters()]:
        torch.nn.init.zeros_(parameter)
    with torch.no_grad():
        for convolution in network.features.values():
            convolution.weight[:, 0, 1, 1] = 1
        heads.get_parameter("lin0.model.1.weight").fill_(2.0)
        heads.get_parameter("lin1.model.1.weight").fill_(0.5)
    dark, some = torch.zeros(1, 1, 16, 16), torch.zeros(1, 1, 16, 16)
    some[..., :4], some[..., 4] = 255, 130  # of ImageNet's mean, 124, both are more
    distance = LPIPS(network, heads).requires_grad_(False)(dark, some)
    torch.testing.assert_close(distance, torch.tensor([2.0 * 5 / 16 + 0.5 * 3 / 8]))


def test_channels_count_by_their_heads(lpips):
    a, b = images(3), images(4)
    before, parts = lpips(a, b), []
    heads = list(lpips.heads.parameters())
    kept = [head.clone() for head in heads]
    for chosen in range(5):
        for i, head in enumerate(heads):
            head.copy_(kept[i] * (i == chosen))
        parts.append(lpips(a, b))
    assert all((part > 0).all() for part in parts)
    torch.testing.assert_close(sum(parts), before)
    for head, value in zip(heads, kept, strict=True):
        head.copy_(3 * value)
    torch.testing.assert_close(lpips(a, b), 3 * before)


def test_gray_is_repeated(lpips):
    a, b = images(5)[:, :1], images(6)[:, :1]
    torch.testing.assert_close(lpips(a, b), lpips(a.expand(-1, 3, -1, -1), b.expand(-1, 3, -1, -1)))


def test_a_pair_does_not_see_its_batch(lpips):
    a, b = images(7, n=4), images(8, n=4)
    alone = torch.cat([lpips(x[None], y[None]) for x, y in zip(a, b, strict=True)])
    torch.testing.assert_close(alone, lpips(a, b))


def test_it_tells_which_way_images_come_closer(lpips):
    a, b = images(9, n=1).requires_grad_(), images(10, n=1)
    before = lpips(a, b)
    gradient, = torch.autograd.grad(before.sum(), a)
    assert lpips(a - 50 * gradient / gradient.abs().max(), b) < before
    assert torch.autograd.grad(lpips(a, a.detach()).sum(), a)[0].isfinite().all()


def test_heads_of_another_network_are_refused_in_words(tmp_path):
    heads = small_heads()
    del heads["lin3.model.1.weight"]
    with pytest.raises(UserError, match=r"lpips\.pth does not hold .*lin3\.model\.1\.weight"):
        opened(tmp_path, small_vgg16(), heads)


def test_a_network_without_its_convolutions_is_refused_in_words(tmp_path):
    with pytest.raises(UserError, match=r"vgg16\.pth does not hold .*features\.0\.weight"):
        opened(tmp_path, small_heads(), small_heads())
