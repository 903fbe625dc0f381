import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from stylegan2_pipeline.checkpoint import save_snapshot
from stylegan2_pipeline.commands.generate import command
from stylegan2_pipeline.networks import Generator


def write_snapshot(path, *, c_dim=0, channels=3, class_names=None, options=None):
    kwargs = {"z_dim": 16, "c_dim": c_dim, "w_dim": 16, "img_resolution": 16, "img_channels": channels,
              "mapping_kwargs": {"num_layers": 2}, "synthesis_kwargs": {"channel_base": 256, "channel_max": 16}}
    torch.manual_seed(0)
    about = {"options": options or {}, "class_names": class_names, "cur_nimg": 0, "augment_p": 0.0, "pl_mean": 0.0}
    save_snapshot(path, {"G_ema": Generator(**kwargs)}, {"G_ema": kwargs}, **about)
    return str(path)


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*args):
    return CliRunner().invoke(command, [*args, "--device=cpu"])


def pixels(path):
    with Image.open(path) as image:
        return image.mode, np.asarray(image)


def test_seeds_become_files_whatever_the_batch(here):
    network = write_snapshot(here / "net.pkl")
    result = run(f"--network={network}", "--seeds=1-3,12345")
    assert result.exit_code == 0, result.output
    names = ["seed0001.png", "seed0002.png", "seed0003.png", "seed12345.png"]
    assert sorted(path.name for path in Path("out").iterdir()) == names
    assert [line for line in result.stdout.splitlines() if line] == [str(Path("out") / name) for name in names]
    assert run(f"--network={network}", "--seeds=12345,2", "--batch=1", "--outdir=other/deep").exit_code == 0
    for name in ("seed0002.png", "seed12345.png"):
        assert Path("other/deep", name).read_bytes() == Path("out", name).read_bytes()


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB"), (4, "RGBA")])
def test_pictures_and_grid_have_the_channels_of_the_network(here, channels, mode):
    network = write_snapshot(here / "net.pkl", channels=channels)
    assert run(f"--network={network}", "--grid=2x2").exit_code == 0
    found, grid = pixels("out/grid.png")
    assert found == mode and grid.shape[:2] == (32, 32)
    for i in range(4):
        found, image = pixels(f"out/seed{i + 1:04d}.png")
        assert found == mode
        y, x = i // 2 * 16, i % 2 * 16
        np.testing.assert_array_equal(grid[y:y + 16, x:x + 16], image)


def test_the_newest_network_is_used_and_named(here):
    old = here / "training-runs" / "00000-a" / "network-snapshot-000100.pkl"
    new = here / "training-runs" / "00001-b" / "network-snapshot-000004.pkl"
    write_snapshot(old)
    time.sleep(0.01)
    write_snapshot(new, channels=1)
    result = run("--seeds=1")
    assert result.exit_code == 0 and str(new.relative_to(here)) in result.output
    assert pixels("out/seed0001.png")[0] == "L"


def test_classes_by_name(here):
    network = write_snapshot(here / "net.pkl", c_dim=2, class_names=["cat", "dog"])
    for text, outdir in (("dog", "a"), ("1", "b"), ("cat", "c")):
        assert run(f"--network={network}", "--seeds=1", f"--class={text}", f"--outdir={outdir}").exit_code == 0
    assert Path("a/seed0001.png").read_bytes() == Path("b/seed0001.png").read_bytes()
    assert Path("a/seed0001.png").read_bytes() != Path("c/seed0001.png").read_bytes()


def test_projected_ws_become_files(here):
    network = write_snapshot(here / "net.pkl")
    np.savez("w.npz", w=np.random.RandomState(0).randn(2, 6, 16).astype(np.float32))
    result = run(f"--network={network}", "--projected-w=w.npz", "--grid=2x1")
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in Path("out").iterdir()) == ["grid.png", "proj00.png", "proj01.png"]


@pytest.mark.parametrize(("args", "words"), [
    ([], ["--network=", "training-runs", "train.py"]),
    (["--network=no.pkl"], ["no.pkl"]),
    (["--network=net.pkl", "--seeds=x"], ["--seeds=x"]),
    (["--network=net.pkl", "--grid=x"], ["--grid=x"]),
    (["--network=net.pkl", "--grid=2x2", "--seeds=1-5"], ["--grid=2x2", "5"]),
    (["--network=net.pkl", "--class=1"], ["--class=1"]),
    (["--network=net.pkl", "--projected-w=no.npz"], ["--projected-w=no.npz"]),
    (["--network=net.pkl", "--projected-w=no.npz", "--seeds=1"], ["--projected-w", "--seeds"]),
    (["--network=net.pkl", "--outdir=net.pkl/x"], ["--outdir=net.pkl"]),
    (["--network=net.pkl", "--noise-mode=loud"], ["--noise-mode"]),
    (["--network=net.pkl", "--batch=0"], ["--batch"]),
])  # fmt: skip
def test_mistakes_are_told_in_a_paragraph_and_leave_nothing_behind(here, args, words):
    write_snapshot(here / "net.pkl")
    result = run(*args)
    assert result.exit_code == 2 and isinstance(result.exception, SystemExit), result.output
    assert all(word in result.output for word in words), result.output
    assert [path.name for path in here.iterdir()] == ["net.pkl"]


def test_a_device_that_is_not_there_is_named(here):
    result = CliRunner().invoke(command, [f"--network={write_snapshot(here / 'net.pkl')}", "--device=cuda:77"])
    assert result.exit_code == 2 and "--device=cuda:77" in result.output and "There is: cpu" in result.output
    result = CliRunner().invoke(command, [f"--network={here / 'net.pkl'}", "--device=toaster"])
    assert result.exit_code == 2 and "--device=toaster" in result.output


def test_help_loads_neither_torch_nor_numpy():
    code = ("import sys; from stylegan2_pipeline.commands.generate import command; "
            "command.main(['-h'], standalone_mode=False); assert not {'torch', 'numpy', 'PIL'} & set(sys.modules)")
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "--seeds" in out and "python generate.py --seeds=1-10" in out
