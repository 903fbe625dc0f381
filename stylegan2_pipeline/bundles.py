"""Bundles: frozen dataclasses (and tuples and dicts) of tensors, None, and plain values that decide what is computed.

What the host draws and decides for a piece of work is a bundle; it goes to the device in one copy, and work on two
bundles of one outline is the same sequence of kernels on other numbers.
"""

import dataclasses
from collections.abc import Callable, Hashable, Iterable
from typing import Any, TypeVar

import torch
from torch import Tensor

Bundle = TypeVar("Bundle")
ALIGNMENT = 64  # numbers: matrix products want tensors to begin at multiples of 256 bytes


def mapped(bundle: Bundle, function: Callable[[Tensor], Tensor]) -> Bundle:
    """The bundle with function(tensor) in the place of every tensor, called in their order."""
    made: Any = bundle
    if isinstance(bundle, Tensor):
        made = function(bundle)
    elif dataclasses.is_dataclass(bundle) and not isinstance(bundle, type):
        made = type(bundle)(**{item.name: mapped(getattr(bundle, item.name), function)
                               for item in dataclasses.fields(bundle)})
    elif isinstance(bundle, tuple):
        made = tuple(mapped(item, function) for item in bundle)
    elif isinstance(bundle, dict):
        made = {name: mapped(item, function) for name, item in bundle.items()}
    return made


def tensors_of(bundle: Any) -> list[Tensor]:
    found: list[Tensor] = []

    def note(tensor: Tensor) -> Tensor:
        found.append(tensor)
        return tensor

    mapped(bundle, note)
    return found


def with_tensors(bundle: Bundle, tensors: Iterable[Tensor]) -> Bundle:
    """The bundle with these tensors, in the order of tensors_of."""
    given = iter(tensors)
    return mapped(bundle, lambda _: next(given))


def outline(bundle: Any) -> Hashable:
    """All that a bundle is but the numbers in its tensors: types, shapes, and its plain values."""
    if isinstance(bundle, Tensor):
        return tuple(bundle.shape), bundle.dtype
    if dataclasses.is_dataclass(bundle):
        return type(bundle), *(outline(getattr(bundle, item.name)) for item in dataclasses.fields(bundle))
    if isinstance(bundle, tuple):
        return tuple(map(outline, bundle))
    if isinstance(bundle, dict):
        return tuple((name, outline(item)) for name, item in bundle.items())
    return bundle


def moved(bundle: Bundle, device: torch.device) -> Bundle:
    """The bundle with its float32 tensors of the CPU on `device`, which takes them in one copy without any waiting."""
    if device.type == "cpu":
        return bundle
    host = [tensor for tensor in tensors_of(bundle) if tensor.device.type == "cpu"]
    arrived = iter(unpacked(packed(host, pin=device.type == "cuda").to(device, non_blocking=True), host))
    return mapped(bundle, lambda tensor: next(arrived) if tensor.device.type == "cpu" else tensor)


def packed(tensors: list[Tensor], pin: bool = False) -> Tensor:
    """All their numbers in one row; pin: in memory that a GPU reads by itself."""
    row = torch.empty([sum(map(_room, tensors))], pin_memory=pin)
    for tensor, place in zip(tensors, unpacked(row, tensors), strict=True):
        assert tensor.dtype == torch.float32
        place.copy_(tensor)
    return row


def unpacked(row: Tensor, like: list[Tensor]) -> list[Tensor]:
    """Views of a row that `packed` made, in the shapes of what it was made from."""
    pieces = row.split([_room(tensor) for tensor in like])
    return [piece[:tensor.numel()].view(tensor.shape) for piece, tensor in zip(pieces, like, strict=True)]


def _room(tensor: Tensor) -> int:
    return -(-tensor.numel() // ALIGNMENT) * ALIGNMENT
