"""Terms of the loss as CUDA graphs: the kernels of a term and its gradient, recorded once, are launched as one.

A graph belongs to the outline of a term's inputs. It reads copies of them that stay where they are, adds the gradient
to tensors that stay too, and leaves what the term tells in one row. All graphs share one pool of memory, so that what
one graph left there is anybody's after the next: the row is copied at once, and inputs and gradients lie elsewhere.

Uses of an outline are at first computed as they would be without; then it is recorded; and the first replay, on other
inputs than it was recorded with, is compared with what is computed without, which is what counts then. A recording that
fails or a graph that disagrees is given up with one line, and that outline goes on without.
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor, nn

from stylegan2_pipeline.bundles import mapped, outline, tensors_of, with_tensors
from stylegan2_pipeline.losses import Term
from stylegan2_pipeline.phase_inputs import Inputs, Networks

WARM_UP = 2  # uses of an outline before it is recorded: libraries have chosen their algorithms by then
MOST = 48  # graphs; those that were not used for longest go
TOLERANCE = 0.02  # of a gradient's norm: sums in another order stay below, in half precision too, a stale number above

Result = TypeVar("Result")


class Recorder(Protocol):
    """What records. `record` may compute or not; replay() computes as run did, from and into the same tensors."""

    def warm_up(self, run: Callable[[], object]) -> None: ...

    def record(self, run: Callable[[], Result]) -> tuple[Callable[[], None], Result]: ...


class CudaRecorder:
    """The real one. Other threads of the process may go on with CUDA meanwhile."""

    def __init__(self) -> None:
        self.pool = torch.cuda.graph_pool_handle()

    def warm_up(self, run: Callable[[], object]) -> None:
        """On another stream, as recording is, so that nothing is made there for the first time."""
        now, side = torch.cuda.current_stream(), torch.cuda.Stream()
        side.wait_stream(now)
        with torch.cuda.stream(side):
            run()
        now.wait_stream(side)

    def record(self, run: Callable[[], Result]) -> tuple[Callable[[], None], Result]:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self.pool, capture_error_mode="thread_local"):
            result = run()
        return graph.replay, result


class Recorded(NamedTuple):
    """inputs: what it reads, in the order of tensors_of; row: what it tells, in the shapes of `like`; used: parameters.

    used: by their place among those of the phase, those that have a gradient.
    """

    replay: Callable[[], None]
    inputs: list[Tensor]
    row: Tensor
    like: Term
    used: list[int]


@dataclass(eq=False)
class Entry:
    """What is known of an outline. wait: uses until it is recorded."""

    wait: int = WARM_UP
    times_recorded: int = 0
    recorded: Recorded | None = None
    trusted: bool = False
    given_up: bool = False


class Graphs:
    """The graphs of a run, on one device. tell: for what is given up."""

    def __init__(self, recorder: Recorder, tell: Callable[[str], None], most: int = MOST) -> None:
        self.recorder, self.tell, self.most = recorder, tell, most
        self.entries: OrderedDict[Hashable, Entry] = OrderedDict()
        self._gradients: dict[nn.Parameter, Tensor] = {}

    def differentiate(self, nets: Networks, params: Sequence[nn.Parameter], inputs: Inputs, weight: float,
                      without: Callable[[], Term]) -> Term:
        """The term of these inputs, detached; weight times its gradient is added to .grad of the parameters.

        without: does the same without a graph.
        """
        key = outline(inputs), weight
        entry = self.entries.setdefault(key, Entry())
        self.entries.move_to_end(key)
        if entry.recorded is not None:
            play = self._play if entry.trusted else self._compare
            return play(entry, entry.recorded, params, inputs, without)
        term = without()
        entry.wait -= 1
        if not entry.given_up and entry.wait < 0:
            self._try_to_record(entry, nets, params, inputs, weight)
        return term

    def drop(self) -> bool:
        """Lets go of all graphs and the memory they hold. False: there were none."""
        had = any(entry.recorded is not None for entry in self.entries.values())
        self.entries.clear()
        self._gradients.clear()
        return had

    # Recording.

    def _try_to_record(self, entry: Entry, nets: Networks, params: Sequence[nn.Parameter], inputs: Inputs,
                       weight: float) -> None:
        problem = ""
        try:
            entry.recorded = self._record(nets, params, inputs, weight)
            entry.times_recorded += 1
        except Exception as error:  # whatever it is: it was computed without, and can be again
            problem = f"it cannot be recorded: {type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
        if problem:
            self._give_up(entry, inputs, problem)
        else:
            self._make_room()

    def _record(self, nets: Networks, params: Sequence[nn.Parameter], inputs: Inputs, weight: float) -> Recorded:
        static = mapped(inputs, torch.clone)
        self._release(params)
        sums = [self._gradient(parameter) for parameter in params]

        def run() -> tuple[Tensor, Term, list[int]]:
            term = static.term(nets)
            found = torch.autograd.grad(term.loss * weight, params, allow_unused=True)
            used = [i for i, gradient in enumerate(found) if gradient is not None]
            torch._foreach_add_([sums[i] for i in used], [found[i] for i in used])
            told = mapped(term, Tensor.detach)
            return torch.cat([tensor.reshape(-1) for tensor in tensors_of(told)]), told, used

        self.recorder.warm_up(run)
        replay, (row, told, used) = self.recorder.record(run)
        return Recorded(replay, tensors_of(static), row, mapped(told, lambda t: t.to("meta")), used)

    def _make_room(self) -> None:
        recorded = [entry for entry in self.entries.values() if entry.recorded is not None]
        for entry in recorded[:-self.most]:
            entry.recorded, entry.trusted = None, False
            entry.wait = WARM_UP << entry.times_recorded  # what comes and goes is not recorded all the time

    def _give_up(self, entry: Entry, inputs: Inputs, why: str) -> None:
        entry.recorded, entry.given_up = None, True
        count = next(iter(tensors_of(inputs))).shape[0]
        self.tell(f"CUDA graphs: {type(inputs).__name__} of {count} images goes on without one, because {why}")

    # Playing.

    def _play(self, entry: Entry, recorded: Recorded, params: Sequence[nn.Parameter], inputs: Inputs,
              without: Callable[[], Term]) -> Term:
        self._attach([params[i] for i in recorded.used])
        return self._replayed(recorded, inputs)

    def _replayed(self, recorded: Recorded, inputs: Inputs) -> Term:
        pairs = [(kept, new) for kept, new in zip(recorded.inputs, tensors_of(inputs), strict=True) if new.numel()]
        torch._foreach_copy_([kept for kept, _ in pairs], [new for _, new in pairs])
        recorded.replay()
        like = tensors_of(recorded.like)
        pieces = recorded.row.clone().split([tensor.numel() for tensor in like])
        return with_tensors(recorded.like, [p.view(t.shape) for p, t in zip(pieces, like, strict=True)])

    def _compare(self, entry: Entry, recorded: Recorded, params: Sequence[nn.Parameter], inputs: Inputs,
                 without: Callable[[], Term]) -> Term:
        """What is computed without a graph; besides whether the graph says the same."""
        self._release(params)
        before = [parameter.grad for parameter in params]
        for parameter in params:
            parameter.grad = None
        term = without()
        found = [parameter.grad for parameter in params]
        used = [i for i, gradient in enumerate(found) if gradient is not None]
        sums = [self._gradient(params[i]) for i in recorded.used]
        torch._foreach_zero_(sums)
        played = self._replayed(recorded, inputs)
        if used != recorded.used:
            self._give_up(entry, inputs, "its gradient is of other parameters")
        else:
            self._judge(entry, inputs, [distance(sums, [found[i] for i in used]), distance([played.loss], [term.loss])])
        for parameter, old, new in zip(params, before, found, strict=True):
            parameter.grad = new if old is None else old if new is None else old.add_(new)
        return term

    def _judge(self, entry: Entry, inputs: Inputs, errors: Sequence[float | None]) -> None:
        known = [error for error in errors if error is not None]
        if len(known) < len(errors):  # nothing to compare with: the next use will be
            return
        entry.trusted = max(known) <= TOLERANCE
        if not entry.trusted:
            self._give_up(entry, inputs, f"what it computes is off by {max(known):.1g} of its size")

    # Gradients that stay where they are.

    def _gradient(self, parameter: nn.Parameter) -> Tensor:
        if parameter not in self._gradients:
            self._gradients[parameter] = torch.zeros_like(parameter, requires_grad=False)
        return self._gradients[parameter]

    def _attach(self, params: Sequence[nn.Parameter]) -> None:
        """Their .grad is where graphs add to from now on, with what it was."""
        others = [parameter for parameter in params if parameter.grad is not self._gradients[parameter]]
        fresh = [self._gradients[parameter] for parameter in others if parameter.grad is None]
        moving = [(self._gradients[parameter], parameter.grad) for parameter in others if parameter.grad is not None]
        if fresh:
            torch._foreach_zero_(fresh)
        if moving:
            torch._foreach_copy_([to for to, _ in moving], [gradient for _, gradient in moving])
        for parameter in others:
            parameter.grad = self._gradients[parameter]

    def _release(self, params: Sequence[nn.Parameter]) -> None:
        """Their .grad is elsewhere from now on, with what it was."""
        for parameter in params:
            if parameter.grad is not None and parameter.grad is self._gradients.get(parameter):
                parameter.grad = parameter.grad.clone()


def distance(found: list[Tensor], expected: list[Any]) -> float | None:
    """The norm of their difference in that of what is expected; waits for the device. None: that is 0 or not finite."""
    size = torch.stack(torch._foreach_norm(expected)).norm()
    error = torch.stack(torch._foreach_norm(torch._foreach_sub(found, expected))).norm()
    sizes, errors = torch.stack([size, error]).double().tolist()
    if not 0 < sizes < float("inf"):
        return None
    return errors / sizes if errors == errors else float("inf")
