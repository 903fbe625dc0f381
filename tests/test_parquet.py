"""Tables with images, as Hugging Face's `datasets` writes them, by files that pyarrow made."""

import io
import json
import pickle
import sys
import zipfile

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from pyarrow import parquet

from stylegan2_pipeline.decode import BrokenImage
from stylegan2_pipeline.sources.base import Reading
from stylegan2_pipeline.sources.parquet import chosen_split, split_of
from stylegan2_pipeline.sources.registry import open_source, open_tree, recognized
from torch_utils.errors import UserError

RECORD = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def png(number, size=(6, 4)):
    data = io.BytesIO()
    Image.new("RGB", size, (number % 256, 7, 255 - number % 256)).save(data, "PNG")
    return data.getvalue()


def table(count=10, first=0, names=("cat", "dog"), image=None, features=None, **columns):
    """As `datasets` lays it out: image, label, and what its schema says about them."""
    data = {"image": image or pa.array([{"bytes": png(first + n), "path": f"{n}.png"} for n in range(count)], RECORD),
            "label": pa.array([n % len(names) for n in range(count)], pa.int64()), **columns}
    said = {"image": {"_type": "Image"}, "label": {"names": list(names), "_type": "ClassLabel"}, **(features or {})}
    made = pa.table({name: values for name, values in data.items() if values is not None})
    return made.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": said}})})


def save(path, made=None, rows=4):
    made = table() if made is None else made
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        parquet.write_table(made, path, row_group_size=rows)
        return path
    new = pa.ipc.new_file if path.stem.startswith("file") else pa.ipc.new_stream
    with pa.OSFile(str(path), "wb") as file, new(file, made.schema) as writer:
        writer.write_table(made, max_chunksize=rows)
    return path


def reds(source):
    """The number that each image was made with."""
    return [int(source.decode(index).pixels[0, 0, 0]) for index in range(len(source.names))]


def reason(path, index=0):
    source = open_source(path)
    with pytest.raises(BrokenImage) as error:
        source.decode(index)
    return str(error.value)


class TestRows:
    @pytest.mark.parametrize("file", ["data.parquet", "stream.arrow", "file.arrow"])
    def test_images_labels_and_names_of_several_shards(self, tmp_path, file):
        save(tmp_path / f"0/{file}", table(10))
        save(tmp_path / f"1/{file}", table(7, first=10))
        source = open_source(tmp_path)
        assert len(source.names) == 17 and source.names[10] == f"1/{file}#000000"
        assert reds(source) == list(range(17))
        assert source.notes() == ["Tables of 2 folders become one set: 0, 1."]
        decoded = source.decode(3)
        assert decoded.pixels.shape == (4, 6, 3) and decoded.pixels.dtype == np.uint8
        labels = source.labels()
        assert labels.values == [n % 2 for n in range(10)] + [n % 2 for n in range(7)]
        assert labels.class_names == ["cat", "dog"]

    @pytest.mark.parametrize("file", ["data.parquet", "stream.arrow", "file.arrow"])
    def test_any_order_a_zip_and_a_pickled_source_give_the_same(self, tmp_path, file):
        save(tmp_path / "set" / file, table(30))
        with zipfile.ZipFile(tmp_path / "set.zip", "w") as packed:
            packed.write(tmp_path / "set" / file, file)
        order = np.random.default_rng(0).permutation(30)
        for place in ("set", "set.zip"):
            source = open_source(tmp_path / place)
            source.decode(20)
            for opened in (source, pickle.loads(pickle.dumps(source))):
                assert [int(opened.decode(index).pixels[0, 0, 0]) for index in order] == order.tolist()
                opened.close()
                assert reds(opened) == list(range(30))

    def test_rows_are_dealt_out_in_runs(self, tmp_path):
        tiny = [{"bytes": png(0), "path": None}]
        for number, count in enumerate((300, 5, 200)):
            save(tmp_path / f"{number}.parquet", table(count, image=pa.array(tiny * count, RECORD)), rows=1000)
        source = open_source(tmp_path)
        runs = [source.run(index) for index in range(505)]
        assert runs == sorted(runs)
        starts = [0, *(index for index in range(1, 505) if runs[index] != runs[index - 1])]
        assert starts == [0, 128, 256, 300, 305, 433]

    def test_patients(self, tmp_path):
        save(tmp_path / "a.parquet", table(4, patient_id=pa.array([7, 7, 8, None])))
        source = open_source(tmp_path)
        assert [source.subject(index) for index in range(4)] == ["7", "7", "8", None]

    def test_state_changes_with_the_files(self, tmp_path):
        save(tmp_path / "a.parquet")
        before = open_source(tmp_path).state()
        assert open_source(tmp_path).state() == before
        save(tmp_path / "a.parquet", table(11))
        assert open_source(tmp_path).state() != before

    def test_tables_are_told_beside_pictures(self, tmp_path):
        save(tmp_path / "a.parquet")
        for number in range(5):
            (tmp_path / f"{number}.png").write_bytes(png(number))
        assert recognized(open_tree(tmp_path, "--source"))[0] == "parquet"


