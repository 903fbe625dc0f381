"""The bilinear resize of TensorFlow 1, which Inception and VGG16 features are defined on."""

import torch
from torch import Tensor


def tf1_resize(images: Tensor, size: int) -> Tensor:
    """[N,C,H,W] to float32 [N,C,size,size]: bilinear, the corner at the corner, without a low-pass.

    Pixel i of the result lies at i * H / size of the image, so that the image is shifted by up to half a pixel and its
    detail is aliased; a better resize would give other features than everybody's.
    """
    top, bottom, down = _neighbours(images.shape[2], size, images.device)
    left, right, along = _neighbours(images.shape[3], size, images.device)
    x = _between(images.index_select(3, left).float(), images.index_select(3, right).float(), along)
    return _between(x.index_select(2, top), x.index_select(2, bottom), down[:, None])


def _neighbours(length: int, size: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """The pixels before and after each of the places on an axis of `length` pixels, and how far it is between them."""
    places = torch.arange(size, dtype=torch.float32, device=device) * (length / size)
    before = places.floor().long()
    return before, (before + 1).clamp_max(length - 1), places - before


def _between(a: Tensor, b: Tensor, share: Tensor) -> Tensor:
    """In a's memory; lerp would round otherwise than TensorFlow."""
    return a.add_(b.sub_(a).mul_(share))
