import csv
import json
import resource
from contextlib import contextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stylegan2_pipeline.run_files import (
    LineFile,
    Table,
    append_metric,
    append_text,
    json_line,
    positions,
    read_jsonl,
    rewind,
)


@contextmanager
def a_disk_with(size):
    """No file may grow beyond `size` bytes: a write is cut there and the next one fails, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_line_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "log.txt"
    append_text(path, "first\n")
    with a_disk_with(10), pytest.raises(OSError, match="File too large"):
        append_text(path, "second\n")
    assert path.read_text() == "first\n"


def test_lines_that_find_no_room_come_later_and_in_order(tmp_path):
    file = LineFile(tmp_path / "log.txt")
    file.append("a\n")
    with a_disk_with(3):
        for text in ("b\n", "c\n"):
            with pytest.raises(OSError):
                file.append(text)
    file.append("d\n")
    assert file.path.read_text() == "a\nb\nc\nd\n" and not file.waiting


def test_numbers_that_json_lacks_are_null_at_any_depth():
    line = json_line({"a": float("nan"), "b": {"c": [1, float("inf"), (float("-inf"),)]}})
    assert json.loads(line, parse_constant=pytest.fail) == {"a": None, "b": {"c": [1, None, [None]]}}


def test_a_torn_line_is_passed_over(tmp_path):
    (tmp_path / "x.jsonl").write_bytes(b'{"a": 1}\n{"a": \xff\n[1]\n{"a": 2}\n{"a": 3')
    assert list(read_jsonl(tmp_path / "x.jsonl")) == [{"a": 1}, {"a": 2}]
    assert list(read_jsonl(tmp_path / "none.jsonl")) == []


def test_files_go_back_to_where_they_were(tmp_path):
    for name in ("log.txt", "stats.jsonl"):
        append_text(tmp_path / name, "before\n")
    (tmp_path / "fakes.png").write_text("no log")
    position = positions(tmp_path)
    assert position == {"log.txt": 7, "stats.jsonl": 7}
    for name in ("log.txt", "stats.jsonl", "health.jsonl"):
        append_text(tmp_path / name, "after\n")
    assert rewind(tmp_path, position) == []
    assert (tmp_path / "log.txt").read_text() == (tmp_path / "stats.jsonl").read_text() == "before\n"
    assert not (tmp_path / "health.jsonl").exists() and (tmp_path / "fakes.png").exists()
    assert positions(tmp_path) == position


def test_going_back_keeps_what_was_measured_by_hand(tmp_path):
    path = append_metric(tmp_path, {"metric": "swd", "cur_nimg": 1000})
    position = positions(tmp_path)
    for result in ({"metric": "swd", "cur_nimg": 2000}, {"metric": "swd", "by": "hand"}):
        append_metric(tmp_path, result)
    append_metric(tmp_path, {"metric": "fid50k_full", "by": "hand"})
    append_metric(tmp_path, {"metric": "pfd32", "cur_nimg": 2000})
    rewind(tmp_path, position)
    assert list(read_jsonl(path)) == [{"metric": "swd", "cur_nimg": 1000}, {"metric": "swd", "by": "hand"}]
    assert (tmp_path / "metric-fid50k_full.jsonl").exists() and not (tmp_path / "metric-pfd32.jsonl").exists()


def test_a_file_that_lost_lines_is_left_and_told(tmp_path):
    append_text(tmp_path / "log.txt", "short\n")
    told = rewind(tmp_path, {"log.txt": 100, "stats.jsonl": 5})
    assert (tmp_path / "log.txt").read_text() == "short\n"
    assert len(told) == 2 and "log.txt has 6 bytes where it had 100" in told[0] and "stats.jsonl has 0" in told[1]


records = st.dictionaries(st.sampled_from(["Loss/G", "Loss/D", "Progress/kimg", 'odd, "name"']),
                          st.floats(width=32), min_size=1)


@settings(max_examples=30, deadline=None)
@given(ticks=st.lists(records, min_size=1, max_size=6), missed=st.sets(st.integers(0, 5)))
def test_the_table_is_the_records_whatever_is_missed_on_the_way(tmp_path_factory, ticks, missed):
    folder = tmp_path_factory.mktemp("run")
    source, table = folder / "stats.jsonl", Table(folder / "stats.jsonl", folder / "stats.csv")
    for i, means in enumerate(ticks):
        record = {name: {"num": 1, "mean": mean, "std": 0.0} for name, mean in means.items()}
        append_text(source, json_line(record | {"timestamp": float(i)}))
        if i in missed:
            table.forget()
        else:
            table.add(means | {"timestamp": float(i)})
    written = (folder / "stats.csv").read_text() if (folder / "stats.csv").exists() else None
    table.rebuild()
    if len(ticks) - 1 not in missed:
        assert (folder / "stats.csv").read_text() == written
    with (folder / "stats.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row, record in zip(rows, read_jsonl(source), strict=True):
        got = {name: float(cell) for name, cell in row.items() if cell != ""}
        assert got == {name: value["mean"] if isinstance(value, dict) else value for name, value in record.items()
                       if not isinstance(value, dict) or value["mean"] is not None}


def test_a_table_of_nothing_is_no_file(tmp_path):
    (tmp_path / "stats.csv").write_text("old\n")
    Table(tmp_path / "stats.jsonl", tmp_path / "stats.csv").rebuild()
    assert not (tmp_path / "stats.csv").exists()
