import csv
import io
import json
import re
import resource
from types import SimpleNamespace

import numpy as np
import pytest

from stylegan2_pipeline import reporting, trackers
from stylegan2_pipeline.reporting import RunLog, status_line, tick_status
from stylegan2_pipeline.statistics import Stat
from stylegan2_pipeline.trackers import TensorBoard
from torch_utils.errors import UserError
from torch_utils.text import format_time

NAMES = {
    "Progress/tick", "Progress/kimg", "Progress/augment", "Timing/total_sec", "Timing/sec_per_tick",
    "Timing/sec_per_kimg", "Timing/maintenance_sec", "Timing/total_hours", "Timing/total_days",
    "Resources/cpu_mem_gb", "Resources/peak_gpu_mem_gb",
}  # fmt: skip


def a_status(**changes):
    values = {
        "tick": 12, "cur_nimg": 48000, "total_nimg": 96000, "tick_nimg": 4000, "total_sec": 3723.0, "tick_sec": 12.3,
        "maintenance_sec": 0.2, "augment_p": 0.12, "device": "cpu",
    }  # fmt: skip
    return tick_status(**(values | changes))


@pytest.mark.parametrize(("sec", "text", "short"), [
    (0, "0s", "0s"), (59.6, "1m 00s", "1m 00s"), (62, "1m 02s", "1m 02s"), (3723, "1h 02m 03s", "1h 02m"),
    (86399.9, "1d 00h 00m", "1d 00h"), (93784, "1d 02h 03m", "1d 02h"),
])  # fmt: skip
def test_format_time(sec, text, short):
    assert format_time(sec) == text
    assert format_time(sec, parts=2) == short


def test_status_has_the_ecosystems_names_and_their_relations():
    status = a_status()
    assert set(status) >= NAMES
    assert status["Timing/sec_per_kimg"] == pytest.approx(12.3 / 4)
    assert status["Timing/left_sec"] == pytest.approx(48 / 4 * 12.3)
    assert status["Timing/total_days"] * 24 == pytest.approx(status["Timing/total_hours"])
    assert 0.01 < status["Resources/cpu_mem_gb"] < 100 and status["Resources/peak_gpu_mem_gb"] == 0


def test_status_line_reads_as_the_ecosystems_and_estimates_the_end():
    line = status_line(a_status())
    pattern = (
        r"tick 12 +kimg 48\.0 +time 1h 02m 03s +sec/tick 12\.3 +sec/kimg 3\.0[78] +maintenance 0\.2 +"
        r"cpumem \d+\.\d\d +gpumem 0\.00 +augment 0\.120 left 2m 2[78]s"
    )
    assert re.fullmatch(pattern, line), line
    assert status_line(a_status(tick_nimg=0)).endswith("left ?")


class Recorder:
    """A tracker that remembers its calls, and fails in those that it is told to."""

    name = "Recorder"

    def __init__(self, failing=()):
        self.failing = failing
        self.calls = []

    def _note(self, call, *arguments):
        self.calls.append((call, *arguments))
        if call in self.failing:
            raise PermissionError(f"{call}:\n  not allowed")
        return "Recorder: here"

    def start(self, config, run_dir, resume_nimg):
        return self._note("start", config, run_dir, resume_nimg)

    def scalars(self, values, cur_nimg, walltime):
        self._note("scalars", dict(values), cur_nimg, walltime)

    def image(self, tag, grid, cur_nimg):
        self._note("image", tag, grid.shape, cur_nimg)

    def finish(self, final):
        self._note("finish", final)


GRID = np.zeros([1, 8, 8], np.uint8)
SWD = {"metric": "swd", "results": {"swd": 12.5, "swd_ratio": 2.0}, "total_time": 1.0}
GOOD = {"kimg": 48.0, "verdicts": [{"rule": "improving", "level": "good", "sentence": "It gets better.",
                                    "advice": "", "evidence": "swd 12.5"}]}


