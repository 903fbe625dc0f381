"""The calls of the native operators that training makes, recorded from the networks themselves without computing."""

from collections import Counter
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from stylegan2_pipeline.augment import AUGPIPES, AugmentPipe
from stylegan2_pipeline.config import TrainConfig, network_kwargs
from stylegan2_pipeline.networks import Discriminator, Generator


class Spec(NamedTuple):
    """A tensor without its values."""

    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype

    @property
    def bytes(self) -> int:
        return torch.Size(self.shape).numel() * self.dtype.itemsize


class Call(NamedTuple):
    """An operator of stylegan2:: and its arguments, tensors as Specs."""

    name: str
    args: tuple[Any, ...]


def recorded(config: TrainConfig, batch: int, device: torch.device) -> Counter[Call]:
    """How often each distinct call happens in one pass of D(augment(G(z))), forward and backward to all weights."""
    calls: Counter[Call] = Counter()
    g_kwargs, d_kwargs = network_kwargs(config)
    with device, FakeTensorMode(), _Recorder(calls):
        G, D = Generator(**g_kwargs), Discriminator(**d_kwargs)
        z, c = torch.randn(batch, config.networks.z_dim), torch.zeros(batch, 0)
        D(G(z, c), c).sum().backward()
    data = config.data
    images = torch.rand(batch, data.num_channels, data.resolution, data.resolution, requires_grad=True)
    pipe = AugmentPipe(AUGPIPES[config.augment.pipe])
    draws = pipe.draw([torch.Generator().manual_seed(i) for i in range(batch)], images.shape[1:])
    with _Recorder(calls):  # with numbers: its paddings depend on what is drawn
        pipe(images, 1.0, draws).sum().backward()
    return calls


def materialised(call: Call, device: torch.device) -> tuple[Any, ...]:
    """The arguments of a call with numbers in them; filters sum to one."""
    return tuple(_tensor(arg, device, filter=call.name == "upfirdn2d" and i == 1) if isinstance(arg, Spec) else
                 list(arg) if isinstance(arg, tuple) else arg for i, arg in enumerate(call.args))


def bytes_of(inputs: tuple[Any, ...], outputs: Any) -> int:
    """What a call must read and write at the least."""
    outputs = [outputs] if isinstance(outputs, Tensor) else outputs
    return sum(t.numel() * t.element_size() for t in (*inputs, *outputs) if isinstance(t, Tensor))


class _Recorder(TorchDispatchMode):
    def __init__(self, calls: Counter[Call]) -> None:
        super().__init__()
        self.calls = calls

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        if func.namespace == "stylegan2":
            self.calls[Call(func._opname, tuple(map(_hashable, args)))] += 1
        return func(*args, **(kwargs or {}))


def _hashable(arg: Any) -> Any:
    if isinstance(arg, Tensor):
        return Spec(tuple(arg.shape), arg.stride(), arg.dtype)
    return tuple(arg) if isinstance(arg, list) else arg


def _tensor(spec: Spec, device: torch.device, filter: bool) -> Tensor:
    t = torch.empty_strided(spec.shape, spec.stride, dtype=spec.dtype, device=device)
    if filter:  # as the models' filters are: an outer product, or a row
        taps = torch.arange(1.0, 1 + spec.shape[-1])
        taps = torch.minimum(taps, taps.flip(0))
        taps = taps / taps.sum()
        return t.copy_(taps if len(spec.shape) == 1 else taps.outer(taps))
    return t.normal_()
