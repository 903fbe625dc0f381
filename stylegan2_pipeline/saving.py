"""What a run keeps on disk: training states by time, and which network snapshots stay."""

import contextlib
import math
import os
import re
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from stylegan2_pipeline.config import ScheduleConfig
from stylegan2_pipeline.training_state import state_path, states, write_state
from torch_utils.errors import UserError
from torch_utils.files import atomic_path
from torch_utils.text import format_bytes

KEPT_STATES = 2
RETRY_SEC = 60.0
BEST = "network-best.pkl"
_SNAPSHOT = re.compile(r"network-snapshot-(\d+)\.pkl$")


class Saver:
    """Writes the states of a run, and knows when the next is due."""

    def __init__(self, run_dir: Path, schedule: ScheduleConfig, tell: Callable[[str], None]) -> None:
        self.run_dir = run_dir
        self.interval_sec = schedule.save_minutes * 60
        self.tell = tell
        self._next = time.monotonic() + self.interval_sec

    def due(self) -> bool:
        return time.monotonic() >= self._next

    def check_space(self, networks: Mapping[str, nn.Module]) -> None:
        """Raises UserError when the disk does not hold the states that are kept, the next one, and a snapshot."""
        sizes = {name: state_bytes(net.state_dict()) for name, net in networks.items()}
        state = sum(sizes.values()) + 2 * (sizes["G"] + sizes["D"])  # two moments of Adam
        need, free = (KEPT_STATES + 1) * state + sum(sizes.values()), shutil.disk_usage(self.run_dir).free
        if free < need:
            raise UserError(f"--outdir: {self.run_dir} has {format_bytes(free)} free; this run keeps training states "
                            f"and snapshots of {format_bytes(need)} in all. Make room, or choose another --outdir.")

    def save(self, state: dict[str, Any], kept: int = KEPT_STATES) -> Path | None:
        """Writes it and removes all but the newest `kept`; None, having said why, where that cannot be."""
        path = state_path(self.run_dir, state["trainer"]["cur_nimg"])
        try:
            free = shutil.disk_usage(self.run_dir).free
            if free < state_bytes(state):
                raise UserError(f"{format_bytes(free)} are free, {format_bytes(state_bytes(state))} are needed. Make "
                                f"room.")
            write_state(path, state)
        except (UserError, OSError) as error:
            self._next = time.monotonic() + min(self.interval_sec, RETRY_SEC)
            self.tell(f"The training state could not be saved to {path}: {error} Training goes on; the states from "
                      f"before stay.")
            return None
        self._next = time.monotonic() + self.interval_sec
        for old in [old for old in states(self.run_dir) if old != path][kept - 1:]:
            with contextlib.suppress(OSError):
                old.unlink()
        return path


def state_bytes(state: object) -> int:
    """Of the tensors in nested containers, and a little for the rest."""
    if isinstance(state, Tensor):
        return state.nbytes + 256
    if isinstance(state, Mapping):
        return sum(map(state_bytes, state.values()))
    return sum(map(state_bytes, state)) if isinstance(state, list | tuple) else 64


def snapshots(run_dir: Path) -> list[tuple[int, Path]]:
    """(kimg, file) of the network snapshots in a run folder, the oldest first."""
    return sorted((int(match[1]), path) for path in run_dir.glob("network-snapshot-*.pkl")
                  if (match := _SNAPSHOT.search(path.name)))


def prune_snapshots(run_dir: Path, keep_last: int | None, keep_every_kimg: float | None) -> None:
    """Removes snapshots but the last few, and the first of every keep_every_kimg; with neither given none."""
    found = snapshots(run_dir)
    if keep_last is None and keep_every_kimg is None:
        return
    newest = sorted(found, key=lambda item: (item[1].stat().st_mtime_ns, item[0]))  # kimg go back with the run
    kept = {path for _, path in newest[-(keep_last or 1):]}
    if keep_every_kimg:
        first: dict[int, Path] = {}
        for kimg, path in found:
            first.setdefault(math.floor(kimg / keep_every_kimg), path)
        kept |= set(first.values())
    for _, path in found:
        if path not in kept:
            with contextlib.suppress(OSError):
                path.unlink()


def keep_best(snapshot: Path) -> Path:
    """Makes a snapshot the run's network-best.pkl, without a second copy where the file system allows."""
    best = snapshot.with_name(BEST)
    with atomic_path(best) as partial:
        partial.unlink(missing_ok=True)  # of a killed process of this number, a link to an older snapshot
        try:
            os.link(snapshot, partial)
        except OSError:
            shutil.copyfile(snapshot, partial)
    return best
