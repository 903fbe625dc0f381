"""Work in processes, with results in order and a bounded number of them under way."""

import contextlib
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, Self, TypeVar

from torch_utils.errors import UserError
from torch_utils.host import keep_freed_memory

Item = TypeVar("Item")
Result = TypeVar("Result")

_context: Any = None  # in a worker process: what its pool was made with


class WorkerLost(UserError):
    """A process ended before its work did."""


class WorkerPool:
    """Calls function(context, item) in `workers` processes; in this one if there is just one.

    context, functions, items and results must be picklable; the context travels once. Processes are spawned, not
    forked, so that nothing of the parent's threads and files is inherited. They leave Ctrl-C to the parent.
    """

    def __init__(self, context: Any, workers: int) -> None:
        self._context = context
        self._workers = workers
        self._executor: ProcessPoolExecutor | None = None

    def __enter__(self) -> Self:
        keep_freed_memory()  # pictures come and go; page faults take as long as decoding otherwise
        if self._workers > 1:
            spawn = multiprocessing.get_context("spawn")
            self._executor = ProcessPoolExecutor(self._workers, spawn, _start_worker, (self._context,))
            with _interrupt_ignored():  # inherited by the processes, until _start_worker says it for good
                for _ in range(self._workers):
                    self._executor.submit(os.getpid)
        return self

    def __exit__(self, *exception: object) -> None:
        if self._executor is not None:
            self._executor.shutdown(cancel_futures=True)

    def map(self, function: Callable[[Any, Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Results in the order of the items. Raises what the function raises; WorkerLost if a process dies."""
        if self._executor is None:
            yield from (function(self._context, item) for item in items)
            return
        pending: deque[Future[Result]] = deque()
        try:
            for item in items:
                pending.append(self._executor.submit(_call, function, item))
                if len(pending) >= 4 * self._workers:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        except BrokenProcessPool:
            raise WorkerLost("A worker process was ended by the system, most often for want of memory. Try again with "
                            "--workers=1, which also tells whether a single image is the cause.") from None
        finally:
            for future in pending:
                future.cancel()


def _start_worker(context: Any) -> None:
    global _context
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    keep_freed_memory()
    _context = context


def _end_with_parent() -> None:
    """A parent that is killed says nothing, and its workers would wait for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _call(function: Callable[[Any, Item], Result], item: Item) -> Result:
    return function(_context, item)


@contextlib.contextmanager
def _interrupt_ignored() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():  # only the main thread may set handlers
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
