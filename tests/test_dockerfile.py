"""The Dockerfile's essentials; no test here has an engine to build it."""

import re
import shlex
from pathlib import Path

from torch_utils.ops import toolchain

ROOT = Path(__file__).parent.parent


def stages():
    """The instructions of each stage, as (word, rest)."""
    text = re.sub(r"\\\n", " ", re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.M))
    found = []
    for line in filter(None, map(str.strip, text.splitlines())):
        word, rest = line.split(maxsplit=1)
        found += [[]] if word == "FROM" else []
        found[-1].append((word, re.sub(r"\s+", " ", rest)))
    return found


def words(stage, instruction):
    return [rest for word, rest in stage if word == instruction]


def test_compilers_stay_out_of_the_image_that_runs():
    install, compiling, final = stages()
    assert words(install, "FROM") == ["python:3.11-slim AS install"] and words(final, "FROM") == ["python:3.11-slim"]
    assert words(compiling, "FROM") == ["install AS compile"]
    assert "g++" in words(compiling, "RUN")[0] and "cuda-toolkit[nvcc" in words(compiling, "RUN")[1]
    assert words(final, "COPY") == ["--from=install /opt/venv /opt/venv",
                                    "--from=compile /opt/stylegan2-cache /opt/stylegan2-cache"]
    assert not re.search(r"g\+\+|nvcc|apt-get|cuda-toolkit", str(final + install))


def test_torch_is_the_one_that_the_project_is_checked_with():
    install, compiling, _ = stages()
    pips = [line for line in words(install, "RUN") + words(compiling, "RUN") if "pip install" in line]
    assert len(pips) == 3 and all("--constraint constraints.txt" in line for line in pips)


def test_the_operators_are_compiled_where_they_are_looked_for():
    _, compiling, final = stages()
    archs, = words(compiling, "ARG")
    name, value = shlex.split(archs)[0].split("=")
    archs = toolchain.parse_capabilities(value, name)
    assert name == "CUDA_ARCHS" and {"7.5", "8.0", "8.6", "8.9", "12.0"} < set(archs)
    assert all(toolchain.covers(archs, gpu) for gpu in [(8, 7), (9, 0), (10, 0), (12, 1), (13, 0)])
    line = words(compiling, "RUN")[-1]
    assert '--arch "$CUDA_ARCHS"' in line and "--cpu-level avx2" in line
    for stage in (compiling, final):
        assert "STYLEGAN2_CACHE=/opt/stylegan2-cache" in words(stage, "ENV")[0]


def test_it_runs_the_command_as_a_user_on_a_volume():
    final = stages()[-1]
    order = [word for word, _ in final]
    assert words(final, "USER") == ["stylegan2"] and words(final, "VOLUME") == ["/work"]
    assert "HOME=/tmp USER=stylegan2" in words(final, "ENV")[0]
    assert order.index("USER") < order.index("WORKDIR") and words(final, "ENTRYPOINT") == ['["stylegan2"]']


def test_what_is_copied_is_what_is_installed():
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert allowed == {"LICENSE", "README.md", "constraints.txt", "pyproject.toml", "metrics", "stylegan2_pipeline",
                       "torch_utils"}
    assert all((ROOT / name).exists() for name in allowed)
