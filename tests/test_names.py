import pytest

from metrics.names import KINDS, expand, lower_is_better, parse, split, thousands
from stylegan2_pipeline.measuring import Asked
from torch_utils.errors import UserError


@pytest.mark.parametrize(("text", "kind", "count"), [
    ("fid50k_full", "fid{n}_full", 50000), ("fid2k_full", "fid{n}_full", 2000), ("fid500_full", "fid{n}_full", 500),
    ("fid50k", "fid{n}", 50000), ("pr50k3_full", "pr{n}3_full", 50000), ("pr10k3", "pr{n}3", 10000),
    ("pr5003_full", "pr{n}3_full", 500), ("dc2k5_full", "dc{n}5_full", 2000), ("is50k", "is{n}", 50000),
    ("ppl2_wend", "ppl2_wend", 50000), ("ppl_zfull", "ppl_zfull", 50000), ("fid_inf", "fid{n}_inf", 50000),
    ("fid5k_inf", "fid{n}_inf", 5000), ("fd_dinov2", "fd{n}_dinov2", 50000), ("swd", "swd{n}", 8192),
    ("swd2k", "swd{n}", 2000), ("pfd32", "pfd32", 2048),
])  # fmt: skip
def test_names_say_what_is_measured_and_on_how_many_images(text, kind, count):
    name = parse(text)
    assert (name.text, name.kind.name, name.count) == (text, kind, count)


def test_each_usual_name_is_its_own_kind():
    for kind in KINDS:
        assert parse(kind.usual).kind is kind and parse(kind.usual).count == kind.count
        assert parse(kind.name.format(n="7k")).kind is kind


@pytest.mark.parametrize(("text", "meant"), [
    ("fid", "fid50k_full or fid_inf or fid50k?"), ("fid0k_full", "fid50k_full"), ("fid50k_ful", "fid50k_full?"),
    ("FID50k_full", "fid50k_full?"), ("pr50k_full", "pr50k3_full"), ("swd-1", "swd?"), ("memorisation", "memorization"),
    ("", "There are panel (that is swd, rfd, pfd32, prdc32)"), ("quality", "fid50k_full, kid50k_full"),
])  # fmt: skip
def test_names_of_no_kind_are_refused_with_those_that_may_be_meant(text, meant):
    with pytest.raises(UserError) as error:
        parse(text)
    assert repr(text) in error.value.message and meant in error.value.message and "--help" in error.value.message


@pytest.mark.parametrize(("text", "count", "becomes"), [
    ("fid50k_full", 2000, "fid2k_full"), ("fid50k_full", 1234, "fid1234_full"), ("fid50k_full", 50000, "fid50k_full"),
    ("pr50k3", 1000, "pr1k3"), ("swd", 1000, "swd"), ("swd2k", 1000, "swd1k"), ("ppl2_wend", 1000, "ppl2_wend"),
    ("fid_inf", 1000, "fid_inf"), ("pfd32", 500, "pfd32"), ("fid5000_full", 300, "fid300_full"),
    ("fid5000_full", 5000, "fid5000_full"), ("fid2000_inf", 1000, "fid1k_inf"),
])  # fmt: skip
def test_another_number_of_images_is_another_name_where_names_show_it(text, count, becomes):
    name = parse(text).of(count)
    assert name.text == becomes and name.count == count and parse(text).kind is name.kind


def test_names_that_become_the_same_by_num_are_measured_once():
    assert [name.text for name in Asked(metrics="fid2k_full,swd,fid50k_full", num=100).names] == ["fid100_full", "swd"]


def test_the_panel_is_its_members_each_once():
    assert expand(["pfd32", "panel", "swd"]) == ("pfd32", "swd", "rfd", "prdc32")
    assert split(" panel, fid50k_full ,") == ("swd", "rfd", "pfd32", "prdc32", "fid50k_full")
    assert split("none") == split("") == ()


def test_which_way_is_better_is_known_of_other_tools_metrics_too():
    assert lower_is_better("fid50k_full") and lower_is_better("ppl2_wend") and lower_is_better("fvd2048")
    assert not lower_is_better("is50k") and not lower_is_better("pr50k3_full") and not lower_is_better("eqt50k_int")
    assert not lower_is_better("dc2k5_full") and not lower_is_better("precision")


def test_thousands():
    assert (thousands(50000), thousands(1500), thousands(2000)) == ("50k", "1500", "2k")
