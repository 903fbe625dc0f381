"""LMDB databases of image files, made here with the library for them."""

import io
import pickle
import struct
import zipfile
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest
from damaging import read_all, with_changes
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from stylegan2_pipeline.decode import BrokenImage
from stylegan2_pipeline.sources.base import Reading
from stylegan2_pipeline.sources.lsun import PAGE_HEADER, LmdbImages, entries
from stylegan2_pipeline.sources.registry import open_source
from torch_utils.errors import UserError

lmdb = pytest.importorskip("lmdb")


def webp(value, size=(5, 4), **options):
    file = io.BytesIO()
    Image.new("RGB", size, (value, 0, 0)).save(file, "WEBP", lossless=True, **options)
    return file.getvalue()


def write(path, records, **options):
    with lmdb.open(str(path), map_size=2 ** 27, **options) as database, database.begin(write=True) as transaction:
        for key, value in records.items():
            transaction.put(key, value)
    return path


def key_of(number):
    return f"{number * 2654435761 % 2 ** 32:08x}{number:032x}".encode()


@pytest.mark.parametrize("count", [1, 3, 40, 3000])
def test_everything_is_found_where_the_library_finds_it(tmp_path, count):
    """Values of 1 byte to several pages, in a tree of up to three levels."""
    random = np.random.default_rng(count)
    records = {key_of(number): random.bytes(int(10 ** random.uniform(0, 4))) for number in range(count)}
    path = write(tmp_path / "x", records)
    with lmdb.open(str(path), readonly=True) as database, database.begin() as transaction:
        expected = list(transaction.cursor())
    data = (path / "data.mdb").read_bytes()
    found = [(entry.key, data[entry.offset:entry.offset + entry.size]) for entry in entries(io.BytesIO(data))]
    assert found == expected and len(found) == count and [key for key, _ in found] == sorted(records)


def test_changed_databases_are_read_as_they_are_now(tmp_path):
    """After removals and new values, pages are used again, and the other meta page is the newest."""
    path = write(tmp_path / "x", {key_of(number): b"old" * 700 for number in range(500)})
    for turn in range(3):
        with lmdb.open(str(path), map_size=2 ** 27) as database, database.begin(write=True) as transaction:
            for number in range(turn, 500, 3):
                transaction.delete(key_of(number))
                transaction.put(key_of(number + 1000), bytes([turn]) * 300 * number)
        data = (path / "data.mdb").read_bytes()
        with lmdb.open(str(path), readonly=True) as database, database.begin() as transaction:
            expected = list(transaction.cursor())
        assert expected == [(entry.key, data[entry.offset:entry.offset + entry.size])
                            for entry in entries(io.BytesIO(data))]


IMAGES = {b"c3": webp(30), b"a1": webp(10), b"b2": webp(20), b"\x00\xff": webp(5), b"z": b"no image"}


@pytest.mark.parametrize("whole", ["folder", "file", "above"])
def test_images_in_the_order_of_their_keys(tmp_path, whole):
    folder = write(tmp_path / "bedroom_train_lmdb", IMAGES)
    (folder / "cover.png").write_bytes(b"")
    path = {"folder": folder, "file": folder / "data.mdb", "above": tmp_path}[whole]
    with open_source(path) as source:
        assert isinstance(source, LmdbImages) and source.names == ["0x00ff", "a1", "b2", "c3", "z"]
        pixels = [source.decode(index).pixels for index in range(4)]
        assert [p[0, 0].tolist() for p in pixels] == [[value, 0, 0] for value in (5, 10, 20, 30)]
        assert pixels[0].shape == (4, 5, 3) and source.labels() is None and source.notes() == []
        with pytest.raises(BrokenImage, match="not an image"):
            source.decode(4)
        state = source.state()
    write(folder, {b"d": webp(1)})
    assert open_source(path).state() != state


def decode(task):
    source, index = task
    return source.decode(index).pixels[0, 0, 0]


@pytest.mark.slow
def test_other_processes_read_it(tmp_path):
    source = open_source(write(tmp_path / "x", {key_of(number): webp(number) for number in range(50)}))
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        found = list(pool.map(decode, [(source, index) for index in range(50)]))
    assert found == [decode((source, index)) for index in range(50)] and sorted(found) == list(range(50))


