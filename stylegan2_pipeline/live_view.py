"""A live view of a run at the foot of a terminal; lines that are printed meanwhile scroll above it."""

import io
import os
import stat
import sys
import time
from collections.abc import Mapping, Sequence
from math import nan
from typing import Any, TextIO

from rich.console import Console, RenderableType
from rich.live import Live
from rich.text import Text

from stylegan2_pipeline.live_panel import Progress, Shown, panel
from stylegan2_pipeline.resources import MachineUse

REFRESHES = 2  # a second


def wanted(stderr: TextIO | None, stdout: TextIO | None) -> bool:
    """Whether to show it: stderr is a capable terminal, lines do not come back to it through a pipe, nobody objects.

    STYLEGAN2_VIEW=plain objects; through a pipe, as with `| tee log.txt`, lines would fall into the panel.
    """
    if os.environ.get("STYLEGAN2_VIEW") == "plain" or os.environ.get("TERM", "dumb") == "dumb":
        return False
    return _is_terminal(stderr) and not _is_pipe(stdout)


def _is_terminal(stream: TextIO | None) -> bool:
    try:
        return stream is not None and stream.isatty()
    except ValueError:  # closed
        return False


def _is_pipe(stream: TextIO | None) -> bool:
    try:
        return stream is not None and stat.S_ISFIFO(os.fstat(stream.fileno()).st_mode)
    except (OSError, ValueError):  # not a file of the system
        return False


class LiveView:
    """The panel. A thread of its own draws it from what was told last, so that telling costs nothing."""

    def __init__(self, name: str, stream: TextIO) -> None:
        self.shown = Shown(name)
        self._console = Console(file=stream)
        self._machine = MachineUse()
        self._machine_time = -1e9
        self._step_time = time.monotonic()
        self._live = Live(get_renderable=self._render, console=self._console, refresh_per_second=REFRESHES,
                          transient=True, redirect_stdout=False, redirect_stderr=False)
        self._before: tuple[TextIO, TextIO] | None = None

    def start(self) -> None:
        self._before = sys.stdout, sys.stderr
        if _is_terminal(sys.stdout):
            sys.stdout = _Above(self, sys.stdout)
        sys.stderr = _Above(self, sys.stderr)
        self._live.start()
        self._console.show_cursor(True)  # so that a killed process leaves the terminal as it was

    def stop(self) -> None:
        """Takes the panel away and gives the terminal back; does nothing the second time."""
        if self._before is not None:
            stdout, stderr = self._before
            self._before = None
            for stream in (sys.stdout, sys.stderr):
                if isinstance(stream, _Above):
                    stream.finish()
            sys.stdout, sys.stderr = stdout, stderr
            self._live.stop()

    def print(self, text: str) -> None:
        """A line above the panel; where standard output is not the terminal, it goes there."""
        stdout = self._before[0] if self._before else sys.stdout
        if _is_terminal(stdout):
            self._console.print(Text(text), soft_wrap=True)
        else:
            print(text, file=stdout, flush=True)

    def print_above(self, text: str) -> None:
        """A line above the panel, whatever standard output is."""
        self._console.print(Text(text), soft_wrap=True)

    def progress(self, at: Progress) -> None:
        self.shown.progress = at
        self._step_time = time.monotonic()

    def tick(self, values: Mapping[str, float | None]) -> None:
        """Means of a tick by name; a name that is missing keeps its value from before (lazy phases)."""
        self.shown.values = {**self.shown.values, **{name: nan if x is None else x for name, x in values.items()}}

    def metric(self, record: Mapping[str, Any]) -> None:
        """A line of a metric file; shown is its main value, the one that is called as the metric."""
        name, results = record["metric"], record["results"]
        value = results.get(name, next(iter(results.values())))
        number = "no number" if value is None else f"{value:.4g}"
        text = f"{name} {number} at {record['cur_nimg'] / 1000:.1f} kimg"
        self.shown.metrics = self.shown.metrics | {name: text}
        if record.get("best"):
            self.shown.best = text

    def health(self, verdicts: Sequence[Mapping[str, Any]]) -> None:
        self.shown.verdicts = verdicts

    def _render(self) -> RenderableType:
        try:
            now = time.monotonic()
            self.shown.idle_sec = now - self._step_time
            if now - self._machine_time > 1:
                self._machine_time = now
                self.shown.machine = self._machine.words()
            return panel(self.shown, self._console.width, not self._console.options.ascii_only)
        except Exception as error:  # in a thread that nobody watches
            return Text(f"The live view fails ({type(error).__name__}: {error}); training goes on.")


class _Above(io.TextIOBase):
    """A stream whose lines appear above the panel; in a forked process (a data worker) the stream as it was."""

    def __init__(self, view: LiveView, stream: TextIO) -> None:
        self._view = view
        self._stream = stream
        self._pid = os.getpid()
        self._line = ""

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._stream.encoding

    def fileno(self) -> int:
        return self._stream.fileno()

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        if os.getpid() != self._pid:
            return self._stream.write(text)
        *lines, self._line = (self._line + text).split("\n")
        for line in lines:
            self._view.print_above(line)
        return len(text)

    def flush(self) -> None:
        self._stream.flush()

    def finish(self) -> None:
        """Prints what no line end has followed yet."""
        if self._line:
            self.write("\n")
