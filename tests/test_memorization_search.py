"""The search for copies and its parts, against plain formulations and closed forms."""

import math

import numpy as np
import pytest
import torch
from brains import alike
from scipy import stats

from metrics.memorization.alignment import align, correlation
from metrics.memorization.control import DISGUISES, plant
from metrics.memorization.duplicates import alike as alike_pairs
from metrics.memorization.duplicates import copy_distance, find_duplicates
from metrics.memorization.figures import Threshold, chance_of_flags, inference, mann_whitney_z, threshold
from metrics.memorization.search import Index, Move, Moves, turned
from metrics.memorization.thumbnails import thumbnails
from torch_utils.seeding import derive_seed

CPU = torch.device("cpu")


def thumbs(images, batch=16):
    return thumbnails((images[i:i + batch] for i in range(0, len(images), batch)), CPU)


def plain_distances(query, others, reach):
    """[N] of the least distance over mirroring and shifts by halves of pixels, for thumbnails [C,S,S] of 32 pixels."""
    side, best = query.shape[-1], np.full(len(others), np.inf)
    inner = others[:, :, reach:side - reach, reach:side - reach]
    unit = inner - inner.mean((2, 3), keepdims=True)
    unit /= np.sqrt((unit**2).sum((1, 2, 3), keepdims=True))
    for picture in (query, query[..., ::-1]):
        twice = np.zeros([*query.shape[:1], 2 * side - 1, 2 * side - 1])
        twice[:, ::2, ::2] = picture
        twice[:, 1::2, ::2] = (twice[:, :-1:2, ::2] + twice[:, 2::2, ::2]) / 2
        twice[:, :, 1::2] = (twice[:, :, :-1:2] + twice[:, :, 2::2]) / 2
        for y in range(4 * reach + 1):
            for x in range(4 * reach + 1):
                window = twice[:, y:y + 2 * (side - 2 * reach):2, x:x + 2 * (side - 2 * reach):2]
                window = window - window.mean((1, 2), keepdims=True)
                window /= np.sqrt((window**2).sum())
                best = np.minimum(best, np.sqrt(((window - unit)**2).sum((1, 2, 3))))
    return best


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_search_is_the_plain_one(channels):
    train, asked = thumbs(alike(15, 1, channels=channels)), thumbs(alike(3, 2, channels=channels))
    found = Index(train).search(asked, 15, Moves(32, turn=False))
    for i in range(3):
        expected = plain_distances(asked.grids[i].double().numpy(), train.grids.double().numpy(), 2)
        assert found.distance[i].numpy() == pytest.approx(np.sort(expected), abs=1e-5)
        assert found.distance[i].numpy() == pytest.approx(expected[found.index[i]], abs=1e-5)


def test_every_move_is_found_again():
    """The move of a neighbour is what was done to the image asked for, so that it comes to lie on the other."""
    images = alike(40, 3, size=64)
    moved = torch.from_numpy(images[:4]).float()
    cases = {Move(mirror=True): moved.flip(3), Move(down=2.0, right=-3.0): moved.roll((-2, 3), (2, 3)),
             Move(turn=2.5): turned(moved, -2.5), Move(turn=-2.5): turned(moved, 2.5)}
    index, moves = Index(thumbs(images)), Moves(64)
    for move, asked in cases.items():
        found = index.search(thumbs(asked.to(torch.uint8).numpy()), 2, moves)
        assert found.index[:, 0].tolist() == [0, 1, 2, 3]
        assert [moves.all.moves[int(i)] for i in found.move[:, 0]] == [move] * 4
        assert bool((found.nearest < 0.5 * found.distance[:, 1]).all())


def test_brightness_contrast_and_tint_do_not_count():
    images = alike(30, 4, channels=3)
    changed = (images[:5] * np.array([0.6, 0.8, 0.7])[:, None, None] + np.array([30, 5, 0])[:, None, None])
    found = Index(thumbs(images)).search(thumbs(changed.astype(np.uint8)), 1, Moves(32))
    assert found.index[:, 0].tolist() == list(range(5)) and bool((found.nearest < 0.15).all())


def test_of_equal_moves_the_least_is_named():
    symmetric = alike(25, 5) // 2 + alike(25, 5)[..., ::-1] // 2
    moves = Moves(32)
    found = Index(thumbs(symmetric)).search(thumbs(symmetric[:5]), 1, moves)
    assert {moves.all.moves[int(i)] for i in found.move[:, 0]} == {Move()}


