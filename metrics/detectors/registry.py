"""Detectors by name, opened when first asked for."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from metrics.detectors.base import Detector
from metrics.detectors.pixels32 import open_pixels32

if TYPE_CHECKING:
    from metrics.detectors.lpips import LPIPS
    from metrics.weights import WeightsFile, WeightsSource


def open_detector(name: str, device: torch.device, source: "WeightsSource | None" = None) -> Detector:
    """Raises UserError where its weights cannot be had."""
    if name == "pixels32":
        return open_pixels32(device)
    if name == "random_v1":
        from metrics.detectors.random_features import open_random_features
        return open_random_features(device)
    from metrics.weights import locate
    return _opener(name)(locate(name, source), device)


def _opener(name: str) -> "Callable[[WeightsFile, torch.device], Detector]":
    if name == "inception":
        from metrics.detectors.inception import open_inception
        return open_inception
    if name == "vgg16":
        from metrics.detectors.vgg16 import open_vgg16
        return open_vgg16
    assert name == "dinov2", name
    from metrics.detectors.dinov2 import open_dinov2
    return open_dinov2


class Detectors:
    """The detectors of one process, each opened once, and the LPIPS distance; on one device."""

    def __init__(self, device: torch.device, source: "WeightsSource | None" = None) -> None:
        self.device, self.source = device, source
        self._opened: dict[str, Detector] = {}
        self._lpips: "LPIPS | None" = None

    def __call__(self, name: str) -> Detector:
        if name not in self._opened:
            self._opened[name] = open_detector(name, self.device, self.source)
        return self._opened[name]

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
            from metrics.weights import locate
            self._lpips = open_lpips(locate("vgg16", self.source), locate("lpips", self.source), self.device)
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
