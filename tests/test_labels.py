"""Labels of a collection from its dataset.json and its folders."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stylegan2_pipeline.sources.labels import file_of, labels_from_folders, labels_from_json, some, top_folders
from torch_utils.errors import UserError

NAMES = ["a.png", "b/c.png"]


def read(record, names=NAMES, prefix=""):
    return labels_from_json(record, names, prefix, "dataset.json")


def test_labels_go_by_name():
    record = {"labels": [["b\\c.png", 1], ["./a.png", 0], ["elsewhere.png", 7]], "class_names": ["x", "y"]}
    labels = read(record)
    assert (labels.values, labels.class_names) == ([0, 1], ["x", "y"])
    inside = read({"labels": [["a.png", 3]]}, ["set/a.png", "set/b.png"], "set/")
    assert (inside.values, inside.missing()) == ([3, None], [1])
    assert read({"labels": None}) is None and read({"labels": []}) is None


def test_names_of_classes_are_kept_only_where_they_fit():
    def names(labels, names):
        return read({"labels": [["a.png", labels], ["b/c.png", labels]], "class_names": names}).class_names

    assert names(1, ["x", "y"]) == names([0, 1], ["x", "y"]) == ["x", "y"]
    assert names(2, ["x", "y"]) is None and names([0, 1, 2], ["x", "y"]) is None
    assert names(1, "xy") is None and names(1, [1, 2]) is None


@pytest.mark.parametrize(("record", "message"), [
    ([], 'dataset.json must hold {"labels"'),
    ({"labels": {"a.png": 1}}, '"labels" must be a list'),
    ({"labels": [["a.png", 1, 2]]}, "is not a pair [name, label]"),
    ({"labels": [["a.png", -1]]}, "dataset.json: a.png has the label -1; it must be a class number from 0"),
    ({"labels": [["a.png", True]]}, "has the label True"),
    ({"labels": [["a.png", [float("nan")]]]}, "has the label [nan]"),
    ({"labels": [["a.png", 1], ["b/c.png", [1.0]]]}, "mixes labels of different kinds (class numbers, vectors of 1)"),
    ({"labels": [["z.png", 1]]}, "has 1 labels, and none of them names an image that is here"),
])
def test_damaged_records_are_refused(record, message):
    with pytest.raises(UserError) as refused:
        read(record)
    assert message in refused.value.message


JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(NAMES),
                    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(
                        ["labels", "class_names", "a.png"]), inner, max_size=3), max_leaves=20)


@given(JSON | st.fixed_dictionaries({"labels": JSON, "class_names": JSON})
       | st.fixed_dictionaries({"labels": st.lists(st.tuples(st.sampled_from(NAMES), JSON).map(list), max_size=3)}))
def test_any_record_is_labels_or_refused(record):
    try:
        labels = read(record)
    except UserError:
        return
    if labels:
        json.dumps(labels.values, allow_nan=False)
        assert len(labels.values) == 2


def test_the_top_folder_is_the_class():
    labels = labels_from_folders(["set/dog/1.png", "set/cat/x/2.png", "set/dog/3.png"], "set")
    assert (labels.values, labels.class_names) == ([1, 0, 1], ["cat", "dog"])
    assert top_folders(["cat/1.png", "2.png"]) == ["cat", None] and top_folders([]) == []
    with pytest.raises(UserError, match=r"1 of 2 images in set lie in no class folder \(2.png\)"):
        labels_from_folders(["cat/1.png", "2.png"], "set")


@pytest.mark.parametrize(("name", "file"), [
    ("a/b.gif#002", "a/b.gif"), ("scan.nii.gz#12", "scan.nii.gz"), ("a/b.png", "a/b.png"), ("c#1.png", "c#1.png"),
    ("c#/1", "c#/1"), ("#3", "#3"), ("c#", "c#"),
])
def test_frames_are_of_their_file(name, file):
    assert file_of(name) == file


def test_names_of_any_bytes_can_be_printed():
    assert some(["a\udcff", "b", "c"], 2) == "a\\udcff, b and 1 more"
