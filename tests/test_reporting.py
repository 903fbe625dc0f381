import io
import json
import re

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from stylegan2_pipeline import reporting
from stylegan2_pipeline.reporting import RunLog, status_line, tick_status
from stylegan2_pipeline.statistics import Stat
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
    assert status["Timing/left_sec"] == pytest.approx(48 / 4 * 12.5)
    assert status["Timing/total_days"] * 24 == pytest.approx(status["Timing/total_hours"])
    assert 0.01 < status["Resources/cpu_mem_gb"] < 100 and status["Resources/peak_gpu_mem_gb"] == 0


def test_status_line_reads_as_the_ecosystems_and_estimates_the_end():
    line = status_line(a_status())
    pattern = (
        r"tick 12 +kimg 48\.0 +time 1h 02m 03s +sec/tick 12\.3 +sec/kimg 3\.0[78] +maintenance 0\.2 +"
        r"cpumem \d+\.\d\d +gpumem 0\.00 +augment 0\.120 left 2m 30s"
    )
    assert re.fullmatch(pattern, line), line
    assert status_line(a_status(tick_nimg=0)).endswith("left ?")


def test_a_run_is_on_disk_in_all_its_forms(tmp_path):
    terminal = io.StringIO()
    grid = np.random.RandomState(0).randint(0, 256, [1, 8, 8], dtype=np.uint8)
    with RunLog(tmp_path, terminal=terminal) as log:
        log.print("hello")
        log.tick(a_status(), {"Loss/G/loss": Stat(64, 0.5, 0.1), "Loss/D/loss": Stat(64, float("nan"), 0.1)}, 48000)
        log.metric({"metric": "swd", "results": {"swd": 12.5}, "total_time": 1.0}, 48000)
        log.images("Fakes", grid, 48000)
    said = terminal.getvalue()
    assert said == (tmp_path / "log.txt").read_text()
    assert said.startswith("hello\ntick 12 ") and "swd 12.5" in said

    record = json.loads((tmp_path / "stats.jsonl").read_text(), parse_constant=pytest.fail)
    assert set(record) >= NAMES | {"timestamp"}
    assert record["Loss/G/loss"] == {"num": 64, "mean": 0.5, "std": 0.1}
    assert record["Progress/tick"] == {"num": 1, "mean": 12.0, "std": 0.0}
    assert record["Loss/D/loss"]["mean"] is None
    assert json.loads((tmp_path / "metric-swd.jsonl").read_text())["results"] == {"swd": 12.5}

    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert set(events.Tags()["scalars"]) >= NAMES | {"Loss/G/loss", "Metrics/swd"}
    event, = events.Scalars("Loss/G/loss")
    assert event.step == 48 and event.value == 0.5 and event.wall_time == pytest.approx(record["timestamp"])
    assert events.Scalars("Metrics/swd")[0].step == 48
    assert events.Images("Fakes")[0].width == 8


def test_a_resumed_run_appends(tmp_path):
    for tick in (1, 2):
        with RunLog(tmp_path, terminal=io.StringIO()) as log:
            log.tick(a_status(tick=tick), {}, tick * 4000)
    lines = (tmp_path / "stats.jsonl").read_text().splitlines()
    assert [json.loads(line)["Progress/tick"]["mean"] for line in lines] == [1, 2]
    assert len((tmp_path / "log.txt").read_text().splitlines()) == 2


@pytest.mark.parametrize(("error", "text"), [(UserError("no such --data"), "Error: no such --data\n"),
                                             (ZeroDivisionError("oh"), "ZeroDivisionError: oh\n")])
def test_the_log_ends_with_the_error_that_stopped_the_run(tmp_path, error, text):
    with pytest.raises(type(error)), RunLog(tmp_path, terminal=io.StringIO()):
        raise error
    assert (tmp_path / "log.txt").read_text().endswith(text)


def test_other_ranks_are_silent(capsys):
    with RunLog(None) as log:
        log.print("hello")
        log.tick(a_status(), {}, 0)
        log.metric({"metric": "swd", "results": {"swd": 1.0}}, 0)
        log.images("x", np.zeros([1, 4, 4], np.uint8), 0)
        log.progress(1, 2)
    assert capsys.readouterr() == ("", "")


def test_training_goes_on_without_tensorboard_and_says_so_once(tmp_path, monkeypatch):
    def unwritable(*args, **kwargs):
        raise PermissionError("folder is read-only")

    monkeypatch.setattr("torch.utils.tensorboard.SummaryWriter", unwritable)
    terminal = io.StringIO()
    with RunLog(tmp_path, terminal=terminal) as log:
        log.tick(a_status(), {}, 4000)
        log.tick(a_status(), {}, 8000)
    assert terminal.getvalue().count("TensorBoard") == 1 and "read-only" in terminal.getvalue()
    assert len((tmp_path / "stats.jsonl").read_text().splitlines()) == 2


def test_training_goes_on_when_tensorboard_fails_later(tmp_path):
    terminal = io.StringIO()
    with RunLog(tmp_path, terminal=terminal) as log:
        log.images("bad", np.zeros([5], np.uint8), 0)
        log.tick(a_status(), {}, 4000)
    assert terminal.getvalue().count("TensorBoard") == 1


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_the_bar_is_drawn_in_place_on_terminals_only_and_wiped_before_text(tmp_path, monkeypatch):
    monkeypatch.setattr(reporting.sys, "stderr", stderr := Terminal())
    with RunLog(tmp_path, terminal=io.StringIO()) as log:
        log.progress(1, 4, "kimg")
        log.progress(2, 4, "too soon to be drawn again")
        log.progress(4, 4, "kimg")
        log.print("next")
    drawn = stderr.getvalue()
    assert "1/4 kimg" in drawn and "4/4 kimg" in drawn and "too soon" not in drawn
    assert drawn.endswith("\r\x1b[K") and "\n" not in drawn
    assert (tmp_path / "log.txt").read_text() == "next\n"

    monkeypatch.setattr(reporting.sys, "stderr", stderr := io.StringIO())
    with RunLog(tmp_path, terminal=io.StringIO()) as log:
        log.progress(1, 4)
    assert stderr.getvalue() == ""