def test_groups_can_be_left_out():
    images = thumbs(alike(30, 6))
    groups = torch.arange(30)
    groups[7] = 0
    found = Index(images, groups).search(images.part(torch.tensor([0, 7])), 29, Moves(32), without=torch.zeros(2, 1))
    assert not {0, 7} & set(found.index[found.distance.isfinite()].tolist())
    assert found.distance.isinf().sum(1).tolist() == [1, 1]  # 29 asked for, 28 there


def test_result_does_not_depend_on_batches():
    images = alike(50, 7)
    index, moves = Index(thumbs(images, 50)), Moves(32)
    whole = index.search(thumbs(alike(40, 8), 40), 5, moves)
    single = index.search(thumbs(alike(40, 8), 3).part(torch.tensor([33])), 5, moves)
    assert torch.equal(whole.index[33], single.index[0])
    assert whole.distance[33].tolist() == pytest.approx(single.distance[0].tolist(), abs=1e-6)


@pytest.mark.parametrize("size", [8, 16, 20, 32, 48, 64, 256])
def test_images_of_any_size(size):
    images = alike(24, 9, size=size)
    asked = images[:3] if size == 8 else images[:3, :, :, ::-1]
    found = Index(thumbs(images)).search(thumbs(asked), 3, Moves(thumbs(images).side))
    assert found.index[:, 0].tolist() == [0, 1, 2] and bool((found.nearest < 1e-2).all())


def test_duplicates_are_grouped():
    rng = np.random.default_rng(0)
    images = alike(60, 10, size=64)
    noisy = np.clip(images[3].astype(float) + rng.normal(0, 2, images[3].shape), 0, 255).astype(np.uint8)
    found = find_duplicates(thumbs(np.concatenate([images, images[:2], noisy[None], images[3:5, :, :, ::-1]])))
    assert found.sets == [[3, 62, 63], [0, 60], [1, 61], [4, 64]]
    assert (found.different, found.exact) == (60, 2) and found.groups[62] == found.groups[63] == 3


def test_neighbours_in_one_head_are_alike_and_no_copies():
    images = alike(40, 10, size=64)
    rng = np.random.default_rng(0)
    slices = np.clip(images[:10].astype(int) + rng.integers(-3, 4, images[:10].shape), 0, 255).astype(np.uint8)
    both = thumbs(np.concatenate([images, slices, images[20:21]]))  # ten neighbours, and a picture of two people
    anyone = find_duplicates(both)
    assert [len(members) for members in anyone.sets] == [2] * 11 and anyone.different == 40
    subjects = [*range(40), *range(10), 40]
    found = find_duplicates(both, subjects)
    assert found.sets == [[20, 50]] and found.different == 50
    assert found.groups.tolist() == anyone.groups.tolist()  # nobody's neighbours count as others'
    assert find_duplicates(both, [*range(40), *range(10), 20]).sets == [[20, 50]]  # equal pixels are copies in any case


def test_no_pair_of_duplicates_is_missed():
    """The test at 16 pixels, by which pairs are chosen, lets none pass that is nearer at 32, whatever the limit."""
    images = thumbs(alike(40, 11, channels=3))
    rows = images.rows(32).double()
    mirrored = rows.reshape(40, 3, 28, 28).flip(3).flatten(1)
    distances = torch.minimum(torch.cdist(rows, rows), torch.cdist(rows, mirrored))
    limit = float(distances[distances > 0].quantile(0.2))
    expected = {(i, j) for i in range(40) for j in range(i + 1, 40) if distances[i, j] < limit}
    assert set(alike_pairs(images, limit)) == expected and len(expected) > 100


def test_a_set_in_which_all_are_alike_is_not_one_image():
    images = thumbs(alike(60, 12, amount=4))
    assert find_duplicates(images).different == 60 and copy_distance(images) < 0.1


def test_threshold_and_what_is_expected():
    distances = torch.arange(1.0, 251.0)
    found = threshold(distances[torch.randperm(250, generator=torch.Generator().manual_seed(0))], 0.01)
    assert (found.tau, found.place, found.expected) == (2.0, 2, 2 / 251)
    assert threshold(distances[:20], 0.01).expected == 1 / 21


