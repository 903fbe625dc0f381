"""From a generator, or a folder of images, and a dataset to the numbers of metrics/: the training loop and the command
line share it."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from metrics.cache import StatisticsCache, content_digest
from metrics.detectors.registry import Detectors
from metrics.inputs import ImageSet, MetricInputs, MetricValue, Watch, unwatched
from metrics.names import Name
from metrics.table import compute, plan
from stylegan2_pipeline.dataset import ImageDataset, describe
from stylegan2_pipeline.image_sets import GeneratedImages, StoredImages
from stylegan2_pipeline.images import to_uint8
from stylegan2_pipeline.networks import Generator
from stylegan2_pipeline.path_distances import path_distances
from stylegan2_pipeline.shared_sampling import ImagePool, Maker
from torch_utils import distributed
from torch_utils.errors import UserError
from torch_utils.seeding import sample_generators


class Evaluation:
    """Metrics of one network, or one set of images, which share what they take long to get.

    prepare() may be called first with all the names there will be: then images are generated once for all of them.
    measure() gives the record of metrics.table.compute, and the value with what the record does not hold.
    """

    def __init__(self, inputs: MetricInputs, detectors: Detectors, mirrored: MetricInputs | None = None,
                 mirror: str = "auto", trained: MetricInputs | None = None) -> None:
        """trained: with what the network was trained on, where that is a part of the real images."""
        self.inputs, self._detectors, self._mirrored, self._mirror = inputs, detectors, mirrored, mirror
        self._trained = trained or inputs

    def prepare(self, names: Sequence[Name]) -> None:
        if isinstance(self.inputs.fake, GeneratedImages):
            self.inputs.fake.prefetch(plan(names))

    def measure(self, name: Name) -> tuple[dict[str, Any], MetricValue]:
        inputs = self._trained if name.kind.name == "memorization" else self.inputs
        record, value = compute(name, inputs, self._mirrored, self._mirror)
        if name.text.startswith("ppl") and "truncation_psi" in record:
            record["truncation_psi"] = 1.0  # paths are those of the network as it is
        files = [self._detectors.weights(file) for file in name.kind.weights]
        record["weights"] = {file.name: {"sha256": file.sha256, "published": file.published} for file in files}
        if others := [file.path.name for file in files if not file.published]:
            record["notes"].append(f"{', '.join(others)}: not the published weights of {name.text}, so its figures "
                                   f"compare with nothing published.")
        return record, value


def evaluation_of(
    G_ema: Generator,
    dataset: ImageDataset,
    detectors: Detectors,
    *,
    seed: int,
    batch: int,
    snapshot: str | None = None,
    truncation_psi: float = 1.0,
    trained_mirror: bool = False,
    trained: ImageDataset | None = None,
    mirror: str = "auto",
    holdout: ImageSet | None = None,
    about: Mapping[str, Any] | None = None,
    cache: StatisticsCache | None = None,
    pool: ImagePool | None = None,
    watch: Watch = unwatched,
) -> Evaluation:
    """Of a generator in eval mode on the detectors' device, against all images of the dataset.

    trained: the part of them that it was trained on, in which copies are looked for; None: all. about: what else is
    recorded with the results.
    pool: makes images and features with all ranks (then this is used on rank 0 alone, inside its lead()); its makers
    are MetricMakers. Without it they are made here.

    Generated images have random noise and the labels of random real images; each depends on (seed, its number) alone,
    but for the last bits. Raises UserError when network and data do not fit.
    """
    check_fit(G_ema, dataset)
    own_pool = pool or ImagePool(MetricMakers(G_ema, dataset, detectors, seed, truncation_psi), batch)

    def inputs(images: ImageDataset, shared: str | None) -> MetricInputs:
        """shared: the pool's name for their features; None where nobody takes features."""
        digest = digest_of(images, cache)
        real = StoredImages(
            images.image, images.image_names, detectors, seed=seed, batch=batch, mirror=shared == "mirrored",
            key={"data": digest}, cache=cache, pool=pool if shared else None, watch=watch, shared=shared or "",
            subjects=images.subjects())
        recorded = {
            **(about or {}), "data": images.name, "data_digest": digest, "num_real": images.n_raw,
            "truncation_psi": truncation_psi, "noise_mode": "random", "network_mirror": trained_mirror}
        return MetricInputs(
            real, fake, detectors, device=detectors.device, seed=seed, snapshot=snapshot, holdout=holdout,
            num_gpus=distributed.world_size() if pool else 1, trained_mirror=trained_mirror,
            watch=watch, about=recorded)

    fake = GeneratedImages(own_pool, detectors, dataset.image_shape, watch)
    return Evaluation(inputs(dataset, "reals"), detectors, inputs(dataset, "mirrored"), mirror,
                      None if trained is None else inputs(trained, None))


