"""How hard a dataset is to learn, in numbers, before any network: copies, variety, sharpness, spectrum, floors.

Homogeneous data (the mean image is sharp, pairs are alike, few images count as different) needs fewer images and less
training than diverse data. Everything is measured on a random sample, the same one for the same seed.
"""

import dataclasses
import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from metrics.detectors.pixels32 import reduced_pixels
from metrics.diversity import (
    copy_threshold,
    distinct,
    embed,
    mean_pair_ms_ssim,
    mirrored,
    num_scales,
    two_nn_dimension,
    vendi_score,
)
from metrics.frechet import frechet_of_samples
from metrics.inputs import take
from metrics.plain import radial_spectrum
from metrics.swd import distances, patches_of, rows
from stylegan2_pipeline.dataset import ImageDataset
from stylegan2_pipeline.image_sets import real_order
from stylegan2_pipeline.progress import progress

EXAMINED = (1000, 5000)  # images looked at: so many at most, and at least however large they are
DETAIL = (100, 1000)     # of those, the ones looked at in full resolution by all that takes long
EXAMINED_PIXELS, DETAIL_PIXELS = 2**27, 2**25
PICTURE = 256            # the mean image has so many pixels at most
SHARP = 64               # sharpness is measured at so many pixels at most, so that sizes compare
VARIETY = 1000           # images behind the Vendi score and the dimension, which depend on how many there are
FLOORS = {"swd": 400, "pfd32": 2048}  # images behind the floors; two halves of them are compared

# A value beyond the first number speaks for homogeneous data, one beyond the second for diverse data. Measured on
# 1000 images of 64x64 by `sample-data`: mri 0.70, 0.58, 2.0; cigarette 0.08, 0.04, 99; 300 of 256x256: mri 0.58,
# 0.57, 2.0; cigarette 0.14, 0.06, 66.
SIGNS = {"ms_ssim": (0.35, 0.2), "sharpness": (0.3, 0.1), "vendi": (5.0, 30.0)}


