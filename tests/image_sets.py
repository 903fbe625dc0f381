"""Sets of images and of features for tests of metrics."""

import numpy as np
import torch

from metrics.detectors.base import Detector
from metrics.detectors.registry import Detectors
from metrics.inputs import ImageSet, MetricInputs


class ArraySet(ImageSet):
    """uint8 images [N,C,H,W], with detectors or functions of images [n,C,H,W] by name."""

    def __init__(self, images, detectors=None, batch=7, endless=False):
        super().__init__()
        self.array, self.batch = images, batch
        self.detectors = {} if detectors is None else detectors
        self.size = None if endless else len(images)

    def images(self, count):
        assert count <= len(self.array)
        for start in range(0, count, self.batch):
            yield self.array[start:min(start + self.batch, count)]

    def stream(self, detector, count):
        found = self.detectors[detector]
        function = found.rows if isinstance(found, Detector) else found
        for batch in self.images(count):
            yield function(torch.from_numpy(batch)).float().cpu()


class FeatureSet(ImageSet):
    """Rows of features [N,D] by the name of a detector, without images."""

    def __init__(self, rows, batch=50):
        super().__init__()
        self.rows = {name: torch.as_tensor(np.asarray(value)).float() for name, value in rows.items()}
        self.batch = batch
        self.size = len(next(iter(self.rows.values())))

    def images(self, count):
        raise AssertionError("this set has no images")

    def stream(self, detector, count):
        assert count <= self.size
        yield from self.rows[detector][:count].split(self.batch)


def feature_inputs(real, fake, detector="inception", module=None, **kwargs):
    """MetricInputs of two arrays of features [N,D]."""
    opened = Detector(detector, "none", lambda images: images.flatten(1).float(), module=module)
    return MetricInputs(FeatureSet({detector: real}), FeatureSet({detector: fake}), lambda name: opened, **kwargs)


def image_inputs(real, fake, **kwargs):
    """MetricInputs of two arrays of uint8 images [N,C,H,W], with the detectors that need no files."""
    detectors = Detectors(kwargs.get("device", torch.device("cpu")))

    class Lazy(dict):
        def __missing__(self, name):
            return lambda images: detectors.rows(name, images)

    return MetricInputs(ArraySet(real, Lazy()), ArraySet(fake, Lazy()), detectors, **kwargs)
