"""What a step of training is made of: phases with their optimizers, and what a phase finds out."""

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from stylegan2_pipeline import config as cfg

MEMORY_TEXTS = (  # of a CPU, of libraries, and of our operators, which torch's stable ABI leaves no type of error
    "can't allocate memory", "CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED",
    '"aten::clone"', '"aten::contiguous"')


@dataclass(eq=False)
class Phase:
    """What is trained how often; weight multiplies the loss of a lazily evaluated phase."""

    name: str
    network: nn.Module
    optimizer: torch.optim.Optimizer
    interval: int
    weight: float
    params: list[nn.Parameter] = field(default_factory=list)
    without_gradient: frozenset[str] = frozenset()  # names of parameters that the loss does not depend on


def make_optimizer(net: nn.Module, lr: float, config: cfg.OptimizerConfig, reg_interval: int) -> torch.optim.Optimizer:
    """Adam with lr and betas corrected for a lazily regularised network (StyleGAN2, section 3.1)."""
    ratio = reg_interval / (reg_interval + 1) if reg_interval else 1.0
    beta1, beta2 = (float(beta) ** ratio for beta in config.betas)
    return torch.optim.Adam(net.parameters(), lr=lr * ratio, betas=(beta1, beta2), eps=config.eps, fused=True)


@dataclass(eq=False)
class Gathered:
    """What the parts of a phase gave besides the gradient: the mean w [w_dim], whether all losses were finite."""

    w_mean: Tensor
    finite: Tensor
    stats: list[dict[str, Tensor]] = field(default_factory=list)

    def mean_scores(self) -> Tensor:
        """[2]: D's mean score of real and of generated images."""
        return torch.stack([torch.cat([stats[name].flatten() for stats in self.stats if name in stats]).float().mean()
                            for name in ("Loss/scores/real", "Loss/scores/fake")])


@dataclass(eq=False)
class Trouble:
    """By phase [P]: steps whose loss was not finite; steps in a row whose gradient was not, and where it began."""

    losses: Tensor
    run: Tensor
    first: Tensor

    @classmethod
    def none(cls, phases: int, device: torch.device) -> "Trouble":
        return cls(*(torch.zeros([phases], dtype=torch.int64, device=device) for _ in range(3)))

    def note_gradient(self, phase: int, bad: Tensor) -> None:
        """bad: which elements of the flat gradient are not finite."""
        some = bad.any()
        self.run[phase] = torch.where(some, self.run[phase] + 1, 0)
        self.first[phase] = torch.where(some, bad.to(torch.int8).argmax(), self.first[phase])


def is_out_of_memory(error: RuntimeError) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or any(text in str(error) for text in MEMORY_TEXTS)
