"""The `generate` command as one call: find the network, make the images, write the files."""

import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click
import numpy as np

from stylegan2_pipeline.checkpoint import Snapshot, find_snapshot, load_snapshot, newest_snapshot
from stylegan2_pipeline.devices import chosen_device
from stylegan2_pipeline.images import image_grid, save_image
from stylegan2_pipeline.progress import progress
from stylegan2_pipeline.sampling import (
    class_label,
    images_of_seeds,
    images_of_ws,
    load_projected_ws,
    parse_grid,
    parse_seeds,
)
from torch_utils.errors import UserError
from torch_utils.ops import native

RUNS = "training-runs"


def generate(network: str | None = None, *, seeds: str | None = None, trunc: float = 1.0, class_: str | None = None,
             noise_mode: str = "const", projected_w: str | None = None, outdir: Path = Path("out"),
             grid: str | None = None, batch: int = 8, device: str | None = None) -> list[Path]:
    """Writes seed0001.png, ... (proj00.png, ... of projected_w) and grid.png into outdir; returns the paths.

    Raises UserError naming the option that is wrong before anything is written.
    """
    cells = parse_grid(grid) if grid else None
    if projected_w is not None and (seeds is not None or class_ is not None):
        raise UserError("--projected-w gives the images itself; leave out --seeds and --class.")
    numbers = parse_seeds(seeds or (f"1-{cells[0] * cells[1]}" if cells else "1-10"))
    snapshot, _ = open_network(network, device)
    G = snapshot.G_ema
    assert G is not None
    if projected_w is not None:
        ws = load_projected_ws(projected_w, G)
        names = [f"proj{i:02d}.png" for i in range(len(ws))]
        batches = images_of_ws(G, ws, noise_mode=noise_mode, batch=batch)
    else:
        label = class_label(G, snapshot.class_names, class_)
        names = [f"seed{seed:04d}.png" for seed in numbers]
        batches = images_of_seeds(G, numbers, label=label, truncation_psi=trunc, noise_mode=noise_mode, batch=batch)
    if cells and len(names) > cells[0] * cells[1]:
        raise UserError(f"--grid={grid} holds {cells[0] * cells[1]} images, but there are {len(names)}; "
                        f"give a larger grid or fewer --seeds.")
    return write_images(batches, names, outdir, cells)


def open_network(network: str | None, device: str | None) -> tuple[Snapshot, str]:
    """The snapshot with its G_ema on the device, and where it came from; without a name the newest, which is said."""
    network = find_network(network)
    chosen = chosen_device(device)
    snapshot = load_snapshot(network, chosen, networks=("G_ema",))
    if snapshot.G_ema is None:
        raise UserError(f"--network={network} has no generator G_ema; give a whole snapshot.")
    native.load(chosen.type)  # now, before any progress bar
    return snapshot, network


def find_network(network: str | None) -> str:
    """A file or URL; of a folder, or when there is no name, the newest, which is said."""
    if network is None:
        newest = newest_snapshot(RUNS)
        if newest is None:
            raise UserError(f"There is no network-snapshot-*.pkl under {RUNS}. Give one with --network=FILE_OR_URL, or "
                            f"train one: python train.py --data=DATA.zip")
        click.echo(f"Using the newest network: {newest}", err=True)
        return str(newest)
    return str(find_snapshot(network)) if Path(network).is_dir() else network


def write_images(
    batches: Iterator[np.ndarray], names: list[str], outdir: Path, cells: tuple[int, int] | None
) -> list[Path]:
    """Writes the images under their names, those of a batch in parallel, and the grid where one is asked for."""
    paths = [outdir / name for name in names]
    kept: list[np.ndarray] = []
    check_writable(outdir)
    if replaced := sum(path.exists() for path in paths):
        click.echo(f"Replacing {replaced} images of the same names in {outdir}", err=True)
    with ThreadPoolExecutor() as pool:
        left = iter(progress(paths, len(paths), "Generating"))
        for images in batches:
            list(pool.map(save_image, images, [next(left) for _ in images]))
            kept += [images] if cells else []
        next(left, None)  # ends the bar
    if cells:
        paths.append(outdir / "grid.png")
        save_image(image_grid(np.concatenate(kept), cells), paths[-1])
    return paths


def check_writable(outdir: Path) -> None:
    """Makes the folder, and a file in it for a moment, before work that may take hours."""
    try:
        outdir.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=outdir).close()
    except OSError as error:
        raise UserError(f"--outdir={outdir} cannot be written to: {error.strerror}. Choose another folder.") from error
