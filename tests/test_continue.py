"""A run that was stopped, killed or damaged goes on to the very bits, and the very logs, of one that was not."""

import json
import os
import shutil
import signal
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from test_train import make_archive

from metrics.table import FUNCTIONS
from stylegan2_pipeline import launch
from stylegan2_pipeline.checkpoint import load_snapshot
from stylegan2_pipeline.commands.train import command
from stylegan2_pipeline.continuing import newest_unfinished, started_before
from stylegan2_pipeline.training_state import states
from stylegan2_pipeline.training_step import Trainer

SMALL = ["--cbase=128", "--cmax=16", "--batch=4", "--tick=0.012", "--snap=2", "--mirror=1", "--aug=ada", "--target=0.1",
         "--metrics=swd"]
LENGTH = "--kimg=0.06"
CHANGING = ("Timing/", "Resources/", "timestamp", "total_time")


@pytest.fixture(scope="module")
def gray(tmp_path_factory):
    return make_archive(tmp_path_factory.mktemp("data") / "discs.zip")


def run(*args):
    return CliRunner().invoke(command, [str(arg) for arg in args])


def start(data, outdir, *more):
    result = run("--data", data, "--outdir", outdir, *SMALL, LENGTH, *more)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result, sorted(Path(outdir).iterdir())[-1]


def go_on(run_dir, *more):
    result = run(f"--continue={run_dir}", *more)
    assert result.exit_code == 0, (result.output, result.exception)
    return result.output


@pytest.fixture(scope="module")
def straight(gray, tmp_path_factory):
    """The run that nothing stopped."""
    result, run_dir = start(gray, tmp_path_factory.mktemp("straight"))
    assert result.exit_code == 0, (result.output, result.exception)
    return run_dir


def same_result(run_dir, straight):
    """Networks to the bit; statistics and metrics line by line, but for times; no gap, no repeat, nothing left over."""
    path = sorted(straight.glob("network-snapshot-*.pkl"))[-1]
    ours, theirs = load_snapshot(run_dir / path.name), load_snapshot(path)
    assert ours.cur_nimg == theirs.cur_nimg and ours.augment_p == theirs.augment_p and ours.pl_mean == theirs.pl_mean
    for name in ("G", "D", "G_ema"):
        a, b = getattr(ours, name).state_dict(), getattr(theirs, name).state_dict()
        assert all(map(torch.equal, a.values(), b.values())), name
    for name in ("stats.jsonl", "metric-swd.jsonl", "health.jsonl"):
        a, b = lines(run_dir / name), lines(straight / name)
        assert [set(line) for line in a] == [set(line) for line in b], name
        assert a == b, name
    assert (run_dir / "stats.csv").read_text().count("\n") == (straight / "stats.csv").read_text().count("\n")
    assert (run_dir / "fakes000000.png").read_bytes() == (straight / "fakes000000.png").read_bytes()
    assert not [path for path in run_dir.iterdir() if ".tmp" in path.name]
    assert len(states(run_dir)) == 2


def lines(path):
    """What a line says that does not depend on when and where it was written."""
    records = [json.loads(line) for line in path.read_text().splitlines()]
    return [{key: Path(value).name if key == "snapshot_pkl" else value for key, value in record.items()
             if not key.startswith(CHANGING)} for record in records]


def interrupting(monkeypatch, at, action):
    """Makes `action` happen after the step that reaches `at` images, once."""
    step = Trainer.step

    def interrupted(self, real, real_c):
        step(self, real, real_c)
        if self.cur_nimg == at:
            action(self)

    monkeypatch.setattr(Trainer, "step", interrupted)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGUSR1, 138)])
def test_signals_save_and_say_so(number, code, gray, straight, tmp_path, monkeypatch):
    """At a step within a tick, and between updates of the augmentation."""
    interrupting(monkeypatch, 20, lambda trainer: os.kill(os.getpid(), number))
    result, run_dir = start(gray, tmp_path)
    assert result.exit_code == code and f"--continue={run_dir}" in result.output, result.output
    assert load_snapshot(run_dir / "network-snapshot-000000.pkl").cur_nimg == 20
    monkeypatch.undo()
    output = run("--continue", "--outdir", tmp_path).output  # the newest unfinished run
    assert "Continuing at 0.02 kimg" in output and "Done:" in output
    same_result(run_dir, straight)


