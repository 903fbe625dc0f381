"""CIFAR-10 and -100: pickles written here as Python 2 wrote the published ones, and nothing in them is run."""

import contextlib
import io
import os
import pickle
import struct
import tarfile

import numpy as np
import pytest
from damaging import damaged, read_all
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stylegan2_pipeline.sources.cifar import CifarImages
from stylegan2_pipeline.sources.pickles import read_plain
from stylegan2_pipeline.sources.registry import open_source
from torch_utils.errors import UserError

pytestmark = pytest.mark.usefixtures("temp")

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 3, 32, 32), np.uint8)
NAMES = ["airplane", "bird", "cat"]


def dump(value):
    """Protocol 2 as Python 2 writes it: text and bytes are both strings of bytes, arrays are rebuilt by name."""
    if isinstance(value, dict):
        return b"}(" + b"".join(dump(key) + dump(item) for key, item in value.items()) + b"u"
    if isinstance(value, list):
        return b"](" + b"".join(map(dump, value)) + b"e"
    if isinstance(value, int):
        return b"K" + bytes([value])
    if isinstance(value, str):
        return b"U" + bytes([len(value)]) + value.encode()
    data = value.tobytes()
    kind = b"cnumpy\ndtype\nq\x05U\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    return (b"cnumpy.core.multiarray\n_reconstruct\nq\x02cnumpy\nndarray\nq\x03K\x00\x85U\x01b\x87Rq\x04(K\x01"
            + struct.pack("<chch", b"M", value.shape[0], b"M", value.shape[1])
            + b"\x86" + kind + b"\x89T" + struct.pack("<i", len(data)) + data + b"tb")


def python2(value):
    return b"\x80\x02" + dump(value) + b"."


def batch(pixels, labels, key="labels"):
    return {"batch_label": "training batch", key: labels, "data": pixels.reshape(len(pixels), -1),
            "filenames": [f"{number}.png" for number in range(len(pixels))]}


TEN = {"data_batch_1": batch(PIXELS[:2], [2, 0]), "data_batch_2": batch(PIXELS[2:4], [1, 1]),
       "test_batch": batch(PIXELS[4:], [0, 2]), "batches.meta": {"label_names": NAMES, "num_vis": 100}}
HUNDRED = {"train": {**batch(PIXELS[:4], [2, 0, 1, 2], "fine_labels"), "coarse_labels": [0, 0, 0, 1]},
           "test": batch(PIXELS[4:], [0, 2], "fine_labels"),
           "meta": {"fine_label_names": NAMES, "coarse_label_names": ["one", "two"]}}
SETS = {"cifar-10-batches-py": (TEN, [2, 0, 1, 1]), "cifar-100-python": (HUNDRED, [2, 0, 1, 2])}


def write(folder, files, form=python2):
    folder.mkdir(exist_ok=True)
    for name, value in files.items():
        (folder / name).write_bytes(form(value))
    (folder / "readme.html").write_bytes(b"<html>")
    return folder


def all_pixels(source):
    return np.stack([source.decode(index).pixels.transpose(2, 0, 1) for index in range(len(source.names))])


def test_the_pickles_made_here_are_what_python_reads():
    record = pickle.loads(python2(TEN["data_batch_1"]), encoding="latin-1")
    assert record["labels"] == [2, 0] and np.array_equal(record["data"].reshape(-1, 3, 32, 32), PIXELS[:2])


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("whole", ["folder", "tar.gz", "inside"])
@pytest.mark.parametrize("form", [python2, lambda value: pickle.dumps(value, 4)])
def test_training_images_and_fine_labels(tmp_path, name, whole, form):
    files, labels = SETS[name]
    folder = path = write(tmp_path / name, files, form)
    if whole == "tar.gz":
        path = tmp_path / "cifar.tar.gz"
        with tarfile.open(path, "w:gz") as archive:
            archive.add(folder, name)
    if whole == "inside":
        path = tmp_path
    with open_source(path) as source:
        assert isinstance(source, CifarImages) and source.curated
        assert np.array_equal(all_pixels(source), PIXELS[:4])
        assert source.labels().values == labels and source.labels().class_names == NAMES
        first, test = ("data_batch_1", "test_batch") if "10-" in name else ("train", "test")
        assert source.names[0] == ("" if whole == "folder" else f"{name}/") + f"{first}#00000"
        assert f"not trained on: {'' if whole == 'folder' else f'{name}/'}{test}." in source.notes()[-1]
        assert len(source.state()) == 32 and len(pickle.dumps(source)) < 20000
    assert np.array_equal(all_pixels(source), PIXELS[:4])  # also after it was closed
    source.close()


