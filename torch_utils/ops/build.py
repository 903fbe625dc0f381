"""Builds native libraries through ninja, once, into a cache folder that many processes may share.

    $STYLEGAN2_CACHE/ops/DEVICE-KEY/      KEY: sources, flags and torch's version
        lock                              held while building; the system frees it when its holder dies
        TARGET-COMPILERS/                 a finished build, appearing whole: the library, manifest.json, build.log
        failed-ATTEMPT.json, .log         a failure, remembered until something that it depends on changes
"""

import contextlib
import fcntl
import hashlib
import importlib
import json
import os
import re
import shutil
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import ModuleType

from torch_utils.files import cache_dir
from torch_utils.ops import toolchain
from torch_utils.ops.toolchain import Missing, Tools

TIME_LIMIT = "STYLEGAN2_OPS_BUILD_TIMEOUT"
HEEDED = ("NVCC_PREPEND_FLAGS", "NVCC_APPEND_FLAGS", "CPATH", "CPLUS_INCLUDE_PATH", "LIBRARY_PATH")  # by compilers
OLDER_CXX = "Install an older g++ and name it: export CXX=g++-13"
RECIPES = {  # what a device's library is made of; without torch, which takes seconds to load, for what works without it
    "cpu": "torch_utils.ops.recipe", "cuda": "torch_utils.ops.recipe", "pictures": "torch_utils.resampling.recipe",
}
MADE = {"cpu": ("the native operators for the CPU", "some 20 s"),
        "cuda": ("the native operators for CUDA", "a minute or more"),
        "pictures": ("what resizes pictures", "some 2 s")}
AGAIN = "It is not tried again before something changes; to try: stylegan2 build-ops"


class BuildFailure(Missing):
    """A build that was tried and failed; `log` holds all that the compilers said."""

    def __init__(self, reason: str, remedy: str, log: Path) -> None:
        super().__init__(reason, remedy)
        self.log = log


@dataclass(frozen=True)
class Build:
    """A finished library and what its manifest tells of it."""

    folder: Path
    device: str  # in RECIPES
    target: tuple[str, ...]  # a name in CPU_LEVELS, or compute capabilities
    compilers: str
    versions: str
    seconds: float
    finished_at: float  # seconds since the epoch
    sha256: str

    @property
    def library(self) -> Path:
        return self.folder / _recipe(self.device).library_name(self.device)


def cache_folder(device: str) -> Path:
    """Where the builds for a device in RECIPES are, of these sources and, for "cpu" and "cuda", for this torch."""
    return cache_dir() / "ops" / f"{device}-{_digest(_recipe(device).ingredients())}"


def finished(device: str) -> list[Build]:
    """What has been built and is whole, the newest first."""
    manifests = [path for path in cache_folder(device).glob("*/manifest.json") if path.parent.name[:9] != "building-"]
    return sorted(filter(None, map(_read, manifests)), key=lambda build: build.finished_at, reverse=True)


def compile_ops(device: str, target: tuple[str, ...], tools: Tools, say: Callable[[str], None],
                retry: bool = False) -> Build:
    """Compiles for the target, or takes what another process has just finished.

    `say` gets a line before whatever takes long. A remembered failure is raised again at once unless `retry`.
    Raises Missing, BuildFailure, and OSError where the cache cannot be written.
    """
    cache = cache_folder(device)
    environment = tuple(os.environ.get(name, "") for name in HEEDED)
    attempt = cache / f"failed-{_digest(target, tools.identity, str(tools.ninja), str(time_limit()), environment)}.json"
    final = cache / f"{'_'.join(target)}-{_digest(tools.identity)}"
    cache.mkdir(parents=True, exist_ok=True)
    with _locked(cache / "lock", say) as alone:
        done = _read(final / "manifest.json")
        if done:
            return done
        if not retry:
            _raise_remembered(attempt)
        for left in cache.glob("building-*") if alone else ():  # by a process that was killed
            shutil.rmtree(left, ignore_errors=True)
        work = cache / f"building-{uuid.uuid4().hex}"
        try:
            work.mkdir()  # not a private folder: one user may build for others
            what, wait = MADE[device]
            say(f"Compiling {what}, once ({wait}), into {cache}")
            made = _compile(work, device, target, tools)
            if not (done := _read(final / "manifest.json")):  # another process without a lock may have been faster
                shutil.rmtree(final, ignore_errors=True)
                os.replace(work, final)
            attempt.unlink(missing_ok=True)
            return done or replace(made, folder=final)
        except BuildFailure as failure:
            raise _remember(attempt, failure) from None
        finally:
            shutil.rmtree(work, ignore_errors=True)


