"""The folder of a training run: its name tells the settings that differ from the defaults; who trains in it."""

import contextlib
import fcntl
import json
import re
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import IO, Any

from torch_utils.errors import UserError
from torch_utils.files import atomic_path


def run_name(data: str, parts: Iterable[str]) -> str:
    """E.g. sigara-mirror-auto1-kimg500-batch16."""
    return "-".join([re.sub(r"[^A-Za-z0-9_.]+", "_", data), *parts])


def make_run_folder(outdir: str | Path, name: str) -> Path:
    """Makes outdir/<5-digit id>-<name>, with the id one above the highest there. Raises UserError naming --outdir."""
    outdir = Path(outdir)
    try:
        outdir.mkdir(parents=True, exist_ok=True)
        while True:
            ids = [int(match[1]) for path in outdir.iterdir() if (match := re.match(r"(\d{5,})(-|$)", path.name))]
            folder = outdir / f"{max(ids, default=-1) + 1:05d}-{name}"
            try:
                folder.mkdir()
                return folder
            except FileExistsError:
                continue  # another run took this id in the meantime
    except OSError as error:
        raise UserError(f"--outdir: cannot make a run folder in {outdir}: {error.strerror}. Choose another "
                        f"--outdir.") from error


@dataclass(frozen=True)
class RunRecord:
    """run.json: what is known of a run besides its settings.

    options: as typed; launch_id: of the torchrun that it is of; environment: software and hardware, in words.
    """

    options: dict[str, Any] = field(default_factory=dict)
    finished: bool = False
    cur_nimg: int = 0
    launch_id: str | None = None
    environment: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, run_dir: Path) -> "RunRecord":
        """Raises UserError when the folder has none, or one that is damaged."""
        path = run_dir / "run.json"
        try:
            return cls(**json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise UserError(f"{run_dir} is no run that can be continued: its run.json is missing or damaged ({error}). "
                            f"Start a new run from its weights with --resume={run_dir}.") from error

    def updated(self, **changes: Any) -> "RunRecord":
        return replace(self, **changes)

    def write(self, run_dir: Path) -> None:
        with atomic_path(run_dir / "run.json", durable=True) as partial:
            partial.write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")


@contextlib.contextmanager
def held(run_dir: Path) -> Iterator[None]:
    """The folder for this process alone. Raises UserError naming it when another one trains in it."""
    with open(run_dir / ".lock", "a") as file:
        if not any(_lock(file, fcntl.LOCK_EX) for _ in attempts()):
            raise UserError(f"Another process is training in {run_dir}. Wait for it, or stop it first.")
        for pattern in (".*.tmp.pt", ".*.tmp.pkl", ".*.tmp.json", ".*.tmp.jsonl", ".*.tmp.png", ".*.tmp.csv"):
            for partial in run_dir.glob(pattern):  # what a process that was killed was writing
                partial.unlink(missing_ok=True)
        yield


def is_held(run_dir: Path) -> bool:
    """Whether a process trains in this folder now."""
    try:
        with open(run_dir / ".lock", "a") as file:
            return not _lock(file, fcntl.LOCK_SH)
    except OSError:
        return False


def attempts(count: int = 5, pause_sec: float = 0.1) -> Iterator[int]:
    """With pauses between: somebody may be looking whether the folder is held, which takes no time."""
    for attempt in range(count):
        if attempt:
            time.sleep(pause_sec)
        yield attempt


def _lock(file: IO[str], kind: int) -> bool:
    """The system's lock: it ends with its process. Where the file system has none, nothing is held."""
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True
