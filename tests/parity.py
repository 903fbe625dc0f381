"""Packages whose numbers ours are compared with, from the extra `parity`. Tests that need them skip without them."""

import importlib

import pytest

from benchmarks.peers import let_torchvision_load


def torch_fidelity():
    """The package torch-fidelity, or the test is skipped."""
    return _package("torch_fidelity")


def pytorch_fid():
    """The package pytorch-fid with its modules `fid_score` and `inception`, or the test is skipped."""
    _package("pytorch_fid.fid_score")
    _package("pytorch_fid.inception")
    return importlib.import_module("pytorch_fid")


def _package(name):
    let_torchvision_load()
    return pytest.importorskip(name, reason="the extra `parity` is not installed")
