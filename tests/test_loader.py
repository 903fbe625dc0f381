"""The order of samples and the batches cut from it."""

import itertools
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from archives import make_images, write_archive
from hypothesis import given, settings
from hypothesis import strategies as st

from stylegan2_pipeline import loader, read_ahead
from stylegan2_pipeline.caching import cache_dataset
from stylegan2_pipeline.dataset import ImageDataset
from stylegan2_pipeline.loader import batches, sample_index
from stylegan2_pipeline.read_ahead import Readers
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
    cache_dataset(loaded, "ram", torch.device("cpu"))
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


def test_a_vanished_dataset_is_named(tmp_path):
    write_archive(tmp_path / "data", make_images(3))
    dataset = ImageDataset(tmp_path / "data")
    shutil.rmtree(tmp_path / "data")
    with pytest.raises(UserError, match=r"--data: .*data is gone: it was moved, removed or unmounted"):
        take(1, dataset, seed=0, start=0, batch=3, workers=1)


@pytest.fixture
def processes(monkeypatch):
    """Every data worker that is started, in order."""
    started = []

    class Noted(read_ahead.Reader):
        def __init__(self, memory):
            super().__init__(memory)
            started.append(self.process)

    monkeypatch.setattr(read_ahead, "Reader", Noted)
    return started


def kill(process, number=signal.SIGKILL):
    os.kill(process.pid, number)
    if number == signal.SIGKILL:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # it is dead, and nobody was told


def test_killed_workers_are_replaced_then_done_without_and_no_value_changes(dataset, processes):
    options = {"seed": 3, "start": 8, "batch": 4, "offset": 1, "share": 2}
    expected, told = take(20, dataset, **options), []
    found, steps = [], batches(dataset, **options, workers=2, tell=told.append)
    for step in range(20):
        if step in (2, 8, 14):  # what a worker had finished is used; that it is dead is found a few steps later
            kill(processes[{2: 0, 8: 1, 14: 2}[step]])
        found.append(next(steps))
    assert all(torch.equal(a[0], b[0]) and torch.equal(a[1], b[1]) for a, b in zip(expected, found, strict=True))
    assert len(told) == 3 and len(processes) == 4
    assert all("was killed by SIGKILL" in sentence and "\n" not in sentence for sentence in told)
    assert all("another one goes on in its place" in sentence for sentence in told[:2])
    assert "3 did within 10 minutes: from here on the training process reads the images itself" in told[2]
    assert all(process.poll() is not None for process in processes)


def test_workers_that_cannot_even_start_are_done_without(dataset, processes, monkeypatch):
    told = []
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    found = take(5, dataset, seed=1, start=0, batch=4, workers=2, tell=told.append)
    for a, b in zip(found, take(5, dataset, seed=1, start=0, batch=4), strict=True):
        assert torch.equal(a[0], b[0])
    assert len(told) == 3 and "ended with exit code 1" in told[0] and "reads the images itself" in told[2]


def test_workers_leave_signals_to_the_training(dataset, processes):
    told = []
    steps = batches(dataset, seed=0, start=0, batch=4, workers=1, tell=told.append)
    next(steps)
    for name in ("SIGINT", "SIGTERM", "SIGUSR1"):
        kill(processes[0], getattr(signal, name))
    assert all(len(next(steps)[0]) == 4 for _ in range(6)) and not told and len(processes) == 1
    steps.close()
    assert processes[0].poll() == -signal.SIGKILL


def test_what_waits_is_bounded_and_cut_into_pieces(dataset, monkeypatch):
    image = 8 * 8
    options = {"seed": 3, "start": 8, "batch": 5, "share": 5}
    expected = take(6, dataset, **options)
    monkeypatch.setattr(read_ahead, "PIECE_BYTES", 2 * image)
    for most, slots in ((3 * 2 * image, 3), (1, 1), (1 << 20, 6)):
        monkeypatch.setattr(read_ahead, "MOST_BYTES", most)
        with Readers(dataset, lambda step: [0] * 5, 5, 2, print) as readers:
            assert readers.slots.shape == (slots, 2, 1, 8, 8) and len(readers.readers) == min(slots, 2)
        found = take(6, dataset, **options, workers=2)
        assert all(torch.equal(a[0], b[0]) for a, b in zip(expected, found, strict=True))


PARENT = """
import sys
from stylegan2_pipeline.dataset import ImageDataset
from stylegan2_pipeline.loader import batches
steps = batches(ImageDataset(sys.argv[1]), seed=0, start=0, batch=4, workers=2)
next(steps)
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.mark.slow
@pytest.mark.parametrize("how", ["killed", "ends"])
def test_workers_end_with_the_training(dataset, tmp_path, how):
    path = write_archive(tmp_path / "data.zip", make_images(3))
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert parent.stdout.readline() == b"ready\n"
    workers = Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()
    assert len(workers) == 2
    if how == "killed":
        parent.kill()
    parent.communicate(timeout=60)
    assert parent.returncode == (-signal.SIGKILL if how == "killed" else 0)
    deadline = time.monotonic() + 30
    while any(alive(pid) for pid in workers):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
