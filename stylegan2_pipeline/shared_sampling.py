"""Images, and features of images, that all ranks make and rank 0 uses: pictures, metrics, health."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from stylegan2_pipeline.phases import is_out_of_memory
from torch_utils import distributed

Maker = Callable[[int, int], Tensor]


@dataclass(frozen=True)
class Order:
    """One batch from each rank: rank r makes the images from first + r * batch on, but none from `count` on."""

    name: str
    first: int
    count: int


def in_batches(make: Maker, count: int, batch: int) -> Iterator[np.ndarray]:
    """What `make` makes of the numbers 0..count-1, in batches [N,...]."""
    for start in range(0, count, batch):
        with torch.no_grad():
            images = make(start, min(batch, count - start))
        yield images.cpu().numpy()


def fitting(make: Maker) -> Maker:
    """The same, made in smaller parts where the memory does not hold them at once."""
    def made(start: int, count: int) -> Tensor:
        try:
            return make(start, count)
        except RuntimeError as error:
            if count == 1 or not is_out_of_memory(error):
                raise
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        half = count // 2
        return torch.cat([made(start, half), made(start + half, count - half)])

    return made


class ImagePool:
    """Rank 0 does what it has to inside `with pool.lead()` and takes images as it needs them; the others are meanwhile
    in pool.serve(), and return from it when rank 0 is done.

    makers: (start, count) -> [count,...], uint8 images [count,C,H,W] or rows of features; any rank makes any of them.
    Batch k is made whole by rank k modulo their number, so that the batches are those of a single process, which makes
    and takes them one by one.
    """

    def __init__(self, makers: Mapping[str, Maker], batch: int) -> None:
        self.makers = makers
        self.batch = batch
        self._leading = False
        self._amid = False  # an order is being carried out: if rank 0 dies of it, it cannot speak to the others

    @property
    def broken(self) -> bool:
        """Whether rank 0 failed in the middle of an order: the others wait for what will not come."""
        return self._amid

    def batches(self, name: str, count: int) -> Iterator[np.ndarray]:
        """On rank 0: what a maker makes of the numbers 0..count-1, in batches [N,...]. It need not be used up.

        Raises what the maker raises here, and RuntimeError naming the rank for one that fails elsewhere.
        """
        ranks = distributed.world_size()
        if ranks == 1:
            yield from in_batches(fitting(self.makers[name]), count, self.batch)
            return
        for first in range(0, count, ranks * self.batch):
            assert self._leading, "images are made by all ranks only inside lead()"
            order = Order(name, first, count)
            self._amid = True
            distributed.broadcast_object(order)
            parts = self._carry_out(order)
            self._amid = False
            if isinstance(parts, Exception):
                raise parts
            yield from parts

    @contextlib.contextmanager
    def lead(self) -> Iterator[None]:
        """On rank 0, while the others are in serve()."""
        self._leading = True
        try:
            yield
        finally:
            self._leading = False
            if not self._amid:
                distributed.broadcast_object(None)

    def serve(self) -> None:
        """On the other ranks: makes images until rank 0 is done. A maker that fails is told to rank 0."""
        while order := self._next_order():
            self._carry_out(order)

    def _next_order(self) -> Order | None:
        return distributed.broadcast_object(None)

    def _carry_out(self, order: Order) -> list[np.ndarray] | Exception:
        """On rank 0 the batches of all ranks, or what was raised. Whatever happens, all ranks make the same calls."""
        start = order.first + distributed.rank() * self.batch
        count = min(order.count - start, self.batch)
        mine: Tensor | None = None
        problem: Exception | None = None
        try:
            with torch.no_grad():
                mine = fitting(self.makers[order.name])(start, count) if count > 0 else None
        except Exception as error:
            problem = error
        told = f"{type(problem).__name__}: {problem}" if problem else None
        kind = None if mine is None else (tuple(mine.shape), mine.dtype)
        kinds, problems = zip(*distributed.gather_objects((kind, told)), strict=True)
        if any(problems):
            rank = next(rank for rank, other in enumerate(problems) if other)
            return problem or RuntimeError(f"rank {rank}: {problems[rank]}")
        return self._collect(mine, kinds)

    def _collect(self, mine: Tensor | None, kinds: Sequence[tuple[tuple[int, ...], torch.dtype] | None],
                 ) -> list[np.ndarray]:
        """On rank 0 what all ranks made; kinds: of which shape and type, by rank. All is sent as whole batches."""
        assert kinds[0] is not None
        (_, *shape), dtype = kinds[0]
        block = torch.zeros([self.batch, *shape], dtype=dtype, device=distributed.device())
        if mine is not None:
            block[:len(mine)] = mine
        blocks = distributed.gather_to_main(block)
        return [part[:kind[0][0]].cpu().numpy() for part, kind in zip(blocks, kinds, strict=False) if kind is not None]
