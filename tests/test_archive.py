"""The dataset format: what is written is what other programs read, and what they write is read here."""

import errno
import io
import json
import multiprocessing
import os
import pickle
import struct
import zipfile
import zlib

import numpy as np
import pytest
from archives import make_images, write_archive
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from stylegan2_pipeline.archive import Archive, ArchiveWriter, pixel_digest
from stylegan2_pipeline.png import encode_png
from stylegan2_pipeline.sources.labels import Labels, labels_from_folders, labels_from_json, some
from stylegan2_pipeline.sources.registry import open_files, open_source
from stylegan2_pipeline.sources.zip import is_safe
from torch_utils.errors import UserError


def read_independently(path):
    """{name: [H,W,C]} and the dataset.json of a zip, from the format descriptions of zip and PNG alone."""
    data = path.read_bytes()
    images, record = {}, None
    count, _, place = struct.unpack("<HII", data[-12:-2])
    for _ in range(count):
        fields = struct.unpack("<4s6H3I5H2I", data[place:place + 46])
        method, size, name_length, header = fields[4], fields[9], fields[10], fields[16]
        assert fields[0] == b"PK\x01\x02" and method == 0 and fields[8] == size  # stored
        name = data[place + 46:place + 46 + name_length].decode()
        begin = header + 30 + sum(struct.unpack("<2H", data[header + 26:header + 30]))
        content = data[begin:begin + size]
        assert zlib.crc32(content) == fields[7]
        if name == "dataset.json":
            record = json.loads(content)
        else:
            images[name] = read_png(content)
        place += 46 + name_length + fields[11] + fields[12]
    return images, record


def read_png(data):
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    place, pixels = 8, b""
    while place < len(data):
        length, kind = struct.unpack(">I4s", data[place:place + 8])
        body = data[place + 8:place + 8 + length]
        assert zlib.crc32(kind + body) == struct.unpack(">I", data[place + 8 + length:place + 12 + length])[0]
        if kind == b"IHDR":
            width, height, depth, color, *rest = struct.unpack(">2I5B", body)
            assert depth == 8 and rest == [0, 0, 0]
        pixels += body if kind == b"IDAT" else b""
        place += 12 + length
    rows = np.frombuffer(zlib.decompress(pixels), np.uint8).reshape(height, -1)
    assert (rows[:, 0] == 0).all()
    return rows[:, 1:].reshape(height, width, {0: 1, 2: 3, 6: 4}[color])


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_a_zip_holds_what_the_format_says(tmp_path, channels):
    images = make_images(3, channels)
    found, record = read_independently(write_archive(tmp_path / "a.zip", images, [1, 0, 1], ["no", "yes"]))
    names = [f"00000/img0000000{i}.png" for i in range(3)]
    assert list(found) == names
    for name, pixels in zip(names, images, strict=True):
        np.testing.assert_array_equal(found[name], pixels.transpose(1, 2, 0))
    assert record.pop("content")["images"] == [pixel_digest(image) for image in images]
    assert record == {"labels": [[names[0], 1], [names[1], 0], [names[2], 1]], "class_names": ["no", "yes"]}


def test_labels_are_null_unless_all_have_one(tmp_path):
    assert read_independently(write_archive(tmp_path / "a.zip", make_images(2)))[1]["labels"] is None
    assert read_independently(write_archive(tmp_path / "b.zip", make_images(2), [0, None]))[1]["labels"] is None


def test_recorded_digests_hold_for_the_files_that_they_were_made_of_alone(tmp_path):
    images = make_images(3)
    path = write_archive(tmp_path / "a.zip", images)
    digests = [pixel_digest(image) for image in images]
    with Archive(path) as archive:
        archive.read = None  # nothing is read
        assert [archive.pixel_digest(i) for i in range(3)] == digests
    with zipfile.ZipFile(path) as opened, zipfile.ZipFile(tmp_path / "b.zip", "w") as changed:
        for name in opened.namelist():
            data = encode_png(255 - images[0]) if name.endswith("00.png") else opened.read(name)
            changed.writestr(name, data)
    with Archive(tmp_path / "b.zip") as archive:
        assert [archive.pixel_digest(i) for i in range(3)] == [pixel_digest(255 - images[0]), *digests[1:]]
    with Archive(write_archive(tmp_path / "folder", images)) as archive:
        assert [archive.pixel_digest(i) for i in range(3)] == digests


def test_two_archives_appear_together_or_not_at_all(tmp_path, monkeypatch):
    (tmp_path / "work").mkdir()
    with ArchiveWriter(tmp_path / "a.zip") as one, ArchiveWriter(tmp_path / "b.zip", folder=tmp_path / "work") as two:
        for writer in (one, two):
            writer.add(make_images(1)[0])
            writer.finish()
        assert not (tmp_path / "a.zip").exists() and not (tmp_path / "b.zip").exists()
    assert len(Archive(tmp_path / "a.zip")) == len(Archive(tmp_path / "b.zip")) == 1


