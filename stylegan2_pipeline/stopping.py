"""Signals that ask a run to stop: it finishes the step, saves, and exits with 128 + the signal's number."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


class StopRequest:
    """signal: the number of the one that came, or 0. say: takes a line while any other line may be being written."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self.signal = 0
        self._say = say

    def receive(self, number: int, _frame: FrameType | None = None) -> None:
        """The signal's handler; a second Ctrl-C interrupts at once."""
        if self.signal and number == signal.SIGINT:
            self._say("Stopped at once; what was trained since the last saved state is lost.")
            raise KeyboardInterrupt
        if not self.signal:
            more = " (press Ctrl-C again to stop at once)" if number == signal.SIGINT else ""
            self._say(f"{name(number)}: finishing this step, then saving{more}")
        self.signal = self.signal or number


def name(number: int) -> str:
    return "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name


@contextlib.contextmanager
def stop_requests(say: Callable[[str], None]) -> Iterator[StopRequest]:
    """Within it SIGINT, SIGTERM and SIGUSR1 are noted instead of ending the process (in its main thread)."""
    request = StopRequest(say)
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = {number: signal.signal(number, request.receive) for number in SIGNALS}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
