"""Several processes that train as one: started, told of signals, ended together; and the same results as from one."""

import ast
import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import rank_workers
import torch
from PIL import Image
from test_train import SMALL, make_archive

from stylegan2_pipeline import launch, ranks
from stylegan2_pipeline.archive import ArchiveWriter
from stylegan2_pipeline.checkpoint import load_snapshot
from stylegan2_pipeline.rank_failures import RankFailed, Report, cause, with_remedy
from stylegan2_pipeline.resolve import Machine
from torch_utils import distributed
from torch_utils.errors import UserError

ROOT = Path(__file__).parent.parent
ONE_THREAD = os.environ | {"OMP_NUM_THREADS": "1"}
TINY = [*SMALL, "--device=cpu", "--metrics=none"]


def read(folder, name):
    return [ast.literal_eval((folder / f"{name} {rank}").read_text()) for rank in range(2)]


@pytest.fixture(scope="module")
def discs(tmp_path_factory):
    return make_archive(tmp_path_factory.mktemp("data") / "discs.zip")


def children(pid):
    """The processes that one has started, but for the helper of multiprocessing."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == pid and b"resource_tracker" not in (path / "cmdline").read_bytes():
                found.append(int(path.name))
        except OSError:
            continue
    return sorted(found)


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_for(condition, sec=60.0):
    end = time.monotonic() + sec
    while not (found := condition()):
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)
    return found


# Started and told what they share.

def test_ranks_agree_or_say_who_does_not_and_make_images_together(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert ranks.spawn(rank_workers.job(tmp_path), rank_workers.look_around) == 0
    seen = read(tmp_path, "seen")
    assert seen[0] == seen[1]
    assert seen[0]["total"] == 1 and seen[0]["everywhere"] == [0, 10] and seen[0]["chosen"] == [0, "chosen"]
    assert seen[0]["own_session"] and seen[0]["threads"] == 1
    assert seen[0]["disagreement"].startswith("RanksDisagree: The ranks disagree: D (bias) on rank 1 is not that of")
    assert seen[0]["told"] == "UserError: --data=x: no such file."
    (images, made), (_, made_by_other) = read(tmp_path, "images")
    assert images["all"] == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9, 10]]
    assert made == [(0, 3), (6, 3)] and made_by_other == [(3, 3), (9, 2)]
    assert images["none"] == [] and images["few"] == [[0, 1]] and images["first"] == [0, 1, 2]
    assert images["two at once"] == [3, 3, 3, 3, 2, 2] and images["after"] == 10
    assert images["one"] == "RuntimeError: rank 1: ValueError: no such image"
    assert images["main"] == "ValueError: not here" and images["leader"] == "KeyError: 'a metric'"
    assert "only inside lead()" in images["outside"]


def test_threads_are_shared_unless_chosen(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    with ranks._threads(3):
        assert os.environ["OMP_NUM_THREADS"] == "3"
    assert "OMP_NUM_THREADS" not in os.environ
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    with ranks._threads(3):
        assert os.environ["OMP_NUM_THREADS"] == "7"


def test_one_process_shares_with_nobody():
    pool = rank_workers.ImagePool({"numbers": rank_workers.make_numbered}, batch=4)
    with pool.lead():
        assert [batch[:, 0, 0, 0].tolist() for batch in pool.batches("numbers", 6)] == [[0, 1, 2, 3], [4, 5]]
    assert distributed.broadcast_object("x") == "x" and distributed.gather_objects(1) == [1]
    assert distributed.from_main(lambda: 3) == 3
    distributed.check_agreement({"G": torch.nn.Linear(2, 2)})


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.int64, torch.uint8, torch.bool])
def test_a_fingerprint_shows_each_changed_bit_and_each_exchange(dtype):
    values = (torch.rand(40) * 200).to(dtype)
    before = distributed.fingerprint(values)
    assert distributed.fingerprint(values.clone().view(5, 8)) == before
    for i in range(40):
        changed = values.clone()
        changed.view(torch.uint8)[i * values.element_size()] ^= 1
        assert distributed.fingerprint(changed) != before
    if dtype != torch.bool:
        assert distributed.fingerprint(values.flip(0)) != before


# Who died first.

def report(at, error=None):
    return Report(at, error, f"Traceback ...\nRuntimeError: at {at}")


@pytest.mark.parametrize(("exitcodes", "reports", "message"), [
    ({0: 1, 1: -9}, {0: report(1)}, "Rank 1 was killed by SIGKILL. Most often the machine's memory"),
    ({0: 1, 1: -7}, {0: report(1)}, "--shm-size"),
    ({0: 1, 1: -11}, {0: report(1)}, "Rank 1 was killed by SIGSEGV"),
    ({0: 1, 1: 1, 2: -6}, {0: report(2), 1: report(1)}, "RuntimeError: at 1"),  # NCCL aborts who lost another
    ({0: -6}, {}, "Rank 0 was killed by SIGABRT"),
    ({0: 1, 1: 2}, {0: report(1), 1: report(2, UserError("--data=x: gone."))}, "--data=x: gone."),
    ({0: 7}, {}, "Rank 0 ended with exit code 7"),
    ({0: -60}, {}, "signal 60"),
])
def test_the_first_to_die_is_named(exitcodes, reports, message):
    assert message in cause(exitcodes, reports).format_message()


def test_a_run_that_was_saved_is_told_how_to_go_on(tmp_path):
    run_dir = tmp_path / "my run"
    run_dir.mkdir()
    assert with_remedy(RankFailed("It broke."), run_dir).format_message() == "It broke."
    (run_dir / "training-state-000000008.pt").touch()
    assert f"--continue='{run_dir}'" in with_remedy(RankFailed("It broke."), run_dir).format_message()
    assert with_remedy(UserError("No."), run_dir).format_message() == "No."


@pytest.mark.slow
@pytest.mark.parametrize(("how", "kind", "message"), [
    ("kill", RankFailed, "Rank 1 was killed by SIGKILL"),
    ("user error", UserError, "--data=x: gone."),
    ("stuck", RankFailed, "ZeroDivisionError: provoked"),
])
def test_a_rank_that_dies_ends_all_with_its_error(how, kind, message, tmp_path, monkeypatch):
    monkeypatch.setattr(ranks, "GRACE_SEC", 2.0)
    began = time.monotonic()
    with pytest.raises(kind) as raised:
        ranks.spawn(rank_workers.job(tmp_path, what=how), rank_workers.die_on_one)
    assert message in raised.value.format_message() and time.monotonic() - began < 60
    assert not any(alive(int((tmp_path / f"pid {rank}").read_text())) for rank in range(2))


# Signals.

PARENT = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
import rank_workers
from stylegan2_pipeline import ranks
if __name__ == "__main__":
    sys.exit(ranks.spawn(rank_workers.job(Path(sys.argv[1]), what=sys.argv[2]), rank_workers.finish_on_signal))
"""


