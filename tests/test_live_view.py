import io
import json
import os
import re
import sys
import time

import pytest
import torch
from rich.console import Console
from test_reporting import GOOD, SWD, a_status

from stylegan2_pipeline import live_view
from stylegan2_pipeline.live_panel import Progress, Shown, panel
from stylegan2_pipeline.live_view import wanted
from stylegan2_pipeline.reporting import RunLog
from stylegan2_pipeline.resources import MachineUse
from stylegan2_pipeline.statistics import Stat

WATCH = {"rule": "overfitting", "level": "watch", "sentence": "The discriminator begins to know the images by heart.",
         "advice": "Give a higher --gamma=8.", "evidence": "r_t 0.82"}
VALUES = {"Loss/G/loss": 1.23456, "Loss/D/loss": 0.876, "Loss/r1_penalty": 0.0123, "Loss/pl_length": 0.45,
          "Loss/signs/real": 0.58, "Progress/augment": 0.123, "Gradients/Gmain/norm": 1.5,
          "Gradients/Dmain/norm": float("nan")}


def everything():
    return Shown("00003-faces-mirror-auto1", Progress(48000, 500000, 1600, 4000, 40.0, 11300.0), VALUES,
                 {"swd": "swd 12.4 at 40.0 kimg"}, "swd 11.9 at 36.0 kimg", [*GOOD["verdicts"], WATCH],
                 ["GPU 97 %", "GPU memory 10.2 of 23.7 GB", "CPU 3.2 GB"])


def drawn(shown, columns, **options):
    console = Console(file=io.StringIO(), width=columns, **options)
    console.print(panel(shown, columns, not console.options.ascii_only))
    return console.file.getvalue()


@pytest.mark.parametrize("columns", [40, 60, 80, 200])
def test_everything_is_shown_in_few_or_many_columns(columns):
    lines = drawn(everything(), columns).splitlines()
    assert {len(line) for line in lines} == {min(columns, 100)}
    text = " ".join(" ".join(line.strip("│ ") for line in lines).split())
    for part in ("00003-faces-mirror-auto1", "48.0 of 500 kimg, 3h 08m left", "1600 of 4000 images, 1m 00s left",
                 "40 images/s", "25 sec/kimg", "G 1.235", "D 0.876", "R1 0.0123", "path length 0.45", "r_t 0.58",
                 "p 0.123", "Gmain 1.5", "Dmain nan", "swd 12.4 at 40.0 kimg", "best swd 11.9 at 36.0 kimg", "GPU 97 %",
                 "GPU memory 10.2 of 23.7 GB", "CPU 3.2 GB",
                 "watch: The discriminator begins to know the images by heart. Give a higher --gamma=8."):
        assert part in text, (part, text)
    assert len(lines) <= (12 if columns >= 80 else 26)


def test_bars_are_as_long_as_what_is_done():
    def bar(share, unicode):
        console = Console(file=io.StringIO(), width=80)
        console.print(panel(Shown("x", Progress(round(share * 1e6), 10**6, 0, 1, None, None)), 80, unicode))
        return next(line for line in console.file.getvalue().splitlines() if "run" in line)

    for unicode, full, rest in ((True, "━", "─"), (False, "#", "-")):
        for share in (0, 0.25, 0.5, 1, 1.1):
            line = bar(share, unicode)
            length = line.count(full) + line.count(rest)
            assert length >= 20 and line.count(full) == pytest.approx(min(share, 1) * length, abs=0.5)


def test_a_terminal_without_lines_and_colours_has_it_in_ascii():
    class Ascii(io.StringIO):
        encoding = "ascii"

    console = Console(file=Ascii(), width=80, color_system=None)
    console.print(panel(everything(), 80, not console.options.ascii_only))
    assert console.file.getvalue().isascii()


def test_bad_numbers_and_verdicts_have_colours():
    text = drawn(everything(), 80, force_terminal=True, color_system="standard")
    assert re.search(r"\x1b\[1;31m nan", text)  # bold red
    assert "\x1b[33mwatch" in text  # yellow
    good = Shown("x", verdicts=GOOD["verdicts"])
    assert "\x1b[32mgood: It gets better." in drawn(good, 80, force_terminal=True, color_system="standard")


def test_a_run_that_does_not_step_says_so():
    assert "no step for 5m 00s" in drawn(Shown("x", idle_sec=300.0), 60)
    assert "no step" not in drawn(Shown("x", idle_sec=3.0), 60)


