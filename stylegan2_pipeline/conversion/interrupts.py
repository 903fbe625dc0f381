"""Ctrl-C and the signals with which systems end a process, as one exception."""

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType

PATIENCE = 5.0  # seconds


class Interrupted(KeyboardInterrupt):
    """number: of the signal."""

    def __init__(self, number: int) -> None:
        self.number = number


def _raiser() -> Callable[[int, FrameType | None], None]:
    last = -PATIENCE

    def handle(number: int, _frame: FrameType | None) -> None:
        nonlocal last
        if time.monotonic() - last >= PATIENCE:
            last = time.monotonic()
            raise Interrupted(number)

    return handle


@contextlib.contextmanager
def interrupts() -> Iterator[None]:
    """Within it SIGINT, SIGTERM and SIGHUP raise Interrupted (in the main thread), but for those that are ignored, as
    nohup asks for. A second one within PATIENCE does nothing: it would break off the putting in order that the first
    one began, and leave processes that wait for ever."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handle = _raiser()
    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
              if signal.getsignal(number) != signal.SIG_IGN}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
