"""The one command for a machine with a GPU, as far as a machine without one can tell."""

import importlib

import pytest
import torch
from click.testing import CliRunner
from public_checkout import write_checkout

from benchmarks import gpu


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_gpu_it_says_so(tmp_path):
    result = CliRunner().invoke(gpu.main, [f"--outdir={tmp_path / 'out'}"])
    assert result.exit_code == 2 and result.output.count("\n") == 1
    assert "There is no CUDA device here" in result.output and not (tmp_path / "out").exists()


def test_its_commands_are_ones_that_there_are(tmp_path):
    write_checkout(tmp_path)
    steps = gpu.steps(tmp_path, tmp_path)
    for step in steps:
        for _, module, *args in step.outputs.values():
            if module != "pytest":
                main = importlib.import_module(module).main
                main.make_context(module, list(args))
    assert len({step.name for step in steps}) == len(steps)


def test_steps_that_go_well_and_others(tmp_path, capsys):
    steps = [gpu.Step("well", {"md": ["-c", "print('| a |')"]}),
             gpu.Step("badly", {"md": ["-c", "import sys; print('why', file=sys.stderr); sys.exit(3)"]}),
             gpu.Step("long", {"md": ["-c", "import time; time.sleep(60)"]}),
             gpu.Step("late", {"md": ["-c", "pass"]})]
    assert not gpu.do_all(steps, tmp_path, 1.0)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("well: done") and lines[1].startswith("badly: exit code 3; see")
    assert "long: not done after" in lines[2] and lines[3].startswith("late: no time was left")
    assert (tmp_path / "badly.log").read_text() == "why\n"
    assert "# well\n\n| a |" in (tmp_path / "all.md").read_text()
    assert gpu.do_all(steps[:1], tmp_path, 60.0)
