"""From cells of a table to labels."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stylegan2_pipeline.conversion.label_values import from_cells, from_columns
from torch_utils.errors import UserError


def values(*cells, **options):
    labels, _ = from_cells(cells, "t.csv", **options)
    return labels.values, labels.class_names


@pytest.mark.parametrize(("cells", "expected", "names"), [
    (("2", "0", "2"), [2, 0, 2], None),
    (("1", "", None, "nan", "?"), [1, None, None, None, None], None),
    (("dog", "cat", "dog"), [1, 0, 1], ["cat", "dog"]),
    (("1", "two"), [0, 1], ["1", "two"]),
    (("none", "glioma", "n/a", ""), [1, 0, None, None], ["glioma", "none"]),
    (("0.5", "-1e3", "n/a"), [[0.5], [-1000.0], None], None),
    (("1.0", "2.0"), [[1.0], [2.0]], None),
    (("1_0", "2"), [0, 1], ["1_0", "2"]),
    (("b;a", "a", " ", "c ; a"), [[1.0, 1.0, 0.0], [1.0, 0.0, 0.0], None, [1.0, 0.0, 1.0]], ["a", "b", "c"]),
    (("b|a", "c", None), [[1.0, 1.0, 0.0], [0.0, 0.0, 1.0], None], ["a", "b", "c"]),
    (("1;3", "3"), [[1.0, 1.0], [0.0, 1.0]], ["1", "3"]),
    ((None, ""), [None, None], None),
])
def test_what_cells_mean(cells, expected, names):
    assert values(*cells) == (expected, names)


def test_decimal_commas_between_semicolons():
    assert values("0,5", "1", delimiter=";") == ([[0.5], [1.0]], None)
    assert values("0,5", "1") == ([0, 1], ["0,5", "1"])


@pytest.mark.parametrize(("cells", "message"), [
    (("1", "-1"), "t.csv holds -1, and classes count from 0"),
    (("1", "20240131"), "20240131 is too large for the number of a class"),
    (("0.5", "inf"), "t.csv holds inf, which no network can be given"),
    (("0.5", "1e39"), "t.csv holds 1e+39"),
    (("9" * 400, "1"), "t.csv holds inf"),
    ((";".join(map(str, range(1025))),), "1025 different words, parted by"),
    (tuple(f"w{i}" for i in range(2 ** 16 + 1)), "so many classes cannot be learned"),
])
def test_cells_that_are_no_labels(cells, message):
    with pytest.raises(UserError) as refused:
        from_cells(cells, "t.csv")
    assert message in refused.value.message


@pytest.mark.parametrize(("cells", "note"), [
    (("0", "3"), "t.csv: no image has class 1, 2; class numbers are kept as they are."),
    (("30.0", "45.0"), "numbers from 30 to 45, which are taken for what they measure. Should they be classes: write"),
    (("30.5", "45.0"), "taken for what they measure, not for classes."),
    (("a;b", "a"), "2 tags, of which each is in or not"),
    (tuple(f"p{i}" for i in range(12)), "Warning: t.csv makes 12 classes of 12 images (p0, p1, p10 and 9 more)"),
])
def test_what_should_be_known_is_said(cells, note):
    assert note in from_cells(cells, "t.csv")[1][0]


def test_several_columns_are_vectors():
    labels, _ = from_columns([["1", "0", "1"], ["0.5", "", "2"]], ["x", "y"], "t.csv")
    assert (labels.values, labels.class_names) == ([[1.0, 0.5], None, [1.0, 2.0]], None)
    binary, _ = from_columns([["1", "0"], ["1.0", "0"]], ["edema", "mass"], "t.csv")
    assert (binary.values, binary.class_names) == ([[1.0, 1.0], [0.0, 0.0]], ["edema", "mass"])
    with pytest.raises(UserError, match=r"not all of y are"):
        from_columns([["1", "0"], ["a", "0"]], ["x", "y"], "t.csv")


@given(st.lists(st.none() | st.text(max_size=8) | st.floats().map(str) | st.integers(-3, 70000).map(str), max_size=8),
       st.sampled_from(",;"))
def test_any_cells_are_labels_of_one_kind_or_refused(cells, delimiter):
    try:
        labels, _ = from_cells(cells, "t.csv", delimiter)
    except UserError:
        return
    assert len(labels.values) == len(cells)
    assert len({type(value) for value in labels.values if value is not None}) <= 1
    json.dumps(labels.values, allow_nan=False)
    assert len({len(value) for value in labels.values if isinstance(value, list)}) <= 1
    assert all(math.isfinite(number) for value in labels.values if isinstance(value, list) for number in value)
    if labels.class_names is not None and all(isinstance(value, int | None) for value in labels.values):
        assert {value for value in labels.values if value is not None} == set(range(len(labels.class_names)))
