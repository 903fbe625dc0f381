"""Tables of what was measured, with all that a figure belongs to, as they can be pasted into docs/benchmarks.md."""

import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import click
import torch

from benchmarks.turns import Measured
from torch_utils.text import format_bytes
from torch_utils.timing import describe


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(cells) + " |" for cells in (head, *rows)]
    return "\n".join([lines[0], "|" + "---|" * len(head), *lines[1:]]) + "\n"


def significant(value: float) -> str:
    """Three digits that count: 0.0123, 1.23, 12.3, 1234."""
    if value == 0:
        return "0"
    return f"{value:.0f}" if value >= 99.95 else f"{value:#.3g}".rstrip(".") if value >= 1e-4 else f"{value:.1e}"


def circumstances(module: str, device: torch.device) -> dict[str, str]:
    """When, on what and by which command."""
    command = shlex.join(["python", "-m", module, *sys.argv[1:]])
    return {"command": command, "machine": describe(device), "date": f"{date.today():%d %B %Y}".lstrip("0")}


def heading(about: Mapping[str, str], what: str) -> str:
    return f"    {about['command']}\n\n{about['machine']}, {about['date']}; {what}\n"


def peer_of(rows: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The row that others are compared with: plain where it was measured, else the first."""
    return next((row for row in rows if row["variant"] == "plain"), rows[0])


def memory(found: Measured) -> str:
    return "" if found.peak_bytes is None else format_bytes(found.peak_bytes)


def tell_failures(results: Sequence[Measured]) -> None:
    for found in results:
        if found.failure is not None:
            click.echo(f"{found.name} could not be measured: {found.failure}", err=True)


def hand_out(values: Mapping[str, Any], tables: str, as_json: bool, path: Path | None) -> None:
    """To standard output, and to the file where one is wanted."""
    text = json.dumps(values, indent=1)
    if path is not None:
        path.write_text(text + "\n", encoding="utf-8")
    click.echo(text if as_json else tables)
