"""dataset_tool.py as a user runs it."""

import os
import resource
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from stylegan2_pipeline.archive import Archive
from stylegan2_pipeline.commands.dataset import command
from stylegan2_pipeline.dataset import ImageDataset

SCRIPT = Path(__file__).parents[1] / "dataset_tool.py"


def photo(path, width=64, height=48, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)).save(path)
    return path


def tool(folder, *words, **options):
    return subprocess.run([sys.executable, SCRIPT, *words], cwd=folder, capture_output=True, text=True, **options)


def test_from_photographs_to_a_trainable_archive_with_the_command_that_the_tool_proposes(tmp_path):
    for number in range(3):
        photo(tmp_path / "data" / "sigara" / f"{number}.jpg", seed=number)
    words = ["--source", "./data/sigara", "--dest", "./data/sigara.zip", "--resolution=32x32"]
    first = tool(tmp_path, *words)
    assert first.returncode == 2 and "3 of 3 images are not square (3 of 64x48)" in first.stderr
    assert os.listdir(tmp_path / "data") == ["sigara"]
    proposed = shlex.split(first.stderr.strip().splitlines()[-1])
    assert proposed[:2] == ["python", "dataset_tool.py"]
    second = tool(tmp_path, *proposed[2:])
    assert second.returncode == 0 and second.stderr == ""
    assert second.stdout.splitlines()[-2:] == [
        "data/sigara.zip: 3 images, 32x32 RGB, about 10 kB, no labels.",
        "Next: python train.py --data=data/sigara.zip"]
    dataset = ImageDataset(tmp_path / "data" / "sigara.zip")
    assert len(dataset) == 3 and dataset.image_shape == [3, 32, 32]
    assert sorted(os.listdir(tmp_path / "data")) == ["sigara", "sigara.zip"]


def test_help_is_instant_and_shows_examples(tmp_path):
    start = time.perf_counter()
    shown = tool(tmp_path, "-h")
    assert shown.returncode == 0 and time.perf_counter() - start < 2
    assert "--source ./data/sigara --dest ./data/sigara.zip --resolution=512x512" in shown.stdout
    heavy = "import sys, stylegan2_pipeline.commands.dataset; print({'torch', 'numpy', 'PIL'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", heavy], cwd=SCRIPT.parent, text=True).strip() == "set()"


