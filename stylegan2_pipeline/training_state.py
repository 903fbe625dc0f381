"""The training state: everything that a run needs to go on as if it had not stopped, in a file that proves itself.

    training-state-000200123.pt = "stylegan2-pipeline state 1 <blake2b of the rest> <its length>" padded, torch.save

It is written beside and renamed; on reading, a torn or altered file is told from a good one by its digest, and torch
reads it as plain data (weights_only). Nothing random is in it: streams follow from the seed and the images seen.
"""

import contextlib
import errno
import hashlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import torch

from stylegan2_pipeline.training_step import Trainer
from torch_utils import distributed
from torch_utils.errors import UserError
from torch_utils.files import atomic_path

MAGIC = b"stylegan2-pipeline state 1 "
HEADER_BYTES = 128
_CHUNK = 2**24
_NAME = re.compile(r"training-state-(\d+)\.pt$")


class DamagedState(Exception):
    """A training state that is torn, altered or of another kind; the text says which."""


def state_path(run_dir: Path, cur_nimg: int) -> Path:
    return run_dir / f"training-state-{cur_nimg:09d}.pt"


def states(run_dir: Path) -> list[Path]:
    """Those in a run folder, the newest first."""
    found = {int(match[1]): path for path in run_dir.glob("training-state-*.pt") if (match := _NAME.search(path.name))}
    return [found[nimg] for nimg in sorted(found, reverse=True)]


def write_state(path: Path, state: dict[str, Any]) -> None:
    """Raises UserError naming the path when the disk is full or not writable; then nothing has changed."""
    with atomic_path(path, durable=True) as partial, open(partial, "w+b") as file:
        file.write(bytes(HEADER_BYTES))
        try:
            torch.save(state, file)
        except RuntimeError as error:  # torch's own, when the disk is full in the middle of a record
            cause = error.__context__
            raise cause if isinstance(cause, OSError) else OSError(errno.EIO, str(error)) from error
        digest, size = _digest(file)
        file.seek(0)
        file.write((MAGIC + f"{digest} {size}".encode()).ljust(HEADER_BYTES, b"\n"))


def read_state(path: Path) -> dict[str, Any]:
    """Raises DamagedState."""
    with _checked(path) as file:
        return torch.load(_Rest(file), map_location="cpu", weights_only=True)  # type: ignore[arg-type]


def check_state(path: Path) -> None:
    """Raises DamagedState."""
    with _checked(path):
        pass


@contextlib.contextmanager
def _checked(path: Path) -> Iterator[IO[bytes]]:
    try:
        with open(path, "rb") as file:
            header = file.read(HEADER_BYTES)
            if not header.startswith(MAGIC):
                raise DamagedState("it does not begin like a training state")
            digest, size = _digest(file)
            if header[len(MAGIC):].decode("ascii", "replace").split() != [digest, str(size)]:
                raise DamagedState(f"its {size} bytes are not those that were written")
            file.seek(HEADER_BYTES)
            yield file
    except OSError as error:
        raise DamagedState(str(error)) from error


def newest_good(run_dir: Path, tell: Callable[[str], None]) -> Path | None:
    """The newest state that is whole; says of each newer one why it is passed over."""
    for path in states(run_dir):
        try:
            check_state(path)
            return path
        except DamagedState as error:
            tell(f"{path} is damaged ({error}); taking the one before.")
    return None


def earlier_state(run_dir: Path, in_a_row: int) -> dict[str, Any]:
    """To go back to: the newest whole state; the one before after `in_a_row` > 1 times without a new one between.

    Raises UserError when there is none.
    """
    found = states(run_dir)
    for path in found[in_a_row - 1:] or found[-1:]:
        with contextlib.suppress(DamagedState):
            return read_state(path)
    raise UserError(f"{run_dir} has no training state that is whole to go back to.")


def drop_newer_states(run_dir: Path, cur_nimg: int) -> None:
    """Removes those beyond an earlier state to which the run went back: damaged ones, or of a time given up."""
    for path in states(run_dir):
        if path > state_path(run_dir, cur_nimg):
            path.unlink(missing_ok=True)


def _digest(file: IO[bytes]) -> tuple[str, int]:
    """Of all behind the header, and its length."""
    file.seek(HEADER_BYTES)
    state, size = hashlib.blake2b(digest_size=32), 0
    while chunk := file.read(_CHUNK):
        state.update(chunk)
        size += len(chunk)
    return state.hexdigest(), size


class _Rest:
    """A file without its header, as torch.load wants one."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def read(self, size: int = -1) -> bytes:
        return self._file.read(size)

    def readinto(self, buffer: Any) -> int:
        return self._file.readinto(buffer)  # type: ignore[attr-defined]

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset + (HEADER_BYTES if whence == 0 else 0), whence) - HEADER_BYTES

    def tell(self) -> int:
        return self._file.tell() - HEADER_BYTES

    def seekable(self) -> bool:
        return True


def trainer_state(trainer: Trainer) -> dict[str, Any]:
    """Of all ranks together; every rank must call it."""
    names, moments = trainer.collector.moments()
    trouble = trainer.trouble
    return {
        "cur_nimg": trainer.cur_nimg, "phases_done": trainer.phases_done,
        "batch_gpu": [trainer.config.batch_gpu, trainer.batch_gpu],  # as asked for, and what fitted
        "lr_scale": trainer.lr_scale, "augment_p": trainer.ada.p, "pl_mean": trainer.pl_mean, "lecam": trainer.lecam,
        "signs": distributed.sum_over_ranks(trainer._signs.clone()),
        "statistics": {"names": names, "moments": distributed.sum_over_ranks(moments.clone())},
        "trouble": {"losses": trouble.losses, "run": trouble.run, "first": trouble.first},
        "networks": {name: net.state_dict() for name, net in trainer.networks.items()},
        "optimizers": {name: optimizer.state_dict()["state"] for name, optimizer in trainer.optimizers.items()},
    }


def restore_trainer(trainer: Trainer, state: dict[str, Any]) -> None:
    """The trainer as it was, but for its settings; what ranks add up goes to the first one."""
    mine = distributed.rank() == 0
    for name, net in trainer.networks.items():
        net.load_state_dict(state["networks"][name])
    for name, optimizer in trainer.optimizers.items():
        now = optimizer.state_dict()
        optimizer.load_state_dict({"state": state["optimizers"][name], "param_groups": now["param_groups"]})
    trainer.cur_nimg, trainer.phases_done = state["cur_nimg"], state["phases_done"]
    asked, found = state["batch_gpu"]
    trainer.batch_gpu = found if asked == trainer.config.batch_gpu else trainer.config.batch_gpu
    trainer.scale_learning_rates(state["lr_scale"])
    trainer.ada.p = state["augment_p"]
    trainer.pl_mean.copy_(state["pl_mean"])
    trainer.lecam.copy_(state["lecam"])
    trainer._signs.copy_(state["signs"] * mine)
    trainer.collector.load(state["statistics"]["names"], state["statistics"]["moments"], mine)
    for name, values in state["trouble"].items():
        if len(values) == len(trainer.phases):  # else --override has switched a phase on or off
            getattr(trainer.trouble, name).copy_(values)
