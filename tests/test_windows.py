"""What --window says."""

import pytest

from stylegan2_pipeline.conversion.windows import Window, parse_window
from torch_utils.errors import UserError


def test_every_way_to_say_it():
    assert parse_window("auto") == Window("percentiles", 0.5, 99.5)
    assert parse_window("header").kind == "header"
    assert parse_window("-100,300") == Window("values", -100, 300)
    assert parse_window(" 0.5 , 1e3 ") == Window("values", 0.5, 1000)
    assert parse_window("1%,99.9%") == parse_window("1 %, 99.9 %") == Window("percentiles", 1, 99.9)


@pytest.mark.parametrize(("text", "reason"), [
    ("", "neither two values"), ("5", "neither two values"), ("1,2,3", "neither two values"),
    ("low,high", "neither two values"), ("1%,99", "neither two values"), ("1%%,2%", "neither two values"),
    ("300,-100", "less than"), ("7,7", "less than"), ("nan,1", "less than"), ("0,inf", "less than"),
    ("-1%,99%", "from 0 to 100"), ("1%,101%", "from 0 to 100"),
])
def test_refusals(text, reason):
    with pytest.raises(UserError, match=reason) as caught:
        parse_window(text)
    assert f"--window={text}: " in str(caught.value) and "--window=-100,300" in str(caught.value)