def digest_of(dataset: ImageDataset, cache: StatisticsCache | None) -> str:
    """Of the pixels; of a zip it is found out once, because its directory says whether anything has changed."""
    if dataset.preloaded or cache is None or not dataset.zipped:
        return dataset.digest()
    return content_digest(cache, dataset.fingerprint(), dataset.digest)


def check_fit(G: Generator, dataset: ImageDataset) -> None:
    network = [G.img_channels, G.img_resolution, G.img_resolution]
    if network != list(dataset.image_shape):
        raise UserError(f"--network makes {describe(network)} images, but --data holds "
                        f"{describe([*dataset.image_shape])} ones. Give the dataset that the network was trained on.")
    if G.c_dim and G.c_dim != dataset.label_dim:
        raise UserError(f"--network takes labels of {G.c_dim} numbers, but those of --data have {dataset.label_dim}. "
                        f"Give the dataset, with its labels, that the network was trained on.")


class MetricMakers(dict[str, Maker]):
    """What any rank can make for metrics, by name.

    "fakes": uint8 images [N,C,H,W] of random latents by their numbers, with labels as the dataset has them.
    "fakes:A+B": their features by the detectors A and B, side by side [N, DA+DB]; or distances along paths, "fakes:ppl
    ...". "reals:A", "mirrored:A": features of the dataset's images, in the order of StoredImages.
    """

    def __init__(self, G: Generator, dataset: ImageDataset, detectors: Detectors, seed: int,
                 truncation_psi: float = 1.0) -> None:
        super().__init__()
        self._G, self._dataset, self._detectors, self._seed, self._psi = G, dataset, detectors, seed, truncation_psi
        self["fakes"] = self._fakes

    def __missing__(self, name: str) -> Maker:
        kind, _, features = name.partition(":")
        if features.startswith("ppl"):
            self[name] = lambda start, count: self._paths(features, start, count)
        elif kind == "fakes":
            self[name] = lambda start, count: self._rows(features, self._fakes(start, count))
        else:
            stored = StoredImages(self._dataset.image, self._dataset.image_names, self._detectors, seed=self._seed,
                                  batch=1, mirror=kind == "mirrored")
            self[name] = lambda start, count: self._rows(
                features, torch.from_numpy(np.stack(stored.pick(range(start, start + count)))))
        return self[name]

    def _rows(self, features: str, images: Tensor) -> Tensor:
        return torch.cat([self._detectors.rows(name, images) for name in features.split("+")], dim=1)

    def _fakes(self, start: int, count: int) -> Tensor:
        G, device = self._G, self._detectors.device
        samples = range(start, start + count)
        generators = sample_generators(self._seed, "metric latents", samples)
        z = torch.stack([torch.randn(G.z_dim, generator=g) for g in generators]).to(device)
        c = self._labels(generators).to(device) if G.c_dim else None
        noise = torch.stack([torch.randn(G.synthesis.noise_numel, generator=g, device=device)
                             for g in sample_generators(self._seed, "metric noise", samples, str(device))])
        return to_uint8(G(z, c, truncation_psi=self._psi, noise_mode="random", noise=noise))

    def _labels(self, generators: list[torch.Generator]) -> Tensor:
        """Those of real images that the generators choose, one each: [N, c_dim]."""
        chosen = [int(torch.randint(self._dataset.n_raw, [], generator=g)) for g in generators]
        return torch.from_numpy(np.stack([self._dataset.label(i) for i in chosen]))

    def _paths(self, kind: str, start: int, count: int) -> Tensor:
        return path_distances(self._G, self._detectors.lpips(), kind, self._seed, start, count,
                              self._labels if self._G.c_dim else None, self._detectors.device)