@pytest.mark.parametrize("which", [1, 2])  # the last one is at the end of the run
def test_a_signal_cuts_measuring_short_which_is_done_when_the_run_goes_on(which, gray, straight, tmp_path, monkeypatch):
    measure, begun = FUNCTIONS["swd{n}"], []

    def signalled(inputs, request):
        begun.append(request.name)
        if len(begun) == which:
            os.kill(os.getpid(), signal.SIGTERM)
        value = measure(inputs, request)
        assert len(begun) < which, "it did not stop in the middle"
        return value

    monkeypatch.setitem(FUNCTIONS, "swd{n}", signalled)
    result, run_dir = start(gray, tmp_path)
    assert result.exit_code == 143 and "Measuring is left for when the run goes on" in result.output, result.output
    assert "failed" not in result.output and f"--continue={run_dir}" in result.output
    assert len(begun) == which and not json.loads((run_dir / "run.json").read_text())["finished"]
    monkeypatch.undo()
    go_on(run_dir)
    same_result(run_dir, straight)


def test_a_run_on_a_part_measures_against_all_of_the_data(tmp_path):
    data = make_archive(tmp_path / "discs.zip", count=100)
    _, run_dir = start(data, tmp_path / "runs", "--kimg=0.012", "--subset=60", "--metrics=swd,memorization")
    layout, = lines(run_dir / "metric-swd.jsonl")
    copies, = lines(run_dir / "metric-memorization.jsonl")
    assert layout["num_real"] == 100 and copies["num_real"] == copies["counts"]["real"] == 60


def test_metrics_typed_again_are_measured_once_there_are_weights(gray, tmp_path, monkeypatch):
    monkeypatch.setattr(launch, "split_available", lambda names, source: (
        [name for name in names if not name.startswith("fid")],
        [f"Metric {name} is left out: no weights." for name in names if name.startswith("fid")]))
    args = ["--data", gray, "--outdir", tmp_path, *SMALL, "--kimg=0.012", "--metrics=memorization,fid50k_full"]
    assert run(*args).exit_code == 0
    run_dir, = tmp_path.iterdir()
    config = json.loads((run_dir / "training_options.json").read_text())
    assert config["metrics"] == ["memorization"] and config["best_metric"] is None  # nothing is best by copies
    assert "Measured instead: swd" in go_on(run_dir, "--kimg=0.024", "--metrics=fid50k_full")
    monkeypatch.setattr(launch, "split_available", lambda names, source: (list(names), []))
    go_on(run_dir, "--kimg=0.025", "--metrics=fid50k_full")
    assert json.loads((run_dir / "training_options.json").read_text())["metrics"] == ["fid1k_full"]


def test_longer_after_the_end(gray, straight, tmp_path):
    result, run_dir = start(gray, tmp_path, "--kimg=0.036")  # the end of a tick, and of the second of two
    assert result.exit_code == 0
    refused = run(f"--continue={run_dir}")
    assert refused.exit_code == 2 and "is finished, at 0.036 kimg" in refused.output and "--kimg" in refused.output
    go_on(run_dir, LENGTH)
    same_network(run_dir, straight)


def same_network(run_dir, straight):
    ours, theirs = (load_snapshot(path / "network-snapshot-000000.pkl").G_ema for path in (run_dir, straight))
    assert all(map(torch.equal, ours.state_dict().values(), theirs.state_dict().values()))


def test_longer_by_less_than_a_tick(gray, tmp_path, monkeypatch):
    """It is trained, measured and saved, and a stop on the way leaves it unfinished."""
    _, run_dir = start(gray, tmp_path, "--kimg=0.012")
    interrupting(monkeypatch, 16, lambda trainer: os.kill(os.getpid(), signal.SIGTERM))
    assert run(f"--continue={run_dir}", "--kimg=0.02").exit_code == 143
    monkeypatch.undo()
    assert not json.loads((run_dir / "run.json").read_text())["finished"]
    go_on(run_dir)
    assert states(run_dir)[0].name == "training-state-000000020.pt"
    assert load_snapshot(run_dir / "network-snapshot-000000.pkl").cur_nimg == 20


def test_a_phase_may_be_switched_off(gray, tmp_path):
    _, run_dir = start(gray, tmp_path, "--kimg=0.012", "--gamma=1")
    go_on(run_dir, "--gamma=0", "--override", "--kimg=0.024")
    assert '"Dreg' not in (run_dir / "stats.jsonl").read_text().splitlines()[-1]


def damaged(path, how):
    content = path.read_bytes()
    middle = len(content) // 2
    path.write_bytes({"torn": content[:middle], "empty": b"",
                      "flipped": content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1:]}[how])