def start_parent(folder, what=""):
    """A process that spawns ranks, in a session of its own as a shell would start it; and the ranks."""
    (folder / "parent.py").write_text(PARENT.format(tests=str(ROOT / "tests")))
    parent = subprocess.Popen([sys.executable, folder / "parent.py", folder, what], cwd=ROOT, env=ONE_THREAD,
                              start_new_session=True)
    files = [folder / f"pid {rank}" for rank in range(2)]
    wait_for(lambda: all(file.exists() and file.read_text() for file in files))
    return parent, [int(file.read_text()) for file in files]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGUSR1])
def test_ranks_are_told_of_signals_and_finish(number, tmp_path):
    parent, _ = start_parent(tmp_path)
    os.killpg(parent.pid, number)  # as a terminal does: the ranks must not get it twice
    assert parent.wait(timeout=30) == 128 + number
    assert all((tmp_path / f"saved {rank}").exists() for rank in range(2))


@pytest.mark.slow
def test_ctrl_c_twice_ends_at_once(tmp_path):
    parent, pids = start_parent(tmp_path, "slow")
    parent.send_signal(signal.SIGINT)
    time.sleep(1)
    parent.send_signal(signal.SIGINT)
    assert parent.wait(timeout=20) == 130
    assert not any(map(alive, pids))


