"""Conversions in tests: images to convert, and a way to do so that gives what came of it."""

import numpy as np
import pytest
from PIL import Image

from stylegan2_pipeline.archive import Archive
from stylegan2_pipeline.conversion.convert import convert
from stylegan2_pipeline.conversion.options import Conversion
from torch_utils.errors import UserError


def save(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(pixels)).save(path, **options)


def rgb(width=16, height=16, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def gray(width=16, height=16, seed=0):
    return rgb(width, height, seed)[:, :, 0]


def gray_as_rgb(width=16, height=16, seed=0):
    return gray(width, height, seed)[:, :, None].repeat(3, 2)


class Run:
    """Converts folder/source; returns the archive and the report. run.error(...) returns the message instead."""

    def __init__(self, folder):
        self.folder = folder
        self.source = folder / "source"
        self.count = 0

    def __call__(self, source=None, **options):
        self.count += 1
        dest, lines = self.folder / f"{self.count}.zip", []
        convert(Conversion(source or self.source, dest, **{"workers": 1, **options}), lines.append)
        return Archive(dest), "\n".join(lines)

    def error(self, **options):
        before = sorted(self.folder.iterdir())
        with pytest.raises(UserError) as caught:
            self(**options)
        assert sorted(self.folder.iterdir()) == before
        return caught.value.format_message()


def images(archive):
    return np.stack([archive.read(i) for i in range(len(archive))])