def test_a_run_is_on_disk_in_all_its_forms(tmp_path):
    terminal, tracker = io.StringIO(), Recorder()
    (tmp_path / "training_options.json").write_text('{"cfg": "auto"}')
    with RunLog(tmp_path, trackers=[tracker], terminal=terminal) as log:
        log.print("hello")
        log.tick(a_status(), {"Loss/G/loss": Stat(64, 0.5, 0.1), "Loss/D/loss": Stat(64, float("nan"), 0.1)}, 48000)
        log.metric(SWD, 48000, best=True)
        log.health(GOOD, 48000)
        log.images("fakes", GRID, 48000)
    said = terminal.getvalue()
    assert said == (tmp_path / "log.txt").read_text()
    assert said.startswith("hello\nRecorder: here\ntick 12 ") and "swd 12.5   swd_ratio 2   (best so far)\n" in said

    record = json.loads((tmp_path / "stats.jsonl").read_text(), parse_constant=pytest.fail)
    assert set(record) >= NAMES | {"timestamp"}
    assert record["Loss/G/loss"] == {"num": 64, "mean": 0.5, "std": 0.1}
    assert record["Progress/tick"] == {"num": 1, "mean": 12.0, "std": 0.0}
    assert record["Loss/D/loss"]["mean"] is None
    assert json.loads((tmp_path / "metric-swd.jsonl").read_text()) == {**SWD, "cur_nimg": 48000, "best": True}
    assert json.loads((tmp_path / "health.jsonl").read_text()) == {"cur_nimg": 48000, **GOOD}

    start, tick, metric, image, finish = tracker.calls
    assert start == ("start", {"cfg": "auto"}, tmp_path, None)
    assert set(tick[1]) == set(record) - {"timestamp"} and tick[1]["Loss/G/loss"] == 0.5
    assert tick[2:] == (48000, record["timestamp"])
    assert metric[:3] == ("scalars", {"Metrics/swd": 12.5, "Metrics/swd_ratio": 2.0}, 48000)
    assert image == ("image", "fakes", (1, 8, 8), 48000)
    assert finish == ("finish", {"Metrics/swd": 12.5, "Metrics/swd_ratio": 2.0})


