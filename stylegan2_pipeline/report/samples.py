"""Pictures that a report makes anew from a run's best network: random images, a truncation sweep, a walk, the mean."""

import itertools
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from stylegan2_pipeline.checkpoint import load_snapshot
from stylegan2_pipeline.devices import chosen_device
from stylegan2_pipeline.history import RunHistory
from stylegan2_pipeline.networks import Generator
from stylegan2_pipeline.progress import progress
from stylegan2_pipeline.report.numbers import Curve
from stylegan2_pipeline.report.pictures import CELL, GRID_WIDTH, Picture, sheet
from stylegan2_pipeline.sampling import images_of_seeds, images_of_ws, seed_latents
from torch_utils.errors import UserError

PSIS = (0.3, 0.5, 0.7, 1.0)
SWEEP_SEEDS = range(1, 9)
RANDOM_SEEDS = range(1, 33)
WALK_STEPS = 4  # from one image to the next


@dataclass(frozen=True)
class Samples:
    """sweep: (psi, images of the same seeds); walk: between seeds in w; mean: the image of the mean w."""

    network: Path
    sweep: list[tuple[float, Picture]] = field(default_factory=list)
    random: Picture | None = None
    walk: Picture | None = None
    mean: Picture | None = None


def network_of(history: RunHistory, best: Curve | None) -> tuple[Path | None, str]:
    """The network to make images with, and which one it is in words: the best by its metric, else the last."""
    if best is not None and best.points:
        kept = history.path / "network-best.pkl"
        named = history.path / f"network-snapshot-{int(best.best.kimg):06d}.pkl"
        found = next((path for path in (kept, named) if path.is_file()), None)
        if found is not None:
            return found, f"the best by {best.metric} ({best.best.kimg:g} kimg)"
    if history.snapshots:
        kimg, path = history.snapshots[-1]
        return path, f"the last one ({kimg:g} kimg)"
    return None, "none"


def make_samples(network: Path, device: str | None, problems: list[str]) -> Samples | None:
    """None, and the reason in problems, for a network that cannot be opened or run; the report goes on without.

    That is any error: a network of another architecture, a GPU that a training fills, a file that is being written.
    Raises UserError for a device that there is not.
    """
    where = chosen_device(device)
    try:
        G = load_snapshot(network, where, networks=("G_ema",)).G_ema
        if G is None:
            raise UserError(f"{network.name} has no generator G_ema.")
        sweep = [(psi, _sheet(G, SWEEP_SEEDS, psi, len(SWEEP_SEEDS), f"psi {psi:g}"))
                 for psi in progress(PSIS, len(PSIS), "Making images")]
        return Samples(network, sweep, random=_sheet(G, RANDOM_SEEDS, 1.0, 8, "Random images, psi 1, not picked"),
                       walk=_walk(G), mean=_mean(G))
    except Exception as error:
        said = error.format_message() if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        problems.append(f"No images were made anew: {textwrap.shorten(said, 300, placeholder=' ...')}")
        return None


def _label(G: Generator, seed: int) -> torch.Tensor | None:
    """One class after the other, seed by seed; of labels that are vectors likewise single entries."""
    return torch.nn.functional.one_hot(torch.tensor([seed % G.c_dim]), G.c_dim).float() if G.c_dim else None


def _sheet(G: Generator, seeds: Sequence[int], psi: float, cols: int, alt: str) -> Picture:
    images = [next(images_of_seeds(G, [seed], label=_label(G, seed), truncation_psi=psi)) for seed in seeds]
    return sheet(np.concatenate(images), cols, alt, min(CELL, GRID_WIDTH // cols))


def _ws(G: Generator, seed: int) -> torch.Tensor:
    device = next(G.parameters()).device
    label = _label(G, 0)
    with torch.no_grad():
        return G.mapping(seed_latents([seed], G.z_dim).to(device), None if label is None else label.to(device))


def _walk(G: Generator) -> Picture:
    """Straight lines in w through the seeds 1, 2 and 3."""
    ends = [_ws(G, seed) for seed in (1, 2, 3)]
    steps = [a.lerp(b, i / WALK_STEPS) for a, b in itertools.pairwise(ends) for i in range(WALK_STEPS)]
    images = np.concatenate(list(images_of_ws(G, torch.cat([*steps, ends[-1]]))))
    return sheet(images, len(images), "A walk in w from seed 1 to 2 to 3", min(CELL, GRID_WIDTH // len(images)))


def _mean(G: Generator) -> Picture:
    """What the generator makes of the mean w: the centre that truncation goes towards."""
    label = _label(G, 0)
    device = next(G.parameters()).device
    with torch.no_grad():
        ws = G.mapping(seed_latents([0], G.z_dim).to(device), None if label is None else label.to(device),
                       truncation_psi=0.0)
    image = next(images_of_ws(G, ws))
    return sheet(image, 1, "The image of the mean w", 2 * CELL)
