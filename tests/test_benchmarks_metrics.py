"""That the benchmark of metrics measures ways of computing the same, and says which."""

import json
import sys

import pytest
from click.testing import CliRunner
from parity import torch_fidelity

from benchmarks.metrics import main

SMALL = ["--device=cpu", "--seconds=0", "--resolution=16", "--batch=1", "--dimensions=24"]


def run(*args):
    result = CliRunner().invoke(main, [*SMALL, *args])
    assert result.exit_code == 0, result.output
    return result


def test_frechet():
    rows = json.loads(run("--parts=frechet", "--json").stdout)
    assert len(rows) == 4 and len({row["title"] for row in rows}) == 2  # more and fewer images than dimensions
    for row in rows:
        assert row["figure"] > 0 and row["ratio"] > 0 and row["difference"] < 1e-5
    printed = run("--parts=frechet").stdout
    assert "24 dimensions, 48 and 48 images" in printed and "24 dimensions, 12 and 12 images" in printed
    assert "| metrics.frechet |" in printed


@pytest.mark.slow
def test_inception_without_torch_fidelity(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch_fidelity.feature_extractor_inceptionv3", None)
    result = run("--parts=inception", "--json")
    rows = json.loads(result.stdout)
    assert [row["way"] for row in rows] == ["plain", "channels last", "channels last, fused"]
    assert all(row["figure"] > 0 and row["difference"] < 1e-5 and row["peer"] == "plain" for row in rows)
    assert "pip install" in result.stderr and "parity" in result.stderr


@pytest.mark.slow
def test_inception_with_torch_fidelity():
    torch_fidelity()
    printed = run("--parts=inception").stdout
    assert "times torch-fidelity" in printed and "| torch-fidelity |" in printed


def test_unknown_parts_are_refused():
    result = CliRunner().invoke(main, ["--parts=swd"])
    assert result.exit_code == 2 and "there is no swd" in result.output
