"""Processes that take turns: who runs when, what of it counts, and what is said of one that died."""

import pytest

from benchmarks.turns import Effort, Worker, measure, started

SCRIPT = """
import json, os, sys
name, seconds, fails = json.loads(sys.stdin.readline()).values()
def reply(**values):
    print(json.dumps(values), flush=True)
if fails == 'at once':
    print('a last word', file=sys.stderr)
    sys.exit(3)
reply(about={'name': name}, tasks=['a', 'b'] if name == 'both' else ['a'])
for line in sys.stdin:
    request = json.loads(line)
    with open('LOG', 'a') as log:
        log.write(f"{name} {request.get('task', request['do'])} {request.get('times', '')}\\n")
    if request.get('task') == fails:
        os.kill(os.getpid(), 9)
    if request.get('task') == 'a' and fails == 'error':
        reply(error='ValueError: no')
        sys.exit(1)
    reply(seconds=seconds, bytes=1000)
"""


@pytest.fixture
def make(tmp_path, temp):
    (tmp_path / "scripted.py").write_text(SCRIPT.replace("LOG", str(tmp_path / "log")))

    def worker(name, seconds=0.1, fails=""):
        return Worker(name, "scripted", {"name": name, "seconds": seconds, "fails": fails},
                      {"PYTHONPATH": str(tmp_path)})
    return worker


def test_turns(make, tmp_path):
    with started([make("both"), make("one", seconds=0.2)]) as workers:
        both, one = measure(workers, Effort(warmup=2, repeats=3, seconds=0.9))
    assert both.complete and both.seconds == {"a": [0.1] * 3, "b": [0.1] * 3} and both.peak_bytes == 1000
    assert one.seconds == {"a": [0.2] * 3} and one.median("a") == 0.2 and one.about == {"name": "one"}
    log = (tmp_path / "log").read_text().splitlines()
    warm, turns = ["both a 1", "one a 1"] * 2, ["both a 3", "one a 3", "one a 3", "both a 3", "both a 3", "one a 3"]
    assert log[:10] == warm + turns and log[-2:] == ["both peak ", "one peak "]


def test_those_that_die_do_not_stop_the_others(make):
    names = {"early": "at once", "killed": "a", "wrong": "error", "well": ""}
    workers = [make(name, fails=fails) for name, fails in names.items()]
    with started(workers) as ready:
        found = {result.name: result for result in measure(ready, Effort(1, 2, 0.0))}
    early, *_ = workers
    assert "early" not in found and early.failure == "it ended with exit code 3. Its last words:\n  a last word"
    assert found["killed"].failure == "it was ended by SIGKILL, as the system does when memory runs out."
    assert found["wrong"].failure == "ValueError: no" and not found["wrong"].complete
    assert found["well"].complete and found["well"].seconds["a"] == [0.1, 0.1]


def test_all_end_with_their_parent(make):
    workers = [make("well"), make("well")]
    with pytest.raises(KeyboardInterrupt), started(workers):
        raise KeyboardInterrupt
    assert all(worker._process.returncode == 0 for worker in workers)
