"""The files of tars: compressed or not, read by offset, in other processes too, and nothing left in the temp folder."""

import gzip
import io
import os
import pickle
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
from collections import namedtuple
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
from damaging import damaged
from hypothesis import HealthCheck, given, settings
from PIL import Image

from stylegan2_pipeline.decode import BrokenImage
from stylegan2_pipeline.sources import tar, unpacked
from stylegan2_pipeline.sources.registry import open_source
from stylegan2_pipeline.sources.tar import TarTree
from torch_utils.errors import UserError

pytestmark = pytest.mark.usefixtures("temp")


def write_tar(path, files, mode="w", links=()):
    with tarfile.open(path, mode) as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        for name, target, kind in links:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, target
            archive.addfile(info)
    return path


def png(value):
    file = io.BytesIO()
    Image.fromarray(np.full((4, 5), value, np.uint8)).save(file, "PNG")
    return file.getvalue()


FILES = {"b/2.png": png(2), "a/1.png": png(1), "c" * 120 + "/ü.png": png(3), "note.txt": b"text"}
NAMES = sorted(FILES)


@pytest.mark.parametrize("ending, mode", [(".tar", "w"), (".tar.gz", "w:gz"), (".tgz", "w:gz"), (".tar.bz2", "w:bz2"),
                                          (".tar.xz", "w:xz")])
@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_files_are_read_by_name(tmp_path, ending, mode, form, monkeypatch):
    monkeypatch.setattr(tarfile, "DEFAULT_FORMAT", form)
    monkeypatch.setattr(tarfile.TarFile, "format", form)
    with TarTree(write_tar(tmp_path / f"x{ending}", FILES, mode)) as tree:
        assert tree.files == NAMES and tree.notes() == []
        assert {name: tree.read_bytes(name) for name in tree.files} == FILES
        assert tree.read_bytes("note.txt", 2) == b"te" and tree.read_bytes("note.txt", 100) == b"text"
        assert tree.local("note.txt") is None
        assert len({tree.stamp(name) for name in NAMES}) == 4
    assert tree.read_bytes("note.txt") == b"text"  # also after it was closed
    tree.close()


def test_images_in_a_tar_are_a_source(tmp_path):
    with open_source(write_tar(tmp_path / "x.tar.gz", FILES, "w:gz")) as source:
        assert [int(source.decode(index).pixels[0, 0, 0]) for index in range(3)] == [1, 2, 3]
        assert source.decode(0).pixels.shape == (4, 5, 1)


def test_checksums_change_with_the_ends_of_a_file(tmp_path):
    long = bytes(20000)
    files = {"a": long, "b": b"x" + long[1:], "c": long[1:] + b"x", "d": long, "e": b"", "f": b"y"}
    with TarTree(write_tar(tmp_path / "x.tar", files)) as tree:
        sums = {name: tree.checksum(name) for name in files}
    assert sums["a"] == sums["d"] and len(set(sums.values())) == 5 and sums["e"] == (0, 0)


def read(task):
    tree, name = task
    return os.getpid(), tree.read_bytes(name), tree.close()


def test_other_processes_read_the_same_temporary_file_and_leave_it(tmp_path, temp):
    with TarTree(write_tar(tmp_path / "x.tar.gz", FILES, "w:gz")) as tree:
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:
            pids, found, _ = zip(*pool.map(read, [(tree, name) for name in NAMES]), strict=True)
        assert os.getpid() not in pids and list(found) == [FILES[name] for name in NAMES]
        assert len(list(temp.iterdir())) == 1
        assert len(pickle.dumps(tree)) < 5000


