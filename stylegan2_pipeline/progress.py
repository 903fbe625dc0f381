"""A progress bar for people: on stderr, and only when that is a terminal."""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

import click

V = TypeVar("V")


def progress(items: Iterable[V], length: int, label: str) -> Iterator[V]:
    """The items, with a bar while they pass: how many, how fast, and how long it will take."""
    start = time.monotonic()

    def rate(_item: object) -> str:
        seconds = time.monotonic() - start
        return f"{bar.pos / seconds:.3g}/s" if seconds > 1 else ""

    with click.progressbar(items, length=length, label=label, file=sys.stderr, show_pos=True, item_show_func=rate,
                           hidden=not sys.stderr.isatty()) as bar:
        yield from bar
