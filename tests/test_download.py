"""Downloads: whole or not at all, resumed, checked, one process at a time, whatever the server and the disk do."""

import errno
import hashlib
import io
import json
import random
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time

import pytest
from http_site import Page, closed_port, serving

from torch_utils import download as module
from torch_utils import partial_file
from torch_utils.download import download
from torch_utils.errors import UserError

DATA = random.Random(0).randbytes(700_000)
SHA = hashlib.sha256(DATA).hexdigest()
WHOLE = {"nbytes": len(DATA), "sha256": SHA}


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(module, "PAUSE_SEC", 0)
    monkeypatch.delenv("STYLEGAN2_OFFLINE", raising=False)


@pytest.fixture
def site():
    with serving() as found:
        yield found


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def begin(folder, data, etag='"1"', url=None, total=700_000):
    """As an earlier attempt left it."""
    (folder / "f.bin.part").write_bytes(data)
    (folder / "f.bin.part.json").write_text(json.dumps({"url": url, "validator": etag, "total": total}))


def start(code, *args):
    """Python in another process, with torch_utils.download's names."""
    code = "import sys\nfrom torch_utils.download import download\n" + textwrap.dedent(code)
    return subprocess.Popen([sys.executable, "-c", code, *map(str, args)], stderr=subprocess.PIPE, text=True)


def wait_for(condition, sec=30):
    deadline = time.monotonic() + sec
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("known", [WHOLE, {}, {"nbytes": len(DATA)}, {"sha256": SHA}])
def test_a_file_comes_whole_and_what_comes_from_where_is_said_first(site, tmp_path, capsys, known):
    site.pages["/f"] = Page(DATA)
    path = tmp_path / "new" / "f.bin"
    assert download(site.url("/f"), path, **known) == path
    assert path.read_bytes() == DATA and names(path.parent) == ["f.bin"]
    assert capsys.readouterr().err.startswith(f"Downloading {site.url('/f')}")
    download(site.url("/f"), path, **known)
    assert len(site.asked) == 1 and capsys.readouterr().err == ""


