"""Cutting a batch into parts - micro-batches, in time and over ranks - so that the cut changes nothing."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Part:
    """Some samples of the run, by number, in the order in which the networks get them; for D the real ones too."""

    samples: list[int]
    real: Tensor | None = None
    real_c: Tensor | None = None

    @property
    def count(self) -> int:
        return len(self.samples)


def group_order(count: int, group: int) -> list[int]:
    """The order of `count` samples in which each minibatch deviation group is a run of `group` neighbours.

    That layer takes i, i + count/group, i + 2 count/group, ... as a group. In this order those are neighbours of the
    whole batch, so that a batch has the same groups whichever way it is cut into multiples of `group`.
    """
    while count % group:
        group -= 1
    return [k * group + j for j in range(group) for k in range(count // group)]


def in_group_order(tensor: Tensor, group: int) -> Tensor:
    """A tensor [N,...] in that order; without an index, which would have to be brought to the device."""
    if group_order(len(tensor), group) == list(range(len(tensor))):
        return tensor
    while len(tensor) % group:
        group -= 1
    return tensor.unflatten(0, (-1, group)).transpose(0, 1).flatten(0, 1)


def cut(real: Tensor, real_c: Tensor, *, first: int, size: int, group: int, with_real: bool, count: int) -> list[Part]:
    """Parts of at most `size` of `count` samples, numbered from `first` on; real [n,C,H,W], its labels, n >= count."""
    parts = []
    for at in range(0, count, size):
        n = min(size, count - at)
        samples = [first + at + i for i in group_order(n, group)]
        some = (in_group_order(tensor[at:at + n], group) for tensor in (real, real_c)) if with_real else ()
        parts.append(Part(samples, *some))
    return parts


def next_smaller(size: int, share: int, group: int) -> int | None:
    """The largest part below `size` that divides `share`, of whole groups where there is one; None: size is 1."""
    smaller = [n for n in range(1, size) if share % n == 0]
    return max((n for n in smaller if n % group == 0), default=max(smaller, default=None))