class Terminal(io.StringIO):
    """What stays on the screen, from what was written: lines, and the few controls that a live view uses."""

    def isatty(self):
        return True

    def screen(self):
        lines, row, column = [""], 0, 0
        for control, count, kind, character in re.findall(r"(\x1b\[\??([\d;]*)([A-Za-z]))|([^\x1b])", self.getvalue()):
            if kind == "A":
                row -= int(count or 1)
            elif kind == "K":
                lines[row] = "" if count == "2" else lines[row][:column]
            elif character == "\r":
                column = 0
            elif character == "\n":
                row, column = row + 1, 0
                lines += [""] * (row == len(lines))
            elif character:
                lines[row] = lines[row][:column].ljust(column) + character + lines[row][column + 1:]
                column += 1
            assert kind in ("", "A", "K", "m", "h", "l"), control
        return "\n".join(lines).rstrip("\n")

    def cursor_is_shown(self):
        return self.getvalue().rfind("\x1b[?25h") >= self.getvalue().rfind("\x1b[?25l")


@pytest.fixture
def on_terminal(monkeypatch):
    monkeypatch.setattr(live_view, "REFRESHES", 100)
    for name, value in {"TERM": "xterm", "COLUMNS": "80", "LINES": "40"}.items():
        monkeypatch.setenv(name, value)
    for name in ("STYLEGAN2_VIEW", "NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    terminal = Terminal()

    def connect():  # in the test itself: pytest has streams of its own for each part
        monkeypatch.setattr(sys, "stdout", terminal)
        monkeypatch.setattr(sys, "stderr", terminal)
        return terminal

    return connect


def wait_for(terminal, text):
    end = time.monotonic() + 5
    while text not in terminal.screen():
        assert time.monotonic() < end, terminal.screen()
        time.sleep(0.01)


def test_lines_scroll_above_the_panel_which_is_gone_at_the_end(tmp_path, on_terminal):
    terminal = on_terminal()
    with RunLog(tmp_path) as log:
        log.print("before")
        log.view(0, 96000, 0, 4000, None, None)
        wait_for(terminal, "0.0 of 96 kimg, ? left")
        log.print("while it is there [bold]not markup[/]")
        sys.stderr.write("a warning ")
        print("printed by a library")
        sys.stderr.write("in two parts\n")
        log.tick(a_status(), {name: Stat(1, value, 0.0) for name, value in VALUES.items()}, 48000)
        log.metric(SWD, 48000, best=True)
        log.health({**GOOD, "verdicts": [WATCH]}, 48000)
        log.view(48032, 96000, 32, 4000, 40.0, 100.0)
        for part in ("48.0 of 96 kimg, 1m 40s left", "G 1.235", "swd 12.5 at 48.0 kimg, the best", "watch: The"):
            wait_for(terminal, part)
        log.notice("finishing this step")
        wait_for(terminal, "finishing this step")
        assert terminal.screen().count("╭") == 1
    status = (tmp_path / "log.txt").read_text().splitlines()[2]
    assert terminal.screen().splitlines() == [
        "before", "while it is there [bold]not markup[/]", "printed by a library", "a warning in two parts", status,
        "swd 12.5   swd_ratio 2   (best so far)"]
    assert terminal.cursor_is_shown() and sys.stderr is terminal and sys.stdout is terminal
    assert (tmp_path / "log.txt").read_text().startswith("before\nwhile it is there [bold]not markup[/]\n")


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
def test_an_error_gives_the_terminal_back(tmp_path, on_terminal, error):
    terminal = on_terminal()
    with pytest.raises(error), RunLog(tmp_path) as log:
        log.view(0, 96000, 0, 4000, None, None)
        wait_for(terminal, "of 96 kimg")
        assert terminal.cursor_is_shown()  # a killed process cannot show it again
        raise error
    assert terminal.screen() == "" and terminal.cursor_is_shown() and sys.stderr is terminal


def test_a_continued_run_shows_its_last_tick_and_best_metric(tmp_path, on_terminal):
    terminal = on_terminal()
    with RunLog(tmp_path, terminal=io.StringIO()) as log:
        log.tick(a_status(), {"Loss/G/loss": Stat(1, 1.25, 0.0), "Loss/D/loss": Stat(1, float("nan"), 0.0)}, 48000)
        log.metric(SWD, 44000, best=True)
        log.metric({"metric": "swd", "results": {"swd": 13.0}}, 48000)
    with (tmp_path / "metric-swd.jsonl").open("a") as file:
        file.write(json.dumps({"metric": "swd", "results": {"swd": 1.0}}) + "\n")  # measured by hand
    with RunLog(tmp_path) as log:
        log.view(48000, 96000, 0, 4000, None, None)
        wait_for(terminal, "G 1.25   D nan")
        wait_for(terminal, "swd 13 at 48.0 kimg   best swd 12.5 at 44.0 kimg")


def test_where_standard_output_is_a_file_lines_go_there(tmp_path, on_terminal, monkeypatch):
    terminal = on_terminal()
    with (tmp_path / "out.txt").open("w") as out, RunLog(tmp_path / "run") as log:
        monkeypatch.setattr(sys, "stdout", out)
        log.view(0, 96000, 0, 4000, None, None)
        wait_for(terminal, "of 96 kimg")
        log.print("hello")
    assert (tmp_path / "out.txt").read_text() == "hello\n" and terminal.screen() == ""


def test_no_view_where_it_cannot_be_or_is_not_wanted(tmp_path, on_terminal, monkeypatch):
    terminal = on_terminal()
    assert wanted(terminal, terminal) and wanted(terminal, io.StringIO())
    assert not wanted(io.StringIO(), terminal) and not wanted(None, None)
    reading, writing = os.pipe()  # train.py | tee log.txt
    with os.fdopen(reading), os.fdopen(writing, "w") as pipe:
        assert not wanted(terminal, pipe)
    for name, value in (("TERM", "dumb"), ("STYLEGAN2_VIEW", "plain")):
        with monkeypatch.context() as patch:
            patch.setenv(name, value)
            assert not wanted(terminal, terminal)
            with RunLog(tmp_path) as log:
                log.view(0, 96000, 0, 4000, None, None)
                log.print("plain")
    assert terminal.getvalue() == "plain\nplain\n"


def test_a_forked_process_writes_as_before(tmp_path, on_terminal):
    terminal = on_terminal()
    with RunLog(tmp_path) as log:
        log.view(0, 96000, 0, 4000, None, None)
        reading, writing = os.pipe()
        if not (child := os.fork()):
            before = terminal.getvalue()
            sys.stderr.write("from a worker\n")
            os.write(writing, terminal.getvalue().removeprefix(before).encode())
            os._exit(0)
        os.close(writing)
        with os.fdopen(reading) as pipe:
            assert pipe.read() == "from a worker\n"  # and no panel
        os.waitpid(child, 0)


def test_a_view_that_fails_says_so_and_stops_nothing(tmp_path, on_terminal):
    terminal = on_terminal()
    with RunLog(tmp_path) as log:
        log.health({"verdicts": []}, 0)
        log.view(0, 96000, 0, 4000, None, None)
        log.health({"verdicts": [{"no level": 1}]}, 0)
        wait_for(terminal, "The live view fails (KeyError: 'level'); training goes on.")
        log.health({"verdicts": []}, 0)
        wait_for(terminal, "of 96 kimg")


def test_telling_each_step_costs_microseconds(tmp_path, on_terminal, monkeypatch):
    on_terminal()
    monkeypatch.setattr(live_view, "REFRESHES", 2)
    with RunLog(tmp_path) as log:
        log.view(0, 96000, 0, 4000, None, None)
        start = time.perf_counter()
        for nimg in range(2000):
            log.view(nimg, 96000, nimg, 4000, 40.0, 100.0)
        assert (time.perf_counter() - start) / 2000 < 100e-6


def test_what_a_gpu_does_is_told_as_far_as_it_is_known(monkeypatch):
    assert re.fullmatch(r"CPU \d+\.\d GB", *MachineUse().words())
    asked = []

    def no_nvml(gpu):
        asked.append(gpu)
        raise ModuleNotFoundError("pynvml")

    fakes = {"is_initialized": lambda: True, "current_device": lambda: 3, "utilization": lambda gpu: 97,
             "memory_reserved": lambda gpu: 10 * 2**30,
             "get_device_properties": lambda gpu: type("", (), {"total_memory": 24 * 2**30})}
    for name, function in fakes.items():
        monkeypatch.setattr(torch.cuda, name, function)
    assert MachineUse().words()[:2] == ["GPU 97 %", "GPU memory 10.0 of 24.0 GB"]
    monkeypatch.setattr(torch.cuda, "utilization", no_nvml)
    use = MachineUse()
    for _ in range(2):
        assert use.words()[0] == "GPU memory 10.0 of 24.0 GB"
    assert asked == [3]


def test_work_between_steps_is_shown_while_it_passes(tmp_path, on_terminal):
    assert "meanwhile" not in drawn(Shown("run"), 80)
    assert "Generating for inception" in drawn(Shown("run", work=("Generating for inception", 3, 12)), 80)
    on_terminal()
    with RunLog(tmp_path) as log:
        log.view(8, 100, 0, 50, 20.0, 4.0)
        seen = [log._view.shown.work for _ in log.watch(range(3), 3, "Reading")]
        assert seen == [("Reading", 0, 3), ("Reading", 1, 3), ("Reading", 2, 3)] and log._view.shown.work is None
    assert list(RunLog(None).watch("ab", 2, "Reading")) == ["a", "b"]
