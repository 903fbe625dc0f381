"""What can be asked of a conversion, and how it is written."""

import pytest

from stylegan2_pipeline.conversion.options import Conversion, parse_resolution
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
    asked = Conversion("my photos", "a.zip", 64, 64, "pad", "box", 5, "folders", "3", "black", True, 2)
    assert asked.command_line() == (
        "python dataset_tool.py --source 'my photos' --dest a.zip --resolution=64x64 --transform=pad "
        "--resize-filter=box --max-images=5 --labels=folders --channels=3 --background=black --workers=2 --strict")
