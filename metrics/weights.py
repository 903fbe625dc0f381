"""The weights behind the metrics: where their files lie, how they come here, and what is in them. Light to import."""

import contextlib
import json
import os
import pickle
import warnings
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from metrics.published import WEIGHTS, Published
from torch_utils.download import download as download_file
from torch_utils.download import offline, sha256_of
from torch_utils.errors import UserError
from torch_utils.files import atomic_path, cache_dir

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class WeightsSource:
    """paths: files, or folders with files under their published names, that go before all others (--weights)."""

    paths: tuple[Path, ...] = ()
    offline: bool = False


@dataclass(frozen=True)
class WeightsFile:
    """published: it is the file that its authors publish, to the bit."""

    name: str
    path: Path
    sha256: str
    published: bool


def weights_dir() -> Path:
    """$STYLEGAN2_WEIGHTS, or a folder in the cache: where weights are looked for and downloaded to."""
    return Path(os.environ.get("STYLEGAN2_WEIGHTS") or cache_dir() / "weights")


def locate(name: str, source: WeightsSource | None = None) -> WeightsFile:
    """From source.paths, the weights folder, torch.hub's cache, or downloaded to the weights folder; checked.

    Files of source.paths may hold other weights than the published ones; those of the weights folder may not. Raises
    UserError with URL, size, hash and where to put the file when it cannot be had.
    """
    source, weights = source or WeightsSource(), WEIGHTS[name]
    if weights_dir().is_file():
        raise UserError(f"STYLEGAN2_WEIGHTS is the file {weights_dir()}. Set it to the folder that holds the weights, "
                        f"or name the file with --weights.")
    refused: list[str] = []
    found = _given(weights, source) or _kept(weights, refused)
    if found:
        return found
    if source.offline or offline():
        raise UserError(f"The weights of {weights.title} are not on this machine, and --offline or STYLEGAN2_OFFLINE "
                        f"forbids to download them. {_remedy(weights)}"
                        + "".join(f" Not used: {text}." for text in refused))
    for text in [*(f"Not used: {text}" for text in refused), f"Needed: {weights.title}, {weights.licence}"]:
        click.echo(text, err=True)
    download_file(weights.url, weights_dir() / weights.filename, nbytes=weights.nbytes, sha256=weights.sha256,
                  remedy=_remedy(weights, "it some other way"))
    found = _kept(weights, [])
    assert found
    return found


def fetch(names: Iterable[str], source: WeightsSource | None = None) -> Iterator[WeightsFile]:
    """Each of the weights, downloaded where it is not here yet. Raises as locate() does."""
    for name in names:
        yield locate(name, source)


def read_state(file: WeightsFile) -> "dict[str, Tensor]":
    """The tensors of a .pth or TorchScript file by their names, on the CPU; no code of the file is run.

    Raises UserError, which names the file and the remedy, for one that is damaged or holds something else.
    """
    if _is_torchscript(file.path):
        from metrics.detectors.torchscript import read_torchscript
        return read_torchscript(file.path)
    import torch

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what is no file of weights; an error follows
            data = torch.load(file.path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a damaged file provokes
        raise UserError(f"{file.path} cannot be read as weights: {_damage(file.path, error)}. "
                        f"{_remedies(file.name)}") from error
    while isinstance(data, Mapping) and not any(isinstance(value, torch.Tensor) for value in data.values()):
        data = next((data[key] for key in ("state_dict", "model", "params") if key in data), None)
    if not isinstance(data, Mapping):
        raise UserError(f"{file.path} holds no tensors by name. {_remedies(file.name)}")
    return {str(name): value.detach() for name, value in data.items() if isinstance(value, torch.Tensor)}


def _given(weights: Published, source: WeightsSource) -> WeightsFile | None:
    for path in map(Path, source.paths):
        if path.is_dir():
            if not any((path / same.filename).exists() for known in WEIGHTS.values() for same in known.files):
                raise UserError(f"--weights: the folder {path} has no file that is known by its name: "
                                f"{', '.join(known.filename for known in WEIGHTS.values())}. Give the file itself.")
            found = [path / same.filename for same in weights.files if (path / same.filename).exists()]
        elif path.exists():
            found = [path] if _recognised(path, *_stamp(path)) == weights.name else []
        else:
            raise UserError(f"--weights: there is no file or folder {path}.")
        if found:
            digest = _digest(found[0])
            return WeightsFile(weights.name, found[0], digest, any(digest == same.sha256 for same in weights.files))
    return None


@lru_cache(maxsize=64)
def _recognised(path: Path, *stamp: int) -> str:
    """Which weights a file holds: by its name and size, or by the names of its tensors."""
    named = [(known.name, same.nbytes) for known in WEIGHTS.values() for same in known.files
             if same.filename == path.name]
    for name, nbytes in named:
        if path.stat().st_size == nbytes:
            return name
    try:
        keys = read_state(WeightsFile(named[0][0] if named else "", path, "", False)).keys()
    except UserError:
        if named:
            return named[0][0]  # whoever needs it will be told
        raise
    for known in WEIGHTS.values():
        if any(marks <= keys for marks in known.marks):
            return known.name
    raise UserError(f"--weights: {path} holds none of the weights that metrics take, which are those of "
                    f"{'; '.join(known.title for known in WEIGHTS.values())}.")


def _kept(weights: Published, refused: list[str]) -> WeightsFile | None:
    """In the weights folder, where another file is an error, or left by other programs, where it is passed over."""
    for folder in (weights_dir(), _hub_dir()):
        for path in [folder / same.filename for same in weights.files]:
            if not path.exists():
                continue
            wrong = _difference(path, weights)
            if wrong is None:
                return WeightsFile(weights.name, path, _digest(path), True)
            if folder == weights_dir():
                raise UserError(f"{path} is not the published file of {weights.title}: {wrong}. Remove it, so that it "
                                f"is downloaded again, or put the right one there: {_described(weights)}. To use it "
                                f"as it is, name it with --weights.")
            refused.append(f"{path}, because {wrong}")
    return None


def _hub_dir() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("TORCH_HOME") or Path(cache) / "torch") / "hub" / "checkpoints"


