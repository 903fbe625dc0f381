"""MNIST and its relatives, from files written here by what the format says."""

import gzip
import pickle
import struct
import zipfile
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest
from damaging import damaged, read_all
from hypothesis import HealthCheck, given, settings

from stylegan2_pipeline.decode import BrokenImage
from stylegan2_pipeline.sources.base import Reading
from stylegan2_pipeline.sources.idx import FASHION, FASHION_STARTS, IdxImages
from stylegan2_pipeline.sources.registry import open_source
from torch_utils.errors import UserError

pytestmark = pytest.mark.usefixtures("temp")

IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
PIXELS = np.random.default_rng(0).integers(0, 256, (12, 7, 5), np.uint8)
CLASSES = np.arange(12, dtype=np.uint8) % 10


def idx(array):
    return struct.pack(f">2x2B{array.ndim}I", 8, array.ndim, *array.shape) + array.tobytes()


def write(folder, files):
    folder.mkdir(exist_ok=True)
    for name, data in files.items():
        place = folder / name
        place.parent.mkdir(exist_ok=True)
        place.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return folder


def all_pixels(source):
    return np.stack([source.decode(index).pixels[:, :, 0] for index in range(len(source.names))])


@pytest.mark.parametrize("images, labels", [
    (IMAGES, LABELS), (IMAGES + ".gz", LABELS + ".gz"), (IMAGES, LABELS + ".gz"), (IMAGES + ".gz", LABELS),
    ("train-images.idx3-ubyte", "train-labels.idx1-ubyte"), (f"{IMAGES}/{IMAGES}", f"{LABELS}/{LABELS}")])
@pytest.mark.parametrize("whole", ["folder", "file", "zip"])
def test_pixels_and_labels(tmp_path, images, labels, whole):
    folder = write(tmp_path / "in", {images: idx(PIXELS), labels: idx(CLASSES), "cover.png": b""})
    path = folder
    if whole == "zip":
        path = tmp_path / "x.zip"
        with zipfile.ZipFile(path, "w") as archive:
            [archive.write(folder / name, name) for name in (images, labels)]
    if whole == "file" and "/" not in images:
        path = folder / images
    with open_source(path) as source:
        assert isinstance(source, IdxImages) and source.curated
        assert np.array_equal(all_pixels(source), PIXELS)
        assert source.names[11] == f"{images.removesuffix('.gz')}#00011"
        assert source.labels().values == CLASSES.tolist() and source.labels().class_names is None
        assert source.notes() == []
        state = source.state()
    assert np.array_equal(all_pixels(source), PIXELS)  # also after it was closed
    source.close()
    if whole == "folder":
        write(folder, {labels: idx(CLASSES[::-1])[:-1]})
        assert source.state() != state


def decode(task):
    source, index = task
    return source.decode(index).pixels, source.close()


def test_other_processes_share_what_was_unpacked(tmp_path, temp):
    with open_source(write(tmp_path / "in", {IMAGES + ".gz": idx(PIXELS)})) as source:
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:
            found = list(pool.map(decode, [(source, index) for index in range(12)]))
        assert np.array_equal(np.stack([pixels[:, :, 0] for pixels, _ in found]), PIXELS)
        assert len(list(temp.iterdir())) == 1 and len(pickle.dumps(source)) < 5000


def test_training_images_are_taken_unless_the_others_are_named(tmp_path):
    folder = write(tmp_path / "in", {IMAGES: idx(PIXELS), "t10k-images-idx3-ubyte": idx(255 - PIXELS)})
    source = open_source(folder)
    assert np.array_equal(all_pixels(source), PIXELS) and source.labels() is None
    assert source.notes() == [f"Read: {IMAGES}; left out: t10k-images-idx3-ubyte. Name the file itself to get another.",
                              "There is no file of labels beside it."]
    assert np.array_equal(all_pixels(open_source(folder / "t10k-images-idx3-ubyte")), 255 - PIXELS)
    (folder / IMAGES).unlink()
    assert np.array_equal(all_pixels(open_source(folder)), 255 - PIXELS)


def test_fashion_is_known_by_its_first_labels(tmp_path):
    for start in FASHION_STARTS:
        folder = write(tmp_path / "in", {IMAGES: idx(PIXELS),
                                         LABELS: idx(np.frombuffer(start + b"\x01\x02", np.uint8))})
        assert open_source(folder).labels().class_names == FASHION
    write(folder, {LABELS: idx(np.frombuffer(start + b"\x01\x0a", np.uint8))})
    assert open_source(folder).labels().class_names is None


def test_emnist_is_set_upright(tmp_path):
    folder = write(tmp_path / "in", {f"emnist-letters-{IMAGES}": idx(PIXELS)})
    assert np.array_equal(all_pixels(open_source(folder)), PIXELS.swapaxes(1, 2))


def test_damage_is_told(tmp_path):
    folder = tmp_path / "in"
    for name, data, words in [
            (IMAGES, idx(PIXELS)[:-1], r"announces 12 x 7 x 5 bytes and holds 419: it was not copied whole"),
            (IMAGES, idx(PIXELS) + b"x", r"announces 12 x 7 x 5 bytes and holds 421"),
            (IMAGES, idx(PIXELS[:0]), r"announces 0 x 7 x 5"), (IMAGES, b"", "does not begin as an idx file"),
            (IMAGES, idx(PIXELS)[:9], "cut short"), (IMAGES, idx(CLASSES), "in 3 dimensions")]:
        write(folder, {name: data})
        with pytest.raises(UserError, match=rf"--source: .*in: {IMAGES}.*{words}"):
            open_source(folder)
    (folder / IMAGES).unlink()
    for data in (gzip.compress(idx(PIXELS))[:-9], b"no gzip"):
        (folder / f"{IMAGES}.gz").write_bytes(data)
        with pytest.raises(UserError, match="Was it copied whole"):
            open_source(folder)
    write(folder, {IMAGES: idx(PIXELS), LABELS: idx(CLASSES[:5])})
    with pytest.raises(UserError, match="holds 12 images, and train-labels-idx1-ubyte 5 labels"):
        open_source(folder).labels()
    write(folder, {LABELS: idx(PIXELS)})
    with pytest.raises(UserError, match="train-labels-idx1-ubyte cannot be read: it does not begin"):
        open_source(folder).labels()
    with pytest.raises(BrokenImage, match="too large: 35 pixels"):
        open_source(folder, reading=Reading(max_pixels=34)).decode(0)
    source = open_source(folder)
    (folder / IMAGES).write_bytes(idx(PIXELS)[:200])
    with pytest.raises(BrokenImage, match="cut short"):
        source.decode(11)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="there is no file such as train-images"):
        open_source(tmp_path / "empty", kind="mnist")


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_any_damage_gives_images_or_words(tmp_path, ending):
    images, labels = ((gzip.compress(data) if ending else data) for data in (idx(PIXELS), idx(CLASSES)))

    @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
    @given(damaged(images), damaged(labels))
    def check(bad_images, bad_labels):
        for first, second in ((bad_images, labels), (images, bad_labels)):
            (tmp_path / (IMAGES + ending)).write_bytes(first)
            (tmp_path / (LABELS + ending)).write_bytes(second)
            try:
                with open_source(tmp_path) as source:
                    read_all(source)
            except UserError as error:
                assert str(error)

    check()
