"""Images in .npy and .npz files: every order of axes and type of number, down to pixels; labels; damage."""

import io
import os
import pickle
import struct
import warnings
import zipfile
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest
from damaging import damaged, read_all
from hypothesis import HealthCheck, given, settings
from PIL import Image

from stylegan2_pipeline.decode import BrokenImage
from stylegan2_pipeline.sources import array_files, arrays
from stylegan2_pipeline.sources.arrays import ArrayImages
from stylegan2_pipeline.sources.base import Reading
from stylegan2_pipeline.sources.registry import open_source
from torch_utils.errors import UserError

pytestmark = pytest.mark.usefixtures("temp")

RANDOM = np.random.default_rng(0)
RGB = RANDOM.integers(0, 256, (5, 6, 7, 3), np.uint8)
GRAY = RANDOM.integers(0, 256, (5, 6, 7), np.uint8)


def all_pixels(source):
    return np.stack([source.decode(index).pixels for index in range(len(source.names))])


def save(path, array):
    np.save(path, array)
    return path


SHAPES = {
    "NHWC": (RGB, RGB), "NCHW": (RGB.transpose(0, 3, 1, 2), RGB), "NHW": (GRAY, GRAY[..., None]),
    "NHW1": (GRAY[..., None], GRAY[..., None]), "N1HW": (GRAY[:, None], GRAY[..., None]),
    "HW": (GRAY[0], GRAY[:1, ..., None]), "HWC": (RGB[0], RGB[:1]), "CHW": (RGB[0].transpose(2, 0, 1), RGB[:1]),
    "1HW": (GRAY[:1], GRAY[:1, ..., None]), "NHW4": (np.concatenate([RGB, GRAY[..., None]], 3),) * 2,
}


@pytest.mark.parametrize("fortran", [False, True])
@pytest.mark.parametrize("file", ["npy", "npz", "compressed", "zip"])
@pytest.mark.parametrize("shape", SHAPES)
def test_every_order_of_axes_from_every_kind_of_file(tmp_path, shape, file, fortran):
    array, expected = SHAPES[shape]
    array = np.asfortranarray(array) if fortran else np.ascontiguousarray(array)
    path = tmp_path / f"x.{'npy' if file == 'npy' else 'npz'}"
    if file == "npy":
        save(path, array)
    else:
        (np.savez_compressed if file == "compressed" else np.savez)(path, images=array)
    if file == "zip":
        with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
            archive.write(path, "in/x.npz")
        path = tmp_path / "x.zip"
    with open_source(path) as source:
        assert isinstance(source, ArrayImages)
        assert np.array_equal(all_pixels(source), expected)
        stem = "in/x.npz" if file == "zip" else path.name
        assert source.names[-1] == (stem if shape in ("HW", "HWC", "CHW") else f"{stem}#{len(expected) - 1:05d}")
        assert not source.decode(0).deep and source.volume(0) is None and source.labels() is None
    assert np.array_equal(all_pixels(source), expected)  # also after it was closed
    source.close()


@pytest.mark.parametrize("kind", ["<u2", ">u2", "<i2", "<i4", "<u4", "<i8", "<f2", "<f4", ">f4", "<f8", "<i1"])
def test_gray_of_any_other_type_is_deep_in_its_own_units(tmp_path, kind):
    array = RANDOM.integers(0, 100, (6, 4, 5)).astype(kind) - (50 if np.dtype(kind).kind in "if" else 0)
    source = open_source(save(tmp_path / "x.npy", array.astype(kind)))
    image = source.decode(2)
    assert image.deep and image.pixels.dtype == np.float32 and image.mode == np.dtype(kind).name
    assert np.array_equal(all_pixels(source)[..., 0], array.astype(np.float32))


def test_bits_are_black_and_white(tmp_path):
    array = RANDOM.random((6, 4, 5)) > 0.5
    assert np.array_equal(all_pixels(open_source(save(tmp_path / "x.npy", array)))[..., 0], array * 255)


@pytest.mark.parametrize("array, remark", [
    (RGB / 255, "from 0 to 1"), (RGB.astype(np.float32) / 127.5 - 1, "from -1 to 1"), (RGB.astype(">f8"), "to 255 rou"),
    (RGB.astype(np.uint16) * 257, "16 bits reduced to 8"), (RGB.astype(np.uint16), "in more than 8 bits"),
    (RGB.astype(np.int64), "in more than 8 bits")])
