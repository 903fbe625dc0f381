"""Work in processes: in order, bounded, and a dead process is a message."""

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from stylegan2_pipeline.parallel import WorkerLost, WorkerPool
from torch_utils.files import CannotWrite


def kill(context, item):
    if item == 7:
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_worker_is_a_message():
    with pytest.raises(WorkerLost, match="ended by the system"), WorkerPool(None, 2) as pool:
        list(pool.map(kill, range(20)))


def echo(context, item):
    return context, item


def test_results_are_in_order_and_the_input_is_not_read_far_ahead():
    taken = []

    def items():
        for number in range(500):
            taken.append(number)
            yield number

    with WorkerPool("context", 2) as pool:
        results = pool.map(echo, items())
        assert [next(results) for _ in range(5)] == [("context", number) for number in range(5)]
        assert len(taken) < 30
        assert [number for _, number in results] == list(range(5, 500))


def no_room(context, item):
    raise CannotWrite("--dest: out.zip", OSError(errno.ENOSPC, "No space left on device"))


def test_a_full_disk_is_said_by_workers_too():
    with pytest.raises(CannotWrite, match=r"--dest: out\.zip cannot be written: .*The disk is full"), \
            WorkerPool(None, 2) as pool:
        list(pool.map(no_room, range(3)))


def tell_and_wait(queue, item):
    os.write(1, f"{os.getpid()}\n".encode())
    time.sleep(0.2)


def hold_a_pool():
    with WorkerPool(None, 2) as pool:
        for _ in pool.map(tell_and_wait, range(10 ** 6)):
            pass


def test_workers_end_with_a_parent_that_is_killed():
    code = "import test_parallel; test_parallel.hold_a_pool()"
    if_main = f"if __name__ == '__main__':\n    {code}"
    parent = subprocess.Popen([sys.executable, "-c", if_main], cwd=Path(__file__).parent, stdout=subprocess.PIPE,
                              text=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
    workers = {int(parent.stdout.readline()) for _ in range(8)}
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 20
    while any(running(pid) for pid in workers):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def running(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
