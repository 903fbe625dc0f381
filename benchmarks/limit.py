"""The floor of a training step on a device: what must be computed and moved, at the rates that the device reaches.

Counted on the meta device, where nothing is computed, in the order in which the losses call their operators. Heavy
operators are matrix products, convolutions (computed directly: 2 operations a product), and the resampling of images -
FIR filters and the warp. In a step that is fused perfectly, each heavy operator reads its inputs from memory once and
writes its outputs once, and whatever is done to single numbers in between - modulation, noise, bias, activation, sums,
colour - costs nothing; the optimizer reads weight, gradient and two moments and writes all but the gradient; the moving
average reads two and writes one. The floor of a heavy operator is the longer of its arithmetic, at the best rate of
matrix products in its type, and its bytes, at that of copying; the floor of a step is the sum of these. Caches can
beat it where tensors are small, and Winograd's convolutions, which multiply less, where convolutions are all.
"""

import contextlib
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter
from torch.utils.flop_counter import flop_registry

from benchmarks.baseline import shared_convolutions
from benchmarks.report import markdown, significant
from benchmarks.serving import timed
from stylegan2_pipeline.config import TrainConfig
from stylegan2_pipeline.memory_estimate import META, Imagined, Widest, empty_images
from stylegan2_pipeline.phase_inputs import AnyPlan, Drawing, Now
from stylegan2_pipeline.phases import Phase

RESAMPLING = {"upfirdn2d", "grid_sample", "grid_sample_grad", "grid_sampler_2d", "grid_sampler_2d_backward"}
MATRIX_SIDES = {"cpu": (1024, 2048), "cuda": (4096, 8192)}
COPY_BYTES = {"cpu": 2**28, "cuda": 2**30}
MEASURED_SECONDS = 0.6  # on each
RUNS = 3  # in a row
OPTIMIZER_PASSES, AVERAGE_PASSES = 7, 3  # over all parameters: read and written


@dataclass(frozen=True)
class Operation:
    """One call: FLOPs in a type, bytes read and written; heavy: it cannot be fused into its neighbours."""

    name: str
    flops: int
    dtype: torch.dtype
    bytes: int
    heavy: bool


@dataclass(frozen=True)
class Rates:
    """FLOPs a second by type, bytes a second (read and written)."""

    flops: dict[torch.dtype, float]
    bytes: float

    def best(self, other: "Rates") -> "Rates":
        return Rates({dtype: max(rate, other.flops[dtype]) for dtype, rate in self.flops.items()},
                     max(self.bytes, other.bytes))


@dataclass(frozen=True)
class Cost:
    """Of one run of a part. least_bytes: of heavy operators only; bytes: of all, as they are called one by one now.

    arithmetic, moving, floor: seconds; floor is the sum of each heavy operator's longer one.
    """

    flops: int
    least_bytes: int
    bytes: int
    arithmetic: float
    moving: float
    floor: float

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(*(a + b for a, b in zip(self.fields(), other.fields(), strict=True)))

    def times(self, weight: float) -> "Cost":
        return Cost(*(value * weight for value in self.fields()))

    def fields(self) -> list[Any]:
        return list(asdict(self).values())


@dataclass(frozen=True)
class Limit:
    """parts: by name, with how often each is in a step."""

    parts: dict[str, tuple[Cost, float]]
    rates: Rates
    batch: int

    def total(self) -> Cost:
        costs = [cost.times(weight) for cost, weight in self.parts.values()]
        return sum(costs[1:], costs[0])

    @property
    def step(self) -> float:
        """Seconds."""
        return self.total().floor

    def as_json(self) -> dict[str, Any]:
        rates = {str(dtype).removeprefix("torch."): rate for dtype, rate in self.rates.flops.items()}
        parts = {name: asdict(cost) | {"weight": weight} for name, (cost, weight) in self.parts.items()}
        return {"flops_per_second": rates, "bytes_per_second": self.rates.bytes, "parts": parts,
                "step": asdict(self.total()), "batch": self.batch}


