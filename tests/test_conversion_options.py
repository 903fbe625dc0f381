"""What can be asked of a conversion, and how it is written."""

import dataclasses
import re
from pathlib import Path

import pytest

from stylegan2_pipeline.commands.dataset import convert
from stylegan2_pipeline.conversion.options import (
    Conversion,
    check_options,
    parse_color,
    parse_holdout,
    parse_resolution,
    parse_slices,
)
from torch_utils.errors import UserError


def test_resolution_as_people_write_it():
    assert parse_resolution("512x384", None, None) == parse_resolution("512,384", None, None) == (512, 384)
    assert parse_resolution("256", None, None) == parse_resolution(None, 256, None) == (256, 256)
    assert parse_resolution(None, 64, 32) == (64, 32) and parse_resolution(None, None, None) == (None, None)
    for text in ("", "x", "12x", "0", "1x2x3", "-5", "512 px", "99999"):
        with pytest.raises(UserError, match="is not a size"):
            parse_resolution(text, None, None)
    with pytest.raises(UserError, match="give one of them"):
        parse_resolution("64", 64, None)


def test_the_command_line_says_all_that_was_asked():
    asked = Conversion(
        "my photos", "a.zip", width=64, height=64, transform="pad", resize_filter="box", max_images=5, labels="folders",
        channels="3", pad_with="edge", workers=2, strict=True, report=("a.html", "b.json"), holdout="10%")
    assert asked.command_line() == (
        "python dataset_tool.py --source 'my photos' --dest a.zip --resolution=64x64 --transform=pad "
        "--resize-filter=box --pad-with=edge --channels=3 --labels=folders --holdout=10% --max-images=5 "
        "--report=a.html --report=b.json --strict --workers=2")


def test_each_option_that_is_no_default_is_said():
    """Whoever adds a field gets it into the command line, under the name that the command knows."""
    known = {option.name: option.opts[0] for option in convert.params}
    for field in dataclasses.fields(Conversion):
        if field.name in known and field.name not in ("source", "dest", "width", "height", "continue_"):
            value = True if field.default is False else "value"
            said = dataclasses.replace(Conversion("s", "d"), **{field.name: value}).command_line()
            assert known[field.name] in said


@pytest.mark.parametrize(("text", "value"), [("0.1", 0.1), ("10%", 0.1), ("500", 500)])
def test_how_many_are_set_aside(text, value):
    assert parse_holdout(text) == value


@pytest.mark.parametrize("text", ["0", "1.5", "-3", "many", "0%", "100%", "nan", "%"])
def test_what_is_no_number_of_images(text):
    with pytest.raises(UserError, match="--holdout"):
        parse_holdout(text)


@pytest.mark.parametrize("text", ["mauvish", "", "#12", "rgb(300, 0, 0)"])
def test_what_is_no_colour(text):
    with pytest.raises(UserError, match=r"--pad-with: .* is no colour"):
        parse_color(text, "--pad-with")


def test_parts_of_volumes():
    assert parse_slices("0.3:0.7") == (0.3, 0.7)
    assert parse_slices(":0.5") == (0.0, 0.5) and parse_slices("0.5:") == (0.5, 1.0)
    for text in ("0.5", "0.7:0.3", "a:b", "0:2", "nan:1"):
        with pytest.raises(UserError, match="--slices"):
            parse_slices(text)


@pytest.mark.parametrize(("options", "message"), [
    ({"holdout_dest": Path("h.zip")}, "say how many with --holdout"),
    ({"holdout": "0.1", "holdout_dest": Path("d.zip")}, "need another place than --dest"),
    ({"report": (Path("page.doc"),)}, "must end in .html, .json or .txt"),
    ({"report": (Path("/nowhere/page.html"),)}, "there is no folder /nowhere. Make it first"),
    ({"min_foreground": float("nan")}, "--min-foreground: write a share from 0 to 1"),
    ({"table": Path("t.csv")}, "and neither is given. For labels alone: --labels=t.csv"),
    ({"dest": Path()}, "--dest: . is no name for an archive"),
    ({"holdout": "0.1", "holdout_dest": Path("..")}, "--holdout-dest: .. is no name"),
])
def test_options_that_do_not_fit(options, message):
    with pytest.raises(UserError, match=re.escape(message)):
        check_options(Conversion(**{"source": Path("s"), "dest": Path("d.zip"), **options}))


def test_where_the_images_set_aside_go():
    assert Conversion(Path("s"), Path("a/d.zip")).holdout_path == Path("a/d-holdout.zip")
    assert Conversion(Path("s"), Path("a/d.1")).holdout_path == Path("a/d.1-holdout")
