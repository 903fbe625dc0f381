"""What is found to compile with, and what it compiles for."""

import sysconfig

import pytest

from torch_utils.ops import toolchain
from torch_utils.ops.toolchain import Missing, covers, gencode, parse_capabilities


def program(path, script="exit 0"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def empty_machine(monkeypatch, tmp_path):
    """No compiler anywhere."""
    for name in ("CXX", "CUDA_HOME", "CUDA_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(toolchain, "USUAL_NVCC", tmp_path / "usr" / "nvcc")
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path / name))
    return tmp_path


@pytest.fixture
def nvcc(tmp_path):
    return program(tmp_path / "nvcc", "for n in 75 80 86 90 100; do echo compute_$n; done")


def test_what_is_missing_is_named_with_the_remedy(empty_machine):
    with pytest.raises(Missing, match=r"no C\+\+ compiler.*apt install g\+\+"):
        toolchain.find_cxx()
    with pytest.raises(Missing, match=r"no ninja.*pip install ninja"):
        toolchain.find_ninja()
    with pytest.raises(Missing, match=r"nvcc.*pip install 'cuda-toolkit\[nvcc,cccl\]==13.0.\*'"):
        toolchain.find_nvcc("13.0")
    with pytest.raises(Missing, match=r"conda install -c nvidia cuda-nvcc=12.8"):
        toolchain.find_nvcc("12.8")


def test_where_nvcc_is_looked_for(empty_machine, monkeypatch):
    usual = program(empty_machine / "usr" / "nvcc")
    assert toolchain.find_nvcc("13.0") == usual
    package = program(empty_machine / "purelib" / "nvidia" / "cu13" / "bin" / "nvcc")
    old = program(empty_machine / "purelib" / "nvidia" / "cu12" / "bin" / "nvcc")
    on_path = program(empty_machine / "bin" / "nvcc")
    assert toolchain.find_nvcc("13.0") == on_path
    on_path.unlink()
    usual.unlink()
    assert toolchain.find_nvcc("13.0") == package and toolchain.find_nvcc("12.8") == old
    home = program(empty_machine / "home" / "bin" / "nvcc")
    monkeypatch.setenv("CUDA_HOME", str(empty_machine / "home"))
    assert toolchain.find_nvcc("13.0") == home
    monkeypatch.setenv("CUDA_HOME", str(empty_machine / "nowhere"))
    with pytest.raises(Missing, match=r"CUDA_HOME=.*has no bin/nvcc"):
        toolchain.find_nvcc()


def test_the_compiler_that_cxx_names(empty_machine, monkeypatch):
    usual, other = (program(empty_machine / "bin" / name) for name in ("g++", "other-g++"))
    program(empty_machine / "bin" / "ccache")
    for value, found in [("", usual), ("other-g++", other), ("ccache other-g++ -m64", other), ("gone-g++", usual)]:
        monkeypatch.setenv("CXX", value)
        assert toolchain.find_cxx() == found


def test_a_cxx_that_is_no_command(empty_machine, monkeypatch):
    monkeypatch.setenv("CXX", 'g++ "x')
    with pytest.raises(Missing, match=r"CXX=g\+\+ .x is no command"):
        toolchain.find_cxx()


def test_a_replaced_compiler_has_another_identity(empty_machine):
    program(empty_machine / "bin" / "ninja")
    cxx = program(empty_machine / "bin" / "g++")
    before = toolchain.find_tools("cpu").identity
    assert toolchain.find_tools("cpu").identity == before
    program(cxx, "exit 0 # new version")
    assert toolchain.find_tools("cpu").identity != before


def test_capabilities_from_the_environment():
    assert parse_capabilities("8.6;9.0+PTX", "L") == ("8.6", "9.0+PTX")
    assert parse_capabilities(" 7.5 9.0a,12.0f ", "L") == ("7.5", "9.0a", "12.0f")
    with pytest.raises(Missing, match=r"'Ampere'.*such as 8\.6 9\.0"):
        parse_capabilities("Ampere", "L")


def test_flags_for_capabilities(nvcc):
    assert gencode(["8.6", "9.0a+PTX"], nvcc) == [
        "-gencode=arch=compute_86,code=sm_86", "-gencode=arch=compute_90a,code=sm_90a",
        "-gencode=arch=compute_90a,code=compute_90a"]


def test_a_gpu_newer_than_nvcc_gets_portable_code(nvcc):
    assert gencode(["12.1"], nvcc) == ["-gencode=arch=compute_100,code=compute_100"]
    assert gencode(["8.9"], nvcc) == ["-gencode=arch=compute_86,code=compute_86"]


def test_a_gpu_older_than_nvcc_is_refused(nvcc):
    with pytest.raises(Missing, match=r"7.5 and later, not for 6.1.*CUDA_HOME"):
        gencode(["6.1"], nvcc)


@pytest.mark.parametrize("script", ["exit 1", "echo nothing"])
def test_an_nvcc_that_does_not_answer(tmp_path, script):
    with pytest.raises(Missing, match=r"--list-gpu-arch.*CUDA_HOME"):
        gencode(["8.6"], program(tmp_path / "bad", script))


@pytest.mark.parametrize(("capabilities", "device", "runs"), [
    (["8.6"], (8, 6), True), (["8.0"], (8, 9), True), (["8.9"], (8, 6), False), (["8.6"], (9, 0), False),
    (["8.6+PTX"], (9, 0), True), (["10.0"], (9, 0), False), (["10.0a"], (10, 3), False),
    (["7.5", "9.0a"], (9, 0), True), ([], (9, 0), False)])
def test_which_devices_code_runs_on(capabilities, device, runs):
    assert covers(capabilities, device) == runs


@pytest.mark.parametrize(("flags", "level"), [
    ("", "baseline"), ("avx2 fma f16c", "baseline"), ("avx2 fma f16c bmi2 sse", "avx2"),
    ("avx2 fma f16c bmi2 avx512f avx512bw avx512dq avx512vl avx512cd", "avx512")])  # fmt: skip
def test_level_of_a_cpu(monkeypatch, flags, level):
    monkeypatch.setattr(toolchain, "_cpu_flags", lambda: frozenset(flags.split()))
    assert toolchain.cpu_level() == level
    assert toolchain.runs_cpu_level("baseline") and not toolchain.runs_cpu_level("neon")
    assert toolchain.runs_cpu_level("avx512") == (level == "avx512")


def test_versions(tmp_path):
    cuda = program(tmp_path / "nvcc", "echo 'Cuda compilation tools, release 13.0, V13.0.88'")
    gcc = program(tmp_path / "g++", "echo 'g++ (Debian 12.2.0-14) 12.2.0'")
    assert toolchain.version_of(cuda) == "13.0" and toolchain.version_of(gcc) == "12.2.0"
    assert toolchain.version_of(tmp_path / "none") == "unknown"
