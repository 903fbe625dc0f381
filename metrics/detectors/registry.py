"""Detectors by name, opened when first asked for."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from metrics.detectors.base import Detector
from metrics.weights import WeightsFile, WeightsSource, locate
from torch_utils.errors import UserError

if TYPE_CHECKING:
    from metrics.detectors.lpips import LPIPS


class Detectors:
    """The detectors of one process, each opened once, and the LPIPS distance; on one device.

    Networks are imported when they are opened: most measurements want one of them or none.
    """

    def __init__(self, device: torch.device, source: WeightsSource | None = None) -> None:
        self.device, self.source = device, source
        self._opened: dict[str, Detector] = {}
        self._lpips: LPIPS | None = None
        self._files: dict[str, WeightsFile | UserError] = {}

    def __call__(self, name: str) -> Detector:
        """Raises UserError where its weights cannot be had."""
        if name not in self._opened:
            self._opened[name] = self._open(name)
        return self._opened[name]

    def weights(self, name: str) -> WeightsFile:
        """The file of weights. Raises UserError where it cannot be had, which is tried once."""
        if name not in self._files:
            try:
                self._files[name] = locate(name, self.source)
            except UserError as error:
                self._files[name] = error
        found = self._files[name]
        if isinstance(found, UserError):
            raise found
        return found

    def _open(self, name: str) -> Detector:
        if name == "pixels32":
            from metrics.detectors.pixels32 import open_pixels32
            return open_pixels32(self.device)
        if name == "random_v1":
            from metrics.detectors.random_features import open_random_features
            return open_random_features(self.device)
        if name == "inception":
            from metrics.detectors.inception import open_inception
            return open_inception(self.weights(name), self.device)
        if name == "vgg16":
            from metrics.detectors.vgg16 import open_vgg16
            return open_vgg16(self.weights(name), self.device)
        assert name == "dinov2", name
        from metrics.detectors.dinov2 import open_dinov2
        return open_dinov2(self.weights(name), self.device)

    def rows(self, name: str, images: Tensor) -> Tensor:
        """[N,D] float32, on the device, of uint8 images [N,C,H,W]; in full float32 whatever training is set to."""
        with torch.no_grad(), full_precision():
            return self(name).rows(images.to(self.device))

    def width(self, name: str, image_shape: Sequence[int]) -> int:
        """Numbers in a row of an image [C,H,W]."""
        return self.rows(name, torch.zeros([1, *image_shape], dtype=torch.uint8)).shape[1]

    def lpips(self) -> "LPIPS":
        """The distance behind path length. Raises UserError where its weights cannot be had."""
        if self._lpips is None:
            from metrics.detectors.lpips import open_lpips
            self._lpips = open_lpips(self.weights("vgg16"), self.weights("lpips"), self.device)
        return self._lpips


@contextmanager
def full_precision() -> Iterator[None]:
    """Without TF32, which a run may have switched on: features are compared with those of others."""
    matmul = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False
    try:
        with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
            yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = matmul
