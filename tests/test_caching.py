"""Where images are kept: the same values from everywhere, one copy a machine, and what does not fit is said."""

import itertools
import os
import pickle
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch
from archives import make_images, write_archive

from stylegan2_pipeline import caching, shared_memory
from stylegan2_pipeline.caching import cache_dataset
from stylegan2_pipeline.dataset import ImageDataset
from stylegan2_pipeline.loader import batches
from torch_utils import distributed
from torch_utils.errors import UserError

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    return write_archive(tmp_path_factory.mktemp("caching") / "data.zip", make_images(9), [0, 1, 2] * 3)


def open_archive(archive):
    return ImageDataset(archive, use_labels=True, mirror=True)


def first(dataset, count=8):
    return list(itertools.islice(batches(dataset, seed=3, start=8, batch=4, offset=1, share=3), count))


@pytest.mark.parametrize(("mode", "sentence", "preloaded", "on_device"), [
    ("none", "read from the archive as they are needed (--cache=none)", False, False),
    ("ram", "decoded once, kept in memory (1.7 kB)", True, False),
    ("auto", "decoded once, kept in memory (1.7 kB)", True, False),
    ("gpu", "decoded once, kept on the GPU and in memory (1.7 kB)", True, True),  # with the CPU as the GPU
])
def test_values_are_the_same_wherever_they_are_kept(archive, mode, sentence, preloaded, on_device):
    plain, cached = open_archive(archive), open_archive(archive)
    assert cache_dataset(cached, mode, CPU) == sentence
    assert cached.preloaded == preloaded and (cached.device_images is not None) == on_device
    for a, b in zip(first(plain), first(cached), strict=True):
        assert torch.equal(a[0], b[0]) and torch.equal(a[1], b[1]) and b[0].dtype == torch.uint8
    assert all(np.array_equal(plain.image(i), cached.image(i)) for i in range(len(plain)))


def test_what_does_not_fit_in_memory_is_read_from_the_archive(archive, monkeypatch):
    monkeypatch.setattr(caching, "available_memory", lambda: 3000.0)
    dataset = open_archive(archive)
    assert cache_dataset(dataset, "auto", CPU) == ("read from the archive as they are needed (they need 1.7 kB, 3.0 kB "
                                                   "are free)")
    assert not dataset.preloaded
    monkeypatch.setattr(caching, "CHUNK_BYTES", 500)  # to the device in pieces of two
    assert "kept on the GPU (1.7 kB)" in cache_dataset(dataset, "gpu", CPU)
    assert not dataset.preloaded
    for a, b in zip(first(open_archive(archive)), first(dataset), strict=True):
        assert torch.equal(a[0], b[0])


def test_what_was_asked_for_and_does_not_fit_is_refused(archive, monkeypatch):
    monkeypatch.setattr(caching, "total_memory", lambda: 1000.0)
    with pytest.raises(UserError, match=r"--cache=ram: the images need 1\.7 kB, and there are 1\.0 kB of memory"):
        cache_dataset(open_archive(archive), "ram", CPU)
    monkeypatch.setattr(caching, "device_memory", lambda device: 1000.0)
    with pytest.raises(UserError, match=r"--cache=gpu: .* 1\.0 kB of the GPU's memory are free"):
        cache_dataset(open_archive(archive), "gpu", CPU)


@pytest.mark.gpu
@pytest.mark.parametrize("mode", ["auto", "gpu"])
def test_images_on_the_gpu_come_as_its_tensors(archive, mode, monkeypatch):
    monkeypatch.setattr(caching, "CHUNK_BYTES", 500)
    dataset, device = open_archive(archive), torch.device("cuda", 0)
    assert cache_dataset(dataset, mode, device) == "decoded once, kept on the GPU and in memory (1.7 kB)"
    for a, b in zip(first(open_archive(archive)), first(dataset), strict=True):
        assert b[0].device == device and torch.equal(a[0], b[0].cpu()) and torch.equal(a[1], b[1])
    assert pickle.loads(pickle.dumps(dataset)).device_images is None
    with pytest.raises(UserError, match="--cache=gpu: the images need"):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1000, 2000))
        cache_dataset(open_archive(archive), "gpu", device)


