"""The order of samples and the batches cut from it."""

import itertools

import numpy as np
import pytest
import torch
from archives import make_images, write_archive
from hypothesis import given, settings
from hypothesis import strategies as st

from stylegan2_pipeline import loader
from stylegan2_pipeline.dataset import ImageDataset
from stylegan2_pipeline.loader import batches, sample_index
from torch_utils.errors import UserError

N = 6


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Image i is filled with i, so that a batch shows which images it holds."""
    images = np.arange(N, dtype=np.uint8)[:, None, None, None].repeat(8, 2).repeat(8, 3)
    images[:, :, :, 4:] += 100  # the right half, to tell mirrored copies
    path = write_archive(tmp_path_factory.mktemp("loader") / "data.zip", images, list(range(N)))
    return ImageDataset(path, use_labels=True, mirror=True)


@given(seed=st.integers(0, 2 ** 40), n=st.integers(1, 40), epoch=st.integers(0, 10 ** 6))
def test_every_epoch_is_a_permutation_and_needs_no_history(seed, n, epoch):
    positions = range(epoch * n, epoch * n + n)
    order = [sample_index(seed, position, n) for position in positions]
    assert sorted(order) == list(range(n))
    loader._permutation.cache_clear()
    assert [sample_index(seed, position, n) for position in reversed(positions)] == order[::-1]


def test_epochs_and_seeds_differ():
    def order(seed, epoch):
        return tuple(sample_index(seed, epoch * 50 + i, 50) for i in range(50))

    assert len({order(seed, epoch) for seed in range(4) for epoch in range(4)}) == 16


def test_samples_are_uniform_at_every_place_of_the_epoch():
    counts = np.zeros((4, 4))
    for epoch in range(2000):
        for place in range(4):
            counts[place, sample_index(7, epoch * 4 + place, 4)] += 1
    assert np.abs(counts - 500).max() < 5 * np.sqrt(500 * 3 / 4)


def shown(images):
    """The dataset's number of each image, from its pixels."""
    left, right = images[:, 0, 0, 0].int(), images[:, 0, 0, -1].int()
    return torch.where(left < right, left, right + N).tolist()


def take(count, *args, **options):
    return list(itertools.islice(batches(*args, **options), count))


@settings(max_examples=40)
@given(data=st.data(), seed=st.integers(0, 99), start=st.integers(0, 10 ** 6), batch=st.integers(1, 9))
def test_shares_partition_the_global_order(dataset, data, seed, start, batch):
    cut = data.draw(st.integers(0, batch - 1))
    whole = take(3, dataset, seed=seed, start=start, batch=batch)
    expected = [sample_index(seed, start + i, 2 * N) for i in range(3 * batch)]
    assert [number for images, _ in whole for number in shown(images)] == expected
    parts = [(0, cut), (cut, batch - cut)] if cut else [(0, batch)]
    ranks = [take(3, dataset, seed=seed, start=start, batch=batch, offset=o, share=s) for o, s in parts]
    for step, (images, labels) in enumerate(whole):
        assert torch.equal(images, torch.cat([rank[step][0] for rank in ranks]))
        assert torch.equal(labels, torch.cat([rank[step][1] for rank in ranks]))
        assert labels.argmax(1).tolist() == [number % N for number in shown(images)]
        assert images.dtype == torch.uint8 and labels.dtype == torch.float32
    resumed = take(2, dataset, seed=seed, start=start + batch, batch=batch)
    assert all(torch.equal(a[0], b[0]) for a, b in zip(whole[1:], resumed, strict=True))


def test_workers_and_preloading_change_no_value_and_no_global_state(tmp_path):
    path = write_archive(tmp_path / "data.zip", make_images(7), [0, 1, 2, 0, 1, 2, 0])
    plain, loaded = (ImageDataset(path, use_labels=True, mirror=True) for _ in range(2))
    loaded.preload()
    options = {"seed": 3, "start": 8, "batch": 4, "offset": 1, "share": 2}
    expected = take(6, plain, **options)
    torch.manual_seed(5)
    state = torch.get_rng_state()
    for other in (take(6, loaded, **options, workers=2), take(6, plain, **options, workers=2)):
        assert all(torch.equal(a[0], b[0]) and torch.equal(a[1], b[1]) for a, b in zip(expected, other, strict=True))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_image_is_named_wherever_it_is_read(tmp_path, workers):
    write_archive(tmp_path / "data", make_images(3))
    dataset = ImageDataset(tmp_path / "data")
    (tmp_path / "data" / "00000" / "img00000002.png").write_bytes(b"<html>gone")
    with pytest.raises(UserError) as caught:
        take(2, dataset, seed=0, start=0, batch=3, workers=workers)
    assert "img00000002.png: not an image but a web page" in caught.value.format_message()
    assert "Traceback" not in caught.value.format_message()
