"""Random streams that follow from names and counters alone, so that nothing random needs saving."""

import hashlib


def derive_seed(*parts: int | str) -> int:
    """A 63-bit seed from any sequence of integers and names, e.g. derive_seed(seed, "Gmain", image_index)."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1