def on_ranks(count, monkeypatch, action):
    """action(rank) in threads that take themselves for the ranks of a run; results, or the errors raised."""
    me, meeting, desk = threading.local(), threading.Barrier(count, timeout=20), {}
    monkeypatch.setattr(distributed, "rank", lambda: getattr(me, "rank", 0))
    monkeypatch.setattr(distributed, "world_size", lambda: count)

    def gather(value):
        desk[distributed.rank()] = value
        meeting.wait()
        values = [desk[rank] for rank in range(count)]
        meeting.wait()
        return values

    monkeypatch.setattr(caching, "gather_objects", gather)
    results = [None] * count

    def run(rank):
        me.rank = rank
        try:
            results[rank] = action(rank)
        except UserError as error:
            results[rank] = error

    threads = [threading.Thread(target=run, args=[rank]) for rank in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def test_ranks_of_one_machine_decode_a_share_each_into_one_memory(archive, monkeypatch):
    sets = [open_archive(archive) for _ in range(3)]
    reads = [[] for _ in sets]
    for dataset, read in zip(sets, reads, strict=True):
        decode = dataset._decode
        monkeypatch.setattr(dataset, "_decode", lambda raw, decode=decode, read=read: read.append(raw) or decode(raw))
    sentences = on_ranks(3, monkeypatch, lambda rank: cache_dataset(sets[rank], "ram", CPU))
    assert sentences == ["decoded once, kept in memory (1.7 kB, shared by 3 processes)"] * 3
    assert [sorted(read) for read in reads] == [[0, 3, 6], [1, 4, 7], [2, 5, 8]]
    for index, pixels in enumerate(make_images(9)):
        assert all(np.array_equal(dataset.image(index), pixels) for dataset in sets)
        assert all(not dataset.image(index).flags.writeable for dataset in sets)


def test_machines_decide_for_themselves(archive, monkeypatch):
    sets = [open_archive(archive) for _ in range(3)]
    monkeypatch.setattr(caching, "host_name", lambda: "big" if distributed.rank() else "small")
    monkeypatch.setattr(caching, "available_memory", lambda: 1e9 if distributed.rank() else 100.0)
    sentences = on_ranks(3, monkeypatch, lambda rank: cache_dataset(sets[rank], "auto", CPU))
    assert "read from the archive" in sentences[0]
    assert sentences[1] == sentences[2] == "decoded once, kept in memory (1.7 kB, shared by 2 processes)"
    assert [dataset.preloaded for dataset in sets] == [False, True, True]


def test_where_memory_cannot_be_shared_the_archive_serves(archive, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(shared_memory, "borrow", refuse)
    sets = [open_archive(archive) for _ in range(2)]
    for sentence in on_ranks(2, monkeypatch, lambda rank: cache_dataset(sets[rank], "auto", CPU)):
        assert "read from the archive as they are needed (this system lets processes share no memory" in sentence
    assert not any(dataset.preloaded for dataset in sets)


def test_a_broken_image_stops_all_ranks_by_name(tmp_path, monkeypatch):
    write_archive(tmp_path / "data", make_images(4))
    sets = [ImageDataset(tmp_path / "data") for _ in range(2)]
    (tmp_path / "data" / "00000" / "img00000001.png").write_bytes(b"<html>gone")
    errors = on_ranks(2, monkeypatch, lambda rank: cache_dataset(sets[rank], "ram", CPU))
    assert all("img00000001.png: not an image but a web page" in error.format_message() for error in errors)


def test_memory_is_shared_where_memfd_is_forbidden(monkeypatch):
    def forbid(name):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "memfd_create", forbid)
    fd = shared_memory.create(12)
    one, other = shared_memory.view(fd, (3, 4)), shared_memory.view(shared_memory.borrow(shared_memory.lend(fd)), (12,))
    one[2, 3] = 7
    assert other.tolist() == [0] * 11 + [7]


RANK = """
import sys, torch
from pathlib import Path
from stylegan2_pipeline.caching import cache_dataset
from stylegan2_pipeline.dataset import ImageDataset
rank, archive, meeting = int(sys.argv[1]), sys.argv[2], sys.argv[3]
torch.distributed.init_process_group("gloo", rank=rank, world_size=2, init_method=f"file://{meeting}")
dataset = ImageDataset(archive)
print(cache_dataset(dataset, "auto", torch.device("cpu")))
print([line.split()[4] for line in Path("/proc/self/maps").read_text().splitlines() if "stylegan2-data" in line])
print(dataset.digest())
torch.distributed.barrier()
torch.distributed.destroy_process_group()
"""


@pytest.mark.slow
def test_two_processes_map_the_same_memory(archive, tmp_path):
    ranks = [subprocess.Popen([sys.executable, "-c", RANK, str(rank), str(archive), str(tmp_path / "meeting")],
                              stdout=subprocess.PIPE, text=True) for rank in range(2)]
    told = [rank.communicate(timeout=120)[0].splitlines() for rank in ranks]
    assert told[0] == told[1] and [rank.returncode for rank in ranks] == [0, 0]
    assert "shared by 2 processes" in told[0][0]
    assert told[0][1].count("'") == 2  # one mapping, of one inode
    assert told[0][2] == ImageDataset(archive).digest()