def _difference(path: Path, weights: Published) -> str | None:
    """What tells the file from the published ones."""
    size = _stamp(path)[0]
    if size not in [same.nbytes for same in weights.files]:
        return _damage(path) or f"it has {size:,} bytes instead of {weights.nbytes:,}"
    if _digest(path) not in [same.sha256 for same in weights.files]:
        return f"it is damaged or another one, its SHA-256 being {_digest(path)}"
    return None


def _damage(path: Path, error: Exception | None = None) -> str:
    """In words, as far as the beginning of the file shows it."""
    with contextlib.suppress(OSError), open(path, "rb") as file:
        start = file.read(1024).lstrip().lower()
        if not start:
            return "it is empty"
        if start.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
            return "it is a web page, which a server sent in place of the file"
        if start.startswith(b"version https://git-lfs"):
            return "it is the placeholder of a file that git-lfs has not brought"
    if isinstance(error, pickle.UnpicklingError) and "weights_only" in str(error):
        return "it is damaged, something else such as a snapshot, or would run code of its own, which is never done"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return "it is damaged, incomplete or no file of weights" if error is not None else ""


def _described(weights: Published, what: str = "") -> str:
    return f"{what or weights.url} ({weights.nbytes:,} bytes, SHA-256 {weights.sha256}, {weights.licence})"


def _remedy(weights: Published, what: str = "") -> str:
    return (f"Get {_described(weights, what)} and put it at {weights_dir() / weights.filename}, or name it with "
            f"--weights.")


def _remedies(name: str) -> str:
    return _remedy(WEIGHTS[name]) if name in WEIGHTS else (
        f"Give one of the published files: {', '.join(known.filename for known in WEIGHTS.values())}; `stylegan2 "
        f"metrics fetch` downloads them.")


def _is_torchscript(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as file:
            return any(name.endswith("/constants.pkl") for name in file.namelist())
    except Exception:  # no zip, or a damaged one: torch says what it is
        return False


def _stamp(path: Path) -> list[int]:
    """What changes whenever the file does: any writing sets ctime, whatever becomes of mtime."""
    try:
        stat = path.stat()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from error
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]


def _digest(path: Path) -> str:
    """Its SHA-256: computed once, and again when the file has changed."""
    memo, key, stamp = weights_dir() / "hashes.json", str(path.resolve()), _stamp(path)
    known: dict[str, Any] = {}
    with contextlib.suppress(OSError, ValueError, TypeError):
        known = dict(json.loads(memo.read_text("utf-8")))
    if isinstance(known.get(key), list) and known[key][:-1] == stamp:
        return str(known[key][-1])
    try:
        digest = sha256_of(path)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from error
    known = {name: value for name, value in known.items() if os.path.exists(name)} | {key: [*stamp, digest]}
    with contextlib.suppress(OSError, UserError), atomic_path(memo) as partial:
        partial.write_text(json.dumps(known, indent=1), "utf-8")
    return digest