def test_chance_of_flags_is_that_of_exchangeable_images():
    """What draws of both sets together give; and a true p-value: seldom below a level."""
    rng, m, n = np.random.default_rng(0), 30, 40
    limit = Threshold(0.0, 2, m)
    values = rng.random((20000, m + n))
    flags = (values[:, m:] < np.sort(values[:, :m], axis=1)[:, 1:2]).sum(1)
    for k in (1, 3, 8):
        assert chance_of_flags(k, n, limit) == pytest.approx((flags >= k).mean(), abs=0.012)
    assert chance_of_flags(0, n, limit) == pytest.approx(1)
    assert flags.mean() == pytest.approx(n * limit.expected, rel=0.03)
    binomial = stats.binom.sf(11, 500, 2 / 251)
    assert binomial < 0.001 < 0.03 < chance_of_flags(12, 500, Threshold(0.0, 2, 250))


def test_mann_whitney_is_scipys():
    rng = np.random.default_rng(1)
    a, b = rng.integers(0, 9, 40), rng.integers(1, 10, 30)
    expected = stats.mannwhitneyu(a, b, use_continuity=False, method="asymptotic")
    z = mann_whitney_z(torch.from_numpy(a), torch.from_numpy(b))
    assert 2 * stats.norm.cdf(-abs(z)) == pytest.approx(expected.pvalue) and z < 0
    assert mann_whitney_z(torch.ones(5), torch.ones(6)) == 0


def test_inference_of_what_cannot_and_can_be_told():
    generator = torch.Generator().manual_seed(derive_seed(0, "distances"))
    a, b = torch.randn(300, generator=generator), torch.randn(200, generator=generator)
    same, nearer = inference(a, b, 0), inference(a - 1, b, 0)
    assert same.auc_interval[0] < 0.5 < same.auc_interval[1] and same.tpr < 0.05
    assert nearer.auc == pytest.approx(stats.norm.cdf(1 / math.sqrt(2)), abs=0.04)
    assert nearer.auc_interval[0] < nearer.auc < nearer.auc_interval[1]
    assert nearer.auc_interval[1] - nearer.auc_interval[0] == pytest.approx(0.085, abs=0.02)
    assert nearer.tpr == float((a - 1 < b.sort().values[2]).float().mean()) > 0.03
    assert math.isnan(inference(a, b[:99], 0).tpr)
    assert inference(a - 9, b, 0).auc == 1 and inference(a * 0, b * 0, 0).auc == 0.5


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_disguises_change_the_image_and_keep_its_shape(channels):
    images = alike(7, 13, size=64, channels=channels)
    copies = plant(list(images), list(range(7)), np.random.default_rng(0))
    assert [copy.disguise for copy in copies] == list(DISGUISES)
    for copy, image in zip(copies, images, strict=True):
        assert copy.image.shape == image.shape and copy.image.dtype == np.uint8
        assert (copy.image[:3] != image[:3]).any(), copy.disguise
        if copy.disguise in ("noise", "jpeg", "contrast"):
            assert np.array_equal(copy.image[3:], image[3:])


@pytest.mark.parametrize("move", [Move(True), Move(False, 0.0, 2.0, -3.0), Move(True, 0.0, -1.0, 4.0),
                                  Move(True, 2.5, 1.0, 0.0)])
def test_alignment_undoes_the_move(move):
    """Of a generated image that is the training image, moved; to within an edge that is gone."""
    real = alike(1, 14, size=128)[0]
    x = torch.from_numpy(real)[None].float()
    x = x.roll((-round(2 * move.down) + 1, -round(2 * move.right)), (2, 3))  # a pixel beside the thumbnail's
    x = turned(x, -move.turn)
    fake = (x.flip(3) if move.mirror else x)[0].to(torch.uint8).numpy()
    found = align(fake, real, move, 64)
    inside = np.s_[:, 12:-12, 12:-12]
    difference = np.abs(found.image[inside].astype(int) - fake[inside])
    assert difference.mean() < 2 and (move.turn or difference.max() <= 1)
    assert found.correlation > 0.98


def test_correlation_of_nothing_is_none():
    assert correlation(torch.zeros(1, 1, 8, 8), torch.rand(1, 1, 8, 8)) == 0