def test_a_bar_on_a_terminal_alone(site, tmp_path, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    site.pages["/f"] = Page(DATA)
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    download(site.url("/f"), tmp_path / "f.bin")
    assert "100%" in terminal.getvalue()
    monkeypatch.setattr(sys, "stderr", plain := io.StringIO())
    download(site.url("/f"), tmp_path / "g.bin")
    assert len(plain.getvalue().splitlines()) == 1


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("ranges", [False, True])
def test_broken_connections_go_on_where_they_ended(site, tmp_path, reset, ranges):
    cuts = [100_000, 70_000, 200_000, 150_000, 150_000] if ranges else [100_000, 250_000]
    site.pages["/f"] = Page(DATA, cuts=cuts, reset=reset, ranges=ranges)
    path = download(site.url("/f"), tmp_path / "f.bin")
    assert path.read_bytes() == DATA and names(tmp_path) == ["f.bin"]
    asked = [int(wanted[6:-1]) for _, wanted, _ in site.asked if wanted]
    assert asked == sorted(asked) and asked[-1] > 60_000
    assert {validator for _, wanted, validator in site.asked if wanted} == {'"1"'}


def test_without_progress_it_gives_up_and_the_next_call_goes_on(site, tmp_path, capsys):
    page = site.pages["/f"] = Page(DATA, cuts=[262_144, *[0] * 20])
    with pytest.raises(UserError, match=r"Cannot download .*/f: .*give the path"):
        download(site.url("/f"), tmp_path / "f.bin")
    assert len(site.asked) == 1 + module.TRIES
    assert not (tmp_path / "f.bin").exists() and (tmp_path / "f.bin.part").stat().st_size == 262_144
    assert "262 kB of f.bin are kept" in capsys.readouterr().err
    page.cuts = []
    assert download(site.url("/f"), tmp_path / "f.bin").read_bytes() == DATA
    assert site.asked[-1][1:] == ("bytes=262144-", '"1"') and names(tmp_path) == ["f.bin"]


def test_a_server_that_begins_anew_and_never_ends_is_left(site, tmp_path):
    site.pages["/f"] = Page(DATA, cuts=[200_000, 100_000] * 20, ranges=False)
    with pytest.raises(UserError, match="Cannot download"):
        download(site.url("/f"), tmp_path / "f.bin")
    assert len(site.asked) == 1 + module.TRIES


def test_nothing_is_kept_that_could_not_be_gone_on_with(site, tmp_path, capsys):
    page = site.pages["/f"] = Page(DATA, etag='W/"1"', cuts=[200_000] * 20)
    with pytest.raises(UserError, match="Cannot download"):
        download(site.url("/f"), tmp_path / "f.bin")
    assert names(tmp_path) == [] and "are kept" not in capsys.readouterr().err
    page.cuts = [200_000]
    assert download(site.url("/f"), tmp_path / "f.bin").read_bytes() == DATA
    assert {wanted for _, wanted, _ in site.asked} == {None} and site.encodings == {"identity"}


def test_a_piece_from_elsewhere_is_not_taken(site, tmp_path):
    (tmp_path / "f.bin.part").write_bytes(DATA[:5000])
    site.pages["/f"] = Page(DATA, early=100)
    assert download(site.url("/f"), tmp_path / "f.bin", **WHOLE).read_bytes() == DATA
    assert [wanted for _, wanted, _ in site.asked] == ["bytes=5000-", None]


def test_a_file_that_changed_is_begun_anew(site, tmp_path):
    begin(tmp_path, b"x" * 1000, etag='"old"', url=site.url("/f"))
    site.pages["/f"] = Page(DATA, etag='"new"')
    assert download(site.url("/f"), tmp_path / "f.bin").read_bytes() == DATA
    assert site.asked == [("/f", "bytes=1000-", '"old"')]


@pytest.mark.parametrize("about", [{"etag": None}, {"url": "http://elsewhere/f"}, {"total": 500}])
def test_a_beginning_of_who_knows_what_is_not_gone_on_with(site, tmp_path, about):
    begin(tmp_path, b"x" * 1000, **{"url": site.url("/f")} | about)
    site.pages["/f"] = Page(DATA)
    assert download(site.url("/f"), tmp_path / "f.bin").read_bytes() == DATA
    assert site.asked == [("/f", None, None)]


def test_with_a_hash_a_beginning_without_papers_serves(site, tmp_path):
    (tmp_path / "f.bin.part").write_bytes(DATA[:5000])
    site.pages["/f"] = Page(DATA)
    assert download(site.url("/f"), tmp_path / "f.bin", **WHOLE).read_bytes() == DATA
    assert site.asked == [("/f", "bytes=5000-", None)]


def test_with_a_hash_a_damaged_beginning_is_found_out(site, tmp_path):
    (tmp_path / "f.bin.part").write_bytes(b"x" * 5000)
    site.pages["/f"] = Page(DATA)
    assert download(site.url("/f"), tmp_path / "f.bin", **WHOLE).read_bytes() == DATA
    assert [wanted for _, wanted, _ in site.asked] == ["bytes=5000-", None]


def test_a_beginning_that_is_all_needs_no_connection(site, tmp_path):
    begin(tmp_path, DATA, url=site.url("/f"))
    assert download(site.url("/f"), tmp_path / "f.bin").read_bytes() == DATA
    assert not site.asked


def test_a_range_that_cannot_be_served_is_asked_for_whole(site, tmp_path):
    (tmp_path / "f.bin.part").write_bytes(DATA[:5000])
    site.pages["/f"] = Page(b"short", etag=None)
    short = hashlib.sha256(b"short").hexdigest()
    assert download(site.url("/f"), tmp_path / "f.bin", sha256=short).read_bytes() == b"short"
    assert [wanted for _, wanted, _ in site.asked] == ["bytes=5000-", None]


def test_redirects_are_followed(site, tmp_path):
    site.pages |= {"/a": Page(moved="/b"), "/b": Page(DATA)}
    assert download(site.url("/a"), tmp_path / "f.bin").read_bytes() == DATA


def test_a_busy_server_is_asked_again_and_a_missing_page_is_not(site, tmp_path):
    site.pages["/f"] = Page(DATA, answers=[503])
    assert download(site.url("/f"), tmp_path / "f.bin").read_bytes() == DATA
    site.asked.clear()
    with pytest.raises(UserError, match=r"Cannot download .*/none: 127.* answers 404 Not Found\. .*give the path"):
        download(site.url("/none"), tmp_path / "g.bin")
    assert len(site.asked) == 1 and names(tmp_path) == ["f.bin"]
    site.pages["/f"].answers = [204]
    with pytest.raises(UserError, match="answers 204 No Content"):
        download(site.url("/f"), tmp_path / "g.bin")


def test_no_connection(tmp_path):
    with pytest.raises(UserError, match=r"no connection to 127\.0\.0\.1:\d+\. Put it there"):
        download(f"http://127.0.0.1:{closed_port()}/f", tmp_path / "f.bin", remedy="Put it there.")
    assert names(tmp_path) == []


def test_of_a_server_that_falls_silent_the_rest_is_asked_for(site, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "TIMEOUT_SEC", (5, 0.1))
    site.pages["/f"] = Page(DATA, gate=threading.Event(), pause_at=400_000)  # more than the rest
    assert download(site.url("/f"), tmp_path / "f.bin").read_bytes() == DATA
    assert [wanted is not None for _, wanted, _ in site.asked] == [False, True]
    site.pages["/g"] = Page(DATA, gate=threading.Event())
    with pytest.raises(UserError, match="no connection"):
        download(site.url("/g"), tmp_path / "g.bin")
    assert names(tmp_path) == ["f.bin"]


@pytest.mark.parametrize(("page", "known", "reason"), [
    (Page(b"<html>Log in</html>"), WHOLE, "has 19 bytes there, not 700,000: a page to log in"),
    (Page(b"<html>Log in</html>", length=False), WHOLE, r"the connection ended after 19 of 700,000 bytes"),
    (Page(DATA[::-1]), WHOLE, f"another file: its SHA-256 is [0-9a-f]{{64}}, not {SHA}"),
    (Page(DATA + b"x", length=False), WHOLE, "sends more than 700,000 bytes"),
    (Page(DATA, length=900_000), {}, "700,000 of 900,000 bytes|broke off"),
])
def test_another_file_than_was_asked_for_never_gets_the_name(site, tmp_path, page, known, reason):
    site.pages["/f"] = page
    with pytest.raises(UserError, match=reason):
        download(site.url("/f"), tmp_path / "f.bin", **known)
    assert not (tmp_path / "f.bin").exists()


def test_a_server_that_names_no_size_is_believed(site, tmp_path):
    site.pages["/f"] = Page(DATA, length=False, etag=None)
    assert download(site.url("/f"), tmp_path / "f.bin").read_bytes() == DATA


def test_a_disk_without_room_is_told_before(site, tmp_path, monkeypatch):
    site.pages["/f"] = Page(DATA)
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9, 600_000))
    with pytest.raises(UserError, match=r"it takes 700 kB, and .* has room for 600 kB"):
        download(site.url("/f"), tmp_path / "f.bin")
    assert names(tmp_path) == []


