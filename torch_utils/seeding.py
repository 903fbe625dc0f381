"""Random streams that follow from names and counters alone, so that nothing random needs saving."""

import hashlib
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def derive_seed(*parts: int | str) -> int:
    """A 63-bit seed from any sequence of integers and names, e.g. derive_seed(seed, "Gmain", image_index)."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def sample_generators(seed: int, stream: str, samples: Iterable[int], device: str = "cpu") -> "list[torch.Generator]":
    """One generator for each of the samples, given by number, of a named stream.

    What a sample draws depends on (seed, stream, index) alone: not on the batch that it is in, nor on the rank.
    """
    import torch

    return [torch.Generator(device).manual_seed(derive_seed(seed, stream, i)) for i in samples]
