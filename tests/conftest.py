"""Settings of every test: a seed, no time limits on examples; in CI the same examples every time."""

import os
import sys
import tempfile
from pathlib import Path

if workers := int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", 0)):  # before torch takes every core in each of them
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    os.environ.setdefault("OMP_NUM_THREADS", str(max(cores // workers, 1)))

import hypothesis
import pytest
import torch

from torch_utils.ops import native

sys.path.insert(0, str(Path(__file__).parent))
hypothesis.settings.register_profile("project", deadline=None, derandomize=bool(os.environ.get("CI")))
hypothesis.settings.load_profile("project")


def pytest_collection_modifyitems(items):
    if not torch.cuda.is_available():
        for item in items:
            if "gpu" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.fixture
def temp(tmp_path_factory, monkeypatch):
    """A folder of its own for temporary files; nothing may be left there at the end."""
    folder = tmp_path_factory.mktemp("temp")
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    assert not list(folder.iterdir())


@pytest.fixture(autouse=True, scope="session")
def compiled_operators(pytestconfig):
    """The native operators, compiled once into pytest's own cache; other processes that tests start find them there."""
    os.environ["STYLEGAN2_CACHE"] = str(pytestconfig.cache.mkdir("stylegan2"))
    native.load("cpu")