def test_a_disk_that_fills_up_is_said_and_gets_its_room_back(site, tmp_path):
    site.pages["/f"] = Page(DATA)
    process = start("""
        import resource
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
        try:
            download(sys.argv[1], sys.argv[2])
        except Exception as error:
            sys.exit(f"{type(error).__name__}: {error.message}")
        """, site.url("/f"), tmp_path / "f.bin")
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1 and re.search(r"UserError: Cannot write .*f\.bin: .*Make room", said)
    assert names(tmp_path) == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
def test_a_disk_that_refuses(site, tmp_path, monkeypatch, number):
    def refuse(self, data):
        raise OSError(number, "refused")

    site.pages["/f"] = Page(DATA)
    monkeypatch.setattr(partial_file.PartialFile, "append", refuse)
    with pytest.raises(UserError, match=r"Cannot write .*f\.bin: refused"):
        download(site.url("/f"), tmp_path / "f.bin")
    assert names(tmp_path) == []


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"Cannot write .*f\.bin"):
        download("http://127.0.0.1:9/f", tmp_path / "file" / "f.bin")


def test_offline_forbids(site, tmp_path, monkeypatch):
    site.pages["/f"] = Page(DATA)
    for value in ("1", "true"):
        monkeypatch.setenv("STYLEGAN2_OFFLINE", value)
        with pytest.raises(UserError, match=r"STYLEGAN2_OFFLINE forbids to download .*/f\. .*give the path"):
            download(site.url("/f"), tmp_path / "f.bin")
    monkeypatch.setenv("STYLEGAN2_OFFLINE", "0")
    assert download(site.url("/f"), tmp_path / "f.bin").exists() and len(site.asked) == 1


