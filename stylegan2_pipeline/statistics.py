"""Statistics of a tick: named values gathered on the device, their number, mean and spread."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor


class Stat(NamedTuple):
    """Number, mean and population standard deviation of the values gathered under one name."""

    num: int
    mean: float
    std: float


class Collector:
    """Count, sum and sum of squares of named values on the device; the host waits once a tick, in `harvest`.

    Ranks merge by summing `moments`, so every rank must have gathered the same names.
    """

    def __init__(self, device: str | torch.device = "cpu") -> None:
        self.device = torch.device(device)
        self._known: dict[str, list[float]] = {}  # what the host knows without waiting: count, sum, sum of squares
        self._sums: dict[str, Tensor] = {}  # [2]: sum and sum of squares of what is on the device

    def add(self, name: str, value: Tensor | float) -> None:
        """Gathers every element of `value`; a tensor must be on the collector's device (no copy, no waiting)."""
        known = self._known.setdefault(name, [0.0, 0.0, 0.0])
        if isinstance(value, Tensor):
            assert value.device.type == self.device.type, (name, value.device, self.device)
            x = value.detach().to(torch.float64)
            known[0] += x.numel()
            sums = torch.stack([x.sum(), x.square().sum()])
            if name not in self._sums and known[1:] != [0.0, 0.0]:  # loaded: goes on in the order that it was added up
                self._sums[name] = torch.tensor(known[1:], dtype=torch.float64, device=self.device)
                known[1:] = 0.0, 0.0
            self._sums[name] = self._sums[name] + sums if name in self._sums else sums
        else:
            self._known[name] = [known[0] + 1, known[1] + value, known[2] + value * value]

    def moments(self) -> tuple[list[str], Tensor]:
        """The sorted names, and [names * 3] of count, sum and sum of squares in their order, on the device."""
        names = sorted(self._known)
        rows = torch.tensor([self._known[name] for name in names], dtype=torch.float64).reshape(-1, 3).to(self.device)
        if self._sums:
            where = [i for i, name in enumerate(names) if name in self._sums]
            rows[where, 1:] += torch.stack([self._sums[names[i]] for i in where])
        return names, rows.flatten()

    def load(self, names: Sequence[str], moments: Tensor, mine: bool) -> None:
        """Goes on from `moments`, summed over ranks, of a tick that was half gathered.

        One rank takes them as its own (mine), the others take zeros under the same names. With one rank the tick's
        statistics are to the last bit those of a run that never stopped, for names of only tensors or only numbers.
        """
        rows = (moments if mine else torch.zeros_like(moments)).cpu().double().reshape(-1, 3).tolist()
        self._known, self._sums = dict(zip(names, rows, strict=True)), {}

    def harvest(self, all_reduce: Callable[[Tensor], Any] | None = None) -> dict[str, Stat]:
        """Statistics since the last harvest, which starts a new one; `all_reduce` sums a tensor over ranks in place."""
        names, moments = self.moments()
        if all_reduce is not None and names:
            all_reduce(moments)
        self._known, self._sums = {}, {}
        rows = moments.cpu().double().reshape(-1, 3).tolist()
        return {name: _stat(*row) for name, row in zip(names, rows, strict=True)}


def _stat(count: float, total: float, squares: float) -> Stat:
    mean = total / count if count else math.nan
    variance = squares / count - mean * mean if count else math.nan
    return Stat(int(count), mean, math.sqrt(variance) if variance > 0 else variance * 0)
