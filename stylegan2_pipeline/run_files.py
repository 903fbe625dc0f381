"""The text files of a run folder that grow: appended to whole lines at a time, cut back when a run goes back."""

import contextlib
import csv
import io
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch_utils.files import atomic_path

FIRST_COLUMNS = ("Progress/tick", "Progress/kimg")


def append_text(path: Path, text: str) -> None:
    """Adds text to a file, or nothing, as `append_bytes`."""
    append_bytes(path, text.encode(errors="backslashreplace"))


def append_bytes(path: Path, content: bytes) -> None:
    """Adds bytes to a file, or nothing: what a full disk took of them is taken back before the OSError goes on."""
    data = memoryview(content)
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        size = os.fstat(file).st_size
        try:
            while data:
                data = data[os.write(file, data):]
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(file, size)
            raise
    finally:
        os.close(file)


def json_line(record: Mapping[str, Any]) -> str:
    """One line of JSON; numbers that are not finite become null, which every reader of JSON takes."""
    return json.dumps(_finite(record), allow_nan=False) + "\n"


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def append_metric(folder: Path, result: Mapping[str, Any]) -> Path:
    """Adds a metric's result to metric-<name>.jsonl in `folder`; returns the file."""
    path = folder / f"metric-{result['metric']}.jsonl"
    append_text(path, json_line(result))
    return path


def read_jsonl(path: Path) -> Iterator[dict[str, Any]]:
    """The records of a file of JSON lines; a line that a killed process left torn is passed over."""
    if path.exists():
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            if (record := _parsed(line)) is not None:
                yield record


def _parsed(line: str) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None


class LineFile:
    """A file of lines. Those that the disk does not take wait in memory, and go in front of the next ones."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.waiting = ""

    def append(self, text: str) -> None:
        """Raises OSError when the disk takes nothing now."""
        text, self.waiting = self.waiting + text, ""
        try:
            if text:
                append_text(self.path, text)
        except OSError:
            self.waiting = text + self.waiting
            raise


# Where the files were when a state was saved, and back to there.


def positions(run_dir: Path) -> dict[str, int]:
    """The length in bytes of every file that a run appends to, by name."""
    return {path.name: path.stat().st_size for path in _growing(run_dir)}


def _growing(run_dir: Path) -> list[Path]:
    return sorted(run_dir / name for name in os.listdir(run_dir)
                  if name == "log.txt" or (name.endswith(".jsonl") and not name.startswith(".")))


def rewind(run_dir: Path, position: Mapping[str, int]) -> list[str]:
    """Cuts the files back to these lengths and removes those not named; returns a sentence for each one too short.

    What was measured by hand after the run stopped stays: the lines of metric files that no training step is named in.
    """
    sentences = []
    for path in _growing(run_dir):
        length, size = position.get(path.name, 0), path.stat().st_size
        if size > length:
            _cut(path, length)
    for name, length in position.items():
        size = (run_dir / name).stat().st_size if (run_dir / name).exists() else 0
        if size < length:
            sentences.append(f"{run_dir / name} has {size} bytes where it had {length} when the state was saved: "
                             f"some of its lines are lost.")
    return sentences


def _cut(path: Path, length: int) -> None:
    kept = _measured_by_hand(path, length) if path.name.startswith("metric-") else b""
    if not length and not kept:
        path.unlink()
    elif not kept:
        os.truncate(path, length)
    else:
        with atomic_path(path) as partial, path.open("rb") as old:
            Path(partial).write_bytes(old.read(length) + kept)


def _measured_by_hand(path: Path, start: int) -> bytes:
    with path.open("rb") as file:
        file.seek(start)
        lines = file.read().splitlines(keepends=True)
    records = [(line, _parsed(line.decode(errors="replace"))) for line in lines]
    return b"".join(line for line, record in records if record is not None and "cur_nimg" not in record)


class Table:
    """stats.csv, one row a tick, made from stats.jsonl: the means; a cell is empty where a tick has no such number."""

    def __init__(self, source: Path, path: Path) -> None:
        self.source = source
        self.path = path
        self._columns: Sequence[str] = ()  # empty: not known to be as stats.jsonl has it

    def add(self, means: Mapping[str, float | None]) -> None:
        """Adds the row of the record that was added to the source last. Raises OSError."""
        columns, self._columns = self._columns, ()
        if means.keys() <= set(columns):
            append_text(self.path, _row([_finite(means.get(name)) for name in columns]))
            self._columns = columns
        else:
            self.rebuild()

    def forget(self) -> None:
        """Lets the next `add` write it anew: the source missed a record."""
        self._columns = ()

    def rebuild(self) -> None:
        """Writes it anew from the source, or removes it where that has nothing. Raises OSError."""
        rows = [_means(record) for record in read_jsonl(self.source)]
        names = {name for row in rows for name in row}
        first = [name for name in FIRST_COLUMNS if name in names]
        columns = [*first, *sorted(names - {*first, "timestamp"}), "timestamp"]
        if not rows:
            self.path.unlink(missing_ok=True)
            return
        with atomic_path(self.path) as partial:
            text = _row(columns) + "".join(_row([row.get(name) for name in columns]) for row in rows)
            Path(partial).write_text(text, encoding="utf-8")
        self._columns = columns


def _means(record: Mapping[str, Any]) -> dict[str, float | None]:
    return {name: value["mean"] if isinstance(value, dict) else value for name, value in record.items()}


def _row(cells: Iterable[Any]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(cells)  # None is an empty cell
    return line.getvalue()
