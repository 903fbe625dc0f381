"""Small archives for tests."""

import numpy as np

from stylegan2_pipeline.archive import ArchiveWriter


def make_images(count, channels=3, size=8, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, channels, size, size), np.uint8)


def write_archive(path, images, labels=None, class_names=None):
    with ArchiveWriter(path, class_names) as writer:
        for index, pixels in enumerate(images):
            writer.add(pixels, None if labels is None else labels[index])
    return path
