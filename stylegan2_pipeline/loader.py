"""Batches in an endless order that depends on the seed and the position alone, so that resuming is exact."""

import functools
import itertools
import signal
from collections.abc import Iterator

import numpy as np
import torch

from stylegan2_pipeline.dataset import ImageDataset
from torch_utils.errors import UserError
from torch_utils.seeding import derive_seed

Batch = tuple[torch.Tensor, torch.Tensor]


def sample_index(seed: int, position: int, n: int) -> int:
    """Which of n samples stands at `position` of the endless order: each epoch of n is a permutation of its own."""
    epoch, offset = divmod(position, n)
    return int(_permutation(seed, epoch, n)[offset])


@functools.lru_cache(maxsize=4)
def _permutation(seed: int, epoch: int, n: int) -> np.ndarray:
    # Sorted random bits, not Generator.permutation: numpy promises the bits to stay the same across its versions.
    return np.argsort(np.random.PCG64(derive_seed(seed, "epoch", epoch)).random_raw(n), kind="stable")


def batches(dataset: ImageDataset, *, seed: int, start: int, batch: int, offset: int = 0, share: int | None = None,
            workers: int = 0, pin_memory: bool = False) -> Iterator[Batch]:
    """Endless (images uint8 [share,C,H,W], labels float32 [share,label_dim]).

    Item k holds the positions start + k*batch + offset + (0 .. share-1): `start` images were seen before, each step
    of all ranks together takes `batch`, and this rank takes `share` of them from `offset` (default: all).
    workers: processes that read images ahead, unless the dataset is preloaded; the values do not depend on it.
    Raises UserError, naming the file, when an image cannot be read.
    """
    share = batch if share is None else share
    assert start >= 0 and offset >= 0 and share > 0 and offset + share <= batch
    slices = _Slices(dataset, seed, start + offset, batch, share)
    steps: Iterator[Batch | UserError]
    if workers == 0 or dataset.preloaded:
        steps = map(slices.__getitem__, itertools.count())
        return _raising(_pinned(steps) if pin_memory else steps)
    return _raising(iter(torch.utils.data.DataLoader(
        slices, sampler=_Count(), batch_size=None, num_workers=workers, pin_memory=pin_memory,
        worker_init_fn=_ignore_interrupt, generator=torch.Generator())))  # not the global one, which is the caller's


class _Slices(torch.utils.data.Dataset):
    """Item k is the k-th batch, or the UserError that reading it met (to cross processes with its message whole)."""

    def __init__(self, dataset: ImageDataset, seed: int, first: int, stride: int, share: int) -> None:
        self.dataset, self.seed, self.first, self.stride, self.share = dataset, seed, first, stride, share

    def __getitem__(self, step: int) -> Batch | UserError:
        begin = self.first + step * self.stride
        positions = range(begin, begin + self.share)
        indices = [sample_index(self.seed, position, len(self.dataset)) for position in positions]
        try:
            images = np.stack([self.dataset.image(index) for index in indices])
        except UserError as error:
            return error
        labels = np.stack([self.dataset.label(index) for index in indices])
        return torch.from_numpy(images), torch.from_numpy(labels)


class _Count(torch.utils.data.Sampler[int]):
    def __iter__(self) -> Iterator[int]:
        return itertools.count()


def _raising(steps: Iterator[Batch | UserError]) -> Iterator[Batch]:
    for step in steps:
        if isinstance(step, UserError):
            raise step
        yield step


def _pinned(steps: Iterator[Batch | UserError]) -> Iterator[Batch | UserError]:
    for step in steps:
        yield step if isinstance(step, UserError) else (step[0].pin_memory(), step[1].pin_memory())


def _ignore_interrupt(worker: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
