"""What --labels and --unlabelled make of a collection."""

import json

import pytest
from named_sources import Named

from stylegan2_pipeline.conversion.labelling import LabelOptions, choose_labels
from torch_utils.errors import UserError

NAMES = ["cat/1.png", "cat/2.png", "dog/1.png", "eel/1.png"]


@pytest.fixture
def choose(tmp_path):
    def choose(labels="auto", source=None, indices=None, table=None, unlabelled="error"):
        source = source or Named(NAMES)
        path = tmp_path / "t.csv"
        if table is not None:
            path.write_text(table)
        labels = str(path) if labels == "t.csv" else labels
        options = LabelOptions(labels, path if "column" in labels and table else None, unlabelled)
        return choose_labels(options, source, range(len(source.names)) if indices is None else indices, "set")
    return choose


def test_what_the_source_says(choose):
    given = Named(NAMES, given=([0, 1, 2, 5], ["a", "b", "c", "d", "e", "f"]))
    found = choose(source=given, indices=[3, 0])
    assert (found.labels.values, found.kept) == ([5, 0], [0, 1])
    assert found.labels.class_names == ["a", "b", "c", "d", "e", "f"]
    assert choose("none", given).labels is None and choose("none", given).kept == [0, 1, 2, 3]
    assert choose().labels is None


def test_folders_are_classes_of_those_images_alone(choose):
    found = choose("folders", indices=[2, 0, 1])
    assert (found.labels.values, found.labels.class_names) == ([1, 0, 0], ["cat", "dog"])
    loose = Named([*NAMES, "x.png"])
    assert choose("folders", loose, unlabelled="drop").kept == [0, 1, 2, 3]
    own = choose("folders", loose, unlabelled="class").labels
    assert (own.values, own.class_names) == ([0, 0, 1, 2, 3], ["cat", "dog", "eel", "unlabelled"])


def test_patterns_on_the_path(choose):
    named = choose("regex:^([a-z])").labels
    assert (named.values, named.class_names) == ([0, 0, 1, 2], ["c", "d", "e"])
    numbers = choose("regex:[0-9]").labels
    assert (numbers.values, numbers.class_names) == ([1, 2, 1, 1], None)
    assert choose("regex:(cat|dog)/", unlabelled="drop").kept == [0, 1, 2]


def test_tables(choose):
    table = "file,kind,x,y\ncat/1.png,a,1,0.5\ncat/2.png,b,0,1\ndog/1.png,a,1,2\neel/1.png,b,0,0\n"
    assert choose("column:kind", table=table, indices=[1, 0]).labels.values == [1, 0]
    assert choose("column:x", table=table).labels.values == [1, 0, 1, 0]
    assert choose("column:x,y", table=table).labels.values == [[1, 0.5], [0, 1], [1, 2], [0, 0]]
    one = "file,whatever\ncat/1.png,3\ncat/2.png,1\ndog/1.png,0\neel/1.png,0\n"
    assert choose("t.csv", table=one).labels.values == [3, 1, 0, 0]
    several = "file,label,age\ncat/1.png,3,9\ncat/2.png,1,9\ndog/1.png,0,9\neel/1.png,0,9\nz.png,1,1\n"
    found = choose("t.csv", table=several)
    assert found.labels.values == [3, 1, 0, 0] and "1 of 5 rows name no image here (z.png)" in found.notes[0]
    comma = 'file,"a,b"\ncat/1.png,3\ncat/2.png,1\ndog/1.png,0\neel/1.png,0\n'
    assert choose("column:a,b", table=comma).labels.values == [3, 1, 0, 0]


def test_another_dataset_json(choose, tmp_path):
    path = tmp_path / "other.json"
    path.write_text(json.dumps({"labels": [[name, number] for number, name in enumerate(NAMES)]}))
    assert choose(str(path), indices=[2, 1]).labels.values == [2, 1]
    path.write_text("{")
    with pytest.raises(UserError, match=r"other\.json cannot be read"):
        choose(str(path))


PARTLY = "f,label\ncat/1.png,a\ndog/1.png,b\n"


