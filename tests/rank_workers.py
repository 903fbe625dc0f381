"""What the ranks of test_ranks.py do; a light module, because every rank imports it anew."""

import os
import signal
import time

import numpy as np
import torch

from stylegan2_pipeline.config import DataConfig, TrainConfig
from stylegan2_pipeline.job import Job
from stylegan2_pipeline.shared_sampling import ImagePool
from torch_utils import distributed
from torch_utils.errors import UserError


def job(folder, what=""):
    """Two ranks on the CPU, which find `what` they are to do in its cfg."""
    return Job(TrainConfig(DataConfig("data", "data", 16, 1, 1), num_gpus=2, cfg=what), folder)


def say(job, name, text=""):
    (job.run_dir / f"{name} {distributed.rank()}").write_text(text)


def look_around(job, device):
    """What a rank sees, and what the collectives give; then the images that are made together."""
    rank = distributed.rank()
    net = torch.nn.Linear(2, 2)
    with torch.no_grad():
        net.weight.copy_(torch.arange(4.0).view(2, 2))
        net.bias.zero_()
    distributed.check_agreement({"G": net, "D": net})
    with torch.no_grad():
        net.bias[1] += 1e-45 * (rank == 1)  # the last bit
    say(job, "seen", repr(dict(
        total=float(distributed.sum_over_ranks(torch.tensor([float(rank)]))), threads=torch.get_num_threads(),
        own_session=os.getsid(0) == os.getpid(),
        disagreement=raised(lambda: distributed.check_agreement({"G": torch.nn.Identity(), "D": net})),
        told=raised(lambda: distributed.from_main(lambda: fail("--data=x: no such file."))),
        chosen=distributed.from_main(lambda: [rank, "chosen"]), everywhere=distributed.gather_objects(rank * 10))))
    share_images(job)
    return 0


def fail(message):
    raise UserError(message)


def die_on_one(job, device):
    """Rank 1 ends as job.config.cfg says, while rank 0 waits for it in a collective, or never notices."""
    say(job, "pid", str(os.getpid()))
    if distributed.rank() == 1:
        time.sleep(0.5)
        match job.config.cfg:
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "user error":
                raise UserError("--data=x: gone.")
            case "stuck":
                raise ZeroDivisionError("provoked")
    if job.config.cfg == "stuck":
        time.sleep(1000)
    distributed.sum_over_ranks(torch.zeros(1))
    return 0


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
    while not any(distributed.gather_objects(bool(noted))):
        time.sleep(0.05)
    if job.config.cfg == "slow":
        time.sleep(1000)
    say(job, "saved")
    return 128 + noted[0]


def make_numbered(start, count):
    """Images [count,1,2,2] that show their number."""
    return torch.arange(start, start + count, dtype=torch.uint8)[:, None, None, None].expand(count, 1, 2, 2)


def fail_on_one(start, count):
    if distributed.rank() == 1:
        raise ValueError("no such image")
    return make_numbered(start, count)


def fail_on_main(start, count):
    if distributed.rank() == 0:
        raise ValueError("not here")
    return make_numbered(start, count)


def share_images(job):
    """Rank 0 takes images in all ways that a consumer may; the others serve."""
    made = []

    def make(start, count):
        made.append((start, count))
        return make_numbered(start, count)

    pool = ImagePool({"plain": make, "one": fail_on_one, "main": fail_on_main}, batch=3)
    seen = {}
    if distributed.rank():
        pool.serve()
        pool.serve()
    else:
        with pool.lead():
            seen["all"] = [batch[:, 0, 0, 0].tolist() for batch in pool.batches("plain", 11)]
            seen["none"] = list(pool.batches("plain", 0))
            seen["few"] = [batch[:, 0, 0, 0].tolist() for batch in pool.batches("plain", 2)]
            seen["first"] = next(pool.batches("plain", 100))[:, 0, 0, 0].tolist()  # and no more
            a, b = pool.batches("plain", 8), pool.batches("plain", 8)
            seen["two at once"] = [len(batch) for pair in zip(a, b, strict=True) for batch in pair]
            seen["one"] = raised(lambda: list(pool.batches("one", 9)))
            seen["main"] = raised(lambda: list(pool.batches("main", 9)))
            seen["after"] = len(np.concatenate(list(pool.batches("plain", 10))))
        seen["leader"] = raised(lambda: fail_while_leading(pool))
        seen["outside"] = raised(lambda: list(pool.batches("plain", 1)))
    say(job, "images", repr((seen, made[:2])))


def fail_while_leading(pool):
    with pool.lead():
        list(pool.batches("plain", 4))
        raise KeyError("a metric")


def raised(function):
    try:
        function()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
