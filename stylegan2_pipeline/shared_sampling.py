"""Images that all ranks make and rank 0 uses: pictures, metrics, health."""

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
    """The images 0..count-1 that `make` makes, in batches uint8 [N,C,H,W]."""
    for start in range(0, count, batch):
        with torch.no_grad():
            images = make(start, min(batch, count - start))
        yield images.cpu().numpy()


def fitting(make: Maker) -> Maker:
    """The same images, made in smaller parts where the memory does not hold them at once."""
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

    makers: (start, count) -> uint8 [count,C,H,W], any rank makes any image. Batch k is made whole by rank k modulo
    their number, so that the batches are those of a single process, which makes and takes them one by one.
    """

    def __init__(self, makers: Mapping[str, Maker], batch: int) -> None:
        self.makers = {name: fitting(make) for name, make in makers.items()}
        self.batch = batch
        self._leading = False
        self._amid = False  # an order is being carried out: if rank 0 dies of it, it cannot speak to the others

    @property
    def broken(self) -> bool:
        """Whether rank 0 failed in the middle of an order: the others wait for what will not come."""
        return self._amid

    def images(self, name: str, count: int) -> Iterator[np.ndarray]:
        """On rank 0: the images 0..count-1 of a maker, in batches uint8 [N,C,H,W]. It need not be used up.

        Raises what the maker raises here, and RuntimeError naming the rank for one that fails elsewhere.
        """
        ranks = distributed.world_size()
        if ranks == 1:
            yield from in_batches(self.makers[name], count, self.batch)
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
                mine = self.makers[order.name](start, count) if count > 0 else None
        except Exception as error:
            problem = error
        told = f"{type(problem).__name__}: {problem}" if problem else None
        shapes, problems = zip(*distributed.gather_objects((None if mine is None else tuple(mine.shape), told)),
                               strict=True)
        if any(problems):
            rank = next(rank for rank, other in enumerate(problems) if other)
            return problem or RuntimeError(f"rank {rank}: {problems[rank]}")
        return self._collect(mine, shapes)

    def _collect(self, mine: Tensor | None, shapes: Sequence[tuple[int, ...] | None]) -> list[np.ndarray]:
        """On rank 0 the images of all ranks that have some; shapes: theirs, by rank. All are sent as whole batches."""
        assert shapes[0] is not None
        block = torch.zeros([self.batch, *shapes[0][1:]], dtype=torch.uint8, device=distributed.device())
        if mine is not None:
            block[:len(mine)] = mine
        blocks = distributed.gather_to_main(block)
        return [part[:shape[0]].cpu().numpy() for part, shape in zip(blocks, shapes, strict=False) if shape is not None]
