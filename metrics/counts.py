"""How many images a metric takes of both sets, and what it says of few."""

from metrics.inputs import MetricInputs, Request
from torch_utils.errors import UserError


def counts_of(inputs: MetricInputs, request: Request, least: int) -> tuple[int, int]:
    """Numbers of real and of generated images. Raises UserError where either is less than `least`."""
    n, m = min(inputs.num_real, request.real_most or inputs.num_real), inputs.num_fake(request.count)
    if n < least:
        raise UserError(f"{request.name} takes at least {least} real images; there {_are(n)}. Give more with --data.")
    if m < least:
        raise UserError(f"{request.name} takes at least {least} generated images; there {_are(m)}. Raise --num, or "
                        f"give more with --images.")
    return n, m


def half_of(n: int, m: int, least: int, mirror: bool = False) -> int:
    """Images of each half of n real ones that are compared with each other, and as many of m generated ones; or 0.

    mirror: 0 with mirrored copies among the real images: an image in one half and its copy in the other are no two
    samples, and would make the halves look more alike than the data is.
    """
    half = min(n // 2, m)
    return half if half >= least and not mirror else 0


def alarm(name: str) -> str:
    """What is said when generated images are nearer to real ones than those are to each other, beyond chance."""
    return (f"{name} is below what real images differ by among themselves: copies of training images would explain "
            f"it; measure memorization.")


def _are(count: int) -> str:
    return "is 1" if count == 1 else f"are {count}"