def test_one_of_several_databases(tmp_path):
    write(tmp_path / "room_train_lmdb", {b"a": webp(1)})
    write(tmp_path / "room_val_lmdb", {b"b": webp(2)})
    source = open_source(tmp_path)
    assert source.names == ["a"]
    assert source.notes() == ["Read: room_train_lmdb/data.mdb; left out: room_val_lmdb/data.mdb."]
    write(tmp_path / "tower_train_lmdb", {b"a": webp(1)})
    with pytest.raises(UserError, match=r"holds 3 databases \(.*Name the folder of one, such as .*room_train_lmdb"):
        open_source(tmp_path)


def test_databases_within_the_database_are_left_out(tmp_path):
    with lmdb.open(str(tmp_path / "x"), max_dbs=2) as database:
        inner = database.open_db(b"inner")
        with database.begin(write=True) as transaction:
            transaction.put(b"a", webp(1))
            transaction.put(b"b", webp(1), db=inner)
    source = open_source(tmp_path / "x")
    assert source.names == ["a"] and source.left_out() == [("inner", "a database within the database")]


def test_an_empty_database_has_no_images(tmp_path):
    assert list(open_source(write(tmp_path / "x", {})).names) == []


def test_a_database_larger_than_an_image_may_be_is_recognized(tmp_path, monkeypatch):
    folder = write(tmp_path / "x", {b"a": webp(1)})
    monkeypatch.setattr("stylegan2_pipeline.sources.folder.MAX_BYTES", 100)
    assert open_source(folder).names == ["a"]


def test_limits_and_places(tmp_path):
    folder = write(tmp_path / "x", {b"a": webp(1)})
    with pytest.raises(BrokenImage, match="too large"):
        open_source(folder, reading=Reading(max_pixels=19)).decode(0)
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.write(folder / "data.mdb", "data.mdb")
    with pytest.raises(UserError, match="can only be read where it lies in a folder by itself: unpack it first"):
        open_source(tmp_path / "x.zip")
    with pytest.raises(UserError, match=r"there is no LMDB database \(data.mdb\)"):
        open_source(folder / "lock.mdb", kind="lsun")


def test_damage_is_told(tmp_path):
    place = write(tmp_path / "x", {key_of(number): webp(number % 256, (90, 90)) for number in range(300)}) / "data.mdb"
    data = place.read_bytes()
    root = struct.unpack_from("<Q", data, 4096 + PAGE_HEADER + 24 + 48 + 40)[0]
    depth_trap = bytearray(data)
    first = struct.unpack_from("<H", data, root * 4096 + PAGE_HEADER)[0]
    struct.pack_into("<H", depth_trap, root * 4096 + first, root)  # its first child is itself
    page_trap = with_changes(data, [(root * 4096 + 10, 0x40)])
    for bad, words in [(data[:len(data) // 2], r"announces \d+ bytes and has \d+"), (data[:100], "cut short"),
                       (with_changes(data, [(4096 + PAGE_HEADER, 1)]), "does not begin as an LMDB database"),
                       (with_changes(data, [(PAGE_HEADER + 24, 1)]), "pages makes no sense"),
                       (data.replace(key_of(7), key_of(8)), "more than once"),
                       (bytes(depth_trap), "circle"), (page_trap, f"page {root} is damaged")]:
        place.write_bytes(bad)
        with pytest.raises(UserError, match=rf"--source: .*data.mdb cannot be read: .*{words}.* copied whole"):
            open_source(tmp_path / "x", kind="lsun")


def test_any_damage_gives_images_or_words(tmp_path):
    place = write(tmp_path / "x", {key_of(number): webp(number, (3, 3)) for number in range(60)}) / "data.mdb"
    data = place.read_bytes()
    used = [number for number in range(len(data)) if data[number]]

    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(st.tuples(st.sampled_from(used), st.integers(1, 255)), max_size=4),
           st.integers(0, len(data)) | st.just(len(data)))
    def check(changes, length):
        place.write_bytes(with_changes(data, changes)[:length])
        try:
            with open_source(place, kind="lsun") as source:
                pickle.loads(pickle.dumps(source))
                read_all(source)
        except UserError as error:
            assert str(error)

    check()
