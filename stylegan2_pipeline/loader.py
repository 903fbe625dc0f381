"""Batches in an endless order that depends on the seed and the position alone, so that resuming is exact."""

import functools
import itertools
from collections.abc import Callable, Iterator

import numpy as np
import torch

from stylegan2_pipeline.dataset import ImageDataset
from stylegan2_pipeline.read_ahead import read_ahead
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
            workers: int = 0, pin_memory: bool = False, tell: Callable[[str], None] = print) -> Iterator[Batch]:
    """Endless (images uint8 [share,C,H,W], labels float32 [share,label_dim]).

    Item k holds the positions start + k*batch + offset + (0 .. share-1): `start` images were seen before, each step
    of all ranks together takes `batch`, and this rank takes `share` of them from `offset` (default: all).
    workers: processes that read images ahead, where they are not decoded yet; the values do not depend on it, nor on
    what becomes of the processes, which is told. Images that are on a device come as tensors there, else in memory.
    Raises UserError, naming the file, when an image cannot be read.
    """
    share = batch if share is None else share
    assert start >= 0 and offset >= 0 and share > 0 and offset + share <= batch
    n = len(dataset)

    def numbers(step: int) -> list[int]:
        begin = start + offset + step * batch
        return [sample_index(seed, position, n) for position in range(begin, begin + share)]

    images = (map(functools.partial(on_device, dataset), map(numbers, itertools.count()))
              if dataset.device_images is not None else
              read_ahead(dataset, numbers, share, 0 if dataset.preloaded else workers, pin_memory, tell))
    for step, pixels in enumerate(images):
        labels = torch.from_numpy(np.stack([dataset.label(number) for number in numbers(step)]))
        yield pixels, labels.pin_memory() if pin_memory else labels


def on_device(dataset: ImageDataset, numbers: list[int]) -> torch.Tensor:
    """uint8 [K,C,H,W] of those images that are kept on a device."""
    store = dataset.device_images
    assert store is not None
    index = torch.tensor(numbers).to(store.device, non_blocking=True)
    images = store[index % len(store)]
    if not dataset.mirror:
        return images
    return torch.where((index >= len(store))[:, None, None, None], images.flip(3), images)
