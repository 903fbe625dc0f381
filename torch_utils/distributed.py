"""What training asks of torch.distributed; each does nothing, exactly, in a single process.

There are two groups of all ranks: the default one (NCCL on GPUs, gloo on CPUs) for data, and one of gloo for small
things on the CPU - objects, orders, flags - in which a rank may wait for days while another is at work alone.
"""

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, TypeVar

import click
import torch
from torch import Tensor, nn

T = TypeVar("T")

TIMEOUT = timedelta(minutes=30)  # of a data collective: longer than any rank is busy alone outside shared_sampling
PATIENCE = timedelta(days=7)  # of the group on the CPU
WORDS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}

_control: Any = None  # the second group; None: the default one serves


def start(on: torch.device, store: Any, rank: int, world_size: int) -> None:
    """Joins the groups of all ranks, who meet in `store` (a torch.distributed.Store, used for this alone)."""
    global _control
    if on.type == "cuda":
        torch.cuda.set_device(on)
    torch.distributed.init_process_group(
        "nccl" if on.type == "cuda" else "gloo", store=store, rank=rank, world_size=world_size, timeout=TIMEOUT)
    _control = torch.distributed.new_group(backend="gloo", timeout=PATIENCE)


def stop() -> None:
    """Leaves the groups, when all ranks are done."""
    global _control
    _control = None
    torch.distributed.destroy_process_group()


def initialized() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def rank() -> int:
    return torch.distributed.get_rank() if initialized() else 0


def world_size() -> int:
    return torch.distributed.get_world_size() if initialized() else 1


def mean_over_ranks(tensor: Tensor) -> Tensor:
    """The mean of a tensor over all ranks, in place."""
    if world_size() > 1:
        torch.distributed.all_reduce(tensor)
        tensor /= world_size()
    return tensor


def sum_over_ranks(tensor: Tensor) -> Tensor:
    """The sum of a tensor over all ranks, in place."""
    if world_size() > 1:
        torch.distributed.all_reduce(tensor)
    return tensor


def broadcast_object(value: T | None) -> T:
    """Rank 0's value on every rank; those of the others are not looked at. Must be picklable."""
    if world_size() == 1:
        return value  # type: ignore[return-value]
    box = [value]
    torch.distributed.broadcast_object_list(box, src=0, group=_control)
    return box[0]  # type: ignore[return-value]


def gather_objects(value: T) -> list[T]:
    """The values of all ranks, in their order, on every rank. Must be picklable."""
    if world_size() == 1:
        return [value]
    values: list[Any] = [None] * world_size()
    torch.distributed.all_gather_object(values, value, group=_control)
    return values


def device() -> torch.device:
    """Where this rank's tensors for the other ranks are."""
    if initialized() and torch.distributed.get_backend() == "nccl":
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu")


def gather_to_main(tensor: Tensor) -> list[Tensor]:
    """On rank 0 the tensors of all ranks, in their order, and an empty list elsewhere. One shape and type on all."""
    if world_size() == 1:
        return [tensor]
    tensors = [torch.empty_like(tensor) for _ in range(world_size())] if rank() == 0 else []
    torch.distributed.gather(tensor, tensors or None, dst=0)
    return tensors


def from_main(make: Callable[[], T]) -> T:
    """What make() returns on rank 0, where alone it is called; a message for the user that it raises is raised on all.

    So that a thing is looked up, decided or made once, and all ranks go on with it or stop together.
    """
    made: T | None = None
    problem: click.ClickException | None = None
    if rank() == 0:
        try:
            made = make()
        except click.ClickException as error:
            problem = error
    made, problem = broadcast_object((made, problem))
    if problem is not None:
        raise problem
    return made  # type: ignore[return-value]


class RanksDisagree(click.ClickException):
    """Ranks that should hold the same weights do not."""


def check_agreement(networks: Mapping[str, nn.Module]) -> None:
    """Raises RanksDisagree on every rank, naming network, tensor and ranks, unless all ranks hold the same bits."""
    if world_size() == 1:
        return
    tensors = {(name, key): value for name, network in networks.items() for key, value in network.state_dict().items()}
    prints = torch.stack([fingerprint(value) for value in tensors.values()]).cpu()
    everywhere = torch.stack(gather_objects(prints))  # [ranks, tensors]
    differs = (everywhere != everywhere[0]).any(0).nonzero()
    if len(differs):
        first = int(differs[0])
        found = everywhere[:, first].tolist()
        usual = max(found, key=found.count)
        odd = ", ".join(str(rank) for rank, value in enumerate(found) if value != usual)
        name, key = list(tensors)[first]
        raise RanksDisagree(
            f"The ranks disagree: {name} ({key}) on rank {odd} is not that of the others; {len(differs)} of "
            f"{len(tensors)} tensors differ. They should be the same to the last bit: a device, its memory or a link "
            f"computes wrongly, or the machines run different versions. Find out before going on.")


def fingerprint(values: Tensor) -> Tensor:
    """A 64-bit sum [] of the bits of a tensor, on its device. A change of one value always shows, others but for 2^-63.

    Each value is weighed by an odd number of its own, so that places count; integers are summed exactly in any order.
    """
    flat = values.detach().reshape(-1)
    words = flat.view(WORDS[flat.element_size()]).to(torch.int64)
    weights = torch.arange(1, len(words) + 1, device=words.device) * -0x61C8864680B583EB
    weights = (weights ^ (weights >> 29)) * -0x40A7B892E31B1A47
    return (words * (weights | 1)).sum()
