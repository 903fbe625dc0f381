"""Numbers as people read them, and the way in without an installation."""

import subprocess
import sys
from pathlib import Path

import pytest

from torch_utils.text import format_bytes


@pytest.mark.parametrize(("count", "text"), [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (47.2e6, "47 MB"),
                                             (1.23e9, "1.2 GB"), (5e12, "5000 GB")])
def test_bytes(count, text):
    assert format_bytes(count) == text


@pytest.mark.parametrize("script", ["dataset_tool.py", "train.py", "generate.py"])
def test_a_python_without_the_project_is_told_what_to_do(script):
    root = Path(__file__).parent.parent
    result = subprocess.run([sys.executable, "-S", "-I", str(root / script), "--help"], capture_output=True, text=True)
    assert result.returncode == 1 and "make install" in result.stderr and "Traceback" not in result.stderr
