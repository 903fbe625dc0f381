"""`train` as a user runs it, at 16x16 on a CPU."""

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from stylegan2_pipeline.archive import ArchiveWriter
from stylegan2_pipeline.checkpoint import load_snapshot
from stylegan2_pipeline.commands.train import command

ROOT = Path(__file__).parent.parent
SMALL = ["--cbase=128", "--cmax=16", "--batch=4", "--tick=0.008", "--snap=2"]


def make_archive(path, channels=1, count=24, size=16, labels=False):
    """Discs of random place and brightness; with labels, the class is the half that the disc is in."""
    random = np.random.RandomState(0)
    y, x = np.mgrid[:size, :size] / size
    with ArchiveWriter(path, class_names=["left", "right"] if labels else None) as writer:
        for _ in range(count):
            cx, cy, value = random.uniform(0.3, 0.7, 3)
            disc = ((x - cx) ** 2 + (y - cy) ** 2 < 0.06) * value * 255
            writer.add(np.repeat(disc[None], channels, 0).astype(np.uint8), int(cx > 0.5) if labels else None)
    return path


@pytest.fixture(scope="module")
def gray(tmp_path_factory):
    return make_archive(tmp_path_factory.mktemp("data") / "discs.zip")


def run(*args, **kwargs):
    return CliRunner().invoke(command, [str(arg) for arg in args], **kwargs)


def train(data, outdir, *args):
    result = run("--data", data, "--outdir", outdir, *SMALL, *args)
    assert result.exit_code == 0, result.output
    return sorted(Path(outdir).iterdir())[-1], result.output


@pytest.fixture(scope="module")
def finished(gray, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STYLEGAN2_OFFLINE", "1")
        patch.setenv("STYLEGAN2_WEIGHTS", str(tmp_path_factory.mktemp("weights")))
        patch.setenv("TORCH_HOME", str(tmp_path_factory.mktemp("torch")))
        return train(gray, tmp_path_factory.mktemp("runs"), "--kimg=0.04", "--mirror=1", "--metrics=swd,fid50k_full")


def test_run_folder_holds_what_the_ecosystem_knows(finished):
    folder, _ = finished
    assert folder.name == "00000-discs-mirror-auto1-kimg0.04-batch4"
    names = {path.name for path in folder.iterdir()}
    assert {"training_options.json", "log.txt", "stats.jsonl", "reals.png", "fakes_init.png", "fakes000000.png",
            "network-snapshot-000000.pkl", "metric-swd.jsonl"} <= names
    assert any(name.startswith("events.out.tfevents") for name in names)
    assert not any("tmp" in name.split(".") for name in names)


def test_output_and_log_tell_the_same(finished):
    folder, output = finished
    log = (folder / "log.txt").read_text()
    assert "No CUDA device found: training on the CPU" in output
    for line in log.splitlines():
        assert line in output
    assert "decoded once, kept in memory" in log and "24 gray images of 16x16, doubled by mirroring" in log
    assert re.search(r"Generator +output +type +parameters", log) and "Discriminator" in log
    line = r"^tick \d+ +kimg [\d.]+ +time .* +sec/tick .* +sec/kimg .* augment .* left "
    assert len(re.findall(line, log, re.M)) == 6
    assert output.count("Metric fid1k_full is left out: The weights of Inception") == 1
    assert log.count("Measuring swd\n") == 3
    assert "python generate.py --seeds 1-10 --network=" in log


def test_statistics_of_every_tick(finished):
    folder, _ = finished
    lines = [json.loads(line) for line in (folder / "stats.jsonl").read_text().splitlines()]
    assert [round(line["Progress/kimg"]["mean"] * 1000) for line in lines] == [4, 12, 20, 28, 36, 40]
    assert all(np.isfinite(line["Loss/G/loss"]["mean"]) for line in lines)
    metric = json.loads((folder / "metric-swd.jsonl").read_text().splitlines()[-1])
    assert metric["metric"] == "swd" and metric["results"]["swd"] > 0
    assert metric["snapshot_pkl"].endswith("network-snapshot-000000.pkl")


def test_tensorboard_has_scalars_pictures_and_metrics(finished):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(finished[0]))
    events.Reload()
    tags = events.Tags()
    scalars = {"Loss/G/loss", "Loss/D/loss", "Progress/augment", "Timing/sec_per_kimg", "Metrics/swd"}
    assert scalars <= set(tags["scalars"])
    assert {"reals", "fakes"} <= set(tags["images"])


