"""What stays on disk: the two newest states, snapshots by policy, the best one; and a disk that is full."""

import errno
import os
import stat
from collections import namedtuple

import pytest
import torch
from test_train import make_archive
from test_training_step import batch, everything, tiny_config, trainer_of

from metrics.inputs import MetricValue
from stylegan2_pipeline import saving
from stylegan2_pipeline.config import AugmentConfig, ScheduleConfig, TrainConfig
from stylegan2_pipeline.run_folder import held
from stylegan2_pipeline.saving import Saver, keep_best, prune_snapshots, snapshots, state_bytes
from stylegan2_pipeline.training_state import (
    DamagedState,
    drop_newer_states,
    earlier_state,
    read_state,
    restore_trainer,
    state_path,
    states,
    trainer_state,
    write_state,
)
from torch_utils.errors import UserError

Usage = namedtuple("Usage", "total used free")


def test_a_trainer_goes_on_from_its_file_to_the_bit(tmp_path):
    """In the middle of a tick and between updates of the augmentation, with every part that has a memory at work."""
    config = tiny_config(augment=AugmentConfig(kimg=0.05))
    trainer = trainer_of(config)
    for k in range(3):
        trainer.step(*batch(config, k))
    write_state(tmp_path / "state.pt", trainer_state(trainer))
    other = trainer_of(config)
    restore_trainer(other, read_state(tmp_path / "state.pt"))
    for k in range(3, 8):
        for each in (trainer, other):
            each.step(*batch(config, k))
    assert all(map(torch.equal, everything(trainer), everything(other)))
    assert trainer.augment_p == other.augment_p > 0 and trainer.cur_nimg == other.cur_nimg == 64
    assert trainer.collector.harvest() == other.collector.harvest()


def test_a_state_is_plain_data_that_weights_only_reads(tmp_path):
    trainer = trainer_of(tiny_config())
    trainer.step(*batch(trainer.config))
    state = trainer_state(trainer)
    path = state_path(tmp_path, 8)
    write_state(path, state)
    assert path.name == "training-state-000000008.pt"
    assert 0.9 < state_bytes(state) / path.stat().st_size < 1.5


@pytest.mark.parametrize("content", [b"", b"not a state", b"stylegan2-pipeline state 1 00 3" + b"\n" * 97 + b"abc"])
def test_files_of_other_kinds_are_told_apart(content, tmp_path):
    (tmp_path / "training-state-000000004.pt").write_bytes(content)
    with pytest.raises(DamagedState):
        read_state(tmp_path / "training-state-000000004.pt")
    with pytest.raises(UserError, match="no training state that is whole"):
        earlier_state(tmp_path, 1)


def save(saver, nimg):
    return saver.save({"trainer": {"cur_nimg": nimg}, "weights": torch.ones(1000)})


def test_the_two_newest_states_stay(tmp_path):
    saver = Saver(tmp_path, ScheduleConfig(), print)
    for nimg in (8, 1000, 16, 24):
        save(saver, nimg)
    assert [path.name[-8:-3] for path in states(tmp_path)] == ["01000", "00024"]


def test_states_of_a_time_that_was_given_up_are_gone(tmp_path):
    saver = Saver(tmp_path, ScheduleConfig(), print)
    for nimg in (8, 16):
        save(saver, nimg)
    drop_newer_states(tmp_path, 8)
    assert states(tmp_path) == [state_path(tmp_path, 8)]


def test_a_disk_without_room_is_said_before_anything_is_written(tmp_path, monkeypatch):
    said = []
    saver = Saver(tmp_path, ScheduleConfig(), said.append)
    monkeypatch.setattr(saving.shutil, "disk_usage", lambda path: Usage(10**9, 10**9, 3000))
    with pytest.raises(UserError, match=r"--outdir: .* 3\.0 kB free"):
        saver.check_space(trainer_of(tiny_config()).networks)
    assert save(saver, 8) is None and not list(tmp_path.iterdir())
    assert "could not be saved" in said[0] and "Make room" in said[0] and "Training goes on" in said[0]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_said(tmp_path):
    said = []
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    assert save(Saver(tmp_path, ScheduleConfig(), said.append), 8) is None and "could not be saved" in said[0]


def test_torchs_own_error_of_a_full_disk_is_one(tmp_path, monkeypatch):
    def save(state, file):
        try:
            raise OSError(errno.ENOSPC, "No space left on device")
        except OSError:
            raise RuntimeError("unexpected pos 64 vs 0")  # noqa: B904

    monkeypatch.setattr(torch, "save", save)
    with pytest.raises(UserError, match="No space left on device"):
        write_state(tmp_path / "state.pt", {})
    assert not list(tmp_path.iterdir())


