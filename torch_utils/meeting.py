"""Where the ranks of several machines meet: a store that outlives restarts, and signs of life."""

import os
import sys
import threading
import time
import uuid

from torch.distributed import Store

MEETING_SEC = 600.0  # for all ranks to arrive
BEAT_SEC = 3.0  # between signs of life
SILENT_SEC = 40.0  # after which a rank counts as dead


def agree_on_attempt(store: Store, rank: int, world_size: int) -> str:
    """A name, new and the same on all ranks of this attempt: a prefix for what they keep in the store.

    The store of torchrun lives on when processes are started again, with all that the dead have left in it. So each
    rank comes with a name that nobody had before, rank 0 answers that name, and goes on when everybody has its answer.
    Raises TimeoutError when not all come within MEETING_SEC.
    """
    name = uuid.uuid4().hex
    deadline = time.monotonic() + MEETING_SEC
    if not rank:
        _answer_all(store, name, world_size, deadline)
        return name
    store.set(f"arrived/{rank}", name)
    attempt = _answer(store, rank, name, deadline)
    store.set(f"{attempt}/{rank}", "here")
    return attempt


def _answer(store: Store, rank: int, name: str, deadline: float) -> str:
    while True:
        if store.check([f"answer/{rank}"]):
            attempt, whom = store.get(f"answer/{rank}").decode().split()
            if whom == name:
                return attempt
        _wait_a_little(deadline)


def _answer_all(store: Store, attempt: str, world_size: int, deadline: float) -> None:
    missing = list(range(1, world_size))
    while missing:
        for rank in missing:
            if store.check([f"arrived/{rank}"]):
                store.set(f"answer/{rank}", f"{attempt} {store.get(f'arrived/{rank}').decode()}")
        missing = [rank for rank in missing if not store.check([f"{attempt}/{rank}"])]
        _wait_a_little(deadline)


def _wait_a_little(deadline: float) -> None:
    if time.monotonic() > deadline:
        raise TimeoutError(f"not all ranks have arrived within {MEETING_SEC:g} s")
    time.sleep(0.02)


class Heartbeat:
    """A thread that shows that this rank lives, and ends the process when the next rank, or the store, does not.

    A machine that loses power or network closes no connection: whoever waits for it in a collective would wait for
    hours. The ranks watch each other in a ring; who finds the next one dead ends, and so the others find out.
    """

    def __init__(self, store: Store, rank: int, world_size: int) -> None:
        """store: a connection of its own; calls of the main thread may keep theirs busy."""
        self.store = store
        self.rank = rank
        self.watched = (rank + 1) % world_size
        self.stopping = threading.Event()
        self.goodbye = False
        self.thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)
        if world_size > 1:
            self.thread.start()

    def stop(self, well: bool) -> None:
        """Ends the thread; if all went well with a goodbye, so that the one who watches this rank does not miss it."""
        self.goodbye = well
        self.stopping.set()
        if self.thread.is_alive():
            self.thread.join(timeout=5)

    def _run(self) -> None:
        beats, last, heard = 0, b"", time.monotonic()
        while True:
            leaving = self.stopping.wait(BEAT_SEC)
            try:
                beats += 1
                if not leaving or self.goodbye:
                    self.store.set(f"beat/{self.rank}", "bye" if leaving else str(beats))
                if leaving:
                    return
                beat = self.store.get(f"beat/{self.watched}") if self.store.check([f"beat/{self.watched}"]) else b""
            except RuntimeError as error:
                if not self.stopping.is_set():
                    self._end(f"lost the machine where the ranks meet ({error})")
                return
            if beat not in (last, b"bye"):
                last, heard = beat, time.monotonic()
            elif beat != b"bye" and time.monotonic() - heard > SILENT_SEC:
                self._end(f"rank {self.watched} has given no sign of life for {SILENT_SEC:g} s; its process, machine "
                          f"or network is gone")

    def _end(self, why: str) -> None:
        print(f"Rank {self.rank} ends: {why}.", file=sys.stderr, flush=True)
        os._exit(1)
