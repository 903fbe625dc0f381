"""A collection of which only the names matter: no image is ever read."""

from pathlib import Path

from stylegan2_pipeline.decode import BrokenImage
from stylegan2_pipeline.sources.base import Source
from stylegan2_pipeline.sources.labels import Labels


class Named(Source):
    """subjects, volumes: one an image; given: what its own record says."""

    def __init__(self, names, subjects=None, volumes=None, given=None):
        self.path = Path("set")
        self.names = list(names)
        self._subjects = subjects or [None] * len(self.names)
        self._volumes = volumes or [None] * len(self.names)
        self._given = given

    def decode(self, index):
        raise BrokenImage("there is no image")

    def state(self):
        return ""

    def labels(self):
        return Labels(*self._given) if self._given else None

    def subject(self, index):
        return self._subjects[index]

    def volume(self, index):
        return self._volumes[index]