def test_colours_of_other_types_become_8_bits(tmp_path, array, remark):
    source = open_source(save(tmp_path / "x.npy", array))
    assert np.array_equal(all_pixels(source), RGB) and remark in source.decode(0).remarks[0]


def test_colours_whose_white_is_unclear_are_refused(tmp_path):
    for array, words in [(RGB.astype(np.float32) * 10, "float32 from 0 to 25"), (RGB.astype(int) - 9, "int64 from -9")]:
        with pytest.raises(UserError, match=rf"--source: .*x.npy: its colours are {words}.*say what is white"):
            open_source(save(tmp_path / "x.npy", array))
    array = np.zeros((2000, 4, 4, 3), np.float32)
    array[1] = 7  # is not among the images looked at first
    array[3] = np.nan
    source = open_source(save(tmp_path / "x.npy", array))
    for index in (1, 3):
        with pytest.raises(BrokenImage, match="outside 0 to 1, which the others have"):
            source.decode(index)


def test_deep_images_of_several_files_have_a_window_each(tmp_path):
    for number in range(2):
        save(tmp_path / f"{number}.npy", GRAY.astype(np.int16) * (number + 1))
    source = open_source(tmp_path)
    assert [source.volume(index) for index in (0, 4, 5, 9)] == ["0.npy", "0.npy", "1.npy", "1.npy"]
    assert np.array_equal(source.decode(9).pixels[..., 0], GRAY[4] * 2.0)
    for number in range(3):
        save(tmp_path / f"{number}.npy", GRAY[number].astype(np.int16))  # one image a file: one window for all
    source = open_source(tmp_path)
    assert source.names == ["0.npy", "1.npy", "2.npy"] and {source.volume(index) for index in range(3)} == {None}


def test_values_that_are_none_are_broken(tmp_path):
    array = GRAY.astype(np.float64)
    array[1, 0, 0], array[2, 0, 0], array[3, 0, 0] = np.nan, np.inf, 1e300
    source = open_source(save(tmp_path / "x.npy", array))
    for index in (1, 2, 3):
        with pytest.raises(BrokenImage, match="not finite"):
            source.decode(index)
    assert source.decode(0).deep
    with pytest.raises(BrokenImage, match="too large: 7x6 pixels"):
        open_source(tmp_path / "x.npy", reading=Reading(max_pixels=41)).decode(0)


@pytest.mark.parametrize("keys", [
    {"images": RGB, "labels": [3, 1, 2, 0, 1]}, {"arr_0": RGB, "arr_1": np.array([3, 1, 2, 0, 1], np.int64)},
    {"x_train": RGB, "y_train": [[3], [1], [2], [0], [1]], "x_test": GRAY, "y_test": [1, 2, 3, 4, 5]},
    {"train_images": RGB, "train_labels": np.array([[3], [1], [2], [0], [1]], np.uint8), "val_images": RGB[:2],
     "val_labels": [[1], [2]], "test_images": GRAY, "test_labels": [1] * 5},
    {"X": RGB, "Y": [3, 1, 2, 0, 1]}, {"image": RGB, "mask": GRAY, "label": [3, 1, 2, 0, 1]},
    {"data": RGB, "targets": [3, 1, 2, 0, 1], "mu": np.zeros(9), "sigma": np.zeros((9, 9)), "name": "x"}])
def test_labels_by_the_usual_names(tmp_path, keys):
    np.savez(tmp_path / "x.npz", **keys)
    source = open_source(tmp_path / "x.npz")
    assert np.array_equal(all_pixels(source), RGB)
    assert source.labels().values == [3, 1, 2, 0, 1] and source.labels().class_names is None
    others = "; left out:" in " ".join(source.notes())
    assert others == (len(keys) > 2)


@pytest.mark.parametrize("given, values, names", [
    (np.array(["b", "a", "b", "ü", "a"]), [1, 0, 1, 2, 0], ["a", "b", "ü"]),
    (np.array([b"b", b"a", b"b", b"c", b"a"]), [1, 0, 1, 2, 0], ["a", "b", "c"]),
    (np.array([[0, 1], [1, 0], [1, 1], [0, 0], [0, 1]]), [[0., 1.], [1., 0.], [1., 1.], [0., 0.], [0., 1.]], None),
    (np.array([.5, 1, 2, 3, 4]), [[.5], [1.], [2.], [3.], [4.]], None),
    (np.array([True, False, True, True, False]), [1, 0, 1, 1, 0], None)])
