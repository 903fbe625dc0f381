"""Faults put into a run: what becomes not a number, does not fit, fails or vanishes is named, and nothing is lost."""

import json
import os
import signal

import pytest
import torch
from test_continue import LENGTH, SMALL, go_on, interrupting, run, same_network
from test_train import make_archive

from metrics.table import FUNCTIONS
from stylegan2_pipeline import divergence, losses, training_loop
from stylegan2_pipeline.checkpoint import load_snapshot
from stylegan2_pipeline.parts import group_order, next_smaller
from stylegan2_pipeline.shared_sampling import fitting
from stylegan2_pipeline.training_state import states
from stylegan2_pipeline.training_step import Trainer

QUICK = [*SMALL, "--metrics=none", "--snap=50", LENGTH]


@pytest.fixture(scope="module")
def gray(tmp_path_factory):
    return make_archive(tmp_path_factory.mktemp("data") / "discs.zip")


@pytest.fixture(scope="module")
def straight(gray, tmp_path_factory):
    return train(gray, tmp_path_factory.mktemp("straight"))[1]


def train(gray, outdir, *more, code=0):
    result = run("--data", gray, "--outdir", outdir, *QUICK, *more)
    assert result.exit_code == code, (result.output, result.exception)
    return result.output, sorted(outdir.iterdir())[-1]


def spoiling(monkeypatch, at, times=1):
    """A layer of D overflows from the step that begins at `at` images on, `times` times (going back mends it)."""
    monkeypatch.setattr(training_loop, "RUINED_STEPS", 2)  # runs are short here
    step, done = Trainer.step, []

    def spoiled(self, real, real_c):
        if self.cur_nimg == at and len(done) < times:
            done.append(self.cur_nimg)
            self.D.b16.conv0.weight.fill_(1e38)
        step(self, real, real_c)

    monkeypatch.setattr(Trainer, "step", spoiled)


def test_a_loss_that_is_not_a_number_stops_with_everything_saved(gray, tmp_path, monkeypatch):
    """Phase and tensor are named; the weights are those from before."""
    spoiling(monkeypatch, 20)
    output, run_dir = train(gray, tmp_path, code=1)
    assert "The loss of Gmain, Dmain became infinite or not a number" in output
    assert "first in the output of D.b16.conv0 (inputs up to" in output and "at 0.024 kimg" in output
    assert f"--continue={run_dir}" in output and "D.b16.conv0" in (run_dir / "log.txt").read_text()
    assert load_snapshot(run_dir / "network-snapshot-000000.pkl").cur_nimg == 24
    assert [path.name for path in states(run_dir)] == ["training-state-000000024.pt", "training-state-000000000.pt"]
    record = json.loads((run_dir / "run.json").read_text())
    assert record["cur_nimg"] == 24 and not record["finished"]


def test_what_was_ruined_before_does_not_push_out_what_was_sound(gray, straight, tmp_path, monkeypatch):
    """Weights are ruined but numbers still when the newest state is saved; going on fails at once, and says so."""
    def ruin(trainer):
        trainer.D.b16.conv0.weight.fill_(1e38)
        os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        interrupting(patch, 32, ruin)
        _, run_dir = train(gray, tmp_path, "--save-minutes=0.00001", code=143)
    kept = states(run_dir)
    result = run(f"--continue={run_dir}")
    assert result.exit_code == 1 and "the weights were ruined before" in result.output
    assert f"remove {kept[0].name} in" in result.output and states(run_dir) == kept
    kept[0].unlink()
    go_on(run_dir)
    same_network(run_dir, straight)


def test_a_run_that_was_never_well_is_to_start_anew(gray, tmp_path):
    output, run_dir = train(gray, tmp_path, "--glr=1e30", "--dlr=1e30", code=1)
    assert "was never well" in output and "now 1e+30" in output and len(states(run_dir)) == 1


def test_rolling_back_halves_the_learning_rates_and_goes_on(gray, tmp_path, monkeypatch):
    spoiling(monkeypatch, 40)
    output, run_dir = train(gray, tmp_path, "--on-divergence=rollback", "--save-minutes=0.00001")
    assert "back to 0.04 kimg, with 0.5 times the learning rates" in output and "rollback 1 of at most 3" in output
    ticks = [json.loads(line) for line in (run_dir / "stats.jsonl").read_text().splitlines()]
    assert [round(tick["Progress/kimg"]["mean"], 3) for tick in ticks] == [0.004, 0.016, 0.028, 0.04, 0.052, 0.06]
    assert [tick["Progress/lr_scale"]["mean"] for tick in ticks] == [1, 1, 1, 1, 0.5, 0.5]
    assert all(p.isfinite().all() for p in load_snapshot(run_dir / "network-snapshot-000000.pkl").D.parameters())


def test_rolling_back_ends_after_the_times_that_were_given(gray, tmp_path, monkeypatch):
    """The second time to the state before, though the one that was gone back to is saved again on the way."""
    spoiling(monkeypatch, 20, times=9)
    more = ["--on-divergence=rollback", "--max-rollbacks=2", "--save-minutes=0.00001"]
    output, _ = train(gray, tmp_path, *more, code=1)
    assert output.count("back to 0.02 kimg, with 0.5 times") == 1
    assert output.count("back to 0.016 kimg, with 0.25 times") == 1
    assert "It had gone back 2 times already." in output