def test_pictures_are_gray_and_show_the_data(finished, gray):
    folder, _ = finished
    with Image.open(folder / "reals.png") as reals, Image.open(folder / "fakes000000.png") as fakes:
        assert reals.mode == fakes.mode == "L" and reals.size == fakes.size
        assert reals.size[0] % 16 == 0 and np.asarray(reals).max() > 60


def test_snapshot_opens_and_knows_its_run(finished):
    folder, _ = finished
    snapshot = load_snapshot(folder / "network-snapshot-000000.pkl")
    assert snapshot.cur_nimg == 40 and snapshot.options["batch"] == 4
    assert json.loads((folder / "training_options.json").read_text())["data"]["mirror"] is True
    assert snapshot.G_ema(torch.zeros(1, 512)).shape == (1, 1, 16, 16)


def test_two_runs_with_one_seed_give_identical_snapshots(gray, tmp_path):
    files = [train(gray, tmp_path / name, "--kimg=0.02", "--metrics=none", *more)[0] / "network-snapshot-000000.pkl"
             for name, more in (("a", []), ("b", []), ("c", ["--seed=1"]))]
    a, b, c = (path.read_bytes() for path in files)
    assert a == b and a != c


def test_data_kept_in_memory_or_read_by_workers_train_alike(gray, tmp_path):
    states = []
    for cache in ("ram", "none"):
        folder, output = train(gray, tmp_path / cache, "--kimg=0.008", "--metrics=none", f"--cache={cache}")
        states.append(load_snapshot(folder / "network-snapshot-000000.pkl").G.state_dict())
    assert "--cache=none" in output
    assert all(map(torch.equal, states[0].values(), states[1].values()))


@pytest.mark.parametrize("channels", [3, 4])
def test_colour_with_alpha_by_class(channels, tmp_path):
    data = make_archive(tmp_path / "discs.zip", channels, labels=True)
    folder, output = train(data, tmp_path / "runs", "--kimg=0.008", "--cond=1", "--metrics=none")
    assert "-cond-" in folder.name
    snapshot = load_snapshot(folder / "network-snapshot-000000.pkl")
    assert snapshot.class_names == ["left", "right"] and snapshot.G_ema.c_dim == 2
    assert "2 classes (left, right)" in output
    assert f"--network={folder / 'network-snapshot-000000.pkl'} --class=left" in output
    with Image.open(folder / "fakes000000.png") as picture:
        assert picture.mode == {3: "RGB", 4: "RGBA"}[channels]


def test_resume_starts_from_the_weights_and_says_so(finished, gray, tmp_path):
    source = finished[0] / "network-snapshot-000000.pkl"
    folder, output = train(gray, tmp_path, "--kimg=0", "--metrics=none", f"--resume={source}")
    assert "The augmentation probability goes on at" in output
    assert "resumecustom" in folder.name and re.search(r"G_ema: \d+ matched, 0 adapted, 0 missing", output)
    old, new = load_snapshot(source), load_snapshot(folder / "network-snapshot-000000.pkl")
    assert all(map(torch.equal, old.D.state_dict().values(), new.D.state_dict().values()))


def test_partial_resume_is_refused(finished, gray, tmp_path):
    source = finished[0] / "network-snapshot-000000.pkl"
    args = ["--data", gray, "--outdir", tmp_path, "--kimg=0", "--cbase=256", "--cmax=32", "--batch=4",
            f"--resume={source}"]
    result = run(*args)
    assert result.exit_code == 2 and "--resume" in result.output and "--allow-partial" in result.output
    assert run(*args, "--allow-partial", "--metrics=none").exit_code == 0


def test_dry_run_prints_the_settings_and_makes_nothing(gray, tmp_path, monkeypatch):
    from stylegan2_pipeline import memory_estimate

    monkeypatch.setattr(memory_estimate, "TABLE_RESOLUTIONS", ())  # this run's own takes long enough
    result = run("--data", gray, "--outdir", tmp_path / "runs", "--dry-run", "--batch=16")
    assert "16 (this run)" in result.stderr and "24 GB" in result.stderr
    assert result.exit_code == 0 and not (tmp_path / "runs").exists()
    settings = json.loads(result.stdout)
    assert settings["batch"] == 16 and settings["data"]["resolution"] == 16


