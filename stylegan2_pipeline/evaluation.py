"""From a generator and a dataset to the numbers of metrics/: what the training loop and `stylegan2 metrics` share."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from metrics.inputs import MetricInputs
from metrics.table import compute, function_of
from stylegan2_pipeline.dataset import ImageDataset
from stylegan2_pipeline.generation import check_writable, open_network
from stylegan2_pipeline.images import to_uint8
from stylegan2_pipeline.networks import Generator
from stylegan2_pipeline.run_files import append_metric
from stylegan2_pipeline.shared_sampling import ImagePool, Maker, in_batches
from torch_utils import distributed
from torch_utils.errors import UserError
from torch_utils.seeding import derive_seed, sample_generators

_DIGEST_BYTES = 2**31  # beyond this much data that is not in memory, hashing it would take longer than measuring


def evaluate(
    G_ema: Generator,
    dataset: ImageDataset,
    names: Sequence[str],
    *,
    device: str | torch.device,
    batch: int,
    seed: int,
    num: int | None = None,
    snapshot: str | None = None,
    images: ImagePool | None = None,
) -> list[dict[str, Any]]:
    """The results of metrics.table.compute for each name; G_ema is on `device`, in eval mode.

    images: makes the generated images as "metric" with all ranks (then this is called on rank 0 alone, inside its
    lead()); without it they are made here.

    Real images are those of the dataset without their mirrored copies. Generated ones have truncation psi 1, random
    noise and the labels of random real images; each depends on (seed, its number) alone, but for the last bits.
    Raises UserError when network and data do not fit, and for names that metrics.table does not have.
    """
    _check_fit(G_ema, dataset)
    device = torch.device(device)
    about = {
        "data": dataset.name,
        "data_digest": dataset.digest() if dataset.preloaded or dataset.nbytes < _DIGEST_BYTES else None,
        "num_real": dataset.n_raw,
        "mirror": "off",
        "truncation_psi": 1.0,
        "noise_mode": "random",
    }
    make = metric_images(G_ema, dataset, device=device, seed=seed)
    inputs = MetricInputs(
        real=lambda: real_images(dataset, batch, seed),
        num_real=dataset.n_raw,
        fake=lambda count: images.images("metric", count) if images else in_batches(make, count, batch),
        device=device,
        seed=seed,
        num=num,
        num_gpus=distributed.world_size() if images else 1,
        snapshot=snapshot,
        about=about,
    )
    return [compute(name, inputs) for name in names]


def _check_fit(G: Generator, dataset: ImageDataset) -> None:
    network = [G.img_channels, G.img_resolution, G.img_resolution]
    if network != list(dataset.image_shape):
        raise UserError(f"--network makes images of (channels, height, width) {tuple(network)}, but --data holds "
                        f"{tuple(dataset.image_shape)}. Give the dataset that the network was trained on.")
    if G.c_dim and G.c_dim != dataset.label_dim:
        raise UserError(f"--network takes labels of {G.c_dim} numbers, but those of --data have {dataset.label_dim}. "
                        f"Give the dataset, with its labels, that the network was trained on.")


def real_images(dataset: ImageDataset, batch: int, seed: int) -> Iterator[np.ndarray]:
    """All images in one random order that depends on the seed, without mirrored copies: uint8 [N,C,H,W]."""
    order = np.random.RandomState(derive_seed(seed, "metric reals") % 2**32).permutation(dataset.n_raw)
    with ThreadPoolExecutor() as pool:
        for start in range(0, len(order), batch):
            yield np.stack(list(pool.map(dataset.image, order[start:start + batch].tolist())))


def metric_images(G: Generator, dataset: ImageDataset, *, device: torch.device, seed: int) -> Maker:
    """Makes random images uint8 [N,C,H,W] by their numbers, with labels as the dataset has them."""
    def make(start: int, count: int) -> Tensor:
        samples = range(start, start + count)
        generators = sample_generators(seed, "metric latents", samples)
        z = torch.stack([torch.randn(G.z_dim, generator=g) for g in generators]).to(device)
        c = _random_labels(dataset, generators).to(device) if G.c_dim else None
        noise = torch.stack([torch.randn(G.synthesis.noise_numel, generator=g, device=device)
                             for g in sample_generators(seed, "metric noise", samples, str(device))])
        return to_uint8(G(z, c, noise_mode="random", noise=noise))

    return make


def _random_labels(dataset: ImageDataset, generators: list[torch.Generator]) -> Tensor:
    chosen = [int(torch.randint(dataset.n_raw, [], generator=g)) for g in generators]
    return torch.from_numpy(np.stack([dataset.label(i) for i in chosen]))


def measure(network: str | None, data: str, names: str, *, num: int | None = None, seed: int = 0, batch: int = 16,
            device: str | None = None, outdir: Path | None = None) -> Iterator[tuple[dict[str, Any], Path]]:
    """The `metrics` command as one call: each result, and the file it was added to."""
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    for name in wanted:
        function_of(name)
    snapshot, source = open_network(network, device)
    G = snapshot.G_ema
    assert G is not None
    dataset = ImageDataset(data, use_labels=bool(G.c_dim))
    run_dir = Path(source).parent
    folder = outdir or (run_dir if (run_dir / "training_options.json").exists() else Path("out"))
    check_writable(folder)
    for name in wanted:
        result, = evaluate(G, dataset, [name], device=next(G.parameters()).device, batch=batch, seed=seed, num=num,
                           snapshot=source)
        yield result, append_metric(folder, result)