def test_labels_of_every_kind(tmp_path, given, values, names):
    np.savez_compressed(tmp_path / "x.npz", images=RGB, labels=given)
    with open_source(tmp_path) as source:
        assert source.labels().values == values and source.labels().class_names == names


def test_labels_in_files_beside_and_files_for_tests(tmp_path):
    save(tmp_path / "X_train.npy", RGB)
    save(tmp_path / "y_train.npy", np.arange(5))
    save(tmp_path / "X_test.npy", RGB)
    save(tmp_path / "y_test.npy", np.arange(5))
    source = open_source(tmp_path)
    assert len(source.names) == 5 and source.labels().values == [0, 1, 2, 3, 4]
    assert source.notes() == ["Left out, because they are for tests: X_test.npy, y_test.npy."]
    assert source.left_out() == []


def test_a_table_of_labels_beside_the_images_is_none_of_them(tmp_path):
    save(tmp_path / "images.npy", RGB)
    save(tmp_path / "labels.npy", np.eye(5))
    source = open_source(tmp_path)
    assert len(source.names) == 5 and source.labels().values == np.eye(5).tolist() and source.left_out() == []


def test_words_of_several_files_are_one_set_of_classes(tmp_path):
    np.savez(tmp_path / "a.npz", images=GRAY, labels=["cat"] * 5)
    np.savez(tmp_path / "b.npz", images=GRAY, labels=["ant", "cat", "dog", "dog", "ant"])
    labels = open_source(tmp_path).labels()
    assert labels.class_names == ["ant", "cat", "dog"] and labels.values == [1] * 5 + [0, 1, 2, 2, 0]
    np.savez(tmp_path / "b.npz", images=GRAY, labels=np.zeros((5, 2)))
    with pytest.raises(UserError, match="some arrays of labels hold class numbers, others vectors"):
        open_source(tmp_path).labels()
    np.savez(tmp_path / "b.npz", images=GRAY)
    assert open_source(tmp_path).labels().values == [0] * 5 + [None] * 5


@pytest.mark.parametrize("given, words", [
    (np.array([-1, 0, 1, 2, 3]), "class numbers begin at 0"), (np.array([np.nan] * 5), "not a finite number"),
    (np.array([["a", "b"]] * 5), "several words for one image")])
def test_labels_that_are_none_are_told(tmp_path, given, words):
    np.savez(tmp_path / "x.npz", images=RGB, labels=given)
    with pytest.raises(UserError, match=rf"x.npz: the labels labels .*{words}.*--labels=none leaves them out"):
        open_source(tmp_path / "x.npz").labels()


class Trap:
    def __reduce__(self):
        return os.abort, ()


def test_python_objects_are_never_loaded(tmp_path):
    trap = np.array([Trap()] * 5, dtype=object)
    np.savez(tmp_path / "x.npz", images=RGB, labels=trap)
    source = open_source(tmp_path)
    assert np.array_equal(all_pixels(source), RGB) and source.labels() is None
    (tmp_path / "x.npz").unlink()
    with pytest.raises(UserError, match=r"there are no arrays of images in .*x.npy: its elements are Python objects"):
        open_source(save(tmp_path / "x.npy", trap))


@pytest.mark.parametrize("array, words", [
    (np.zeros((5, 6, 7, 2)), r"its shape \[5, 6, 7, 2\] is none of \[N,H,W\]"), (np.zeros((0, 4, 4)), "it is empty"),
    (np.zeros((2, 3, 4, 5, 3)), "is none of"), (np.zeros((600, 28)), "is that of a table: reshape it"),
    (np.zeros((4, 4), complex), "no numbers"), (np.zeros(7), "is none of")])
def test_arrays_that_are_no_images_are_told(tmp_path, array, words):
    with pytest.raises(UserError, match=rf"there are no arrays of images in .*x.npy: .*{words}"):
        open_source(save(tmp_path / "x.npy", array))
    save(tmp_path / "good.npy", GRAY)
    source = open_source(tmp_path)
    assert len(source.names) == 5 and [name for name, _ in source.left_out()] == ["x.npy"]


def test_what_there_is_more_of_is_read(tmp_path):
    """Pictures of an array do not take its place, nor do statistics beside pictures."""
    for number in range(3):
        Image.fromarray(RGB[number]).save(tmp_path / f"preview{number}.png")
    save(tmp_path / "images.npy", RGB)
    assert isinstance(open_source(tmp_path), ArrayImages)
    (tmp_path / "images.npy").unlink()
    np.savez(tmp_path / "stats.npz", mu=np.zeros(99), sigma=np.zeros((99, 99)))
    assert not isinstance(open_source(tmp_path), ArrayImages)