class Tally(TorchDispatchMode):
    """Within it, notes every operator that computes or moves anything."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[Operation] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        outputs = func(*args, **kwargs)
        inputs, made = tensors((args, kwargs)), tensors(outputs)
        if made and not is_view(func, inputs, made) and not func._opname.startswith("empty"):
            count = flop_registry.get(func._overloadpacket)
            flops = 0 if not count or is_grouped(func._opname, args) else count(*args, **kwargs, out_val=outputs)
            heavy = bool(count) or func._opname in RESAMPLING
            everything = [*inputs, *made]
            self.operations.append(Operation(func._opname, flops, everything[0].dtype, sum(map(moved, everything)),
                                             heavy))
        return outputs


def is_grouped(name: str, args: tuple) -> bool:
    """Whether a call is a convolution of several groups of channels: a filter, whose arithmetic is not counted."""
    at = {"convolution": 8, "convolution_backward": 9}.get(name)
    return at is not None and args[at] > 1


def tensors(tree: Any) -> list[Tensor]:
    """Those that stand for tensors of the device; the small matrices of the augmentation are the host's."""
    return [leaf for leaf in tree_iter(tree) if isinstance(leaf, Tensor) and leaf.device.type == "meta"]


def is_view(func: Any, inputs: Iterable[Tensor], outputs: list[Tensor]) -> bool:
    """Whether a call only looks at its inputs in another way."""
    if func._schema.is_mutable:
        return False
    known = {x.untyped_storage()._cdata for x in inputs}
    return all(y.untyped_storage()._cdata in known for y in outputs)


def moved(x: Tensor) -> int:
    """The bytes that a tensor has in memory, those of what is expanded once."""
    numbers = 1
    for size, stride in zip(x.shape, x.stride(), strict=True):
        numbers *= size if stride else min(size, 1)
    return numbers * x.element_size()


class AsTraining(Widest):
    """Augments as training does."""

    def plan(self, generators: list[torch.Generator], now: Now) -> AnyPlan:
        return Drawing.plan(self, generators, now)


class Counted(Imagined):
    """A trainer without numbers that draws augmentations as training does, on a whole batch at once."""

    def __init__(self, config: TrainConfig) -> None:
        super().__init__(config)
        self.batch_gpu = config.batch

    def drawn(self, config: TrainConfig) -> Drawing:
        return AsTraining(config, self.nets, torch.zeros(1, config.data.label_dim), META)

    def operations(self, phase: Phase) -> list[Operation]:
        data, n = self.config.data, self.config.batch
        real, real_c = empty_images(data, n), torch.empty([n, data.label_dim], device="meta")
        with Tally() as tally:
            self.accumulate(phase, real, real_c)
        phase.optimizer.zero_grad(set_to_none=True)
        return tally.operations


@dataclass(frozen=True)
class Work:
    """Of a step. phases: by name, the heavy operations, the bytes of all as called now, those of the optimizer, weight.

    moved: bytes of the other parts of a step.
    """

    phases: dict[str, tuple[list[Operation], int, int, float]]
    moved: dict[str, int]
    batch: int

    @property
    def types(self) -> set[torch.dtype]:
        return {op.dtype for operations, *_ in self.phases.values() for op in operations if op.flops}

    def limit(self, rates: Rates) -> Limit:
        parts = {name: (cost_of(operations, now, rates) + moving_cost(update, rates), weight)
                 for name, (operations, now, update, weight) in self.phases.items()}
        return Limit(parts | {name: (moving_cost(n, rates), 1.0) for name, n in self.moved.items()}, rates, self.batch)