class TestColumns:
    @pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), pa.binary_view()])
    def test_bytes_without_a_word_about_them(self, tmp_path, kind):
        made = pa.table({"id": ["a", "b"], "thumb": pa.array([png(90), png(91)], kind),
                         "jpg": pa.array([png(1), png(2)], kind), "class": ["tumor", "none"]})
        save(tmp_path / "a.arrow", made)
        source = open_source(tmp_path)
        assert reds(source) == [1, 2]
        assert source.labels().values == [1, 0] and source.labels().class_names == ["none", "tumor"]
        assert source.notes() == ["Taken are images from the column jpg, labels from class. Not taken: thumb."]

    def test_what_the_schema_says_goes_before_names(self, tmp_path):
        made = table(4, image=pa.array([b"no image"] * 4), scan=pa.array([{"bytes": png(n), "path": None}
                                                                          for n in range(4)], RECORD),
                     kind=pa.array([2, 1, 0, -1]), label=pa.array([5, 5, 5, 5]),
                     features={"image": {"_type": "Value"}, "scan": {"_type": "Image"}, "label": {"_type": "Value"},
                               "kind": {"_type": "ClassLabel", "names": ["a", "b", "c"]}})
        save(tmp_path / "a.parquet", made)
        source = open_source(tmp_path)
        assert reds(source) == [0, 1, 2, 3]
        assert source.labels().values == [2, 1, 0, None] and source.labels().class_names == ["a", "b", "c"]

    def test_whole_numbers_without_names(self, tmp_path):
        save(tmp_path / "a.parquet", table(3, features={"label": {}}, label=pa.array([4, None, 9])))
        labels = open_source(tmp_path).labels()
        assert labels.values == [4, None, 9] and labels.class_names is None

    def test_no_labels(self, tmp_path):
        save(tmp_path / "a.parquet", table(3, label=None))
        assert open_source(tmp_path).labels() is None
        save(tmp_path / "a.parquet", table(3, label=pa.array([-1, -1, -1])))
        assert open_source(tmp_path).labels() is None

    def test_labels_beyond_the_classes(self, tmp_path):
        save(tmp_path / "a.parquet", table(2, label=pa.array([0, 2])))
        with pytest.raises(UserError, match="else than class numbers from 0 to 1, as its schema says"):
            open_source(tmp_path).labels()

    def test_shards_of_different_sets(self, tmp_path):
        save(tmp_path / "a.parquet")
        save(tmp_path / "b.parquet", table(names=("x", "y", "z")))
        with pytest.raises(UserError, match="do not agree on their classes"):
            open_source(tmp_path).labels()

    @pytest.mark.parametrize("said", [b"{", b"[]", b'{"info": {"features": {"image": 3, "label": []}}}'])
    def test_a_damaged_word_about_the_columns(self, tmp_path, said):
        save(tmp_path / "a.parquet", table(3).replace_schema_metadata({"huggingface": said}))
        assert reds(open_source(tmp_path)) == [0, 1, 2]

    def test_tables_without_images_are_left_out(self, tmp_path):
        save(tmp_path / "a.parquet")
        save(tmp_path / "b.parquet", pa.table({"text": ["x"], "label": [1]}))
        save(tmp_path / "cache-1234.arrow")
        source = open_source(tmp_path)
        assert len(source.names) == 10
        assert dict(source.left_out()) == {
            "b.parquet": "a table without image files in a column; it has text, label",
            "cache-1234.arrow": "what `datasets` keeps of its own work"}

    def test_rows_without_an_image(self, tmp_path):
        rows = [{"bytes": None, "path": "/etc/passwd"}, None, {"bytes": None, "path": None},
                {"bytes": b"GIF8", "path": ""}]
        save(tmp_path / "a.parquet", table(4, image=pa.array(rows, RECORD)))
        words = [reason(tmp_path, index) for index in range(4)]
        assert words[0] == "the table only names a file, and does not hold it"
        assert words[1] == words[2] == "no image in this row" and "GIF" in words[3]


