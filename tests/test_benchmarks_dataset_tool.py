"""That the benchmark of the dataset tool measures ways of making the same archive, and would notice if it were not."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from benchmarks.dataset_tool import PLAIN, Photos, by_plain_loop, by_tool, check_same, main, make_photos
from stylegan2_pipeline.archive import Archive
from torch_utils.resampling import native

ROOT = Path(__file__).parent.parent
SMALL = ["--images=3", "--width=70", "--height=50", "--resolution=32", "--repeats=1", "--seconds=0", "--workers=1"]


def run(*args):
    result = CliRunner().invoke(main, [*SMALL, *args])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_every_way_is_timed():
    rows = json.loads(run("--json"))
    titles = list(dict.fromkeys(row["title"] for row in rows))
    assert titles == ["Archives", "Parts of the work on one image, in one process",
                      "Resizing alone, 50x50 to 32x32"]
    assert [row["way"] for row in rows[:2]] == [PLAIN, "dataset tool, 1 process"] and rows[0]["ratio"] == 1
    assert all(row["ms"] > 0 for row in rows) and all(row["cpu_ms"] > 0 for row in rows[:2])
    alone = {row["way"].split(",")[0]: row for row in rows if row["title"] == titles[2]}
    assert alone["torch"]["largest"] <= 2 and ("dataset tool" in alone) == (native.state().resampler is not None)
    assert all(row["largest"] == 0 for way, row in alone.items() if way != "torch")


def test_tables():
    printed = run("--resize-filter=box")
    assert "3 JPEG files of 70x50 to 32x32, box; pictures are resized by: " in printed
    assert "| plain loop |" in printed and "| all of these |" in printed and "torch" not in printed


def test_the_plain_loop_makes_an_archive_as_others_do(tmp_path):
    photos = Photos(tmp_path / "photos", 16, "lanczos")
    make_photos(photos.folder, 2, (40, 30))
    by_plain_loop(photos, tmp_path / "plain.zip")
    by_tool(photos, 1, tmp_path / "ours.zip")
    with Archive(tmp_path / "plain.zip") as plain, Archive(tmp_path / "ours.zip") as ours:
        assert plain.names == ours.names and all(np.array_equal(plain.read(i), ours.read(i)) for i in range(2))


def test_a_wrong_pixel_is_noticed(tmp_path):
    photos = Photos(tmp_path / "photos", 16, "lanczos")
    make_photos(photos.folder, 2, (40, 30))
    by_tool(Photos(photos.folder, 16, "bicubic"), 1, tmp_path / "other.zip")
    with pytest.raises(AssertionError, match="image 0 differs"):
        check_same(photos, tmp_path / "other.zip")


def test_processes_that_it_starts_load_no_torch():
    """They import the module that is run; seconds of that would count against the tool."""
    code = "import sys, benchmarks.dataset_tool; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True).stdout == b"False\n"


def test_a_torch_without_the_filter_is_left_out(monkeypatch):
    def refuse(*args, **options):
        raise NotImplementedError("no lanczos")

    monkeypatch.setattr(torch.nn.functional, "interpolate", refuse)
    result = CliRunner().invoke(main, SMALL)
    assert "| torch" not in result.stdout and "does not resize so: no lanczos" in result.stderr


def test_workers_that_are_no_numbers_are_refused():
    result = CliRunner().invoke(main, ["--workers=1,x"])
    assert result.exit_code == 2 and "--workers=1,x" in result.output