def test_the_images_for_tests_by_name(tmp_path):
    with open_source(write(tmp_path / "x", TEN) / "test_batch") as source:
        assert np.array_equal(all_pixels(source), PIXELS[4:]) and source.labels().values == [0, 2]
        assert source.notes() == []


class Evil:
    def __init__(self, call, *arguments):
        self.call, self.arguments = call, arguments

    def __reduce__(self):
        return self.call, self.arguments


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_nothing_in_a_pickle_is_run(tmp_path, protocol):
    trap = tmp_path / "trap"
    folder = write(tmp_path / "x", TEN)
    for evil in (Evil(os.mkdir, str(trap)), Evil(eval, f"open({str(trap)!r}, 'w')")):
        for record in ({**batch(PIXELS[:2], [2, 0]), "more": evil}, {"data": evil, "labels": [1]}, evil):
            (folder / "data_batch_1").write_bytes(pickle.dumps(record, protocol))
            try:
                open_source(folder, kind="cifar").close()
            except UserError as error:
                assert "data_batch_1 cannot be read" in str(error)
            assert not trap.exists()


def test_shared_tuples_as_keys_do_not_take_for_ever():
    nested = b"K\x01" + b"q\x00h\x00\x86" * 200
    with pytest.raises(ValueError, match="a tuple"):
        read_plain(b"\x80\x02}(" + nested + b"K\x01u.")


def test_damage_is_told(tmp_path):
    good = batch(PIXELS[:2], [2, 0])
    for bad, words in [({**good, "labels": [1]}, "1 labels do not belong to 6144 bytes"), ({"data": 1}, "no labels"),
                       ({**good, "data": 5}, "its data is no array"), ([1], "it is no dictionary"),
                       ({**good, "labels": ["1"]}, "no labels as CIFAR")]:
        folder = write(tmp_path / "x", {**TEN, "data_batch_2": bad})
        with pytest.raises(UserError, match=f"--source: .*x: data_batch_2 cannot be read: .*{words}.*copied whole"):
            open_source(folder)
    for data, words in [(b"\x80\x02}", "no end|not exhausted|STOP"), (python2(good)[:-500], "cannot be read"),
                        (python2(good).replace(b"u1K", b"f4K"), "not of bytes"), (b"\x80\x02.", "do not fit together"),
                        (b"\x80\x02]K\x01s.", "fit together"), (b"\x80\x02(i\n\n.", "none that a pickle of plain")]:
        (folder / "data_batch_2").write_bytes(data)
        with pytest.raises(UserError, match=words):
            open_source(folder)
    folder = write(tmp_path / "x", {**TEN, "batches.meta": {"label_names": NAMES[:2]}})
    with open_source(folder) as source, pytest.raises(UserError, match="does not name the classes"):
        source.labels()
    with pytest.raises(UserError, match="it is no CIFAR-10 or CIFAR-100"):
        open_source(folder / "readme.html", kind="cifar")


def test_other_files_named_train_are_not_taken(tmp_path):
    (tmp_path / "train").write_bytes(b"text")
    (tmp_path / "meta").write_bytes(b"text")
    assert not isinstance(open_source(tmp_path), CifarImages)


def test_any_damage_gives_images_or_words(tmp_path):
    folder = write(tmp_path / "x", {**HUNDRED, "train": batch(PIXELS[:1], [1], "fine_labels")})
    good = (folder / "train").read_bytes()
    places = [place for place in range(len(good)) if not 400 < place < len(good) - 200] or [0]

    @settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))
    @given(damaged(good) | st.lists(st.tuples(st.sampled_from(places), st.integers(0, 255)), max_size=3))
    def check(bad):
        data = bytearray(good if isinstance(bad, list) else bad)
        for place, value in bad if isinstance(bad, list) else ():
            data[place] = value
        (folder / "train").write_bytes(data)
        try:
            with open_source(folder, kind="cifar") as source:
                read_all(source)
        except UserError as error:
            assert str(error)

    check()


@settings(max_examples=30, deadline=None)
@given(st.recursive(st.none() | st.booleans() | st.integers(-2 ** 31, 2 ** 70) | st.text() | st.binary() | st.floats(
    allow_nan=False), lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text(), inner)))
def test_plain_containers_are_read_as_python_reads_them(value):
    for protocol in (3, 4):
        assert read_plain(pickle.dumps(value, protocol)) == value


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=200))
def test_any_instructions_are_followed_or_refused(data):
    for start in (b"\x80\x02", b"\x80\x04}(", b""):
        with contextlib.suppress(ValueError):
            read_plain(start + data + b".")


def test_a_memo_of_any_number_takes_no_memory():
    assert read_plain(b"\x80\x02K\x05r\xff\xff\xff\x7f.") == 5
    assert pickle.load(io.BytesIO(b"\x80\x02K\x05q\x01.")) == 5
