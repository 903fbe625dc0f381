"""The sets of images that metrics compare: images that are stored somewhere, and those that a generator makes."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from typing import Any

import numpy as np
import torch
from torch import Tensor

from metrics.cache import StatisticsCache
from metrics.detectors.registry import Detectors
from metrics.frechet import Moments
from metrics.inputs import KEPT_BYTES, ImageSet, Watch, unwatched
from stylegan2_pipeline.shared_sampling import ImagePool
from torch_utils import distributed
from torch_utils.seeding import derive_seed

KEPT_IMAGES = 2**28  # bytes of generated images that stay in memory for the next metric


def real_order(count: int, seed: int) -> np.ndarray:
    """The random order in which stored images are taken."""
    return np.random.RandomState(derive_seed(seed, "metric reals") % 2**32).permutation(count)


class StoredImages(ImageSet):
    """read(i) gives image i of `size`, uint8 [C,H,W] of any shapes; they are taken in a random order of the seed.

    names: of the images; number i + len(names) is image i mirrored. subjects: whom each is of, if that is known. key:
    what identifies them, their order and the seed left aside; None: their features are not kept on the disk. pool:
    computes features on all ranks, under the name `shared`.
    """

    size: int

    def __init__(self, read: Callable[[int], np.ndarray], names: Sequence[str], detectors: Detectors, *, seed: int,
                 batch: int, mirror: bool = False, key: Mapping[str, Any] | None = None, watch: Watch = unwatched,
                 cache: StatisticsCache | None = None, pool: ImagePool | None = None, shared: str = "",
                 subjects: Sequence[int] | None = None) -> None:
        super().__init__()
        self.size = len(names) * (1 + mirror)
        self._read, self._names, self._detectors, self._batch, self._seed = read, names, detectors, batch, seed
        self._key, self._cache, self._pool, self._shared = key, cache, pool, shared
        self._watch, self._subjects = watch, subjects
        self.order = real_order(self.size, seed)

    def name_of(self, index: int) -> str:
        flipped, number = divmod(int(self.order[index]), len(self._names))
        return self._names[number] + (" (mirrored)" * flipped)

    def subjects(self) -> Sequence[int] | None:
        count = len(self._names)
        return None if self._subjects is None else [self._subjects[int(number) % count] for number in self.order]

    def pick(self, indices: Sequence[int]) -> list[np.ndarray]:
        with ThreadPoolExecutor() as pool:
            return list(pool.map(self._image, [int(self.order[i]) for i in indices]))

    def images(self, count: int) -> Iterator[np.ndarray]:
        starts = range(0, count, self._batch)
        for start in self._watch(starts, len(starts), "Reading images"):
            found = self.pick(range(start, min(start + self._batch, count)))
            for _, alike in groupby(found, key=lambda image: image.shape):
                yield np.stack(list(alike))

    def stream(self, detector: str, count: int) -> Iterator[Tensor]:
        if self._pool is not None and distributed.world_size() > 1:
            batches = self._pool.batches(f"{self._shared}:{detector}", count)
            watched = self._watch(batches, -(-count // self._pool.batch), "Reading images")
            yield from map(torch.from_numpy, watched)
            return
        for batch in self.images(count):
            yield self._detectors.rows(detector, torch.from_numpy(batch)).cpu()

    def features(self, detector: str, count: int) -> Tensor:
        rows = self._recalled(detector, count)
        if rows is None:
            rows = super().features(detector, count)
            self._put(detector, count, "features", {"features": self._stored_order(rows)})
        return rows

    def moments(self, detector: str, count: int) -> Moments:
        found = self._cached(detector, count, "moments")
        if found is not None:
            return Moments(count, torch.from_numpy(found["mean"]), torch.from_numpy(found["scatter"]))
        recalled = self._recalled(detector, count)
        moments = super().moments(detector, count) if recalled is None else Moments.of([recalled])
        self._put(detector, count, "moments", {"mean": moments.mean.cpu().numpy(),
                                               "scatter": moments.scatter.cpu().numpy()})
        kept = self._kept.get(detector)
        if recalled is None and kept is not None and len(kept) >= count:
            self._put(detector, count, "features", {"features": self._stored_order(kept[:count])})
        return moments

    def _recalled(self, detector: str, count: int) -> Tensor | None:
        """Rows of the first `count` images from memory or the disk, where those of all images serve as well."""
        kept = self._kept.get(detector)
        if kept is not None and len(kept) >= count:
            return kept[:count]
        for number in dict.fromkeys((count, self.size)):
            if found := self._cached(detector, number, "features"):
                rows = torch.from_numpy(found["features"])
                rows = rows[torch.from_numpy(self.order)] if number == self.size else rows
                self._keep(detector, rows)
                return rows[:count]
        return None

    def _stored_order(self, rows: Tensor) -> np.ndarray:
        """Rows of all images as the images are stored, so that they serve every seed; others as they are."""
        if len(rows) < self.size:
            return rows.numpy()
        stored = np.empty_like(rows.numpy())
        stored[self.order] = rows.numpy()
        return stored

    def _cached(self, detector: str, count: int, what: str) -> dict[str, np.ndarray] | None:
        return None if self._cache is None or self._key is None or detector == "pixels32" else self._cache.get(
            self._cache_key(detector, count, what))

    def _put(self, detector: str, count: int, what: str, arrays: dict[str, np.ndarray]) -> None:
        if self._cache is not None and self._key is not None and detector != "pixels32":
            self._cache.put(self._cache_key(detector, count, what), arrays)

    def _cache_key(self, detector: str, count: int, what: str) -> dict[str, Any]:
        """Everything that the statistics depend on; the seed only where it chose some of the images."""
        opened = self._detectors(detector)
        assert self._key is not None
        return {**self._key, "mirror": self.size > len(self._names), "count": count, "what": what,
                "seed": None if count == self.size else self._seed, "detector": opened.name, "digest": opened.digest,
                "about": dict(opened.about)}

    def _image(self, number: int) -> np.ndarray:
        flipped, raw = divmod(number, len(self._names))
        image = self._read(raw)
        return (image[:, :, ::-1] if flipped else image).copy()  # those of a dataset are not to be written to


class GeneratedImages(ImageSet):
    """What a generator makes, by all ranks: the makers "fakes" and "fakes:DETECTOR+DETECTOR" of the pool.

    image_shape [C,H,W]. Few and small images stay in memory, so that several metrics generate them once.
    """

    def __init__(self, pool: ImagePool, detectors: Detectors, image_shape: Sequence[int],
                 watch: Watch = unwatched) -> None:
        super().__init__()
        self.size = None
        self._pool, self._detectors, self._shape = pool, detectors, tuple(image_shape)
        self._watch = watch
        self._images: list[np.ndarray] = []

    def name_of(self, index: int) -> str:
        return f"generated image {index}"

    def images(self, count: int) -> Iterator[np.ndarray]:
        if sum(map(len, self._images)) >= count:
            yield from first(self._images, count)
            return
        keep, made = self._keeps(count), []
        for batch in self._made("fakes", count, "Generating"):
            made += [batch] if keep else []
            yield batch
        self._images = made or self._images

    def stream(self, detector: str, count: int) -> Iterator[Tensor]:
        if not detector.startswith("ppl") and (self._keeps(count) or sum(map(len, self._images)) >= count):
            for batch in self.images(count):
                yield self._detectors.rows(detector, torch.from_numpy(batch)).cpu()
            return
        yield from map(torch.from_numpy, self._made(f"fakes:{detector}", count, f"Generating for {detector}"))

    def prefetch(self, wanted: Mapping[str, int]) -> None:
        """One pass for the features of several detectors, of so many images each.

        Those wanted of far fewer images than others are left out, as are those that would not be kept.
        """
        most = max(wanted.values(), default=0)
        if len(wanted) < 2 or self._keeps(most):
            return  # the images themselves are kept
        names = sorted((name for name in wanted if 4 * wanted[name] >= most), key=lambda name: -wanted[name])
        found = {name: self._detectors.width(name, self._shape) for name in names}
        names = [name for name in names if wanted[name] * found[name] * 4 <= KEPT_BYTES]
        if len(names) < 2:
            return
        widths, count = [found[name] for name in names], max(wanted[name] for name in names)
        rows = {name: torch.empty([wanted[name], found[name]]) for name in names}
        start = 0
        for batch in self._made(f"fakes:{'+'.join(names)}", count, "Generating"):
            for name, part in zip(names, torch.from_numpy(batch).split(widths, dim=1), strict=True):
                some = rows[name][start:start + len(part)]
                some.copy_(part[:len(some)])
            start += len(batch)
        for name in names:
            self._keep(name, rows[name])

    def _keeps(self, count: int) -> bool:
        """Whether so many images stay in memory; not where all ranks can make features of them."""
        return distributed.world_size() == 1 and count * int(np.prod(self._shape)) <= KEPT_IMAGES

    def _made(self, name: str, count: int, label: str) -> Iterator[np.ndarray]:
        return self._watch(self._pool.batches(name, count), -(-count // self._pool.batch), label)


def first(batches: Iterable[np.ndarray], count: int) -> Iterator[np.ndarray]:
    """The first `count` images of batches."""
    for batch in batches:
        if count <= 0:
            return
        yield batch[:count]
        count -= len(batch)
