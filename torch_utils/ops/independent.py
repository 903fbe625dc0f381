"""Batches whose samples do not depend on each other's presence.

Libraries add up in another order for another number of samples, and choose another algorithm. Where that must not be,
the operators that do so are given one sample after the other; the rest, which is most of the work, takes them together.
"""

import contextlib
import threading
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

ALIGNMENT = 64  # bytes, of what torch allocates
_here = threading.local()


@contextlib.contextmanager
def independent_samples() -> Iterator[None]:
    """Within it, in this thread, networks compute each sample of a batch to the bit as they would compute it alone.

    On a CPU with the native operators; elsewhere operators are left that choose by the size of the batch.
    """
    before = getattr(_here, "asked", False)
    _here.asked = True
    try:
        yield
    finally:
        _here.asked = before


def apart(function: Callable[..., Tensor], *batches: Tensor) -> Tensor:
    """function(*batches), each [N,...]; within independent_samples() one sample after the other, joined along N."""
    if torch.compiler.is_compiling() or len(batches[0]) < 2 or not getattr(_here, "asked", False):
        return function(*batches)
    samples = zip(*(batch.split(1) for batch in batches), strict=True)
    return torch.cat([function(*map(_aligned, sample)) for sample in samples])


def _aligned(sample: Tensor) -> Tensor:
    """As a tensor of its own would lie in memory: matrix products begin with what comes before the first boundary."""
    return sample if sample.data_ptr() % ALIGNMENT == 0 else sample.clone()
