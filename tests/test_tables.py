"""Tables of labels: how they are written, and which row is about which image."""

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from named_sources import Named

from stylegan2_pipeline.conversion.tables import read_table
from torch_utils.errors import UserError


@pytest.fixture
def read(tmp_path):
    def read(content, source, heading=None):
        path = tmp_path / "labels.csv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        table = read_table(path, source if isinstance(source, Named) else Named(source))
        return table.cells(heading) if heading else table
    return read


@pytest.mark.parametrize("content", [
    "file,label\na.png,1\nb.png,2\n",
    "\ufefffile;label\r\na.png;1\r\nb.png;2\r\n",
    "sep=;\r\nfile;label\r\na.png;1\r\nb.png;2\r\n",
    "file\tlabel\na.png\t1\nb.png\t2",
    "file|label\ra.png|1\rb.png|2\r",
    '\n\n"file","label"\n"a.png","1"\n\n,,\n b.png , 2 \n',
    "file;label\na.png;1\nb.png;2\n".encode("utf-16"),
    "label,n,file\n1,0,a.png\n2,1,b.png\n",
    "file,label,note\na.png,1\nb.png,2,\n",
    "FILE,Label\na.png,1\nb.png,2\n",
])
def test_ways_to_write_a_table(read, content):
    assert read(content, ["a.png", "b.png", "c.png"], "label") == ["1", "2", None]


def test_without_headings_columns_are_numbered(read):
    table = read("1,x,a.png\n2,y,b.png\n", ["a.png", "b.png"])
    assert (table.cells("2"), table.others()) == (["x", "y"], ["1", "2"])
    headed = read("image,label\nimage,5\n", ["image.png", "label.png"])  # a heading without ending is no image's name
    assert headed.cells("label") == ["5", None]


@pytest.mark.parametrize(("cell", "name"), [
    ("cat/1.png", "cat/1.png"),
    ("./cat/1.png", "cat/1.png"),
    (r"C:\data\cat\1.png", "cat/1.png"),
    ("/home/me/set/cat/1.png", "cat/1.png"),
    ("cat/1.png", "set/cat/1.png"),
    ("1.png", "cat/1.png"),
    ("cat/1", "cat/1.png"),
    ("1", "cat/1.png"),
    ("1.dcm", "cat/1.png"),
    ("CAT/1.PNG", "cat/1.png"),
    ("old/1.jpg", "new/1.png"),
    ("scan.v2", "scan.v2.png"),
    ("scan.nii", "a/scan.nii.gz#012"),
    ("scan.nii.gz#012", "a/scan.nii.gz#012"),
    ("\u00e9t\u00e9", "e\u0301te\u0301.png"),
])
def test_images_are_found_by_path_end_of_path_and_bare_name(read, cell, name):
    others = ["other/2.png", "x/3.png"]
    assert read(f"what,label\n{cell},yes\n", [name, *others], "label") == ["yes", None, None]


def test_rows_in_other_folders_do_not_count_where_the_right_one_is_there(read):
    names = ["train/1.png", "train/2.png"]
    assert read("f,l\ntest/1.png,a\ntrain/1.png,b\ntest/2.png,c\n", names, "l") == ["b", "c"]


def test_a_name_that_several_images_have_is_none(read):
    names = ["a/1.png", "b/1.png", "b/2.png", "x.png", "x.jpg"]
    table = read("f,l\n1.png,p\nb/1.png,q\n2.png,r\nx,s\n9.png,t\nc/2.png,r\n", names)
    assert table.cells("l") == [None, "q", "r", None, None]
    assert table.notes == [
        "labels.csv: 1 of 6 rows name no image here (9.png).",
        "labels.csv: 2 of 6 rows name several images alike, and are not used; their folders would tell which (1.png, "
        "x).",
        "labels.csv: 1 of 6 rows name an image in another folder, and are taken for the one of that name (c/2.png)."]


def test_a_row_about_a_file_is_about_all_its_images(read):
    names = ["a.gif#000", "a.gif#001", "b.gif#000", "b.gif#001"]
    assert read("f,l\na.gif,1\nb.gif#001,2\n", names, "l") == ["1", "1", None, "2"]


