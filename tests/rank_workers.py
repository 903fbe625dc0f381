"""What the ranks of test_ranks.py do; a light module, because every rank imports it anew."""

import os
import signal
import time

import torch

from torch_utils import distributed
from torch_utils.errors import UserError


def say(job, name, text=""):
    (job.run_dir / f"{name} {distributed.rank()}").write_text(text)


def everything(job, device):
    """What a rank sees, and what the collectives give."""
    rank = distributed.rank()
    total = distributed.sum_over_ranks(torch.tensor([float(rank)]))
    net = torch.nn.Linear(2, 2)
    with torch.no_grad():
        net.weight.copy_(torch.arange(4.0).view(2, 2))
        net.bias.zero_()
    distributed.check_agreement({"G": net, "D": net})
    with torch.no_grad():
        net.bias[1] += 1e-45 * (rank == 1)  # the last bit
    try:
        distributed.check_agreement({"G": torch.nn.Linear(1, 1, bias=False).requires_grad_(False).zero_grad() or
                                     torch.nn.Identity(), "D": net})
    except distributed.RanksDisagree as error:
        disagreement = error.format_message()
    try:
        distributed.from_main(lambda: fail("--data=x: no such file."))
    except UserError as error:
        told = error.format_message()
    say(job, "seen", repr(dict(
        total=float(total), threads=torch.get_num_threads(), session=os.getsid(0) == os.getpid(),
        disagreement=disagreement, told=told, chosen=distributed.from_main(lambda: [rank, "chosen"]),
        all=distributed.gather_objects(rank * 10))))
    return 0


def fail(message):
    raise UserError(message)


def die_on_one(job, device):
    """Rank 1 ends as job.config.cfg says, while rank 0 waits for it in a collective."""
    say(job, "pid", str(os.getpid()))
    if distributed.rank() == 1:
        time.sleep(0.5)
        match job.config.cfg:
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "user error":
                raise UserError("--data=x: gone.")
            case "crash":
                raise ZeroDivisionError("provoked")
    distributed.sum_over_ranks(torch.zeros(1))
    return 0


def stuck(job, device):
    """Rank 1 dies; rank 0 never notices."""
    if distributed.rank() == 1:
        raise ZeroDivisionError("provoked")
    time.sleep(1000)


def finish_on_signal(job, device):
    """Goes on until a signal comes, then needs a moment; the second SIGINT ends it at once."""
    noted = []

    def note(number, frame):
        noted.append(number)
        if noted.count(signal.SIGINT) > 1:
            raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, note)
    say(job, "pid", str(os.getpid()))
    while not distributed.any_rank(bool(noted), device):
        time.sleep(0.05)
    if job.config.cfg == "slow":
        time.sleep(1000)
    say(job, "saved")
    return 128 + noted[0]
