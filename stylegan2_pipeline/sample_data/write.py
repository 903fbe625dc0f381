"""A folder of procedural images, made on all cores."""

import importlib
import os
from pathlib import Path
from typing import Any

from PIL import Image

from stylegan2_pipeline.parallel import WorkerPool
from stylegan2_pipeline.progress import progress
from torch_utils.errors import UserError
from torch_utils.files import atomic_path

KINDS: dict[str, tuple[str, dict[str, Any]]] = {  # kind -> file ending, how to save
    "mri": (".jpg", {"quality": 92}),
    "cigarette": (".png", {}),
}
SIZES = range(16, 4097)


def write_samples(
    kind: str, count: int, size: int, outdir: Path, seed: int = 0, workers: int | None = None
) -> list[Path]:
    """Write images 1..count of a kind, size x size, to outdir/KIND_0001 and so on; returns their paths.

    Image i depends on (kind, seed, i, size) alone, whatever the count and the number of workers (None: all cores).
    A folder that holds a part of the same set is completed; UserError for any other folder that is not empty.
    """
    assert kind in KINDS
    _check_numbers(count, size, workers)
    paths = [outdir / f"{kind}_{index:04d}{KINDS[kind][0]}" for index in range(1, count + 1)]
    missing = _missing(kind, size, outdir, seed, paths)
    processes = min(workers or _cores(), max(1, len(missing) // 8))  # a process takes a second to start
    with WorkerPool((kind, size, seed), processes) as pool:
        for _ in progress(pool.map(_write, missing), len(missing), f"{kind} images"):
            pass
    return paths


def render(kind: str, seed: int, index: int, size: int) -> Image.Image:
    """Image `index` of a set: mode L for mri, RGB for cigarette."""
    module = importlib.import_module(f"stylegan2_pipeline.sample_data.{kind}")
    return Image.fromarray(getattr(module, f"render_{kind}")(seed, index, size))


def _write(job: tuple[str, int, int], item: tuple[int, Path]) -> None:
    (kind, size, seed), (index, path) = job, item
    with atomic_path(path) as partial:
        render(kind, seed, index, size).save(partial, **KINDS[kind][1])


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _check_numbers(count: int, size: int, workers: int | None) -> None:
    if count < 1:
        raise UserError(f"--count={count}: there is nothing to make. Give the number of images, 1 or more.")
    if size not in SIZES:
        raise UserError(f"--size={size}: images are made from {SIZES[0]} to {SIZES[-1]} pixels a side. For training "
                        f"give a power of two, such as --size=64.")
    if workers is not None and workers < 1:
        raise UserError(f"--workers={workers}: give the number of processes, 1 or more, or leave it out to use all.")


def _missing(kind: str, size: int, outdir: Path, seed: int, paths: list[Path]) -> list[tuple[int, Path]]:
    """(index, path) of the images that `outdir` still lacks; UserError if it holds anything but the others."""
    if outdir.exists() and not outdir.is_dir():
        raise UserError(f"--outdir={outdir} is a file. Name a folder for the images; it need not exist yet.")
    present = set(outdir.iterdir()) if outdir.exists() else set()
    foreign = sorted(present - set(paths))
    if foreign:
        raise UserError(f"--outdir={outdir} already holds other files, such as {foreign[0].name}. Images would mix "
                        f"with them: name a new or empty folder, or empty this one first.")
    numbered = list(enumerate(paths, start=1))
    there = next(((index, path) for index, path in numbered if path in present), None)
    if there and not _is_ours(kind, size, seed, *there):
        raise UserError(f"--outdir={outdir} already holds images of another set: {there[1].name} differs from what "
                        f"--size={size} --seed={seed} make. Name a new folder, empty this one, or repeat the earlier "
                        f"options to complete it.")
    return [(index, path) for index, path in numbered if path not in present]


def _is_ours(kind: str, size: int, seed: int, index: int, path: Path) -> bool:
    again = path.with_name(f".again_{path.name}")
    try:
        _write((kind, size, seed), (index, again))
        return again.read_bytes() == path.read_bytes()
    finally:
        again.unlink(missing_ok=True)