def work_of(config: TrainConfig, device: torch.device) -> Work:
    """What a step with these settings is made of on this device; counted in some seconds."""
    if device.type == "cpu" and config.precision == "fp16":
        config = replace(config, precision="fp32")  # as the networks do
    least, called = (counted(config, formulation) for formulation in (shared_convolutions, contextlib.nullcontext))
    trainer = Counted(config)
    size: dict[nn.Module, int] = {net: sum(p.nbytes for p in net.parameters()) for net in (trainer.G, trainer.D)}
    phases = {phase.name: ([op for op in least[phase.name] if op.heavy], sum(op.bytes for op in called[phase.name]),
                           OPTIMIZER_PASSES * size[phase.network], 1 / phase.interval) for phase in trainer.phases}
    numbers = config.batch * config.data.num_channels * config.data.resolution**2
    moved = {"EMA": AVERAGE_PASSES * size[trainer.G], "images": numbers * (1 + torch.float32.itemsize)}
    return Work(phases, moved, config.batch)


def counted(config: TrainConfig, formulation: Callable[[], Any]) -> dict[str, list[Operation]]:
    """The operations of each phase, computed in a formulation."""
    with formulation():
        trainer = Counted(config)
        return {phase.name: trainer.operations(phase) for phase in trainer.phases}


def cost_of(heavy: list[Operation], bytes_now: int, rates: Rates) -> Cost:
    pairs = [(op.flops / rates.flops[op.dtype] if op.flops else 0.0, op.bytes / rates.bytes) for op in heavy]
    return Cost(sum(op.flops for op in heavy), sum(op.bytes for op in heavy), bytes_now,
                sum(a for a, _ in pairs), sum(b for _, b in pairs), sum(map(max, pairs)))


def moving_cost(nbytes: int, rates: Rates) -> Cost:
    seconds = nbytes / rates.bytes
    return Cost(0, nbytes, nbytes, 0.0, seconds, seconds)


def measured_rates(types: set[torch.dtype], device: torch.device, allow_tf32: bool) -> Rates:
    """What the device reaches at its best."""
    torch.backends.cuda.matmul.allow_tf32 = allow_tf32
    rates = Rates({dtype: product_rate(dtype, device) for dtype in types}, copy_rate(device))
    if device.type == "cuda":
        torch.cuda.empty_cache()  # the variants need it
    return rates


def product_rate(dtype: torch.dtype, device: torch.device) -> float:
    """FLOPs a second of the best of a few large matrix products."""
    rates = []
    for side in MATRIX_SIDES[device.type]:
        a, b = (torch.randn([side, side], device=device).to(dtype) for _ in range(2))
        rates.append(2 * side**3 / shortest(partial(torch.mm, a, b, out=torch.empty_like(a)), device))
    return max(rates)


def copy_rate(device: torch.device) -> float:
    """Bytes a second, read and written, of copying what no cache holds."""
    source = torch.ones([COPY_BYTES[device.type]], dtype=torch.uint8, device=device)
    return 2 * source.nbytes / shortest(partial(torch.empty_like(source).copy_, source), device)


def shortest(run: Callable[[], object], device: torch.device) -> float:
    """Seconds: a limit is what is reached when nothing else disturbs."""
    timed(run, RUNS, device)
    deadline = time.perf_counter() + MEASURED_SECONDS
    found = [timed(run, RUNS, device)]
    while time.perf_counter() < deadline:
        found.append(timed(run, RUNS, device))
    return min(found)


def limit_table(limit: Limit) -> str:
    """What each part of a step must take, and the whole."""
    rates = ", ".join(f"{rate / 1e12:.3g} TFLOP/s in {str(dtype).removeprefix('torch.')}"
                      for dtype, rate in limit.rates.flops.items())
    lines = []
    for name, cost in [*((name, cost) for name, (cost, _) in limit.parts.items()), ("a step", limit.total())]:
        lines.append([name, significant(cost.flops / 1e9), significant(cost.least_bytes / 1e9),
                      significant(cost.bytes / 1e9), significant(cost.arithmetic), significant(cost.moving),
                      significant(cost.floor)])
    return (f"The limit, by matrix products of {rates} and copying of {limit.rates.bytes / 1e9:.3g} GB/s, as measured "
            f"here: {significant(limit.batch / limit.step)} images/s.\n\n" +
            markdown(["", "GFLOP", "GB, fused", "GB, as called", "s by arithmetic", "s by bytes, fused", "floor, s"],
                     lines))
