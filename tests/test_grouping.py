"""Groups of images: by patient, volume, folder, file, column or pattern."""

import pytest
from named_sources import Named

from stylegan2_pipeline.conversion.grouping import groups_of
from stylegan2_pipeline.conversion.split import group_numbers
from torch_utils.errors import UserError

NAMES = ["p1/s1/0.png", "p1/s1/1.png", "p1/s2/0.png", "p2/s1/0.png", "p2/s1/scan.tif#000", "p2/s1/scan.tif#001"]


def numbers(group_by, source, table=None):
    return group_numbers(groups_of(group_by, source, range(len(source.names)), table))


@pytest.mark.parametrize(("group_by", "expected"), [
    ("folder", [0, 0, 1, 2, 2, 2]),
    ("file", [0, 1, 2, 3, 4, 4]),
    ("regex:^p[0-9]", [0, 0, 0, 1, 1, 1]),
    ("regex:/(s[0-9])/", [0, 0, 1, 0, 0, 0]),
    (None, [0, 1, 2, 3, 4, 4]),
])
def test_groups_by_name(group_by, expected):
    assert numbers(group_by, Named(NAMES)) == expected


def test_groups_by_patient_and_volume():
    source = Named("abcd", subjects=["x", "y", "x", "y"], volumes=["1", "2", "3", "2"])
    assert numbers("patient", source) == numbers(None, source) == [0, 1, 0, 1]
    assert numbers("volume", source) == [0, 1, 2, 1]


def test_unasked_each_image_has_the_widest_group_that_is_known():
    source = Named("abcdef", subjects=["x", "x", None, None, "", None], volumes=["1", "2", "x", "x", None, None])
    assert numbers(None, source) == [0, 0, 1, 1, 2, 3]


def test_of_some_images():
    assert groups_of("regex:([a-z])", Named(["a1", "b1", "a2"]), [2, 0]) == ["a", "a"]


def test_groups_by_column(tmp_path):
    table = tmp_path / "cases.csv"
    table.write_text("file,case\n0.png,A\n1.png,B\n2.png,A\n3.png,\n")
    source = Named(["0.png", "1.png", "2.png", "3.png"])
    assert groups_of("column:case", source, [0, 1, 2], table) == ["A", "B", "A"]
    with pytest.raises(UserError, match=r"1 of 4 images have no entry there \(3.png\)"):
        groups_of("column:case", source, range(4), table)


@pytest.mark.parametrize(("group_by", "message"), [
    ("patient", "6 of 6 images come without a word of whose they are (p1/s1/0.png, p1/s1/1.png, p1/s2/0.png, "),
    ("volume", "are part of no volume or series"),
    ("regex:p1", "3 of 6 images are not matched (p2/s1/0.png, p2/s1/scan.tif#000, p2/s1/scan.tif#001). Every image "
                 "needs a group: choose patient, volume, folder,"),
    ("regex:(p1)?x?", "3 of 6 images are not matched"),
    ("regex:(", "is no regular expression"),
    ("regex:a{99999999999}", "is no regular expression"),
    ("column:case", "needs --table=FILE.csv"),
    ("regex:", "--group-by=regex:: choose"),
    ("series", "--group-by=series: choose patient, volume"),
])
def test_what_has_no_group_is_named(group_by, message):
    with pytest.raises(UserError) as refused:
        groups_of(group_by, Named(NAMES), range(6))
    assert message in refused.value.message


def test_patients_are_never_named():
    source = Named("ab", subjects=["Jane Doe", None])
    with pytest.raises(UserError) as refused:
        groups_of("patient", source, range(2))
    assert "Doe" not in refused.value.message and "(b)" in refused.value.message
