"""The benchmarks of training and sampling, as a user runs them: what is printed, written, and said of failures."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from public_checkout import write_checkout

from benchmarks import sample, train

ROOT = Path(__file__).parent.parent
TINY = ["--device=cpu", "--resolution=16", "--channels=1", "--cbase=64", "--seconds=0", "--repeats=1", "--warmup=0"]
PARTS = ["images", "Gmain", "Greg", "Dmain", "Dreg", "EMA"]


def test_training_as_a_user_runs_it(tmp_path):
    args = [*TINY, "--batch=4", "--variants=ours", "--limit",
            f"--profile={tmp_path / 'traces'}", f"--save={tmp_path / 'rows.json'}"]
    done = subprocess.run([sys.executable, "-m", "benchmarks.train", *args], cwd=ROOT, capture_output=True, text=True,
                          env=os.environ, check=False)
    assert done.returncode == 0, done.stderr
    assert "python -m benchmarks.train --device=cpu" in done.stdout and "torch" in done.stdout
    assert f"| times ours | s a step | {' | '.join(PARTS)} | peak memory | of the limit |" in done.stdout
    assert "GB, fused" in done.stdout and "| operator | all |" in done.stdout
    values = json.loads((tmp_path / "rows.json").read_text())
    row, = values["rows"]
    assert list(row["parts"]) == PARTS and row["peak_bytes"] > 50e6 and 0 < row["share_of_limit"] < 1
    images, g, greg, d, dreg, rest = row["parts"].values()
    assert row["step"] == pytest.approx(images + g + greg / 4 + d + dreg / 16 + rest)
    assert row["images_per_second"] == pytest.approx(4 / row["step"])
    assert {row["part"] for row in values["profile"]} >= {"Gmain", "Greg", "Dmain", "Dreg"}
    trace = json.loads((tmp_path / "traces" / "step.json").read_text())
    assert any(event.get("name") == "part Gmain" for event in trace["traceEvents"])


@pytest.mark.slow
def test_a_trace_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    result = CliRunner().invoke(train.main, [*TINY, "--batch=1", "--variants=ours", f"--profile={tmp_path}/file/in"])
    assert result.exit_code == 1 and "file/in: NotADirectoryError" in result.output


@pytest.mark.slow
def test_cycles_without_path_lengths_and_a_variant_that_fails():
    variants = "--variants=ours,plain,plain-grouped,ours:env.STYLEGAN2_OPS=wrong"
    result = CliRunner().invoke(train.main, [*TINY, "--batch=2", "--cfg=cifar", "--cycle", variants, "--json"])
    assert result.exit_code == 1  # because of the last
    assert "STYLEGAN2_OPS=wrong could not be measured: UserError: STYLEGAN2_OPS=wrong is none" in result.stderr
    *well, wrong = json.loads(result.stdout)["rows"]
    for row in well:
        assert row["weights"] == {"cycle": 1 / 16} and row["step"] == pytest.approx(row["parts"]["cycle"] / 16)
    assert wrong["failure"] and "step" not in wrong


def test_sampling():
    args = [*TINY, "--batches=1,2", "--variants=ours,plain", "--json"]
    result = CliRunner().invoke(sample.main, args)
    assert result.exit_code == 0, result.output
    rows = json.loads(result.stdout)["rows"]
    assert [row["variant"] for row in rows] == ["ours", "plain"]
    assert all(row["images_per_second"]["batch 2"] > 0 and row["peak_bytes"] > 50e6 for row in rows)
    assert "| times plain |" in sample.table(rows)


@pytest.mark.slow
def test_the_public_code(tmp_path):
    """Its packages are the checkout's, though ours have the same names."""
    write_checkout(tmp_path)
    args = [*TINY, f"--reference={tmp_path}"]
    result = CliRunner().invoke(train.main, [*args, "--batch=4", "--batch-gpu=2", "--variants=nvlabs,nvlabs-best"])
    assert result.exit_code == 0, result.output
    assert "nvlabs: channels last: False" in result.stderr and "nvlabs-best: channels last: True" in result.stderr
    assert "| times nvlabs |" in result.stdout and "| nvlabs-best |" in result.stdout and "Dreg" in result.stdout


@pytest.mark.slow
def test_the_public_code_otherwise(tmp_path):
    args = [*TINY, f"--reference={write_checkout(tmp_path)}"]
    result = CliRunner().invoke(train.main, [*args, "--variants=nvlabs", "--cfg=stylegan2", "--batch=2", "--cycle"])
    assert result.exit_code == 0 and "| s a step | cycle |" in result.stdout
    result = CliRunner().invoke(sample.main, [*args, "--batches=2", "--variants=nvlabs,nvlabs-best", "--one-by-one"])
    assert result.exit_code == 0 and "| nvlabs-best |" in result.stdout


def test_nothing_that_could_be_measured(tmp_path):
    (write_checkout(tmp_path) / "training" / "loss.py").write_text("raise ImportError('no loss')")
    result = CliRunner().invoke(train.main, [*TINY, f"--reference={tmp_path}", "--variants=nvlabs"])
    assert result.exit_code == 1 and "Nothing could be measured" in result.stdout
    assert "nvlabs could not be measured: ImportError: no loss" in result.stderr
