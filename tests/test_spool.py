"""The spool of a conversion: what was put comes back, also in another process and after one that was killed."""

import json
import multiprocessing
import os
import resource
import signal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stylegan2_pipeline.conversion.passes import findings_of
from stylegan2_pipeline.conversion.scan import Finding
from stylegan2_pipeline.conversion.spool import Journal, Piece, Spool
from torch_utils.errors import UserError


def put_some(spool, queue):
    queue.put([spool.put(bytes([number]) * number) for number in range(1, 5)])


def test_pieces_come_back_from_any_process(tmp_path):
    spool = Spool(tmp_path)
    mine = spool.put(b"mine")
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=put_some, args=(spool, queue))
    process.start()
    theirs = queue.get(timeout=60)
    process.join()
    assert spool.get(mine) == b"mine" and len(list(tmp_path.iterdir())) == 2
    assert [spool.get(piece) for piece in theirs] == [bytes([number]) * number for number in range(1, 5)]
    assert spool.get(spool.put(b"more")) == b"more"


def test_damage_is_noticed(tmp_path):
    spool = Spool(tmp_path)
    piece = spool.put(b"abcdef")
    path = tmp_path / piece.file
    path.write_bytes(b"abcxef")
    with pytest.raises(UserError, match=r"is damaged, .*\. Start anew"):
        spool.get(piece)
    path.write_bytes(b"abc")
    assert not spool.has(piece) and not spool.has(Piece("other.bin", 0, 1, 0))
    path.unlink()
    spool.close()
    with pytest.raises(UserError, match="cannot be read"):
        spool.get(piece)


def full_disk(spool):
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
    try:
        spool.put(bytes(200))
    except UserError as error:
        os._exit(3 if "The disk is full" in error.message else 4)
    os._exit(5)


def test_a_full_disk_is_said(tmp_path):
    process = multiprocessing.get_context("spawn").Process(target=full_disk, args=(Spool(tmp_path),))
    process.start()
    process.join()
    assert process.exitcode == 3


@settings(max_examples=30)
@given(lines=st.lists(st.dictionaries(st.text(), st.integers())), cut=st.integers(0, 20))
def test_the_journal_gives_back_whole_lines_and_goes_on(tmp_path_factory, lines, cut):
    folder = tmp_path_factory.mktemp("work")
    with Journal(folder, {"a": [1]}) as journal:
        for line in lines:
            journal.add(line)
        journal.kept = True
    path = folder / "journal.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[:len(whole) - cut])
    with Journal(folder, {"a": [1]}) as journal:
        assert journal.lines == lines[:whole[:len(whole) - cut].count(b"\n")] and not journal.differs
        journal.add({"last": 1})
        journal.kept = True
    with Journal(folder, {"a": [1]}) as journal:
        assert journal.lines[-1] == {"last": 1}
    assert not folder.exists()


def test_other_settings_begin_anew_and_say_what_differs(tmp_path):
    folder = tmp_path / "work"
    with Journal(folder, {"a": 1, "b": 2}) as journal:
        journal.add({"index": 0})
        journal.kept = True
    (folder / "1-1.bin").write_bytes(b"x")
    with Journal(folder, {"a": 1, "b": 3}) as journal:
        assert journal.lines == [] and journal.differs == "b"
        assert sorted(os.listdir(folder)) == ["journal.jsonl", "lock", "settings.json"]
        journal.kept = True
    (folder / "settings.json").write_text("{")
    with Journal(folder, {"a": 1, "b": 3}) as journal:
        assert journal.lines == []


def test_where_nothing_may_begin_anew_what_is_there_stays(tmp_path):
    folder = tmp_path / "work"
    with Journal(folder, {"a": 1}) as journal:
        journal.add({"index": 0})
        journal.kept = True
    with pytest.raises(UserError, match=r"--continue: .* was begun with something else \(a\)"):
        Journal(folder, {"a": 2}, anew=False)
    with Journal(folder, {"a": 1}, anew=False) as journal:
        assert journal.lines == [{"index": 0}]


def test_files_of_others_are_never_removed(tmp_path):
    folder = tmp_path / "photos.partial"
    folder.mkdir()
    (folder / "thesis.txt").write_text("precious")
    with pytest.raises(UserError, match=r"--dest: .*photos\.partial.* holds something else \(thesis\.txt\)"):
        Journal(folder, {})
    assert os.listdir(folder) == ["thesis.txt"]
    (folder / "thesis.txt").unlink()
    for name in ("lock", "journal.jsonl", ".settings.7.tmp.json", "17-1795307.bin", "photos"):  # of one that was killed
        (folder / name).write_bytes(b"")
    with Journal(folder, {}) as journal:
        assert sorted(os.listdir(folder)) == ["journal.jsonl", "lock", "settings.json"] and not journal.lines


@pytest.mark.parametrize("line", ["[1]", "3", "null", "{"])
def test_lines_that_are_none_end_what_is_gone_on_with(tmp_path, line):
    folder = tmp_path / "work"
    with Journal(folder, {}) as journal:
        journal.add({"index": 0})
        journal.kept = True
    with (folder / "journal.jsonl").open("a") as file:
        file.write(f"{line}\n")
    with Journal(folder, {}) as journal:
        assert journal.lines == [{"index": 0}]


def test_two_processes_do_not_work_in_one_folder(tmp_path):
    with Journal(tmp_path / "work", {}), pytest.raises(UserError, match="Another process is at work"):
        Journal(tmp_path / "work", {})


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match=r"--dest: .* cannot be written"):
        Journal(tmp_path / "file" / "work", {})


@given(finding=st.builds(
    Finding, st.integers(0), error=st.none() | st.text(), size=st.tuples(st.integers(1), st.integers(1)),
    mode=st.text(), deep=st.booleans(), remarks=st.lists(st.text()).map(tuple), digest=st.text(),
    box=st.none() | st.tuples(*[st.integers(0)] * 4), filled=st.none() | st.floats(0, 1),
    details=st.none() | st.builds(Piece), drawn=st.none()))
def test_findings_survive_the_journal(finding):
    assert Finding.from_json(json.loads(json.dumps(finding.to_json()))) == finding


def test_broken_images_are_looked_at_again(tmp_path):
    lines = [Finding(0, error="Permission denied").to_json(), Finding(1, size=(8, 8)).to_json()]
    assert list(findings_of(lines, Spool(tmp_path))) == [1]
