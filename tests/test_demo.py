"""`make demo`, at its smallest, and at its real size on a CPU."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from stylegan2_pipeline.commands.demo import command


def run_demo(outdir, *args):
    result = CliRunner().invoke(command, ["--outdir", str(outdir), *args])
    assert result.exit_code == 0, result.output
    return result.output


def named_paths(output):
    return [Path(path) for path in re.findall(r"^  \S.* (/\S+)$", output[output.index("Look at:"):], re.M)]


def test_demo_makes_and_names_everything(tmp_path):
    output = run_demo(tmp_path / "demo", "--size=tiny")
    paths = named_paths(output)
    assert len(paths) == 18 and all(path.exists() for path in paths)
    for verb in ("stylegan2 sample-data", "python dataset_tool.py", "python train.py", "python generate.py",
                 "stylegan2 metrics", "stylegan2 augment", "stylegan2 report", "stylegan2 timelapse",
                 "tensorboard --logdir="):
        assert verb in output
    assert len(list((tmp_path / "demo" / "generated").glob("seed*.png"))) == 32


def test_a_second_demo_leaves_the_first_alone(tmp_path):
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "mine.txt").write_text("kept")
    run_demo(tmp_path / "demo", "--size=tiny")
    assert [path.name for path in (tmp_path / "demo").iterdir()] == ["mine.txt"]
    assert (tmp_path / "demo-2" / "mri.zip").exists()


@pytest.mark.slow
def test_demo_on_a_cpu_learns_what_the_data_shows(tmp_path):
    """After half of the demo's training: heads in the middle of a black frame, closer to the data than at first."""
    output = run_demo(tmp_path / "demo", "--size=cpu", "--kimg=6")
    run, = (tmp_path / "demo" / "training-runs").iterdir()
    with Image.open(max(run.glob("fakes0*.png"))) as fakes, Image.open(run / "reals.png") as reals:
        tiles = [np.asarray(picture, float).reshape(8, 64, 8, 64).transpose(0, 2, 1, 3).reshape(-1, 64, 64)
                 for picture in (fakes, reals)]
    means = [tile.mean(0) for tile in tiles]
    assert np.corrcoef(means[0].ravel(), means[1].ravel())[0, 1] > 0.75
    assert means[0][:6, :6].mean() < 0.4 * means[0][24:40, 24:40].mean()
    assert tiles[0].std(0).mean() > 5  # not one picture sixty-four times
    record = json.loads((run / "metric-swd.jsonl").read_text())
    assert record["results"]["swd"] > 0 and "Done in" in output
