"""Pictures out: floats to uint8, grids, and the one writer of image files that every command uses."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from torch_utils.files import atomic_path

_CHANNELS = (1, 3, 4)
_GRID_PIXELS = (7680, 4320)  # width and height of an 8K screen


def to_uint8(images: Tensor) -> Tensor:
    """Images [N,C,H,W] in [-1, 1] to uint8: x * 127.5 + 128, clipped to 0..255, truncated. Made once per image."""
    return (images.float() * 127.5 + 128).clamp(0, 255).to(torch.uint8)


def to_pil(image: np.ndarray | Tensor) -> Image.Image:
    """A uint8 image [C,H,W] as a Pillow image: 1 channel is mode L, 3 RGB, 4 RGBA."""
    if isinstance(image, Tensor):
        image = image.detach().cpu().numpy()
    assert image.dtype == np.uint8 and image.ndim == 3 and image.shape[0] in _CHANNELS, (image.dtype, image.shape)
    pixels = image[0] if image.shape[0] == 1 else image.transpose(1, 2, 0)
    return Image.fromarray(np.ascontiguousarray(pixels))


def save_image(image: np.ndarray | Tensor, path: str | Path) -> None:
    """Writes a uint8 image [C,H,W]; the format follows the suffix. The file appears whole or not at all."""
    with atomic_path(path) as partial:
        to_pil(image).save(partial)


def image_grid(images: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Tiles uint8 images [N,C,H,W] into one [C, rows*H, cols*W], row by row; `size` is (cols, rows), N <= cols * rows.

    Cells that no image fills stay black (transparent in RGBA).
    """
    cols, rows = size
    n, channels, height, width = images.shape
    assert images.dtype == np.uint8 and 0 < n <= cols * rows, (images.dtype, n, size)
    cells = np.zeros([rows * cols, channels, height, width], np.uint8)
    cells[:n] = images
    cells = cells.reshape(rows, cols, channels, height, width)  # [RKCHW]
    return cells.transpose(2, 0, 3, 1, 4).reshape(channels, rows * height, cols * width)


def grid_size(resolution: int, n_max: int) -> tuple[int, int]:
    """(cols, rows) of a grid that fills an 8K screen, 7x4 to 32x32 cells; fewer, at most n_max, for few images."""
    assert n_max > 0
    cols = min(max(_GRID_PIXELS[0] // resolution, 7), 32)
    rows = min(max(_GRID_PIXELS[1] // resolution, 4), 32)
    if cols * rows > n_max:
        cols = min(max(round((n_max * cols / rows) ** 0.5), 1), cols)
        rows = min(n_max // cols, rows)
    return cols, rows