@pytest.mark.slow
def test_ranks_do_not_outlive_their_parent(tmp_path):
    parent, pids = start_parent(tmp_path, "slow")
    parent.kill()
    parent.wait()
    wait_for(lambda: not any(map(alive, pids)), sec=10)


# Training.

@pytest.fixture
def noise(tmp_path):
    """Images without two equal pixels: where a whole area has one value, an activation next to the kink of the leaky
    ReLU falls to the other side for all of it at once, and rounding becomes visible."""
    random = np.random.RandomState(0)
    with ArchiveWriter(tmp_path / "noise.zip") as writer:
        for _ in range(24):
            writer.add(random.randint(0, 256, [1, 16, 16]).astype(np.uint8))
    return tmp_path / "noise.zip"


def train(data, outdir, gpus):
    """4 steps: later an activation beside the kink of the leaky ReLU falls to the other side, and rounding shows. Adam
    divides a gradient by its size: where that is rounding noise, noise becomes a whole step, unless eps is above it.
    gamma: the preset's depends on the number of GPUs."""
    typed = dict(data=str(data), gpus=gpus, device="cpu", cbase=128, cmax=16, batch=8, mbstd_group=2, gamma=1.0,
                 kimg=0.032, metrics="swd")
    job = launch.plan(str(outdir), typed, Machine(0, 8e9), dry_run=False, continue_run=None, override=False)
    config = dataclasses.replace(job.config, optimizer=dataclasses.replace(job.config.optimizer, eps=1e-4))
    assert launch.train_here(dataclasses.replace(job, config=config)) == 0
    return job.run_dir


def results(run_dir):
    return [json.loads(line) for line in (run_dir / "metric-swd.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_two_and_four_ranks_train_like_one(noise, tmp_path, monkeypatch):
    """The same images in the same order, weights to float rounding, the same metrics and pictures."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    one, *others = [train(noise, tmp_path / "runs", gpus) for gpus in (1, 2, 4)]
    expected = load_snapshot(one / "network-snapshot-000000.pkl")
    for n, other in zip((2, 4), others, strict=True):
        snapshot = load_snapshot(other / "network-snapshot-000000.pkl")
        assert snapshot.augment_p == expected.augment_p
        for net in ("G", "D", "G_ema"):
            a, b = getattr(expected, net).state_dict(), getattr(snapshot, net).state_dict()
            for key in a:  # rtol for the mapping network, whose weights are stored 100 times as large as they act
                torch.testing.assert_close(a[key], b[key], atol=2e-6, rtol=1e-5, msg=lambda text, key=key: key + text)
        assert results(other)[-1]["num_gpus"] == n
        assert results(other)[-1]["results"] == pytest.approx(results(one)[-1]["results"], rel=1e-3)
        assert (other / "reals.png").read_bytes() == (one / "reals.png").read_bytes()
        off = np.abs(np.subtract(*(pixels(run / "fakes_init.png") for run in (other, one))))
        assert off.max() <= 1 and off.mean() < 1e-3  # matrix products round differently for other batches


def pixels(path):
    return np.asarray(Image.open(path)).astype(int)


def start_train(data, outdir, *args, launcher=(sys.executable,)):
    return subprocess.Popen([*launcher, ROOT / "train.py", f"--data={data}", f"--outdir={outdir}", *TINY, *args],
                            cwd=ROOT, env=ONE_THREAD, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def ticks(outdir):
    """The kimg of the ticks of the one run there."""
    lines = [line for path in outdir.glob("*/stats.jsonl") for line in path.read_text().splitlines()]
    return [round(json.loads(line)["Progress/kimg"]["mean"] * 1000) for line in lines]


@pytest.mark.slow
def test_a_rank_killed_in_training_is_named_and_the_run_goes_on(discs, tmp_path):
    process = start_train(discs, tmp_path, "--gpus=2", "--kimg=100")
    wait_for(lambda: len(ticks(tmp_path)) > 1)
    pids = children(process.pid)
    assert len(pids) == 2
    os.kill(pids[1], signal.SIGKILL)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 1 and not any(map(alive, pids))
    assert "was killed by SIGKILL" in output and "Traceback" not in output
    again = re.search(r"--continue=(\S+)", output)
    assert again and Path(again[1]).is_dir()
