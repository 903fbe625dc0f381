"""A process that reads images ahead of training, into memory that it shares with its parent.

Started by read_ahead.py. Its standard input brings pickles: the dataset and the shape of the memory, then one task
after the other; its standard output takes one answer a task. It ends when its input does, and so outlives nobody. It
imports no torch: it is there in a moment, and small.
"""

import contextlib
import os
import pickle
import signal
import sys
from collections.abc import Sequence

import numpy as np

from stylegan2_pipeline import shared_memory
from stylegan2_pipeline.dataset import ImageDataset
from torch_utils.errors import UserError
from torch_utils.host import keep_freed_memory

SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2")  # clusters send them to all processes of a job


def fill(pixels: np.ndarray, dataset: ImageDataset, numbers: Sequence[int]) -> str | None:
    """Reads images into pixels [K,C,H,W]; None, or the message of the UserError that it met."""
    try:
        for place, number in enumerate(numbers):
            pixels[place] = dataset.image(number)
    except UserError as error:
        return error.format_message()
    return None


def main(memory: int) -> None:
    """memory: the inherited descriptor of the slots that tasks (slot, numbers of images) fill."""
    for name in SIGNALS:
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)  # what to do is the parent's to decide
    keep_freed_memory()
    tasks, answers = sys.stdin.buffer, os.dup(1)
    os.dup2(2, 1)  # whatever a library prints is no answer
    with contextlib.suppress(EOFError, BrokenPipeError):
        dataset, shape = pickle.load(tasks)
        slots = shared_memory.view(memory, shape)
        while True:
            slot, numbers = pickle.load(tasks)
            os.write(answers, pickle.dumps(fill(slots[slot], dataset, numbers)))


if __name__ == "__main__":
    main(int(sys.argv[1]))
