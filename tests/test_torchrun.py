"""Ranks that torchrun starts, on one machine or several: they meet, end with one error, and go on after a restart."""

import json
import os
import signal
import socket
import sys
import threading
import time
from datetime import timedelta

import pytest
import torch
from test_ranks import children, start_train, ticks, wait_for
from test_train import make_archive
from torch.distributed import HashStore

from stylegan2_pipeline import ranks
from stylegan2_pipeline.checkpoint import load_snapshot
from torch_utils import meeting
from torch_utils.errors import UserError


@pytest.fixture(scope="module")
def discs(tmp_path_factory):
    return make_archive(tmp_path_factory.mktemp("data") / "discs.zip")


def torchrun(data, outdir, *args, nodes=2, restarts=0):
    """As many torchruns as nodes, each with one process, that meet on a port of this machine."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    launcher = [sys.executable, "-m", "torch.distributed.run", f"--nnodes={nodes}", "--nproc-per-node=1",
                f"--max-restarts={restarts}", "--rdzv-backend=c10d", f"--rdzv-endpoint=localhost:{port}"]
    return [start_train(data, outdir, *args, launcher=launcher) for _ in range(nodes)]


@pytest.mark.slow
def test_two_nodes_go_on_from_the_last_state_when_one_worker_is_killed(discs, tmp_path):
    nodes = torchrun(discs, tmp_path / "runs", "--kimg=0.12", "--save-minutes=0.001", restarts=2)
    wait_for(lambda: len(ticks(tmp_path / "runs")) > 3)
    worker, = children(nodes[1].pid)
    os.kill(worker, signal.SIGKILL)
    outputs = [node.communicate(timeout=120)[0] for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], outputs
    run_dir, = (tmp_path / "runs").iterdir()  # the same run, without gap or repeat
    assert ticks(tmp_path / "runs") == [4, *range(12, 117, 8), 120]
    assert any("Continuing at" in output for output in outputs)
    assert load_snapshot(run_dir / "network-snapshot-000000.pkl").cur_nimg == 120


@pytest.mark.slow
def test_an_error_under_torchrun_is_shown_once(tmp_path):
    nodes = torchrun("nothing.zip", tmp_path / "runs")
    output = "".join(node.communicate(timeout=60)[0] for node in nodes)
    assert all(node.returncode for node in nodes)
    assert output.count("Error: --data: nothing.zip") == 1 and output.count("exitcode  : 2") == 2
    assert not (tmp_path / "runs").exists()


def test_gpus_follow_from_torchrun(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "8")
    monkeypatch.setenv("GROUP_WORLD_SIZE", "2")
    assert ranks.torchrun_gpus(None) == ranks.torchrun_gpus(8) == 8
    with pytest.raises(UserError, match="--gpus=4, but torchrun has started 8 processes"):
        ranks.torchrun_gpus(4)


def test_an_error_is_shown_by_the_first_rank_alone(tmp_path, monkeypatch):
    store, file = HashStore(), tmp_path / "error.json"
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(file))
    ranks._tell_once(UserError("--data=x: gone."), store, rank=1)
    assert json.loads(file.read_text())["message"]["extraInfo"]["py_callstack"] == "--data=x: gone."
    with pytest.raises(SystemExit) as ended:
        ranks._tell_once(RuntimeError("Connection closed by peer"), store, rank=0)
    assert ended.value.code == 2 and "gone" in file.read_text()


@pytest.mark.skipif(torch.cuda.is_available(), reason="is about machines without a CUDA device")
@pytest.mark.parametrize(("wanted", "other", "message"), [
    ("cuda", "cuda ", "--device=cuda: torch finds no CUDA device"),
    ("auto", "cpu --nproc-per-node=4: elsewhere has 2", "--nproc-per-node=4: elsewhere has 2"),
    ("auto", "cuda ", "Rank 0 would train on cpu, rank 1 on cuda"),
])
def test_ranks_on_different_devices_are_refused(wanted, other, message, monkeypatch):
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "1")
    store = HashStore()
    store.set("device/1", other)
    with pytest.raises(UserError, match=message):
        ranks._agree_on_device(store, wanted, rank=0, world_size=2)


def test_a_restart_is_known_by_any_machine_that_stayed(monkeypatch):
    monkeypatch.setattr(ranks, "_launch_id", "a:1:10 b:2:20")
    assert ranks.restarted("b:2:20 c:3:30") and ranks.restarted(ranks.launch_id())
    assert not ranks.restarted("b:2:21 c:3:30") and not ranks.restarted(None)
    monkeypatch.setattr(ranks, "_launch_id", None)
    assert not ranks.restarted(None) and not ranks.restarted("a:1:10")


def agree(store, world_size=3):
    names = {}
    threads = [threading.Thread(target=lambda rank=rank: names.update(
        {rank: meeting.agree_on_attempt(store, rank, world_size)})) for rank in range(world_size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=10)
    return names


def test_each_attempt_has_a_name_of_its_own_in_a_store_that_stays():
    store = HashStore()
    attempts = [agree(store) for _ in range(3)]
    assert all(len(names) == 3 and len(set(names.values())) == 1 for names in attempts)
    assert len({names[0] for names in attempts}) == 3


def test_ranks_that_do_not_come_are_not_waited_for_forever(monkeypatch):
    monkeypatch.setattr(meeting, "MEETING_SEC", 0.1)
    with pytest.raises(TimeoutError):
        meeting.agree_on_attempt(HashStore(), 0, 2)


@pytest.mark.parametrize("beats", [True, False])
def test_a_rank_without_a_sign_of_life_ends_who_watches_it(beats, monkeypatch):
    monkeypatch.setattr(meeting, "BEAT_SEC", 0.02)
    monkeypatch.setattr(meeting, "SILENT_SEC", 0.3)
    ended = []
    monkeypatch.setattr(meeting.Heartbeat, "_end", lambda self, why: ended.append(why))
    store = HashStore()
    store.set_timeout(timedelta(seconds=1))
    watching = meeting.Heartbeat(store, 0, 2)
    other = meeting.Heartbeat(store, 1, 2) if beats else None
    time.sleep(0.6)
    assert bool(ended) != beats
    if other:
        other.stop(well=True)
        time.sleep(0.5)
        assert not ended  # it has said goodbye
    watching.stop(well=True)
    assert not watching.thread.is_alive()