@pytest.mark.parametrize(("words", "message"), [
    (["--source", "nowhere", "--dest", "a.zip"], "--source: nowhere does not exist"),
    (["--source", "notes.txt", "--dest", "a.zip"], "none of what can be read: images"),
    (["--source", "empty", "--dest", "a.zip"], "no images in empty. Passed over, because they are no images: 1 .txt"),
    (["--source", "bad.zip", "--dest", "a.zip"], "cannot be read as a zip"),
    (["--source", "square", "--dest", "there.zip"], "there.zip exists already"),
    (["--source", "square", "--dest", "empty"], "the folder empty is not empty"),
    (["--source", "square", "--dest", "square/new.zip"], "lies inside --source square"),
    (["--source", "square", "--dest", "a.zip", "--holdout=1", "--holdout-dest=square/h.zip"], "--holdout-dest: square"),
    (["--source", "square", "--dest", "link"], "--dest: link is a link"),
    (["--source", "square", "--dest", "new.zip"], "--dest: new.zip.partial, where work would be done"),
    (["--source", "s" * 300, "--dest", "a.zip"], "does not exist"),
    (["--source", "square", "--dest", "d" * 300 + ".zip"], "File name too long"),
    (["--source", "square", "--dest", "a.zip", "--report=empty"], "--report: empty must end in .html"),
    (["--source", "square", "--dest", "notes.txt/a.zip"], "cannot be written"),
    (["--source", "square", "--dest", "a.zip", "--resolution=64x32"], "training needs square images"),
    (["--source", "square", "--dest", "a.zip", "--resolution=big"], "'big' is not a size"),
    (["--source", "square", "--dest", "a.zip", "--resolution=" + "9" * 5000], "is not a size"),
    (["--source", "square", "--dest", "a.zip", "--resolution=64", "--width=64"], "give one of them"),
    (["--source", "square", "--dest", "a.zip", "--labels=folders"], "lie in no class folder"),
    (["--source", "square", "--dest", "a.zip", "--pad-with=mauvish"], "or #20a0ff, edge or reflect"),
    (["--source", "broken", "--dest", "a.zip"], "no image in broken can be used"),
    (["--source", "square", "--dest", "a.zip", "--workers=0"], "--workers"),
    (["--dest", "a.zip"], "--source"),
])
def test_each_mistake_is_a_message_exit_code_2_and_no_file(tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    photo(tmp_path / "square" / "a.png", 32, 32)
    for name, text in (("notes.txt", "x"), ("empty/notes.txt", "x"), ("bad.zip", "x"), ("there.zip", "mine"),
                       ("new.zip.partial/mine.txt", "mine"),
                       ("broken/a.jpg", "<html>")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "link").symlink_to("empty")
    before = sorted(tmp_path.rglob("*"))
    result = CliRunner().invoke(command, words)
    assert result.exit_code == 2 and message in result.stderr
    assert isinstance(result.exception, SystemExit)
    assert sorted(tmp_path.rglob("*")) == before


def many_photos(tmp_path, count):
    first = photo(tmp_path / "photos" / "0000.jpg", 1024, 768)
    for number in range(1, count):
        os.link(first, tmp_path / "photos" / f"{number:04d}.jpg")
    return ["--source", "photos", "--dest", "out.zip", "--resolution=256", "--transform=center-crop", "--workers=2"]


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_ctrl_c_within_seconds_leaves_nothing(tmp_path):
    words = many_photos(tmp_path, 160)
    process = subprocess.Popen([sys.executable, SCRIPT, *words], cwd=tmp_path, start_new_session=True,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not has_workers(process.pid):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the workers too
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and errors.split("\n")[1:] == [
        "Nothing was written, and nothing kept of these few seconds.", "", "Stopped.", ""]
    assert os.listdir(tmp_path) == ["photos"]
    while group_exists(process.pid):  # the workers end too
        assert time.monotonic() < deadline
        time.sleep(0.05)


def has_workers(pid):
    """Two of them, and the process by which Python keeps track of them."""
    return len(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()) >= 3


def group_exists(group):
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_write_that_fails_midway_leaves_nothing(tmp_path):
    words = many_photos(tmp_path, 20)
    limited = tool(tmp_path, *words, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (2 ** 20, 2 ** 20)))
    assert limited.returncode == 2 and "--dest: out.zip.partial cannot be written: File too large" in limited.stderr
    assert "Traceback" not in limited.stderr
    assert os.listdir(tmp_path) == ["photos"]


def test_a_folder_and_a_zip_hold_the_same(tmp_path):
    photo(tmp_path / "square" / "a.png", 32, 32)
    for dest in ("out.zip", "out"):
        assert tool(tmp_path, "--source", "square", "--dest", dest).returncode == 0
    with Archive(tmp_path / "out.zip") as packed, Archive(tmp_path / "out") as loose:
        assert packed.names == loose.names == ["00000/img00000000.png"]
        np.testing.assert_array_equal(packed.read(0), loose.read(0))


def archive_images(path):
    with Archive(path) as archive:
        return [archive.read(index) for index in range(len(archive))]


@pytest.mark.slow
def test_killed_and_gone_on_gives_the_same_bytes(tmp_path):
    words = [*many_different_photos(tmp_path, 150), "--holdout=0.2", "--labels=folders"]
    assert tool(tmp_path, *words).returncode == 0
    (tmp_path / "out.zip").rename(tmp_path / "whole.zip")
    (tmp_path / "out-holdout.zip").rename(tmp_path / "whole-holdout.zip")
    assert "no out.zip.partial to go on with" in tool(tmp_path, *words, "--continue").stderr
    for lines in (20, 60):
        kill_after(tmp_path, words, lines)
        assert sorted(os.listdir(tmp_path)) == ["out.zip.partial", "photos", "whole-holdout.zip", "whole.zip"]
    with (tmp_path / "out.zip.partial" / "journal.jsonl").open("a") as file:
        file.write('{"index": 5, "half a li')  # as a killed machine leaves it
    last = tool(tmp_path, *words, "--continue")
    assert last.returncode == 0 and "of 150 images were looked at before" in last.stderr
    for ending in (".zip", "-holdout.zip"):
        assert (tmp_path / f"out{ending}").read_bytes() == (tmp_path / f"whole{ending}").read_bytes()
    assert not (tmp_path / "out.zip.partial").exists()


def test_another_source_is_not_gone_on_with(tmp_path):
    words = many_different_photos(tmp_path, 60)
    kill_after(tmp_path, words, 10)
    photo(tmp_path / "photos" / "a" / "000.jpg", 100, 100, seed=999)
    refused = tool(tmp_path, *words, "--continue")
    assert refused.returncode == 2 and "was begun with something else (the files there)" in refused.stderr
    assert (tmp_path / "out.zip.partial" / "journal.jsonl").read_bytes().count(b"\n") >= 10
    assert "looked at before" not in (anew := tool(tmp_path, *words)).stderr and anew.returncode == 0


def test_what_was_looked_at_serves_other_options_too(tmp_path):
    words = many_different_photos(tmp_path, 60)
    kill_after(tmp_path, words, 30)
    other = tool(tmp_path, *words, "--channels=1")
    assert other.returncode == 0 and "of 60 images were looked at before" in other.stderr
    assert archive_images(tmp_path / "out.zip")[0].shape == (1, 32, 32)


def many_different_photos(tmp_path, count):
    for number in range(count):
        photo(tmp_path / "photos" / "ab"[number % 2] / f"{number:03d}.jpg", 100, 80, seed=number)
    return ["--source", "photos", "--dest", "out.zip", "--resolution=32", "--transform=center-crop", "--workers=2"]


def kill_after(tmp_path, words, lines):
    """Kill -9 of all its processes once the journal has gained so many lines."""
    journal = tmp_path / "out.zip.partial" / "journal.jsonl"
    before = journal.read_bytes().count(b"\n") if journal.exists() else 0
    process = subprocess.Popen([sys.executable, SCRIPT, *words], cwd=tmp_path, start_new_session=True,
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not journal.exists() or journal.read_bytes().count(b"\n") < before + lines:
        assert process.poll() is None
        time.sleep(0.001)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def test_only_files_of_a_name(tmp_path):
    for name in ("a_t1.png", "a_T1CE.png", "b_t1ce.png"):
        photo(tmp_path / "set" / name, 32, 32, seed=len(name) + ord(name[0]))
    chosen = tool(tmp_path, "--source", "set", "--dest", "out.zip", "--only=*t1ce*")
    assert chosen.returncode == 0 and "out.zip: 2 images" in chosen.stdout
    none = tool(tmp_path, "--source", "set", "--dest", "b.zip", "--only=*flair*")
    assert none.returncode == 2 and "none of 3 files in set has such a path" in none.stderr
    assert "choose one of images, dicom" in tool(tmp_path, "--source=set", "--dest=b.zip", "--source-type=jpg").stderr
    assert "cannot heed that" in tool(tmp_path, "--source=set", "--dest=b.zip", "--every=2").stderr


def test_what_else_lies_there_is_said_and_a_zip_is_one_whatever_it_is_called(tmp_path):
    for number in range(3):
        photo(tmp_path / "set" / f"{number}.png", 32, 32, seed=number)
    np.save(tmp_path / "set" / "more.npy", np.zeros((1, 32, 32), np.uint8))
    both = tool(tmp_path, "--source", "set", "--dest", "out.zip")
    assert both.returncode == 0 and "Also there, and passed over: numpy arrays; --source-type=arrays" in both.stdout
    (tmp_path / "out.zip").rename(tmp_path / "download")
    again = tool(tmp_path, "--source", "download", "--dest", "again.zip")
    assert again.returncode == 0 and "again.zip: 3 images" in again.stdout


def test_a_table_of_patients_for_pictures_that_are_named_by_them(tmp_path):
    for number in range(8):
        photo(tmp_path / "set" / f"HOSP{number // 2:03d}_{number % 2}.png", 32, 32, seed=number)
    (tmp_path / "patients.csv").write_text("id,sick\n" + "".join(f"HOSP{n:03d},{'yn'[n % 2]}\n" for n in range(4)))
    words = ["--source=set", "--labels=patients.csv", "--group-by=regex:HOSP[0-9]+"]
    done = tool(tmp_path, *words, "--dest=out.zip")
    assert done.returncode == 0 and "2 classes (n 4, y 4)" in done.stdout, done.stderr
    with Archive(tmp_path / "out.zip") as archive:
        assert archive.subjects() == [0, 0, 1, 1, 2, 2, 3, 3] and archive.labels == [1, 1, 0, 0, 1, 1, 0, 0]