@pytest.mark.parametrize("how", ["torn", pytest.param("flipped", marks=pytest.mark.slow),
                                 pytest.param("empty", marks=pytest.mark.slow)])
def test_a_damaged_state_is_passed_over(how, gray, straight, tmp_path, monkeypatch):
    interrupting(monkeypatch, 32, lambda trainer: os.kill(os.getpid(), signal.SIGTERM))
    _, run_dir = start(gray, tmp_path, "--save-minutes=0.00001")  # after every step
    newest, before = states(run_dir)
    assert [newest.name, before.name] == ["training-state-000000032.pt", "training-state-000000028.pt"]
    damaged(newest, how)
    monkeypatch.undo()
    output = go_on(run_dir)
    assert f"{newest} is damaged" in output and "Continuing at 0.028 kimg" in output
    same_result(run_dir, straight)


def test_no_whole_state_is_said(gray, tmp_path, monkeypatch):
    interrupting(monkeypatch, 8, lambda trainer: os.kill(os.getpid(), signal.SIGTERM))
    _, run_dir = start(gray, tmp_path)
    for path in states(run_dir):
        damaged(path, "flipped")
    result = run(f"--continue={run_dir}")
    assert result.exit_code == 2 and "no training state that is whole" in result.output
    assert "--resume=" in result.output


@pytest.fixture
def without_table(monkeypatch):
    """Of what fits which GPU, which --dry-run prints as well and takes seconds to find out."""
    monkeypatch.setattr(launch, "table", lambda config: "")


@pytest.fixture(scope="module")
def stopped(gray, tmp_path_factory):
    """A run that was stopped; tests only look at it."""
    outdir = tmp_path_factory.mktemp("stopped")
    with pytest.MonkeyPatch.context() as patch:
        interrupting(patch, 8, lambda trainer: os.kill(os.getpid(), signal.SIGTERM))
        _, run_dir = start(gray, outdir, "--mbstd-group=2")
    return run_dir


@pytest.mark.parametrize(("args", "words"), [
    (["--gamma=20"], ["--gamma=20", "would change the result", "--override"]),
    (["--batch=8", "--seed=3"], ["--batch=8 (the run: 4), --seed=3 (the run: its default) would change the result"]),
    (["--kimg=0.004"], ["--kimg=0.004", "is at 0.008 kimg already", "--kimg=1.008"]),
    (["--data="], ["--data= is empty"]),
    (["--cbase=256", "--override"], ["--cbase=256", "cannot be changed", "--resume"]),
    (["--resume=a.pkl"], ["--resume=a.pkl", "cannot be changed"]),
    (["--data={other}"], ["is not the run's data", "24 images there, 23 here", "--data"]),
    (["--data=nothing.zip"], ["nothing.zip"]),
    (["--gpus=3", "--device=cpu"], ["--gpus=3", "batch of 4"]),
    (["--batch-gpu=3"], ["--batch-gpu=3"]),
    (["--batch-gpu=1"], ["whole minibatch deviation groups of 2", "--batch-gpu", "--override"]),
    (["--gpus=4", "--device=cpu"], ["whole minibatch deviation groups of 2"]),
])
def test_what_would_change_the_result_is_refused(args, words, stopped, tmp_path):
    before = {path.name: path.read_bytes() for path in stopped.iterdir()}
    other = make_archive(tmp_path / "other.zip", count=23)
    result = run(f"--continue={stopped}", *[arg.format(other=other) for arg in args])
    assert result.exit_code == 2 and "Traceback" not in result.output
    for word in words:
        assert word in " ".join(result.output.split()), result.output
    assert {path.name: path.read_bytes() for path in stopped.iterdir()} == before


def test_what_is_told_and_kept_may_change(stopped, gray, without_table):
    typed = ["--kimg=1", "--snap=7", "--tick=0.5", "--workers=0", "--metrics=none", "--batch=4", "--mirror=1",
             "--batch-gpu=2", f"--data={gray}", "--save-minutes=3", "--keep-last=2", "--dry-run"]
    result = run(f"--continue={stopped}", *typed)
    assert result.exit_code == 0, result.output
    new, old = json.loads(result.stdout), json.loads((stopped / "training_options.json").read_text())
    assert new["schedule"] | {"total_kimg": 1.0, "snapshot_ticks": 7, "keep_last": 2} == new["schedule"]
    assert new["batch_gpu"] == 2 and new["metrics"] == []
    changed = {key for key in old if old[key] != new[key]}
    assert changed == {"schedule", "workers", "batch_gpu", "metrics", "best_metric"}