@pytest.mark.parametrize(("args", "message"), [
    (["--data", "nothing.zip"], "nothing.zip"),
    (["--data", "{data}", "--gpus=64"], "CUDA device"),
    (["--data", "{data}", "--cond=1"], "--cond"),
    (["--data", "{data}", "--subset=100"], "--subset=100"),
    (["--data", "{data}", "--cfg=best"], "--cfg"),
    (["--data", "{data}", "--batch=0"], "--batch"),
    (["--data", "{data}", "--gamma=nan"], "--gamma"),
    (["--data", "{data}", "--freezed=8"], "7 layers that can be frozen"),
    (["--data", "{data}", "--tick=inf"], "--tick"),
    (["--data", "{data}", "--resume=nothing.pkl", "--kimg=0"], "nothing.pkl"),
    (["--data", "{data}", "--resume="], "--resume= is empty"),
    ([], "--data"),
])
def test_errors_name_the_flag_and_leave_nothing(args, message, gray, tmp_path):
    result = run(*[arg.format(data=gray) for arg in args], "--outdir", tmp_path / "runs")
    assert result.exit_code == 2 and message in result.output and "Traceback" not in result.output
    assert not list(tmp_path.glob("runs/*"))


def test_commands_that_are_printed_work_with_spaces_in_paths(gray, tmp_path):
    import shlex

    outdir = tmp_path / "my runs"
    _, output = train(gray, outdir, "--kimg=0", "--metrics=none")
    line = next(line for line in output.splitlines() if line.startswith("Images from it: "))
    network = shlex.split(line)[-1].removeprefix("--network=")
    assert Path(network).is_file() and " " in network


def test_ctrl_c_before_the_first_step_saves_nothing(gray, tmp_path, monkeypatch):
    from contextlib import contextmanager

    from stylegan2_pipeline import training_loop
    from stylegan2_pipeline.stopping import StopRequest

    @contextmanager
    def pressed(say):
        request = StopRequest(say)
        request.receive(signal.SIGINT)
        yield request

    monkeypatch.setattr(training_loop, "stop_requests", pressed)
    result = run("--data", gray, "--outdir", tmp_path, *SMALL, "--kimg=1", "--metrics=none")
    assert result.exit_code == 130 and "Stopped by Ctrl-C at 0 kimg" in result.output
    assert not list(tmp_path.glob("*/network-snapshot-*"))


def test_ctrl_c_finishes_the_step_saves_and_says_how_to_go_on(gray, tmp_path):
    process = subprocess.Popen(
        [sys.executable, "train.py", "--data", str(gray), "--outdir", str(tmp_path), *SMALL, "--kimg=100"],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    lines = []
    for line in process.stdout:
        lines.append(line)
        if line.startswith("tick 1"):
            process.send_signal(signal.SIGINT)
            break
    lines += process.stdout.readlines()
    assert process.wait(timeout=60) == 130, "".join(lines)
    output = "".join(lines)
    snapshot, = tmp_path.glob("*/network-snapshot-*.pkl")
    assert not list(tmp_path.glob("*/metric-*"))  # who wants to stop does not wait for them
    assert "Ctrl-C: finishing this step, then saving" in output and "Traceback" not in output
    assert load_snapshot(snapshot).cur_nimg >= 12
    assert f"python train.py --continue={snapshot.parent}" in output


@pytest.mark.parametrize("script", ["dataset_tool.py", "train.py", "generate.py", "-m stylegan2_pipeline",
                                    "-m stylegan2_pipeline demo", "-m stylegan2_pipeline sample-data",
                                    "-m stylegan2_pipeline augment", "-m stylegan2_pipeline metrics"])
def test_help_loads_nothing_heavy_and_has_examples(script):
    code = [sys.executable, "-X", "importtime", *script.split(), "--help"]
    result = subprocess.run(code, cwd=ROOT, capture_output=True, text=True, check=True)
    assert not re.search(r"\| +(torch|numpy|PIL|scipy)$", result.stderr, re.M)
    assert "--help" in result.stdout and ("Example" in result.stdout or script == "-m stylegan2_pipeline")
