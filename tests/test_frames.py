"""Animations and files of several pages as images: which frames, their names, and what belongs together."""

import io
import json
import pickle
import zipfile

import pytest
from PIL import Image

from stylegan2_pipeline.decode import BrokenImage
from stylegan2_pipeline.sources.base import Reading
from stylegan2_pipeline.sources.images import MISNAMED, ImageFiles, frame_numbers
from stylegan2_pipeline.sources.registry import open_source
from torch_utils.errors import UserError

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # of Pillow, as in stylegan2_pipeline.decode
COLORS = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (90, 90, 90)]


def film(kind, count=4, **options):
    pictures = [Image.new("RGB", (8, 6), color) for color in COLORS[:count]]
    stream = io.BytesIO()
    pictures[0].save(stream, kind, save_all=True, append_images=pictures[1:], **options)
    return stream.getvalue()


def still(kind="PNG", color=(1, 2, 3)):
    stream = io.BytesIO()
    Image.new("RGB", (8, 6), color).save(stream, kind)
    return stream.getvalue()


@pytest.fixture
def folder(tmp_path):
    """Two animations, two pages and two stills, one of which is a GIF."""
    (tmp_path / "source").mkdir()
    for name, data in {"b.gif": film("GIF"), "c.png": film("PNG", 3), "d.tif": film("TIFF", 2),
                       "a.jpg": still("JPEG"), "e.gif": still("GIF")}.items():
        (tmp_path / "source" / name).write_bytes(data)
    return tmp_path / "source"


def colours(source):
    return [tuple(int(value) for value in source.decode(index).pixels[3, 3, :3]) for index in range(len(source.names))]


def test_the_first_frames_unless_asked(folder):
    with open_source(folder) as source:
        assert source.names == ["a.jpg", "b.gif", "c.png", "d.tif", "e.gif"]
        assert colours(source)[1:4] == [COLORS[0]] * 3
        assert [source.decode(index).animated for index in range(5)] == [False, True, True, True, False]
        assert source.volume(1) is None and source.run(3) == 3


def test_all_frames(folder):
    with open_source(folder, reading=Reading(frames="all")) as source:
        assert source.names == ["a.jpg", "b.gif#000", "b.gif#001", "b.gif#002", "b.gif#003",
                                "c.png#000", "c.png#001", "c.png#002", "d.tif#000", "d.tif#001", "e.gif"]
        assert colours(source)[1:10] == COLORS + COLORS[:3] + COLORS[:2]
        assert not any(source.decode(index).animated for index in range(11))
        assert [source.volume(index) for index in (0, 1, 4, 5, 10)] == [None, "b.gif", "b.gif", "c.png", None]
        assert [source.run(index) for index in range(11)] == [0, 1, 1, 1, 1, 2, 2, 2, 3, 3, 4]
        assert len({source.checksum(index) for index in range(1, 5)}) == 4
        assert source.header(4)[:3] == (3, 6, 8)


def test_frames_in_any_order_and_in_other_processes(folder):
    with open_source(folder, reading=Reading(frames="all")) as source:
        in_turn = colours(source)
        for index in (4, 1, 7, 3, 3, 2):
            assert tuple(source.decode(index).pixels[3, 3, :3]) == in_turn[index]
        assert colours(pickle.loads(pickle.dumps(source))) == in_turn


def test_one_frame_by_its_number(folder):
    with open_source(folder, reading=Reading(frames="2")) as source:
        assert source.names == ["a.jpg", "b.gif", "c.png", "d.tif", "e.gif"]
        assert tuple(source.decode(1).pixels[3, 3, :3]) == COLORS[2]
        source.decode(0), source.decode(4)  # stills have one frame, which is taken
        with pytest.raises(BrokenImage, match="has 2 frames, and none with the number 2"):
            source.decode(3)


@pytest.mark.parametrize("frames", ["some", "-1", "1.5", "", "999999999", "²"])
def test_refusals(folder, frames):
    with pytest.raises(UserError, match="--frames=all, or the number"):
        open_source(folder, reading=Reading(frames=frames))


def test_the_label_of_a_file_is_that_of_its_frames(tmp_path):
    path = tmp_path / "set.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.gif", film("GIF", 3))
        archive.writestr("b.png", still())
        archive.writestr("dataset.json", json.dumps({"labels": [["a.gif", 1], ["b.png", 0]]}))
    with open_source(path, reading=Reading(frames="all")) as source:
        assert source.labels().values == [1, 1, 1, 0]
    with open_source(path) as source:
        assert source.labels().values == [1, 0]


def test_broken_files_are_counted_as_one_image_and_said_when_read(tmp_path):
    data = film("GIF")
    for name, bad in {"a.gif": data[:10], "b.gif": b"", "c.tif": still("TIFF")[:30], "d.png": still()[:40]}.items():
        (tmp_path / name).write_bytes(bad)
    with open_source(tmp_path, reading=Reading(frames="all")) as source:
        assert source.names == ["a.gif", "b.gif", "c.tif", "d.png"]
        for index in range(4):
            with pytest.raises(BrokenImage):
                source.decode(index)


def test_frames_after_a_broken_one_are_still_read(tmp_path):
    data = bytearray(film("PNG"))
    second = data.index(b"fdAT")
    data[second + 12] ^= 255  # within its compressed pixels
    (tmp_path / "a.png").write_bytes(data)
    with open_source(tmp_path, reading=Reading(frames="all")) as source:
        assert len(source.names) == 4
        with pytest.raises(BrokenImage):
            source.decode(1)
        assert tuple(source.decode(0).pixels[3, 3, :3]) == COLORS[0]


def test_few_bytes_are_read_to_count_the_frames_of_a_still():
    class Counting:
        read = 0

        def read_bytes(self, name, most=-1):
            data = {"a.jpg": still("JPEG"), "b.png": still() + bytes(10 ** 6)}[name]
            self.read = len(data[:most] if most >= 0 else data)
            return data[:most] if most >= 0 else data

    tree = Counting()
    assert frame_numbers(tree, "a.jpg", 10 ** 6) == frame_numbers(tree, "b.png", 10 ** 6) == [0]
    assert tree.read <= 2 ** 16


def test_wrong_endings_are_told_and_do_not_matter(tmp_path):
    (tmp_path / "a.jpg").write_bytes(still("PNG", (9, 8, 7)))
    (tmp_path / "b.png").write_bytes(still("PNG"))
    (tmp_path / "c.JPE").write_bytes(still("JPEG"))
    with open_source(tmp_path) as source:
        assert isinstance(source, ImageFiles)
        first, *others = [source.decode(index) for index in range(3)]
    assert first.remarks == (MISNAMED,) and tuple(first.pixels[0, 0]) == (9, 8, 7)
    assert all(not image.remarks for image in others)