def test_of_two_processes_one_downloads_and_the_other_waits(site, tmp_path):
    page = site.pages["/f"] = Page(DATA, gate=threading.Event(), pause_at=1000)
    code = "download(sys.argv[1], sys.argv[2], nbytes=int(sys.argv[3]))"
    first = start(code, site.url("/f"), tmp_path / "f.bin", len(DATA))
    wait_for(lambda: site.asked)
    second = start(code, site.url("/f"), tmp_path / "f.bin", len(DATA))
    assert "Waiting for another process that downloads f.bin" in second.stderr.readline()
    page.gate.set()
    first.communicate(timeout=60)
    second.communicate(timeout=60)
    assert (first.returncode, second.returncode) == (0, 0)
    assert len(site.asked) == 1 and (tmp_path / "f.bin").read_bytes() == DATA and names(tmp_path) == ["f.bin"]


def test_whoever_waits_goes_on_where_an_interrupted_process_ended(site, tmp_path):
    page = site.pages["/f"] = Page(DATA, gate=threading.Event(), pause_at=400_000)
    code = "download(sys.argv[1], sys.argv[2])"
    first = start(code, site.url("/f"), tmp_path / "f.bin")
    part = tmp_path / "f.bin.part"
    wait_for(lambda: part.exists() and part.stat().st_size > 300_000)
    second = start(code, site.url("/f"), tmp_path / "f.bin")
    assert "Waiting" in second.stderr.readline()
    page.gate = None
    first.send_signal(signal.SIGINT)
    _, said = first.communicate(timeout=60)
    assert first.returncode != 0 and "of f.bin are kept" in said
    second.communicate(timeout=60)
    assert second.returncode == 0 and (tmp_path / "f.bin").read_bytes() == DATA and names(tmp_path) == ["f.bin"]
    assert int(site.asked[1][1][6:-1]) > 300_000


def test_whoever_waits_for_a_process_that_fails_begins_anew(site, tmp_path):
    page = site.pages["/f"] = Page(DATA[::-1], gate=threading.Event(), pause_at=1000)
    code = "download(sys.argv[1], sys.argv[2], sha256=sys.argv[3])"
    first = start(code, site.url("/f"), tmp_path / "f.bin", SHA)
    wait_for(lambda: site.asked)
    second = start(code, site.url("/f"), tmp_path / "f.bin", SHA)
    assert "Waiting" in second.stderr.readline()
    page.data = DATA
    page.gate.set()
    assert "another file" in first.communicate(timeout=60)[1] and first.returncode == 1
    second.communicate(timeout=60)
    assert second.returncode == 0 and (tmp_path / "f.bin").read_bytes() == DATA and names(tmp_path) == ["f.bin"]


def test_a_file_that_another_process_has_just_made_is_taken(tmp_path, monkeypatch):
    def finished_meanwhile(file, waiting):
        (tmp_path / "f.bin").write_bytes(b"whole")
        return True

    monkeypatch.setattr(partial_file, "_locked", finished_meanwhile)
    assert download(f"http://127.0.0.1:{closed_port()}/f", tmp_path / "f.bin").read_bytes() == b"whole"
    assert names(tmp_path) == ["f.bin"]


def test_without_file_locks_each_process_has_its_own_partial_file(site, tmp_path, monkeypatch):
    def none(*args):
        raise OSError(errno.ENOLCK, "No locks available")

    (tmp_path / "f.bin.part").write_bytes(another := b"another process writes here")
    site.pages["/f"] = Page(DATA)
    monkeypatch.setattr(partial_file.fcntl, "flock", none)
    assert download(site.url("/f"), tmp_path / "f.bin", **WHOLE).read_bytes() == DATA
    assert (tmp_path / "f.bin.part").read_bytes() == another