def test_one_file_that_is_damaged_is_left_out(tmp_path):
    save(tmp_path / "a.npy", GRAY)
    (tmp_path / "b.npy").write_bytes((tmp_path / "a.npy").read_bytes()[:-1])
    (tmp_path / "c.npz").write_bytes(b"no zip")
    source = open_source(tmp_path)
    assert len(source.names) == 5
    assert source.left_out() == [("b.npy", "cannot be read: 210 bytes are announced, and 209 are there"),
                                 ("c.npz", "cannot be read: File is not a zip file")]


def test_an_array_of_three_by_h_by_w_is_one_image_and_said_to_be(tmp_path):
    source = open_source(save(tmp_path / "x.npy", RGB[0].transpose(2, 0, 1)))
    assert source.notes() == ["x.npy, of shape [3, 6, 7], is read as one image of 3 channels."]


def read(task):
    source, index = task
    return source.decode(index).pixels


@pytest.mark.parametrize("compressed", [pytest.param(False, marks=pytest.mark.slow), True])
def test_other_processes_read_what_was_unpacked_once(tmp_path, compressed, temp):
    (np.savez_compressed if compressed else np.savez)(tmp_path / "x.npz", images=RGB)
    with open_source(tmp_path) as source:
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:
            assert np.array_equal(np.stack(list(pool.map(read, [(source, index) for index in range(5)]))), RGB)
        assert len(list(temp.iterdir())) == compressed and len(pickle.dumps(source)) < 5000


def test_small_compressed_files_are_read_where_they_are_needed(tmp_path, temp, monkeypatch):
    for number in range(3):
        np.savez_compressed(tmp_path / f"{number}.npz", images=GRAY + number)
    opened = []
    whole = arrays.read_array
    monkeypatch.setattr(arrays, "read_array", lambda tree, array: opened.append(array.file) or whole(tree, array))
    source = open_source(tmp_path)
    assert np.array_equal(all_pixels(source)[..., 0], np.concatenate([GRAY, GRAY + 1, GRAY + 2]))
    assert opened == ["0.npz", "1.npz", "2.npz"] and not list(temp.iterdir())
    assert [source.run(index) for index in range(15)] == [0] * 5 + [1] * 5 + [2] * 5
    with monkeypatch.context() as patch:
        patch.setattr(array_files, "MAX_BYTES", 100)
        with pytest.raises(BrokenImage, match="too large"):
            open_source(tmp_path).decode(0)


def test_a_large_array_is_not_read_to_be_opened(tmp_path):
    """A file of 60 GB that the disk holds none of."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": (10 ** 5, 800, 750)})
    with open(tmp_path / "x.npy", "wb") as file:
        file.write(header.getvalue())
        file.truncate(len(header.getvalue()) + 10 ** 5 * 600000)
    source = open_source(tmp_path / "x.npy")
    assert len(source.names) == 10 ** 5 and source.decode(10 ** 5 - 1).pixels.max() == 0


def test_a_member_that_lies_about_its_size_is_told(tmp_path):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": (9, 60, 70)})
    with zipfile.ZipFile(tmp_path / "x.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("images.npy", header.getvalue() + bytes(100))
    data = (tmp_path / "x.npz").read_bytes()
    (tmp_path / "x.npz").write_bytes(data.replace(struct.pack("<I", len(header.getvalue()) + 100), b"\0\0\1\0"))
    with pytest.raises(UserError, match=r"x.npz cannot be read: (it is cut short|Bad CRC).* Was it copied whole"):
        open_source(tmp_path)


@pytest.mark.parametrize("kind", ["npy", "npz", "compressed"])
def test_any_damage_gives_images_or_words(tmp_path, kind):
    path = tmp_path / ("x.npy" if kind == "npy" else "x.npz")
    if kind == "npy":
        save(path, RGB[:2] / 255)
    else:
        (np.savez if kind == "npz" else np.savez_compressed)(path, images=RGB[:2], labels=[1, 2])
    data = path.read_bytes()

    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
    @given(damaged(data) | damaged(data[:128]).map(lambda start: start + data[128:]))
    def check(bad):
        path.write_bytes(bad)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                with open_source(path) as source:
                    read_all(source)
            except UserError as error:
                assert str(error)

    check()
