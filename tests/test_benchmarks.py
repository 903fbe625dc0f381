"""That the benchmarks measure what they say: the same computation, for the calls that training makes."""

import json

import pytest
import torch
from click.testing import CliRunner
from test_training_step import tiny_config

from benchmarks import plain
from benchmarks.ops import main
from benchmarks.workload import recorded
from torch_utils.ops.native import operators

CPU = torch.device("cpu")


@pytest.mark.parametrize("name", operators())
def test_plain_is_the_same_computation(name):
    for args in operators()[name].examples(CPU, torch.float32):
        expected, actual = operators()[name].reference(*args), getattr(plain, name)(*args)
        if isinstance(expected, tuple):
            expected = [t for t in expected if t.numel()]
            assert len(expected) == len(actual)
        else:
            expected, actual = [expected], [actual]
        for e, a in zip(expected, actual, strict=True):
            torch.testing.assert_close(a.to(e.dtype), e, rtol=1e-4, atol=1e-5)


def test_calls_are_those_of_the_networks():
    config = tiny_config()
    calls = recorded(config, 2, CPU)
    names = [call.name for call in calls.elements()]
    layers = 2 * 3 - 1  # synthesis layers at 4, 8 and 16 pixels
    assert names.count("synthesis_act") == names.count("synthesis_act_grad") == layers + 3  # and an image at each
    shapes = {tuple(call.args[0].shape) for call in calls if call.name == "synthesis_act"}
    assert shapes >= {(2, 8, 16, 16), (2, 1, 16, 16)}
    assert names.count("upfirdn2d") % 2 == 0  # each forward and backward


def test_the_command():
    small = ["--resolution=16", "--channels=1", "--seconds=0.001"]
    run = CliRunner().invoke(main, [*small, "--ops=bias_act,upfirdn2d", "--json"])
    assert run.exit_code == 0, run.output
    rows = json.loads(run.stdout)
    assert {row["op"] for row in rows} == {"bias_act", "upfirdn2d"}
    assert all(min(row["native"], row["reference"], row["plain"]) > 0 and row["bytes"] > 0 for row in rows)
    table = CliRunner().invoke(main, [*small, "--ops=bias_act"]).stdout
    assert "| shape | type |" in table and "All calls of a pass: native" in table