def time_limit() -> float:
    """Seconds that a build may take."""
    try:
        return float(os.environ.get(TIME_LIMIT, 600))
    except ValueError:
        raise Missing(f"{TIME_LIMIT}={os.environ[TIME_LIMIT]} is no number of seconds", f"Unset {TIME_LIMIT}") from None


def _compile(work: Path, device: str, target: tuple[str, ...], tools: Tools) -> Build:
    log = work / "build.log"
    try:
        (work / "build.ninja").write_text(_recipe(device).ninja_file(device, target, tools))
    except Missing as missing:  # such as an nvcc that hangs: remembered like any other failure
        log.write_text(f"{missing}\n")
        raise BuildFailure(missing.reason, missing.remedy, log) from missing
    began = time.monotonic()
    code = _run([str(tools.ninja), "-C", str(work)], log)
    seconds = time.monotonic() - began
    library = work / _recipe(device).library_name(device)
    if code is None:
        raise BuildFailure(f"compiling took longer than {time_limit():.0f} s", f"Set {TIME_LIMIT} to more seconds", log)
    if code or not library.exists():
        error = first_error(log.read_text(errors="replace"))
        raise BuildFailure(f"compiling failed ({error})", OLDER_CXX if "unsupported GNU" in error else AGAIN, log)
    for left in work.glob("*.o"):
        left.unlink()
    versions = ", ".join(f"{tool.name} {toolchain.version_of(tool)}" for tool in (tools.cxx, tools.nvcc) if tool)
    made = Build(work, device, target, tools.identity, versions, seconds, time.time(), _sha256(library))
    (work / "manifest.json").write_text(json.dumps(asdict(made) | {"folder": None}, indent=1))
    return made


def _run(command: list[str], log: Path) -> int | None:
    """The exit code, or None where the time limit passed; nothing that was started is left running."""
    with open(log, "wb") as file:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True)
        try:
            return process.wait(time_limit())
        except subprocess.TimeoutExpired:
            return None
        finally:
            _end(process)


def _end(process: subprocess.Popen) -> None:
    """ninja hands SIGTERM on to its compilers, each of which leads a process group of its own."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.terminate()
        process.wait(5)
    process.kill()
    process.wait()


def first_error(log: str) -> str:
    """The line of a compiler's output that says most; ninja's own lines, and the commands that it ran, say nothing."""
    lines = [line.strip() for line in log.splitlines()]
    lines = [line for line in lines if line and not re.match(r"ninja:|FAILED|\[\d+/\d+\]|/.* -o ", line)]
    said = (r"undefined reference", r"\b(fatal|error)\b")
    telling = [line for pattern in said for line in lines if re.search(pattern, line)]
    return (telling or lines or ["the compiler ends with an error code and no message"])[0][:200]


@contextlib.contextmanager
def _locked(path: Path, say: Callable[[str], None]) -> Iterator[bool]:
    """Holds the lock: True. Where the file system has none, False: several may build, and each build appears whole."""
    deadline = time.monotonic() + time_limit() + 60
    told = False
    with open(path, "w") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise Missing("another process has been compiling for too long", f"End it; it holds {path}"
                                  ) from None
                if not told:
                    say(f"Waiting for another process that compiles into {path.parent}")
                told = True
                time.sleep(0.2)
            except OSError:
                yield False
                return
        yield True


def _recipe(device: str) -> ModuleType:
    return importlib.import_module(RECIPES[device])


def _read(manifest: Path) -> Build | None:
    """The build in a folder, if its library is there as it was written."""
    try:
        fields = json.loads(manifest.read_text())
        build = Build(**fields | {"folder": manifest.parent, "target": tuple(fields["target"])})
        return build if _sha256(build.library) == build.sha256 else None
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _remember(attempt: Path, failure: BuildFailure) -> BuildFailure:
    kept = BuildFailure(failure.reason, failure.remedy, attempt.with_suffix(".log"))
    shutil.copyfile(failure.log, kept.log)
    attempt.write_text(json.dumps({"reason": kept.reason, "remedy": kept.remedy}))
    return kept


def _raise_remembered(attempt: Path) -> None:
    with contextlib.suppress(OSError, ValueError, KeyError):
        told = json.loads(attempt.read_text())
        raise BuildFailure(told["reason"], told["remedy"], attempt.with_suffix(".log"))


def _digest(*parts: bytes | str | tuple[str, ...]) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:12]


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