def test_settings_stay_whole_when_the_disk_is_full(tmp_path, monkeypatch):
    tiny_config().write(tmp_path)
    before = (tmp_path / "training_options.json").read_text()
    monkeypatch.setattr(os, "fsync", lambda file: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left")))
    with pytest.raises(UserError, match="training_options"):
        tiny_config(seed=7).write(tmp_path)
    assert (tmp_path / "training_options.json").read_text() == before and TrainConfig.from_json(before) == tiny_config()


def test_what_a_killed_process_was_writing_goes(tmp_path):
    for name in (".training-state-000000008.123.tmp.pt", ".network-snapshot-000000.123.tmp.pkl", ".run.123.tmp.json"):
        (tmp_path / name).touch()
    with held(tmp_path):
        assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_states_are_due_by_time(tmp_path, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(saving.time, "monotonic", lambda: now[0])
    saver = Saver(tmp_path, ScheduleConfig(save_minutes=15), print)
    found = []
    for now[0] in (100 + 899, 100 + 901):
        found.append(saver.due())
    save(saver, 4)
    assert found == [False, True] and not saver.due()
    now[0] += 900
    assert saver.due()


@pytest.mark.parametrize(("last", "every", "kept"), [
    (None, None, [0, 8, 16, 24, 32, 40]), (2, None, [32, 40]), (1, 16, [0, 16, 32, 40]), (None, 20, [0, 24, 40]),
    (9, None, [0, 8, 16, 24, 32, 40])])
def test_snapshots_stay_by_policy(last, every, kept, tmp_path):
    for kimg in (0, 8, 16, 24, 32, 40):
        (tmp_path / f"network-snapshot-{kimg:06d}.pkl").touch()
    (tmp_path / "network-best.pkl").touch()
    prune_snapshots(tmp_path, last, every)
    assert [kimg for kimg, _ in snapshots(tmp_path)] == kept and (tmp_path / "network-best.pkl").exists()


def test_the_best_snapshot_outlives_the_others(tmp_path, monkeypatch):
    first = tmp_path / "network-snapshot-000008.pkl"
    first.write_bytes(b"good")
    best = keep_best(first)
    assert best.stat().st_ino == first.stat().st_ino  # no second copy
    first.unlink()
    assert best.read_bytes() == b"good"
    second = tmp_path / "network-snapshot-000016.pkl"
    second.write_bytes(b"better")
    monkeypatch.setattr(os, "link", lambda *args: (_ for _ in ()).throw(OSError("no links here")))
    assert keep_best(second).read_bytes() == b"better" and not [p for p in tmp_path.iterdir() if "tmp" in p.name]


def test_a_run_keeps_what_it_was_told_to(tmp_path, monkeypatch):
    """The best by a metric that is made to be best in the middle."""
    from stylegan2_pipeline import maintenance
    from stylegan2_pipeline.checkpoint import load_snapshot
    from stylegan2_pipeline.commands.train import command

    values = iter([5.0, 2.0, 3.0])

    def measure(self, name):
        value = MetricValue({"swd": next(values)}, {})
        return {"metric": "swd", "results": value.results, "notes": [], "total_time_str": "1s"}, value

    monkeypatch.setattr(maintenance.Evaluation, "measure", measure)
    monkeypatch.setattr(maintenance.Maintenance, "network_path",
                        lambda self: self.run_dir / f"network-snapshot-{self.trainer.cur_nimg:06d}.pkl")
    data = make_archive(tmp_path / "discs.zip")
    with pytest.raises(SystemExit) as ended:
        command(["--data", str(data), "--outdir", str(tmp_path / "runs"), "--cbase=128", "--cmax=16", "--batch=4",
                 "--tick=0.008", "--snap=1", "--kimg=0.024", "--keep-last=1", "--metrics=swd"])
    assert ended.value.code == 0
    run_dir, = (tmp_path / "runs").iterdir()
    assert [kimg for kimg, _ in snapshots(run_dir)] == [24]
    assert load_snapshot(run_dir / "network-best.pkl").cur_nimg == 20


def test_what_a_killed_process_was_writing_goes_when_the_next_one_begins(tmp_path):
    torn = [".fakes000000.25874.tmp.png", ".training-state-000000004.1.tmp.pt", ".network-snapshot-000000.1.tmp.pkl",
            ".stats.1.tmp.csv", ".run.1.tmp.json", ".metric-swd.1.tmp.jsonl"]
    for name in [*torn, "fakes000000.png", "stats.csv"]:
        (tmp_path / name).write_bytes(b"")
    with held(tmp_path):
        assert {path.name for path in tmp_path.iterdir()} == {".lock", "fakes000000.png", "stats.csv"}