def the_table(folder):
    with (folder / "stats.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_table_has_a_row_a_tick_and_takes_new_columns(tmp_path):
    with RunLog(tmp_path, terminal=io.StringIO()) as log:
        log.tick(a_status(tick=1), {"Loss/G/loss": Stat(1, 0.5, 0.0)}, 4000)
        log.tick(a_status(tick=2), {"Loss/G/loss": Stat(1, float("nan"), 0.0)}, 8000)
        log.tick(a_status(tick=3), {"Loss/r1_penalty": Stat(1, 0.25, 0.0)}, 12000)
    rows = the_table(tmp_path)
    assert list(rows[0])[:2] == ["Progress/tick", "Progress/kimg"] and list(rows[0])[-1] == "timestamp"
    assert [row["Progress/tick"] for row in rows] == ["1.0", "2.0", "3.0"]
    assert [row["Loss/G/loss"] for row in rows] == ["0.5", "", ""]
    assert [row["Loss/r1_penalty"] for row in rows] == ["", "", "0.25"]


def tell(log, ticks):
    for tick in ticks:
        log.tick(a_status(tick=tick, cur_nimg=tick * 4000), {"Loss/G/loss": Stat(1, 1 / tick, 0.0)}, tick * 4000)
        log.health({"kimg": tick * 4, "verdicts": []}, tick * 4000)
        log.metric(SWD, tick * 4000)


def test_a_continued_run_leaves_the_files_of_one_that_never_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(reporting, "time", SimpleNamespace(time=lambda: 5.0))
    monkeypatch.setattr(reporting, "cpu_mem_gb", lambda: 1.0)
    with RunLog(tmp_path / "whole", terminal=io.StringIO()) as log:
        tell(log, [1, 2, 3, 4])
    with RunLog(tmp_path / "parts", terminal=io.StringIO()) as log:
        tell(log, [1, 2])
        position = log.position()
        tell(log, [3])
        log.print("killed here")
        (tmp_path / "parts" / "metric-other.jsonl").write_text('{"cur_nimg": 12000}\n')
    tracker = Recorder()
    with RunLog(tmp_path / "parts", trackers=[tracker], terminal=io.StringIO()) as log:
        log.rewind(position)
        tell(log, [3, 4])
    names = sorted(path.name for path in (tmp_path / "whole").iterdir())
    assert names == ["health.jsonl", "log.txt", "metric-swd.jsonl", "stats.csv", "stats.jsonl"]
    assert sorted(path.name for path in (tmp_path / "parts").iterdir()) == names
    for name in names:
        whole, parts = ((tmp_path / folder / name).read_text() for folder in ("whole", "parts"))
        assert parts == whole if name != "log.txt" else parts.replace("Recorder: here\n", "") == whole
    assert tracker.calls[0][-1] == 8000  # from there it is told again


def test_going_back_within_a_run_starts_trackers_again(tmp_path):
    tracker = Recorder()
    with RunLog(tmp_path, trackers=[tracker], terminal=io.StringIO()) as log:
        tell(log, [1])
        position = log.position()
        tell(log, [2])
        log.rewind(position)
        tell(log, [2])
    assert [call[-1] for call in tracker.calls if call[0] == "start"] == [None, 4000]


@pytest.mark.parametrize(("error", "text"), [(UserError("no such --data"), "Error: no such --data\n"),
                                             (ZeroDivisionError("oh"), "ZeroDivisionError: oh\n")])
def test_the_log_ends_with_the_error_that_stopped_the_run(tmp_path, error, text):
    tracker = Recorder()
    with pytest.raises(type(error)), RunLog(tmp_path, trackers=[tracker], terminal=io.StringIO()) as log:
        log.images("fakes", GRID, 0)
        raise error
    assert (tmp_path / "log.txt").read_text().endswith(text)
    assert tracker.calls[-1] == ("finish", None)


def test_other_ranks_are_silent(capsys, monkeypatch):
    tracker = Recorder()
    with RunLog(None, trackers=[tracker]) as log:
        log.print("hello")
        log.tick(a_status(), {}, 0)
        log.metric(SWD, 0)
        log.health(GOOD, 0)
        log.images("x", GRID, 0)
        log.view(1, 2, 1, 2, None, None)
        log.notice("stopping")
        log.rewind(log.position())
    assert capsys.readouterr() == ("", "") and tracker.calls == []


@pytest.mark.parametrize("call", ["start", "scalars", "image", "finish"])
def test_a_tracker_that_fails_is_told_once_and_left_out(tmp_path, call):
    terminal, bad, good = io.StringIO(), Recorder([call]), Recorder()
    with RunLog(tmp_path, trackers=[bad, good], terminal=terminal) as log:
        for tick in (1, 2):
            log.images("fakes", GRID, tick * 4000)
            log.tick(a_status(tick=tick), {}, tick * 4000)
    told = [line for line in terminal.getvalue().splitlines() if "left out" in line]
    assert told == [f"Recorder is left out from here on (PermissionError: {call}: not allowed); stats.jsonl has the "
                    "same numbers."]
    assert bad.calls[-1][0] == call and [c[0] for c in bad.calls].count(call) == 1
    assert [c[0] for c in good.calls] == ["start", "image", "scalars", "image", "scalars", "finish"]
    assert len((tmp_path / "stats.jsonl").read_text().splitlines()) == 2


def test_training_goes_on_without_tensorboard(tmp_path, monkeypatch):
    def unwritable(path, content):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(trackers, "append_bytes", unwritable)
    terminal = io.StringIO()
    with RunLog(tmp_path, trackers=[TensorBoard()], terminal=terminal) as log:
        log.tick(a_status(), {}, 4000)
        log.tick(a_status(), {}, 8000)
    assert terminal.getvalue().count("TensorBoard is left out") == 1 and "Permission denied" in terminal.getvalue()


def test_a_full_disk_is_told_once_and_costs_no_line(tmp_path, capfd):
    """Files cannot grow for a while: log, statistics, table, TensorBoard's events."""
    terminal = io.StringIO()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with RunLog(tmp_path, trackers=[TensorBoard()], terminal=terminal) as log:
        log.tick(a_status(tick=1), {}, 4000)
        resource.setrlimit(resource.RLIMIT_FSIZE, (200, before[1]))
        try:
            for tick in (2, 3):
                log.tick(a_status(tick=tick), {}, tick * 4000)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        log.tick(a_status(tick=4), {}, 16000)
    said = terminal.getvalue()
    assert said.count("TensorBoard is left out") == 1
    assert said.count("cannot be written (File too large)") == 1 and said.count("are written again") == 1
    assert (tmp_path / "log.txt").read_text() == said
    ticks = [json.loads(line)["Progress/tick"]["mean"] for line in (tmp_path / "stats.jsonl").read_text().splitlines()]
    assert ticks == [1, 2, 3, 4]
    assert [row["Progress/tick"] for row in the_table(tmp_path)] == ["1.0", "2.0", "3.0", "4.0"]
    assert capfd.readouterr() == ("", "")


def test_a_terminal_that_is_gone_does_not_stop_the_run(tmp_path):
    class Gone(io.StringIO):
        def write(self, text):
            raise BrokenPipeError

    with RunLog(tmp_path, terminal=Gone()) as log:
        log.print("hello")
    assert (tmp_path / "log.txt").read_text() == "hello\n"
