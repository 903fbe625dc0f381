"""Runs in processes of their own, killed at any moment or without room on the disk: nothing is lost.

Importing torch takes seconds: it is done once, and every process of the run is a fork.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest
from test_continue import LENGTH, SMALL, same_network, same_result
from test_train import ROOT, make_archive

from stylegan2_pipeline.training_state import states

DRIVER = """
import os, sys
import stylegan2_pipeline.launch, torch.utils.tensorboard
from stylegan2_pipeline.commands.train import command
from stylegan2_pipeline.continuing import newest_unfinished, started_before
for line in sys.stdin:
    child = os.fork()
    if not child:
        command(eval(line))
    print("started", child, flush=True)
    print("ended", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Driver:
    """Runs `train` in one process after the other."""

    def __enter__(self):
        self.process = subprocess.Popen(
            [sys.executable, "-c", DRIVER], cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, env=os.environ | {"OMP_NUM_THREADS": "1"})
        self.said = []
        return self

    def __exit__(self, *error):
        self.process.kill()
        self.process.wait()

    def start(self, *args):
        """The process's number."""
        self.process.stdin.write(repr([str(arg) for arg in args]) + "\n")
        self.process.stdin.flush()
        return self._number("started ")

    def wait(self):
        """Its exit code; minus the signal that killed it."""
        return self._number("ended ")

    def _number(self, word):
        for line in self.process.stdout:
            if line.startswith(word):
                return int(line.removeprefix(word))
            self.said.append(line)
        raise AssertionError("".join(self.said))


@pytest.fixture(scope="module")
def gray(tmp_path_factory):
    return make_archive(tmp_path_factory.mktemp("data") / "discs.zip")


@pytest.mark.slow
def test_killed_at_twenty_random_moments(gray, tmp_path):
    """While training, saving the state (after every step), measuring, drawing: whatever the moment hits."""
    length = ["--kimg=0.4", "--tick=0.04", "--snap=3"]
    moments, waited = random.Random(5), 0
    with Driver() as driver:
        driver.start("--data", gray, "--outdir", tmp_path / "straight", *SMALL, *length)
        assert driver.wait() == 0, "".join(driver.said)
        outdir = tmp_path / "killed"
        child = driver.start("--data", gray, "--outdir", outdir, *SMALL, *length, "--save-minutes=0.00001")
        while not list(outdir.glob("*/training-state-*.pt")):
            time.sleep(0.01)
        for _ in range(20):
            time.sleep(moments.uniform(0, 1))
            os.kill(child, signal.SIGKILL)
            waited += driver.wait() == -signal.SIGKILL
            child = driver.start("--continue", "--outdir", outdir, "--save-minutes=0.00001")
        assert driver.wait() == 0 and waited == 20, "".join(driver.said)
    run_dir, = outdir.iterdir()
    assert (run_dir / "log.txt").read_text().count("Continuing at") >= 1
    same_result(run_dir, next((tmp_path / "straight").iterdir()))


@pytest.mark.slow
def test_a_full_disk_loses_nothing(gray, tmp_path):
    """Files may not grow beyond what logs need: states and snapshots fail, training goes on, and so does the run."""
    args = ["--data", gray, *SMALL]
    with Driver() as driver:
        driver.start(*args, "--outdir", tmp_path / "straight", LENGTH)
        assert driver.wait() == 0
        driver.start(*args, "--outdir", tmp_path / "full", "--kimg=0.024")
        assert driver.wait() == 0
        run_dir, = (tmp_path / "full").iterdir()
        kept = states(run_dir)
        driver.process.stdin.write("(resource := __import__('resource')).setrlimit(resource.RLIMIT_FSIZE, (200_000, "
                                   "resource.RLIM_INFINITY)) or "
                                   f"['--continue={run_dir}', '{LENGTH}', '--save-minutes=0.00001']\n")
        driver.process.stdin.flush()
        driver._number("started ")
        assert driver.wait() == 2, "".join(driver.said)
        told = "".join(driver.said)
        assert "The training state could not be saved" in told and "This snapshot is left out" in told
        assert "All was trained, but the end of it could not be saved" in told and "Traceback" not in told
        assert states(run_dir) == kept and not json.loads((run_dir / "run.json").read_text())["finished"]
        driver.start(f"--continue={run_dir}")
        assert driver.wait() == 0, "".join(driver.said)
    same_network(run_dir, next((tmp_path / "straight").iterdir()))