def test_a_thousand_images_to_a_folder(tmp_path):
    with ArchiveWriter(tmp_path / "many") as writer:
        for number in range(1002):
            writer.add_file(b"%d" % number, None, "")
    assert (tmp_path / "many" / "00001" / "img00001001.png").read_bytes() == b"1001"
    assert len(list((tmp_path / "many" / "00000").iterdir())) == 1000


def test_bytes_do_not_depend_on_the_time_or_place(tmp_path, monkeypatch):
    first = write_archive(tmp_path / "a.zip", make_images(2)).read_bytes()
    monkeypatch.setattr("time.time", lambda: 2e9)
    assert write_archive(tmp_path / "sub" / "b.zip", make_images(2)).read_bytes() == first


@pytest.mark.parametrize("name", ["a.zip", "a"])
def test_nothing_remains_when_writing_is_cut_short(tmp_path, name):
    with pytest.raises(KeyboardInterrupt), ArchiveWriter(tmp_path / name) as writer:
        writer.add(make_images(1)[0])
        assert not (tmp_path / name).exists()
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a.zip", "a"])
def test_a_full_disk_is_a_message_and_leaves_nothing(tmp_path, monkeypatch, name):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("zipfile.ZipFile.writestr" if name == "a.zip" else "pathlib.Path.write_bytes", full)
    with pytest.raises(UserError, match=r"a(\.zip)? cannot be written: No space left.*free some space"):
        write_archive(tmp_path / name, make_images(1))
    assert list(tmp_path.iterdir()) == []


def test_what_is_in_the_way_is_left_alone(tmp_path):
    (tmp_path / "a.zip").write_text("mine")
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").write_text("mine")
    for name, message in (("a.zip", "exists already"), ("file", "not a folder"), ("folder", "is not empty")):
        with pytest.raises(UserError, match=f"--dest: .*{message}"):
            ArchiveWriter(tmp_path / name)
    (tmp_path / "empty").mkdir()
    assert (write_archive(tmp_path / "empty", make_images(1)) / "dataset.json").exists()