def test_the_temporary_file_goes_at_exit_and_after_a_kill(tmp_path, temp):
    path = write_tar(tmp_path / "x.tar.gz", FILES, "w:gz")
    program = ("import sys, tempfile, pathlib; tempfile.tempdir = sys.argv[2]\n"
               "from stylegan2_pipeline.sources.tar import TarTree\n"
               "tree = TarTree(pathlib.Path(sys.argv[1]))\n"
               "print(tree._place(), flush=True); sys.stdin.read(1)")

    def start():
        return subprocess.Popen([sys.executable, "-c", program, path, temp], cwd=Path(__file__).parent.parent,
                                text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    with start() as other:
        place = Path(other.stdout.readline().strip())
        TarTree(path).close()
        assert place.exists()  # it is in use
        other.send_signal(signal.SIGKILL)
    assert place.exists()
    TarTree(path).close()
    assert not place.exists()
    with start() as other:
        place = Path(other.stdout.readline().strip())
        other.stdin.write("\n")
    assert other.returncode == 0 and not place.exists()


def test_what_is_no_plain_file_or_leads_outside_is_left_out_with_words(tmp_path):
    files = {"./dot.png": png(1), "../up.png": png(2), "/root.png": png(3), "a/._mac.png": png(4), "C:/x.png": png(5)}
    links = [("soft", "/etc/passwd", tarfile.SYMTYPE), ("hard", "dot.png", tarfile.LNKTYPE),
             ("pipe", "", tarfile.FIFOTYPE), ("folder", "", tarfile.DIRTYPE), ("disk", "", tarfile.BLKTYPE)]
    tree = TarTree(write_tar(tmp_path / "x.tar", files, links=links))
    assert tree.files == ["dot.png"]
    assert "\n".join(sorted(tree.notes())) == (
        "Left out, because their names lead out of the tar: 3 (../up.png, /root.png, C:/x.png).\n"
        "Left out, because they are links within the tar: 2 (hard, soft).\n"
        "Left out, because they are no plain files: 2 (disk, pipe).")


@pytest.mark.skipif(shutil.which("tar") is None, reason="no tar program")
def test_sparse_files_are_left_out_and_what_the_tar_program_writes_is_read(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_bytes(png(1))
    with open(tmp_path / "in" / "hole.png", "wb") as file:
        file.truncate(2 ** 22)
    subprocess.run(["tar", "-C", tmp_path / "in", "-S", "-czf", tmp_path / "x.tgz", "."], check=True)
    with TarTree(tmp_path / "x.tgz") as tree:
        assert tree.files == ["a.png"] and tree.read_bytes("a.png") == png(1)
        assert tree.notes() == ["Left out, because they are no plain files: 1 (hole.png)."]


def test_the_last_of_two_files_of_one_name_counts(tmp_path):
    path = write_tar(tmp_path / "x.tar", {"a": b"old"})
    write_tar(path, {"./a": b"new"}, "a")
    assert TarTree(path).read_bytes("a") == b"new"


def test_a_compression_is_told_by_its_first_bytes(tmp_path):
    write_tar(tmp_path / "x.tar", FILES, "w:gz")
    with TarTree(tmp_path / "x.tar") as tree:
        assert tree.files == NAMES


def test_damage_is_told(tmp_path):
    data = write_tar(tmp_path / "good.tar", FILES).read_bytes()
    path = tmp_path / "x.tar"
    for bad, words in [(data[:700], "unexpected end of data"), (b"", "empty"), (b"no tar" * 400, "invalid header"),
                       (data[:1024] + b"x" * 512 + data[1536:], "damaged at byte 1024")]:
        path.write_bytes(bad)
        with pytest.raises(UserError, match=f"--data: .*x.tar cannot be read as a tar: .*{words}"):
            TarTree(path, "--data")
    path.write_bytes(gzip.compress(data)[:-300])
    with pytest.raises(UserError, match="Was it copied whole"):
        TarTree(path)
    path.write_bytes(gzip.compress(bytes(600) + os.urandom(9000)))
    with pytest.raises(UserError, match="cannot be read as a tar"):
        TarTree(path)
    path.write_bytes(data)
    tree = TarTree(path)
    path.write_bytes(data[:600])
    with pytest.raises(BrokenImage, match="cut short"):
        tree.read_bytes(NAMES[0])
    path.unlink()
    with pytest.raises(BrokenImage, match="No such file"):
        tree.read_bytes(NAMES[0])


def test_headers_that_ask_for_much_memory_are_refused(tmp_path):
    info = tarfile.TarInfo("long")
    info.type, info.size = tarfile.XHDTYPE, 2 ** 33
    (tmp_path / "x.tar").write_bytes(info.tobuf(tarfile.GNU_FORMAT) + bytes(4096))
    with pytest.raises(UserError, match="a header in it is too large"):
        TarTree(tmp_path / "x.tar")


def test_bombs_and_full_disks_end_with_words(tmp_path, monkeypatch):
    path = write_tar(tmp_path / "x.tar.gz", {"zeros": bytes(2 ** 22)}, "w:gz")
    monkeypatch.setattr(unpacked, "BOMB_BYTES", 2 ** 21)
    with pytest.raises(UserError, match=r"x.tar.gz unpacks to more than .* decompression bomb"):
        TarTree(path)
    monkeypatch.undo()
    usage = namedtuple("usage", "total used free")
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: usage(0, 0, unpacked.RESERVE))
        with pytest.raises(UserError, match=r"cannot take it: No space left on device. Make room there, set TMPDIR"):
            TarTree(path)
        patch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
        with pytest.raises(UserError, match="no temporary file can be made: No such file"):
            TarTree(path)


def test_temporary_files_need_no_locks(tmp_path, monkeypatch):
    def none(*_):
        raise OSError("no locks here")

    monkeypatch.setattr(unpacked.fcntl, "flock", none)
    with TarTree(write_tar(tmp_path / "x.tar.gz", FILES, "w:gz")) as tree:
        TarTree(tmp_path / "x.tar.gz").close()
        assert tree.read_bytes("note.txt") == b"text"


def test_a_file_that_is_too_large_is_broken(tmp_path, monkeypatch):
    monkeypatch.setattr(tar, "MAX_BYTES", 3)
    with pytest.raises(BrokenImage, match="too large"):
        TarTree(write_tar(tmp_path / "x.tar", FILES)).read_bytes("note.txt")


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz"])
def test_any_damage_gives_files_or_words(tmp_path, mode):
    data = write_tar(tmp_path / "x.tar", {"a.txt": b"abc" * 300, "d/ü" + "x" * 120: b"1"}, mode).read_bytes()

    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
    @given(damaged(data))
    def check(bad):
        (tmp_path / "x.tar").write_bytes(bad)
        try:
            with TarTree(tmp_path / "x.tar") as tree:
                for name in tree.files:
                    tree.read_bytes(name), tree.checksum(name), tree.stamp(name)
        except (UserError, BrokenImage) as error:
            assert str(error)

    check()