def test_what_the_run_has_may_be_typed_again(stopped, without_table):
    same = ["--seed=0", "--cfg=auto", "--cond=0", "--fp32=1", "--device=cpu", "--aug=ada", "--cbase=128",
            "--glr=0.0025", "--freezed=0", "--precision=fp32", "--lecam=0", "--mbstd-group=2", "--map-depth=2",
            "--gpus=1"]
    result = run(f"--continue={stopped}", *same, "--dry-run")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) == json.loads((stopped / "training_options.json").read_text())


def test_override_changes_what_is_named_and_no_more(stopped, without_table):
    result = run(f"--continue={stopped}", "--gamma=20", "--override", "--dry-run")
    new, old = json.loads(result.stdout), json.loads((stopped / "training_options.json").read_text())
    assert new["loss"] == old["loss"] | {"r1_gamma": 20.0}
    assert {key for key in old if old[key] != new[key]} == {"loss"}


def test_folders_that_cannot_go_on_are_no_obstacle(stopped, tmp_path, without_table):
    """A run that died before its first state, and one whose run.json is damaged, both newer."""
    shutil.copytree(stopped, tmp_path / "00000-good")
    shutil.copytree(stopped, tmp_path / "00001-young")
    for path in states(tmp_path / "00001-young"):
        path.unlink()
    shutil.copytree(stopped, tmp_path / "00002-finished")
    record = json.loads((stopped / "run.json").read_text()) | {"finished": True}
    (tmp_path / "00002-finished" / "run.json").write_text(json.dumps(record))
    for second, name in enumerate(("00000-good", "00001-young", "00002-finished")):
        os.utime(tmp_path / name / "run.json", (10**9 + second, 10**9 + second))
    assert newest_unfinished(tmp_path) == tmp_path / "00000-good"
    assert started_before(tmp_path, lambda launch: launch is None) == tmp_path / "00000-good"
    (tmp_path / "00000-good" / "run.json").write_text("{")
    result = run("--continue", "--outdir", tmp_path)
    assert result.exit_code == 2 and "run.json is missing or damaged" in result.output


@pytest.mark.parametrize(("make", "words"), [
    (lambda outdir: None, ["no unfinished run", "there is no run"]),
    (lambda outdir: (outdir / "00000-x").mkdir(parents=True), ["no unfinished run"]),
])
def test_nothing_to_go_on_with(make, words, tmp_path):
    make(tmp_path / "runs")
    result = run("--continue", "--outdir", tmp_path / "runs")
    assert result.exit_code == 2
    for word in words:
        assert word in result.output


@pytest.mark.parametrize("wanted", ["{}", "{}/0*", "**", "0?"])
def test_a_folder_that_is_no_run(wanted, tmp_path):
    result = run(f"--continue={wanted.format(tmp_path)}", "--outdir", tmp_path)
    assert result.exit_code == 2 and "training_options.json" in result.output


def test_a_run_is_found_by_its_number_and_in_a_folder_of_runs(stopped, without_table):
    for wanted in ("00000", "0", stopped.parent, stopped / "network-snapshot-000000.pkl", stopped / "log.txt"):
        assert run(f"--continue={wanted}", "--outdir", stopped.parent, "--dry-run").exit_code == 0, wanted


def test_data_that_was_moved_is_asked_for(gray, tmp_path, monkeypatch):
    data = Path(shutil.copy(gray, tmp_path / "here.zip"))
    interrupting(monkeypatch, 8, lambda trainer: os.kill(os.getpid(), signal.SIGTERM))
    _, run_dir = start(data, tmp_path / "runs")
    moved = data.rename(tmp_path / "there.zip")
    result = run(f"--continue={run_dir}")
    assert result.exit_code == 2 and f"{data}, is gone" in result.output and "--data=PATH" in result.output
    monkeypatch.setattr(launch, "table", lambda config: "")
    assert run(f"--continue={run_dir}", f"--data={moved}", "--dry-run").exit_code == 0


def test_two_processes_do_not_train_in_one_folder(stopped):
    from stylegan2_pipeline.run_folder import held

    with held(stopped):
        for arg in (f"--continue={stopped}", "--continue"):
            result = run(arg, "--outdir", stopped.parent)
            assert result.exit_code == 2 and "another process" in result.output.lower()