def test_rows_about_patients_and_series(read):
    source = Named(["1.dcm", "2.dcm", "3.dcm"], subjects=["01", "01", "02"], volumes=["1.2.3", "1.2.4", "1.2.5"])
    people = read("participant_id\tsex\nsub-01\tF\nsub-02\tM\nsub-03\tF\n", source)
    assert people.cells("sex") == ["F", "F", "M"]
    assert people.notes == ["labels.csv: 1 of 3 rows name no image here (line 4)."]  # whose name is not shown
    assert read("series,l\n1.2.4,x\n1.2.5,y\n", source, "l") == [None, "x", "y"]


def test_the_column_of_names_is_the_one_that_names_most_and_most_surely(read):
    names = ["0.png", "1.png", "2.png"]
    assert read("id,file,l\n0,2.png,x\n1,1.png,y\n2,0.png,z\n", names, "l") == ["z", "y", "x"]
    assert read("l,path\n0,2.png\n1,1.png\n1,0.png\n", names, "l") == ["1", "1", "0"]


def test_rows_that_repeat_one_another_are_one_and_others_are_refused(read):
    content = "f,l,box\na.png,1,0\na.png,1,5\n"
    assert read(content, ["a.png"], "l") == ["1"]
    with pytest.raises(UserError, match=r"lines 2 and 3 tell different things of a.png"):
        read(content, ["a.png"], "box")


@pytest.mark.parametrize(("content", "heading", "message"), [
    ("f,l\nx.png,1\n", None, "no column names an image of set. Its first line is 'f,l'; the images are called a.png"),
    ("a.png\nb.png\n", None, "no table with two columns or more"),
    ("", None, "no table with two columns or more"),
    ("f,l\na.png,1,2\n", None, "line 2 has 3 columns, and the first line has 2. Put cells that contain ','"),
    (b"f,l\na.png,\xe7\n", None, "no text in UTF-8 (byte 10)"),
    (b"PK\x03\x04\0\0", None, "is no text; save the table as CSV"),
    ("f,l\na.png," + "x" * 200000, None, "line 2: field larger than field limit"),
    ("f,l\na.png,1\n", "m", "has no column 'm'; its columns are f, l."),
    ("f,l,l\na.png,1,2\n", "l", "has 2 columns 'l'"),
])
def test_what_is_no_table_is_refused(read, content, heading, message):
    with pytest.raises(UserError) as refused:
        read(content, ["a.png"], heading)
    assert message in refused.value.message


def test_a_table_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match=r"gone\.csv cannot be read: No such file"):
        read_table(tmp_path / "gone.csv", Named(["a"]))


WORDS = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=12).map(str.strip)


@given(st.lists(WORDS, min_size=1, max_size=12), st.sampled_from(",;\t|"), st.booleans())
def test_cells_come_back_as_they_were_written(tmp_path_factory, cells, delimiter, quoted):
    names = [f"{number}.png" for number in range(len(cells))]
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter, quoting=csv.QUOTE_ALL if quoted else csv.QUOTE_MINIMAL)
    writer.writerows([("file", "what it is"), *zip(names, cells, strict=True)])
    path = tmp_path_factory.mktemp("t") / "t.csv"
    path.write_text(text.getvalue(), encoding="utf-8", newline="")
    assert read_table(path, Named(names)).cells("what it is") == cells


@given(st.binary(max_size=200) | st.text(' ,;\t|"\r\n#/\\.abcpng01=', max_size=80).map(str.encode))
def test_any_bytes_are_a_table_or_refused(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("t") / "t.csv"
    path.write_bytes(data)
    try:
        table = read_table(path, Named(["a.png", "b/a.png", "c.gif#0", "c.gif#1"], subjects=["p", "", None, "n"]))
        assert all(len(table.cells(heading)) == 4 for heading in set(table.others()))
    except UserError:
        pass


def test_a_cell_of_slashes_alone_takes_no_time(read):
    table = read("f,l\n" + "\n".join(f"{'/' * 30000}{number},1" for number in range(50)) + "\na.png,2", ["a.png"])
    assert table.cells("l") == ["2"]