class TestSplits:
    @pytest.mark.parametrize(("name", "split"), [
        ("data/train-00000-of-00002.parquet", "train"), ("default/test/0000.parquet", "test"),
        ("partial-train/0000.parquet", "train"), ("train/dev-0.parquet", "validation"), ("trainer.parquet", ""),
        ("mnist_valid.arrow", "validation"), ("a.parquet", "")])
    def test_by_name(self, name, split):
        assert split_of(name) == split

    def test_the_training_split_is_taken_with_a_note(self, tmp_path):
        for number, name in enumerate(["train-00000-of-00002", "train-00001-of-00002", "validation-0", "test-0"]):
            save(tmp_path / f"data/{name}.parquet", table(2, first=10 * number))
        source = open_source(tmp_path)
        assert reds(source) == [0, 1, 10, 11]
        assert source.notes() == ["The training split is taken (2 files), not the other files (1 of test, 1 of "
                                  "validation). To read those, name their folder or file."]
        assert reds(open_source(tmp_path / "data" / "test-0.parquet")) == [30, 31]

    def test_others_are_taken_where_there_is_no_training_split(self):
        assert chosen_split(["test.parquet", "x.parquet"]) == (["test.parquet", "x.parquet"], [])


class TestDamage:
    def test_a_shard_that_cannot_be_read_is_one_broken_image(self, tmp_path):
        save(tmp_path / "a.parquet")
        (tmp_path / "b.parquet").write_bytes(b"PAR1")
        (tmp_path / "c.arrow").write_bytes(b"")
        source = open_source(tmp_path)
        assert source.names[10:] == ["b.parquet", "c.arrow"] and len(source.labels().values) == 12
        assert source.run(11) != source.run(10) != source.run(9) and source.subject(10) is None
        for index in (10, 11):
            with pytest.raises(BrokenImage, match="cannot be read"):
                source.decode(index)

    def test_damage_within_a_group_is_met_once(self, tmp_path):
        """Rows before it are read, those behind it in the group are not, those of other groups are."""
        rng = np.random.default_rng(0)
        rows = [png(n) + rng.bytes(30000) for n in range(80)]
        made = table(80, image=pa.array([{"bytes": row, "path": None} for row in rows], RECORD))
        path = tmp_path / "a.parquet"
        parquet.write_table(made, path, row_group_size=40, use_dictionary=False, compression="none",
                            data_page_size=100_000, write_page_checksum=True, write_batch_size=4)
        data = bytearray(path.read_bytes())
        data[data.index(rows[20]) + 5000] ^= 1
        path.write_bytes(data)
        source = open_source(path)
        good = []
        for index in range(80):
            try:
                source.decode(index)
                good.append(index)
            except BrokenImage as error:
                assert "cannot be read" in str(error)
        assert set(range(12)) | set(range(40, 80)) <= set(good)
        assert not set(range(20, 40)) & set(good)

    def test_a_column_that_cannot_be_read(self, tmp_path):
        path = save(tmp_path / "a.parquet", table(label=pa.array(["x" * 300 + str(n) for n in range(10)]), features={
            "label": {}}))
        data = path.read_bytes()
        parquet.write_table(parquet.read_table(path), path, compression="none", use_dictionary=False)
        data = path.read_bytes().replace(b"x" * 290, b"\xff" * 290)
        path.write_bytes(data)
        with pytest.raises(UserError, match=r"a\.parquet: the column label cannot be read"):
            open_source(path).labels()

    def test_numbers_of_rows_that_are_lies_take_no_memory(self, tmp_path):
        empty = pa.table({"image": pa.array([None] * 10 ** 6, pa.binary())})
        path = save(tmp_path / "a.parquet", empty, rows=10 ** 6)
        assert path.stat().st_size < 10 ** 5
        assert reason(path) == "cannot be read: it claims to have 1000000 rows"

    def test_images_beyond_max_pixels(self, tmp_path):
        save(tmp_path / "a.parquet")
        with pytest.raises(BrokenImage, match="too large"):
            open_source(tmp_path, reading=Reading(max_pixels=23)).decode(0)

    def test_without_pyarrow(self, tmp_path, monkeypatch):
        save(tmp_path / "a.parquet")
        monkeypatch.setitem(sys.modules, "pyarrow", None)
        with pytest.raises(UserError, match=r"parquet and arrow files need the package pyarrow.*'\.\[parquet\]'"):
            open_source(tmp_path)

    @pytest.mark.parametrize("file", ["data.parquet", "stream.arrow", "file.arrow"])
    @settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(data=st.data())
    def test_any_damage_gives_words_or_pictures(self, tmp_path, file, data):
        whole = bytearray(save(tmp_path / file).read_bytes())
        for _ in range(data.draw(st.integers(0, 6))):
            whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
        (tmp_path / file).write_bytes(whole[:data.draw(st.integers(0, len(whole)))])
        source = open_source(tmp_path)
        source.notes()
        try:
            source.labels()
        except UserError as error:
            assert file in str(error) or "labels" in str(error)
        for index in range(min(len(source.names), 12)):
            try:
                assert source.decode(index).pixels.ndim == 3
            except BrokenImage as error:
                assert str(error)
