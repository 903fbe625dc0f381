"""Statistics of real images on the disk, so that they are computed once for a dataset.

An entry is found by what it was computed from - the content digest of the images, the detector's digest, the options -
never by a path, so that a dataset that has changed is never served the numbers of what it was. It is a convenience:
whatever becomes of the disk, metrics are computed.
"""

import contextlib
import hashlib
import json
import math
import os
import shutil
import threading
import time
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click
import numpy as np

from torch_utils.errors import UserError
from torch_utils.files import cache_dir
from torch_utils.text import format_bytes

FORMAT = 1  # of the entries: raised whenever what is computed changes its meaning
LIMIT_GB = 10.0
LIMIT_VARIABLE = "STYLEGAN2_METRICS_CACHE_GB"
KEY = "__key__"  # the entry's own array in its file
STALE_SEC = 3600  # after which an unfinished file was left by a process that is gone


class StatisticsCache:
    """Arrays by key, one .npz file an entry, shared by any number of processes.

    folder: by default `metrics` in the cache folder. limit: bytes of all entries together, those used longest ago go
    first; by default $STYLEGAN2_METRICS_CACHE_GB, or 10 GB; 0 keeps nothing. Raises UserError for a limit in the
    environment that is no number, and never for anything else.
    """

    def __init__(self, folder: str | Path | None = None, limit: int | None = None) -> None:
        self.folder = Path(folder) if folder is not None else cache_dir() / "metrics"
        self.limit = default_limit() if limit is None else limit

    def get(self, key: Mapping[str, Any]) -> dict[str, np.ndarray] | None:
        """What was put under the same key; None when there is nothing, or it is damaged or of another version.

        key: names to texts and numbers in any nesting that JSON can hold; their order does not matter.
        """
        text = canonical(key)
        path = self._path(text)
        try:
            with np.load(path, allow_pickle=False) as file:
                if file[KEY].tobytes() != text:
                    return None
                arrays = {name: file[name] for name in file.files if name != KEY}
        except Exception:  # whatever a missing, damaged or foreign file provokes: it is made anew
            return None
        with contextlib.suppress(OSError):
            os.utime(path)  # used just now
        return arrays

    def put(self, key: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> bool:
        """Keeps the arrays if the limit and the disk allow it, and says whether; tells of a reason once a process."""
        assert KEY not in arrays, KEY
        text = canonical(key)
        nbytes = sum(array.nbytes + 1024 for array in arrays.values())
        if not self.limit:
            return False
        if nbytes > self.limit:
            return _not_kept(f"they take {format_bytes(nbytes)}, and {LIMIT_VARIABLE} allows "
                             f"{format_bytes(self.limit)}")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._make_room(nbytes)
            room = shutil.disk_usage(self.folder).free
            if nbytes > room // 2:  # the rest is for who cannot do without
                return _not_kept(f"they take {format_bytes(nbytes)}, and {self.folder} has room for "
                                 f"{format_bytes(room)}")
            self._write(self._path(text), {KEY: np.frombuffer(text, np.uint8), **arrays})
        except OSError as error:
            return _not_kept(f"{self.folder}: {error.strerror or error}")
        return True

    def _path(self, text: bytes) -> Path:
        return self.folder / f"{hashlib.blake2b(text, digest_size=16).hexdigest()}.npz"

    def _write(self, path: Path, arrays: Mapping[str, np.ndarray]) -> None:
        partial = path.with_name(f".{path.stem}.{os.getpid()}-{threading.get_ident():x}.tmp")
        try:
            with zipfile.ZipFile(partial, "w") as file:
                for name, array in arrays.items():
                    with file.open(f"{name}.npy", "w", force_zip64=True) as member:
                        np.lib.format.write_array(member, array, allow_pickle=False)
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)

    def _make_room(self, nbytes: int) -> None:
        """So that the limit holds with nbytes more."""
        entries = sorted(((stat.st_mtime_ns, stat.st_size, path) for path, stat in _files(self.folder, ".npz")))
        total = sum(size for _, size, _ in entries) + nbytes
        for _, size, path in entries:
            if total <= self.limit:
                break
            path.unlink(missing_ok=True)
            total -= size
        for path, stat in _files(self.folder, ".tmp"):
            if time.time() - stat.st_mtime > STALE_SEC:
                path.unlink(missing_ok=True)


def canonical(key: Mapping[str, Any]) -> bytes:
    """The key and the version of the format as one text. Raises TypeError or ValueError for what JSON cannot hold."""
    return json.dumps({"format": FORMAT, "key": key}, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def default_limit() -> int:
    """Bytes that the environment allows."""
    text = os.environ.get(LIMIT_VARIABLE) or str(LIMIT_GB)
    try:
        limit = float(text)
    except ValueError:
        limit = math.nan
    if not 0 <= limit < math.inf:
        raise UserError(f"{LIMIT_VARIABLE}={text} is no size: give gigabytes, such as {LIMIT_GB:g}, or 0 to keep none.")
    return int(limit * 1e9)


def content_digest(cache: StatisticsCache, fingerprint: str, compute: Callable[[], str]) -> str:
    """What compute() returns for images with this fingerprint, which reads and decodes all of them: done once.

    fingerprint: cheap, and another one whenever an image or label may be another one.
    """
    key = {"content of": fingerprint}
    kept = cache.get(key)
    if kept is not None and kept.keys() == {"digest"} and kept["digest"].dtype == np.uint8:
        return kept["digest"].tobytes().decode()
    digest = compute()
    cache.put(key, {"digest": np.frombuffer(digest.encode(), np.uint8)})
    return digest


def _files(folder: Path, ending: str) -> list[tuple[Path, os.stat_result]]:
    """Those that are still there."""
    found = []
    for path in folder.iterdir():
        with contextlib.suppress(OSError):
            if path.name.endswith(ending) and path.is_file():
                found.append((path, path.stat()))
    return found


_told = threading.Event()


def _not_kept(reason: str) -> bool:
    if not _told.is_set():
        _told.set()
        click.echo(f"Statistics of the real images are not kept for the next time: {reason}.", err=True)
    return False