@dataclass(frozen=True)
class Difficulty:
    """What describe_dataset measured; `images` without mirrored copies, the rest on a sample of them.

    examined: images looked at. exact_copies, near_copies: those that repeat another one (mirrored ones too), to the
    last bit or with a correlation of `near` at 32 pixels; effective: those left. vendi: the effective number of
    different images among `variety_images`. ms_ssim: mean of `pairs` random pairs, at `scales` scales. dimension:
    TwoNN. sharpness: gradients of the mean image over those of the images, at 64 pixels, 0..1. spectrum: power of the
    luminance at 1, 2, ... cycles per image width, white noise of variance v having v everywhere. floors: the metrics
    between two disjoint halves, of floor_images each. kind: homogeneous, diverse or in between, by SIGNS; words: a
    sentence on that.
    mean_image, std_image: uint8 [C,H,W] of at most 256 pixels, the deviation doubled to be seen; None from JSON.
    """

    images: int
    examined: int
    resolution: int
    channels: int
    seed: int
    exact_copies: int
    near_copies: int
    effective: int
    near: float
    vendi: float
    dimension: float
    variety_images: int
    ms_ssim: float
    pairs: int
    scales: int
    sharpness: float
    floors: dict[str, float]
    floor_images: dict[str, int]
    spectrum: tuple[float, ...]
    kind: str
    words: str
    mean_image: np.ndarray | None = field(default=None, repr=False, compare=False)
    std_image: np.ndarray | None = field(default=None, repr=False, compare=False)

    @property
    def picture_size(self) -> int:
        """Pixels of mean_image and std_image."""
        return min(self.resolution, PICTURE)

    @property
    def vendi_share(self) -> float:
        """The Vendi score over the number of images it was measured on: 1 when all are different."""
        return self.vendi / self.variety_images

    def to_json(self) -> str:
        """All but the pictures; null for what so few images do not give."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if not f.name.endswith("_image")}
        return json.dumps({k: None if isinstance(v, float) and math.isnan(v) else v for k, v in values.items()})

    @classmethod
    def from_json(cls, text: str) -> Self:
        values: dict[str, Any] = {key: math.nan if value is None else value for key, value in json.loads(text).items()}
        return cls(**values | {"spectrum": tuple(values["spectrum"])})


def describe_dataset(dataset: ImageDataset, seed: int = 0) -> Difficulty:
    """Measures; 10 s for 2000 images of 64x64 on one core, and about a minute at most, however many and large.

    Mirrored copies that the dataset adds for training are left out. The floors are those of the metrics of the same
    seed, as long as these look at the same images.
    """
    area = dataset.resolution**2
    examined = min(dataset.n_raw, _within(EXAMINED, EXAMINED_PIXELS // area))
    detail = min(examined, _within(DETAIL, DETAIL_PIXELS // area))
    summary = _Summary(dataset, detail)
    batch = max(min(64, 2**21 // area), 1)
    order = real_order(dataset.n_raw, seed)[:examined]
    starts = progress(range(0, examined, batch), -(-examined // batch), "Describing the data")
    batches = (np.stack([dataset.image(int(i)) for i in order[start:start + batch]]) for start in starts)
    reduced = summary.take_in(batches, examined)
    embedded = embed(reduced)
    variety = embedded[:VARIETY]
    single = embedded.float()
    near = copy_threshold(single)
    effective = int(distinct(single, mirrored(single, dataset.num_channels), near).sum())
    ms_ssim, pairs = mean_pair_ms_ssim(summary.detail_batches(batch))
    values: dict[str, Any] = {
        "exact_copies": summary.exact_copies, "near_copies": max(examined - effective - summary.exact_copies, 0),
        "effective": effective, "near": near,
        "vendi": vendi_score(variety), "dimension": two_nn_dimension(variety), "variety_images": len(variety),
        "ms_ssim": ms_ssim, "pairs": pairs, "scales": num_scales(dataset.resolution),
        "sharpness": summary.sharpness(), "spectrum": radial_spectrum(summary.detail_batches(batch)),
        **_floors(summary.detail_batches(batch), min(detail, FLOORS["swd"]), reduced[:FLOORS["pfd32"]], seed),
    }
    values["kind"] = kind_of(values)
    values["words"] = _words(values, examined, dataset.n_raw)
    mean, std = summary.pictures()
    return Difficulty(images=dataset.n_raw, examined=examined, resolution=dataset.resolution,
                      channels=dataset.num_channels, seed=seed, mean_image=mean, std_image=std, **values)


def _within(bounds: tuple[int, int], value: int) -> int:
    return max(bounds[0], min(bounds[1], value))


class _Summary:
    """Running sums over batches of images, and the first `detail` images themselves."""

    def __init__(self, dataset: ImageDataset, detail: int) -> None:
        side = min(dataset.resolution, PICTURE)  # Difficulty.picture_size
        self._digests: set[bytes] = set()
        self._count = 0
        self._sums = np.zeros([2, dataset.num_channels, side, side])
        self._gradients = 0.0
        self._detail = np.empty([detail, *dataset.image_shape], np.uint8)

    def take_in(self, batches: Iterator[np.ndarray], count: int) -> Tensor:
        """`count` uint8 images in batches [N,C,H,W]; returns their reduced pixels [count, D]."""
        reduced = None
        for images in batches:
            pixels = reduced_pixels(iter([images]), torch.device("cpu"))
            if reduced is None:  # allocated at once: small pieces among the large arrays would keep these from reuse
                reduced = pixels.new_empty([count, pixels.shape[1]])
            reduced[self._count:self._count + len(pixels)] = pixels
            self._add(images)
        assert reduced is not None and self._count == count
        return reduced

    def _add(self, images: np.ndarray) -> None:
        kept = self._detail[self._count:self._count + len(images)]
        kept[...] = images[:len(kept)]
        for image in images:
            same = min(image.tobytes(), np.ascontiguousarray(image[:, :, ::-1]).tobytes())
            self._digests.add(hashlib.blake2b(same, digest_size=16).digest())
        x = images.astype(np.float32)
        x = _smaller(x, PICTURE)
        self._sums += [x.sum(axis=0, dtype=np.float64), np.square(x).sum(axis=0, dtype=np.float64)]
        self._gradients += _gradients(x)
        self._count += len(images)

    @property
    def exact_copies(self) -> int:
        return self._count - len(self._digests)

    def detail_batches(self, batch: int) -> Iterator[np.ndarray]:
        return (self._detail[i:i + batch] for i in range(0, len(self._detail), batch))

    def sharpness(self) -> float:
        """Root mean square gradient of the mean image over that of the images; 0 when these have none."""
        mean = self._sums[0] / self._count
        each = self._gradients / self._count
        return float((_gradients(mean) / each) ** 0.5) if each else 0.0

    def pictures(self) -> tuple[np.ndarray, np.ndarray]:
        """The mean image and twice the standard deviation, uint8 [C,H,W]."""
        mean, square = self._sums / self._count
        std = np.sqrt(np.maximum(square - mean**2, 0))
        return np.rint(mean).astype(np.uint8), np.rint(np.minimum(2 * std, 255)).astype(np.uint8)


def _gradients(x: np.ndarray) -> float:
    """Sum of squared differences of neighbours in images [...,C,R,R], made smaller first."""
    x = _smaller(x, SHARP)
    return float(sum(np.square(np.diff(x, axis=axis)).sum(dtype=np.float64) for axis in (-2, -1)))


def _smaller(x: np.ndarray, side: int) -> np.ndarray:
    """Images [...,C,R,R] as means of blocks, of `side` pixels at most."""
    block = x.shape[-1] // side
    return F.avg_pool2d(torch.from_numpy(x), block).numpy() if block > 1 else x


def _floors(batches: Iterator[np.ndarray], count: int, reduced: Tensor, seed: int) -> dict[str, dict[str, Any]]:
    """swd and pfd32 between the halves of `count` images in batches, and of `reduced` ones [N,D]."""
    floors, images = {}, {}
    if count >= 2:
        half = count // 2
        patches = patches_of(take(batches, count), count, torch.device("cpu"), seed)
        levels = distances(rows(patches, 0, half), rows(patches, half, 2 * half), torch.device("cpu"), seed)
        floors["swd"], images["swd"] = sum(levels.values()) / len(levels), half
        half = len(reduced) // 2
        floors["pfd32"], images["pfd32"] = frechet_of_samples(reduced[:half], reduced[half:2 * half]), half
    return {"floors": floors, "floor_images": images}


def kind_of(values: Mapping[str, float]) -> str:
    """"homogeneous" or "diverse" when at least two of SIGNS say so and none the contrary; else "in between"."""
    signs = [_sign(values[name], *bounds) for name, bounds in SIGNS.items()]
    for kind, sign in (("homogeneous", 1), ("diverse", -1)):
        if signs.count(sign) >= 2 and -sign not in signs:
            return kind
    return "in between"


def _sign(value: float, homogeneous: float, diverse: float) -> int:
    """1 when the value lies on homogeneous data's side of its bound, -1 on the other one's, 0 between (or for nan)."""
    direction = 1 if homogeneous > diverse else -1
    return int(direction * value >= direction * homogeneous) - int(direction * value <= direction * diverse)


def _words(values: Mapping[str, Any], examined: int, images: int) -> str:
    copies = examined - values["effective"]
    pairs = f"random pairs have an MS-SSIM of {values['ms_ssim']:.2f} (1: the same), " if values["pairs"] else ""
    repeated = f" {copies} of the {examined} images repeat another one." if copies else ""
    sample = f" Measured on {examined} of {images} images." if examined < images else ""
    return (f"{values['kind']}: {pairs}the mean image keeps {values['sharpness']:.0%} of the images' sharpness, and "
            f"{values['variety_images']} images count as {values['vendi']:.3g} different ones (Vendi)."
            f"{repeated}{sample}")
