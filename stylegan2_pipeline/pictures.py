"""The pictures of a run: the same latents through training, by the moving average of the generator."""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from stylegan2_pipeline.dataset import ImageDataset
from stylegan2_pipeline.images import grid_size, image_grid, to_uint8
from stylegan2_pipeline.training_step import Trainer
from torch_utils.seeding import derive_seed

HEALTH_REALS = 256
HEALTH_BYTES = 2**28
HEALTH_FAKES = {"cuda": 64, "cpu": 32}


class Grid:
    """Fixed latents, and labels of real images, of which every picture of the run is made."""

    def __init__(self, dataset: ImageDataset, trainer: Trainer) -> None:
        most = 1024 if trainer.device.type == "cuda" else 28 if dataset.resolution >= 256 else 64
        self.size = grid_size(dataset.resolution, min(most, dataset.n_raw))
        self.dataset, self.trainer = dataset, trainer
        self.count = self.size[0] * self.size[1]
        random = np.random.RandomState(derive_seed(trainer.config.seed, "grid") % 2**32)
        order = random.permutation(dataset.n_raw)
        self.reals = np.stack([dataset.image(int(i)) for i in order[:self.count]])
        self.c = torch.from_numpy(np.stack([dataset.label(int(i)) for i in order[:self.count]]))
        self.z = torch.from_numpy(random.randn(self.count, trainer.G.z_dim))
        self.health_count = min(HEALTH_FAKES[trainer.device.type], self.count)
        self._order = order

    def health_reals(self) -> np.ndarray:
        """uint8 [N,C,H,W] of random real images to measure others against; fewer where they are large."""
        count = min(HEALTH_REALS, max(HEALTH_BYTES // self.reals[0].nbytes, 32))
        return np.stack([self.dataset.image(int(i)) for i in self._order[:count]])

    @torch.no_grad()
    def make(self, start: int, count: int) -> Tensor:
        """uint8 [count,C,H,W] of the latents from `start` on, with constant noise; any rank can make any of them."""
        device = self.trainer.device
        z, c = (values[start:start + count].to(device) for values in (self.z, self.c))
        return to_uint8(self.trainer.G_ema(z, c, noise_mode="const"))

    def reals_grid(self) -> np.ndarray:
        return image_grid(self.reals, self.size)

    def fakes_grid(self, images: Callable[[int], Iterator[np.ndarray]]) -> np.ndarray:
        """uint8 [C, rows*H, cols*W]; images(count) makes the first `count` of the latents."""
        return image_grid(np.concatenate(list(images(self.count))), self.size)
