"""Worker of `benchmarks.sample`: a generator with random weights that makes images of seeds, or of whole batches."""

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch

from benchmarks.serving import Workload, serve
from benchmarks.ways import computing
from stylegan2_pipeline.config import TrainConfig, network_kwargs
from stylegan2_pipeline.images import to_uint8
from stylegan2_pipeline.networks import Generator
from stylegan2_pipeline.sampling import images_of_seeds, seed_latents


@torch.no_grad()
def images_of_batch(G: Generator, n: int, device: torch.device) -> object:
    """The images of the seeds 0..n-1, computed at once; on the CPU, as those of images_of_seeds."""
    z = seed_latents(range(n), G.z_dim).to(device)
    return to_uint8(G(z, torch.zeros([n, G.c_dim], device=device), noise_mode="const")).cpu()


def images_one_by_one(G: Generator, n: int) -> object:
    """The same images by the way that every command takes."""
    label = torch.zeros([1, G.c_dim]) if G.c_dim else None
    return list(images_of_seeds(G, range(n), label=label, batch=n))


@contextlib.contextmanager
def sampling(settings: dict[str, Any]) -> Iterator[Workload]:
    """settings: way, config (JSON of a TrainConfig), device, batches (how many images at once)."""
    config, device = TrainConfig.from_json(settings["config"]), torch.device(settings["device"])
    with computing(settings["way"], config, device) as kernels:
        torch.manual_seed(config.seed)
        G = Generator(**network_kwargs(config)[0]).eval().requires_grad_(False).to(device)
        way = partial(images_of_batch, G, device=device)
        if settings["way"] in ("ours", "reference-ops"):
            way = partial(images_one_by_one, G)
        tasks: dict[str, Callable[[], object]] = {f"batch {n}": partial(way, n) for n in settings["batches"]}
        yield Workload(device, tasks, {"kernels": kernels})


if __name__ == "__main__":
    serve(sampling)