def other_program(path, files):
    """A zip or folder as another program may leave it."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
            for name, data in files.items():
                made.writestr(name, data)
    else:
        for name, data in files.items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(data)
    return path


def encoded(color, kind="PNG", mode="RGB"):
    stream = io.BytesIO()
    Image.new("RGB", (8, 8), color).convert(mode).save(stream, kind)
    return stream.getvalue()


@pytest.mark.parametrize("name", ["other.zip", "other"])
def test_archives_made_elsewhere_are_read(tmp_path, name):
    labels = [["c.webp", 2], ["a\\one.PNG", 0], ["b/two.bmp", 1], ["gone.png", 7]]
    path = other_program(tmp_path / name, {
        "b/two.bmp": encoded((0, 255, 0), "BMP"), "a/one.PNG": encoded((255, 0, 0), mode="P"),
        "c.webp": encoded("blue", "WEBP"), "notes.txt": b"x", "b/.hidden.png": b"x", "__MACOSX/a/._one.png": b"x",
        "dataset.json": json.dumps({"labels": labels}).encode(),
    })
    with Archive(path) as archive:
        assert archive.names == ["a/one.PNG", "b/two.bmp", "c.webp"] and len(archive) == 3
        assert archive.labels == [0, 1, 2] and archive.class_names is None
        np.testing.assert_array_equal(archive.read(0)[:, 0, 0], [255, 0, 0])
        np.testing.assert_array_equal(archive.read(1)[:, 0, 0], [0, 255, 0])
        assert archive.read(2).shape == (3, 8, 8)


def test_one_folder_around_everything_is_looked_into(tmp_path):
    record = json.dumps({"labels": [["x.png", 0], ["y.png", 1]], "class_names": ["x", "y"]}).encode()
    files = {"data/x.png": encoded("red"), "data/y.png": encoded("blue"), "data/dataset.json": record}
    archive = Archive(other_program(tmp_path / "a.zip", files))
    assert archive.labels == [0, 1] and archive.class_names == ["x", "y"]


def first_pixel(archive):
    return archive.read(0)[0, 0, 0]


def test_open_archives_cross_processes(tmp_path):
    images = make_images(40, size=16)
    archive = Archive(write_archive(tmp_path / "a.zip", images))
    archive.read(0)
    assert first_pixel(pickle.loads(pickle.dumps(archive))) == images[0, 0, 0, 0]
    children = []
    for _ in range(3):  # all read at once; a shared file position would mix them up
        pid = os.fork()
        if pid == 0:
            right = all((archive.read(i) == images[i]).all() for _ in range(5) for i in range(40))
            os._exit(0 if right else 1)
        children.append(pid)
    assert all((archive.read(i) == images[i]).all() for _ in range(5) for i in range(40))
    assert [os.waitpid(pid, 0)[1] for pid in children] == [0, 0, 0]
    assert multiprocessing.active_children() == []


def test_broken_files_are_named(tmp_path):
    path = other_program(tmp_path / "a", {"bad.png": b"<html>"})
    with pytest.raises(UserError, match=r"--data: .*bad\.png: not an image but a web page"):
        Archive(path).read(0)
    damaged = bytearray(other_program(tmp_path / "a.zip", {"a.png": encoded("red")}).read_bytes())
    damaged[45] ^= 255
    (tmp_path / "b.zip").write_bytes(damaged)
    with pytest.raises(UserError, match=r"a\.png: cannot be unpacked"):
        Archive(tmp_path / "b.zip").read(0)


@pytest.mark.parametrize(("record", "message"), [
    (b"{", "cannot be read"), (b"\xff\xfe", "cannot be read"), (b"[]", "must hold"),
    (b'{"labels": 3}', "must be a list"), (b'{"labels": [["a.png"]]}', "not a pair"),
    (b'{"labels": [["a.png", -1]]}', "class number from 0"), (b'{"labels": [["a.png", "cat"]]}', "class number from 0"),
    (b'{"labels": [["a.png", true]]}', "class number from 0"), (b'{"labels": [["a.png", [NaN]]]}', "list of numbers"),
    (b'{"labels": [["a.png", 0], ["b.png", [1.0]]]}', "mixes labels"),
    (b'{"labels": [["z.png", 0]]}', "names an image"),
])
def test_each_refusal_of_a_damaged_record(tmp_path, record, message):
    files = {"a.png": encoded("red"), "b.png": encoded("red"), "dataset.json": record}
    with pytest.raises(UserError, match=f"--data: .*dataset.json.* {message}"):
        Archive(other_program(tmp_path / "a", files))


def test_links_are_followed_and_loops_end(tmp_path):
    other_program(tmp_path / "far", {"x.png": encoded("red")})
    other_program(tmp_path / "a", {"sub/y.png": encoded("red")})
    (tmp_path / "a" / "link").symlink_to(tmp_path / "far")
    (tmp_path / "a" / "sub" / "loop").symlink_to(tmp_path / "a")
    (tmp_path / "a" / "sub" / "gone.png").symlink_to(tmp_path / "nowhere")
    source = open_source(tmp_path / "a")
    assert source.names == ["link/x.png", "sub/gone.png", "sub/y.png"]
    with pytest.raises(Exception, match="No such file"):
        source.decode(1)


def test_names_that_lead_out_of_a_zip_are_left_out(tmp_path):
    files = {"ok.png": encoded("red"), "../up.png": encoded("red"), "/root.png": encoded("red")}
    source = open_files(other_program(tmp_path / "a.zip", files))
    assert source.names == ["ok.png"]
    assert "2 (../up.png, /root.png)" in source.notes()[0]
    assert not is_safe("C:\\x.png") and not is_safe("a\\..\\..\\x.png") and is_safe("a..b/c.png")


def test_folders_become_classes_in_the_order_of_their_names():
    def classes(*names):
        labels = labels_from_folders(names, "here")
        return labels.values, labels.class_names

    assert classes("dog/1.png", "cat/1.png", "dog/deep/2.png") == ([1, 0, 1], ["cat", "dog"])
    assert classes("all/dog/1.png", "all/cat/1.png") == ([1, 0], ["cat", "dog"])
    assert classes("cat/1.png", "cat/2.png") == ([0, 0], ["cat"])
    with pytest.raises(UserError, match=r"1 of 2 images in here lie in no class folder \(1\.png\)"):
        classes("1.png", "cat/2.png")


@given(st.lists(st.one_of(st.none(), st.integers(0, 9)), min_size=1).filter(any))
def test_missing_labels_are_told_apart_from_class_zero(values):
    names = [f"{i}.png" for i in range(len(values))]
    record = {"labels": [[name, value] for name, value in zip(names, values, strict=True) if value is not None]}
    labels = labels_from_json(record, names, "", "here")
    assert labels == Labels(values) and labels.missing() == [i for i, v in enumerate(values) if v is None]


def test_names_of_any_bytes_can_be_printed():
    text = some([os.fsdecode(b"caf\xe9.png"), *"abcdef"])
    assert text.encode() and text.startswith("caf\\udce9.png, a, b, c, d and 2 more")