def test_images_without_a_label_are_named_left_out_or_a_class(choose):
    with pytest.raises(UserError) as refused:
        choose("t.csv", table=PARTLY + "no.png,b\n")
    said = refused.value.message
    assert "2 of 4 images have no label in " in said and "t.csv: cat/2.png, eel/1.png. Labels are of use" in said
    assert "--unlabelled=drop" in said and "--labels=none" in said and "1 of 3 rows name no image here" in said

    dropped = choose("t.csv", table=PARTLY, unlabelled="drop")
    assert (dropped.labels.values, dropped.kept) == ([0, 1], [0, 2])
    assert "as --unlabelled=drop asks: 2 of 4" in dropped.notes[-1]

    own = choose("t.csv", table=PARTLY, unlabelled="class")
    assert (own.labels.values, own.kept) == ([0, 2, 1, 2], [0, 1, 2, 3])
    assert own.labels.class_names == ["a", "b", "unlabelled"]


@pytest.mark.parametrize(("cells", "values", "names"), [
    (("0", "2"), [0, 3, 2, 3], ["0", "1", "2", "unlabelled"]),
    (("p;q", "q"), [[1.0, 1.0, 0.0], [0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]], ["p", "q", "unlabelled"]),
    (("unlabelled", "x"), [0, 2, 1, 2], ["unlabelled", "x", "unlabelled_"]),
])
def test_a_class_for_the_unlabelled_is_the_last(choose, cells, values, names):
    table = f"f,l\ncat/1.png,{cells[0]}\ndog/1.png,{cells[1]}\n"
    labels = choose("t.csv", table=table, unlabelled="class").labels
    assert (labels.values, labels.class_names) == (values, names)


@pytest.mark.parametrize(("labels", "options", "message"), [
    ("colour", {}, "--labels=colour: choose auto, none, folders, a table FILE.csv"),
    ("regex:", {}, "--labels=regex:: choose auto"),
    ("regex:(", {}, "--labels=regex:( is no regular expression"),
    ("regex:zebra", {"unlabelled": "drop"}, "none of 4 images has a label (cat/1.png, cat/2.png, dog/1.png and "
                                            "1 more)"),
    ("column:kind", {}, "needs --table=FILE.csv"),
    ("column:kind", {"table": PARTLY}, "has no column 'kind'"),
    ("gone.csv", {}, "gone.csv cannot be read"),
    ("t.csv", {"table": "f,a,b\ncat/1.png,1,2\n"}, "has several columns (a, b). Say which are labels: --table="),
    ("t.csv", {"table": "f,l\ncat/1.png,0.5\n", "unlabelled": "class"}, "labels are numbers here, not classes"),
    ("folders", {"source": Named(["a.png", "b/c.png"])}, "1 of 2 images in set lie in no class folder (a.png)"),
    ("folders", {"source": Named(["a.png"]), "unlabelled": "drop"}, "1 of 1 images in set lie in no class folder"),
])
def test_labels_that_cannot_be_had(choose, labels, options, message):
    with pytest.raises(UserError) as refused:
        choose(labels, **options)
    assert message in refused.value.message


def test_rows_about_the_groups_that_paths_tell(choose, tmp_path):
    names = [f"{folder}/HOSP{number:03d}_slice{part}.jpg" for number, folder in ((1, "a"), (2, "b")) for part in (1, 2)]
    (tmp_path / "patients.csv").write_text("patient,diagnosis\nHOSP001,glioma\nHOSP002,healthy\n")
    source, table = Named(names), str(tmp_path / "patients.csv")
    found = choose_labels(LabelOptions(table, group_by="regex:HOSP[0-9]+"), source, range(4), "set")
    assert found.labels.values == [0, 0, 1, 1] and found.labels.class_names == ["glioma", "healthy"]
    (tmp_path / "patients.csv").write_text("folder,label\na,3\nb,5\n")
    assert choose_labels(LabelOptions(table, group_by="folder"), source, range(4), "set").labels.values == [3, 3, 5, 5]
    with pytest.raises(UserError, match="which --group-by='regex"):
        choose_labels(LabelOptions(table), source, range(4), "set")
