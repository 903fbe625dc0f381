"""The comparison of training curves in two types."""

import json

import numpy as np
from click.testing import CliRunner
from PIL import Image

from benchmarks.curves import compared, main


def test_distances_are_those_of_seeds_and_of_types():
    steps = np.arange(5.0)
    base = [{"s": steps}, {"s": steps + 2}]
    row = compared("s", base, [{"s": steps + 1}, {"s": steps + 3}])
    assert (row["seeds"], row["types"], row["ratio"], row["inside"]) == (2.0, 1.0, 0.5, 0.5)


def test_the_command(tmp_path):
    small = ["--resolution=16", "--channels=1", "--cbase=64", "--cmax=8", "--batch=4", "--images=4", "--steps=20",
             "--seeds=2", "--device=cpu"]
    picture = tmp_path / "curves.png"
    run = CliRunner().invoke(main, [*small, f"--picture={picture}"])
    assert run.exit_code == 0, run.output
    assert "| loss of G |" in run.stdout and "fp32 against bf16" in run.stdout
    assert Image.open(picture).size[0] == 1120 and len(Image.open(picture).getcolors(1 << 20)) > 20
    found = json.loads(CliRunner().invoke(main, [*small, "--json"]).stdout)
    assert {len(found["runs"]["fp32"]), len(found["runs"]["bf16"])} == {2}
    assert all(row["types"] > 0 for row in found["rows"])  # bfloat16 was computed
    again = json.loads(CliRunner().invoke(main, [*small, "--json"]).stdout)
    assert again == found
