"""Ctrl-C and the signals with which systems end a process, as one exception."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType


class Interrupted(KeyboardInterrupt):
    """number: of the signal."""

    def __init__(self, number: int) -> None:
        self.number = number


def _raise(number: int, _frame: FrameType | None) -> None:
    raise Interrupted(number)


@contextlib.contextmanager
def interrupts() -> Iterator[None]:
    """Within it SIGINT, SIGTERM and SIGHUP raise Interrupted (in the main thread), but for those that are ignored, as
    nohup asks for."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, _raise) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
              if signal.getsignal(number) != signal.SIG_IGN}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
