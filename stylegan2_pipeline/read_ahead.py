"""Images read ahead by processes, in order, in bounded memory, whatever becomes of the processes.

Batches are cut into pieces. Piece j is read by process j mod W into slot j mod S of a ring of shared memory, as soon as
piece j - S was taken out of it. So a process that dies is replaced by one that is given the same pieces again.
"""

import contextlib
import itertools
import math
import os
import pickle
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Self

import numpy as np
import torch

from stylegan2_pipeline import shared_memory
from stylegan2_pipeline.data_worker import fill
from stylegan2_pipeline.dataset import ImageDataset
from torch_utils.errors import UserError

MOST_BYTES = 256 << 20  # of images that wait
PIECE_BYTES = 8 << 20
MOST_DEATHS, DEATHS_SEC = 3, 600.0

Numbers = Callable[[int], Sequence[int]]
Tell = Callable[[str], None]


def read_ahead(dataset: ImageDataset, numbers: Numbers, share: int, workers: int = 0, pin_memory: bool = False,
               tell: Tell = print) -> Iterator[torch.Tensor]:
    """Endless uint8 [share,C,H,W]: the images numbers(0), numbers(1), ..., read by processes, or here with workers = 0.

    Raises UserError, naming the file, when an image cannot be read.
    """
    with Readers(dataset, numbers, share, workers if os.name == "posix" else 0, tell) as readers:
        for step in itertools.count():
            images = torch.empty([share, *dataset.image_shape], dtype=torch.uint8, pin_memory=pin_memory)
            error = readers.fill(step, images.numpy())
            if error is not None:
                raise UserError(error)
            yield images


class Reader:
    """One process of data_worker.py."""

    def __init__(self, memory: int) -> None:
        paths = os.pathsep.join(path or os.getcwd() for path in sys.path)
        one_thread = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "stylegan2_pipeline.data_worker", str(memory)], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, pass_fds=[memory], start_new_session=True,
            env=os.environ | one_thread | {"PYTHONPATH": paths})

    def send(self, message: bytes) -> None:
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):  # it is dead: that is found where its answer is awaited
            self.process.stdin.write(message)
            self.process.stdin.flush()

    def answer(self) -> str | None:
        """To the next task. Raises EOFError when the process is dead."""
        assert self.process.stdout is not None
        try:
            return pickle.load(self.process.stdout)
        except (OSError, pickle.UnpicklingError):
            raise EOFError from None

    def end(self) -> str:
        """How it ended, if it was dead."""
        self.process.poll()
        self.process.kill()
        self.process.communicate()  # also closes its pipes
        code = self.process.returncode
        return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"


class Readers:
    """The ring of slots and the processes that fill it; without processes, their work is done when it is asked for."""

    def __init__(self, dataset: ImageDataset, numbers: Numbers, share: int, workers: int, tell: Tell) -> None:
        self.dataset, self.numbers, self.share, self.tell = dataset, numbers, share, tell
        self.deaths: list[float] = []
        self.readers: list[Reader] = []
        self.ahead: deque[int] = deque()  # pieces that are being read, or wait to be taken
        image_bytes = math.prod(dataset.image_shape)
        self.piece = min(share, max(PIECE_BYTES // image_bytes, 1)) if workers else share
        self.pieces = -(-share // self.piece)  # of a batch
        if workers:
            most = max(MOST_BYTES // (self.piece * image_bytes), 1)
            self.shape = (min(2 * max(self.pieces, workers), most), self.piece, *dataset.image_shape)
            self.memory = shared_memory.create(math.prod(self.shape))
            self.slots = shared_memory.view(self.memory, self.shape)
            self.readers = [Reader(self.memory) for _ in range(min(workers, self.shape[0]))]
            for reader in self.readers:
                reader.send(pickle.dumps((dataset, self.shape)))
            for piece in range(self.shape[0]):
                self._order(piece)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        for reader in self.readers:
            reader.end()
        if self.readers:
            os.close(self.memory)
        self.readers = []

    def fill(self, step: int, images: np.ndarray) -> str | None:
        """Puts images [share,C,H,W] of the next step in place; None, or the message of what is wrong with one."""
        for part in range(self.pieces):
            target = images[part * self.piece:(part + 1) * self.piece]
            error = self._take(step * self.pieces + part, target)
            if error is not None:
                return error
        return None

    def _take(self, piece: int, target: np.ndarray) -> str | None:
        while self.readers:
            try:
                error = self.readers[piece % len(self.readers)].answer()
            except EOFError:
                self._replace(piece % len(self.readers))
                continue
            target[:] = self.slots[piece % len(self.slots)][:len(target)]
            self.ahead.popleft()
            self._order(piece + len(self.slots))
            return error
        return fill(target, self.dataset, self._numbers_of(piece))

    def _numbers_of(self, piece: int) -> Sequence[int]:
        step, part = divmod(piece, self.pieces)
        return self.numbers(step)[part * self.piece:(part + 1) * self.piece]

    def _order(self, piece: int) -> None:
        self.ahead.append(piece)
        self._send(piece)

    def _send(self, piece: int) -> None:
        task = (piece % len(self.slots), self._numbers_of(piece))
        self.readers[piece % len(self.readers)].send(pickle.dumps(task))

    def _replace(self, dead: int) -> None:
        """Another process gets the pieces that one owes; after several deaths none does."""
        how = f"A data worker (process {self.readers[dead].process.pid}) {self.readers[dead].end()}"
        self.deaths = [*(t for t in self.deaths if time.monotonic() - t < DEATHS_SEC), time.monotonic()]
        if len(self.deaths) >= MOST_DEATHS:
            self.tell(f"{how}, and {MOST_DEATHS} did within {DEATHS_SEC / 60:.0f} minutes: from here on the training "
                      f"process reads the images itself, which may be slower.")
            self.__exit__()
            return
        self.tell(f"{how}, most often for want of memory; another one goes on in its place.")
        self.readers[dead] = Reader(self.memory)
        self.readers[dead].send(pickle.dumps((self.dataset, self.shape)))
        for piece in self.ahead:
            if piece % len(self.readers) == dead:
                self._send(piece)