def test_gradients_that_stay_infinite_stop_the_run_and_name_the_parameter(gray, tmp_path, monkeypatch):
    monkeypatch.setattr(divergence, "BAD_GRADIENTS_IN_A_ROW", 3)
    monkeypatch.setattr(training_loop, "RUINED_STEPS", 2)
    real = losses.generator_main

    def broken(*args):
        term = real(*args)
        return losses.Term(term.loss + (term.w * 0).square().sum().sqrt(), term.stats, term.w)

    monkeypatch.setattr(losses, "generator_main", broken)
    output, _ = train(gray, tmp_path, code=1)
    assert "The gradient of Gmain was not finite in 3 steps in a row, first in G.mapping." in output


def full(monkeypatch, at, most):
    """From `at` images on the memory holds no more than `most` images at once."""
    work = Trainer._differentiate

    def differentiate(self, phase, parts):
        if self.cur_nimg >= at and max(part.count for part in parts) > most:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return work(self, phase, parts)

    monkeypatch.setattr(Trainer, "_differentiate", differentiate)


def test_memory_that_runs_out_halves_the_parts_and_trains_the_same(gray, straight, tmp_path, monkeypatch):
    full(monkeypatch, 20, 2)
    output, run_dir = train(gray, tmp_path, "--mbstd-group=2")
    monkeypatch.undo()
    _, whole = train(gray, tmp_path / "whole", "--mbstd-group=2")
    assert output.count("The memory does not hold 4 images at once: going on with 2") == 1
    ours, theirs = (load_snapshot(path / "network-snapshot-000000.pkl") for path in (run_dir, whole))
    for name in ("G", "D", "G_ema"):
        a, b = getattr(ours, name).state_dict(), getattr(theirs, name).state_dict()
        for key in a:
            assert torch.allclose(a[key], b[key], atol=1e-4), key


def test_going_on_keeps_the_parts_that_were_found_to_fit(gray, tmp_path, monkeypatch):
    full(monkeypatch, 20, 2)
    _, whole = train(gray, tmp_path / "whole")
    with monkeypatch.context() as patch:
        interrupting(patch, 32, lambda trainer: os.kill(os.getpid(), signal.SIGTERM))
        _, run_dir = train(gray, tmp_path / "stopped", code=143)
    assert "going on with 2" not in go_on(run_dir)
    same_network(run_dir, whole)


def test_pictures_are_made_in_parts_that_fit():
    asked = []

    def make(start, count):
        asked.append((start, count))
        if count > 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return torch.arange(start, start + count)

    assert fitting(make)(3, 5).tolist() == [3, 4, 5, 6, 7]
    assert asked == [(3, 5), (3, 2), (5, 3), (5, 1), (6, 2)]


def test_memory_that_holds_nothing_ends_the_run_within_a_step_and_it_goes_on(gray, straight, tmp_path, monkeypatch):
    """Gmain of the step was taken already: going on takes up the step where it stopped."""
    work = Trainer._differentiate

    def differentiate(self, phase, parts):
        if self.cur_nimg == 32 and phase.name == "Dmain":
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return work(self, phase, parts)

    monkeypatch.setattr(Trainer, "_differentiate", differentiate)
    output, run_dir = train(gray, tmp_path, code=2)
    assert "does not hold even 1 image(s) at once" in output and "--cbase" in output
    monkeypatch.undo()
    assert "Continuing at 0.032 kimg" in go_on(run_dir, "--batch-gpu=4")
    same_network(run_dir, straight)


def test_a_metric_that_fails_does_not_stop_training(gray, tmp_path, monkeypatch):
    def failing(*args, **kwargs):
        raise RuntimeError("no such thing")

    monkeypatch.setattr("metrics.table.FUNCTIONS", FUNCTIONS | {"swd{n}": failing})
    output, run_dir = train(gray, tmp_path, "--metrics=swd,pfd32", "--kimg=0.008")
    assert (run_dir / "metric-pfd32.jsonl").exists() and not (run_dir / "metric-swd.jsonl").exists()
    assert "Metric swd failed (RuntimeError: no such thing); training goes on." in output and "Done:" in output


def test_data_that_vanishes_is_named_and_the_state_saved(gray, straight, tmp_path, monkeypatch):
    data = tmp_path / "discs.zip"
    data.write_bytes(gray.read_bytes())
    step = Trainer.step

    def vanishing(self, real, real_c):
        if self.cur_nimg == 20:
            data.write_bytes(b"")
        step(self, real, real_c)

    monkeypatch.setattr(Trainer, "step", vanishing)
    output, run_dir = train(data, tmp_path / "runs", "--cache=none", "--workers=0", code=2)
    assert str(data) in output
    monkeypatch.undo()
    assert states(run_dir)[0].name == "training-state-000000024.pt"
    go_on(run_dir, f"--data={gray}")
    same_network(run_dir, straight)


@pytest.mark.parametrize(("count", "group", "order"), [
    (4, 4, [0, 1, 2, 3]), (8, 4, [0, 4, 1, 5, 2, 6, 3, 7]), (6, 4, [0, 3, 1, 4, 2, 5]), (3, 1, [0, 1, 2]), (1, 4, [0])])
def test_neighbours_become_groups(count, group, order):
    assert group_order(count, group) == order


@pytest.mark.parametrize(("size", "share", "group", "smaller"), [
    (16, 16, 4, 8), (8, 16, 4, 4), (4, 16, 4, 2), (2, 16, 4, 1), (1, 16, 4, None), (12, 12, 4, 4), (6, 6, 4, 3)])
def test_parts_shrink_to_whole_groups_while_they_can(size, share, group, smaller):
    assert next_smaller(size, share, group) == smaller
