"""A progress bar for people: on stderr, and only when that is a terminal."""

import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

import click

V = TypeVar("V")


def progress(items: Iterable[V], length: int, label: str) -> Iterator[V]:
    """The items, with a bar while they pass."""
    with click.progressbar(items, length=length, label=label, file=sys.stderr, hidden=not sys.stderr.isatty()) as bar:
        yield from bar
