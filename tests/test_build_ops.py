"""`stylegan2 build-ops`: libraries for machines without a compiler, and each way in which it can fail."""

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from stylegan2_pipeline.commands.build_ops import command
from torch_utils.ops import build, native, toolchain
from torch_utils.resampling import native as resampling

ROOT = Path(__file__).parent.parent
MAKES = 'while [ $# -gt 0 ]; do [ "$1" = -o ] && echo made > "$2"; shift; done'
FAILS = "echo 'a.cpp:1: fatal error: b.h: No such file'; exit 1"


@pytest.fixture
def scripts(tmp_path, monkeypatch):
    """scripts(cxx, nvcc=None): compilers that are small scripts, noting each call, with a new cache."""
    monkeypatch.setenv("STYLEGAN2_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("TORCH_CUDA_ARCH_LIST", raising=False)

    def put(cxx, nvcc=None):
        for name, variable, value, script in (("g++", "CXX", "bin/g++", cxx), ("nvcc", "CUDA_HOME", ".", nvcc)):
            path = tmp_path / "bin" / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(f"""#!/bin/sh
                case "$1" in
                    --version) echo release 13.0; exit;;
                    --list-gpu-arch) for n in 75 80 86 89 90 120; do echo compute_$n; done; exit;;
                esac
                echo call >> {tmp_path}/calls
                {script or 'exit 1'}\n""")
            path.chmod(0o755)
            monkeypatch.setenv(variable, str(tmp_path / value))
        return tmp_path

    return put


@pytest.fixture
def cuda_torch(monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def run(*args):
    return CliRunner().invoke(command, list(args))


@pytest.fixture(scope="module")
def baseline():
    """What `build-ops --cpu-level=baseline` says, compiling into pytest's own cache."""
    result = run("--device=cpu", "--cpu-level=baseline")
    assert result.exit_code == 0, result.output
    return result.output


def without_compilers(cache, tmp_path):
    """The target that a process without any compiler runs."""
    code = "from torch_utils.ops import native; print(*native.state('cpu').build.target)"
    environment = {"PATH": str(tmp_path), "STYLEGAN2_CACHE": str(cache), native.MODE: "native",
                   "HOME": str(tmp_path), "LD_LIBRARY_PATH": os.environ.get("LD_LIBRARY_PATH", "")}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    return done.stdout.strip() or done.stderr


def test_a_library_for_any_cpu_is_compiled_and_tried(baseline):
    assert "self-test passed" in baseline and "stylegan2_cpu.so" in baseline and "kB" in baseline
    assert "STYLEGAN2_CACHE" in baseline and f"torch {torch.__version__}" in baseline
    again = run("--device=cpu", "--cpu-level=baseline")
    assert again.exit_code == 0 and "was there; self-test passed" in again.output


def test_it_serves_where_there_is_no_compiler(baseline, tmp_path):
    made = next(made for made in build.finished("cpu") if made.target == ("baseline",))
    folder = tmp_path / "cache" / "ops" / made.folder.parent.name
    shutil.copytree(made.folder, folder / made.folder.name)
    assert without_compilers(tmp_path / "cache", tmp_path) == "baseline"


@pytest.mark.skipif(platform.machine() not in resampling.MACHINES, reason="it is written for x86-64")
def test_what_resizes_pictures_is_compiled_along(baseline, tmp_path, monkeypatch):
    assert "CPU, resizing of pictures: 1 file for baseline" in baseline and "stylegan2_pictures.so" in baseline
    assert baseline.count("self-test passed") == 2
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(resampling.toolchain, "_cpu_flags", frozenset)
    monkeypatch.setattr(resampling, "_state", None)
    assert resampling.summary().startswith("native (baseline; ")


def test_the_best_level_that_runs_is_taken(baseline, tmp_path, monkeypatch):
    """Not the newest, which may be one for all machines."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    manifest = build.cache_folder("cpu") / "*" / "manifest.json"
    for path in Path("/").glob(str(manifest.relative_to("/"))):
        if path.parent.name.startswith("baseline"):
            os.utime(path)
    assert build.finished("cpu")[0].target == ("baseline",)
    assert native._find_or_compile("cpu").target == (toolchain.cpu_level(),)
    monkeypatch.setattr(toolchain, "_cpu_flags", frozenset)
    assert native._find_or_compile("cpu").target == ("baseline",)


@pytest.mark.parametrize("args", [
    ["--arch", "8.6", "8.9", "12.0+PTX"], ["--arch=8.6", "--arch=12.0+PTX", "--arch=8.9"],
    ["--arch", "8.9;8.6,12.0+PTX"], ["--arch", "12.0+PTX 8.6 8.9 8.6"], ["8.6", "8.9", "12.0+PTX"]])
def test_several_architectures_however_they_are_written(scripts, cuda_torch, args):
    scripts(MAKES, MAKES)
    result = run("--device=cuda", *args)
    assert result.exit_code == 0, result.output
    assert [made.target for made in build.finished("cuda")] == [("8.6", "8.9", "12.0+PTX")]
    assert "for 8.6, 8.9, 12.0+PTX, with g++" in result.output and "not tried, as there is no GPU here" in result.output


def test_architectures_of_the_environment(scripts, cuda_torch, monkeypatch):
    scripts(MAKES, MAKES)
    monkeypatch.setenv("TORCH_CUDA_ARCH_LIST", "8.0;9.0")
    assert run("--device=cuda").exit_code == 0
    assert build.finished("cuda")[0].target == ("8.0", "9.0")


def test_both_libraries_where_nvcc_is(scripts, cuda_torch, monkeypatch):
    scripts(MAKES, MAKES)
    monkeypatch.setattr(native, "runs_here", lambda made: False)
    result = run("--arch", "9.0", "--cpu-level=avx2")
    assert result.exit_code == 0 and "does not run avx2" in result.output
    assert build.finished("cpu") and build.finished("cuda")


def test_cuda_is_left_out_where_nobody_asks_and_nvcc_is_not(scripts, cuda_torch, monkeypatch):
    folder = scripts(MAKES)
    (folder / "bin" / "nvcc").unlink()
    monkeypatch.setattr(native, "self_test", lambda made: "")
    monkeypatch.setattr(resampling, "self_test", lambda made: "")
    result = run()
    assert result.exit_code == 0 and "No library for CUDA: CUDA_HOME=" in result.output and build.finished("cpu")


@pytest.mark.parametrize(("args", "message"), [
    (["--arch=8.6", "--device=cpu"], r"--arch is for CUDA, and --device=cpu"),
    (["--cpu-level=avx2", "--device=cuda"], r"--cpu-level is for the CPU"),
    (["--arch=Ampere"], r"--arch has 'Ampere', which is no compute capability"),
    (["--arch=6.1"], r"7.5 and later, not for 6.1"),
    (["--device=cuda"], r"no GPU here .*--arch 8.6"),
    ([], r"no GPU here .*--device=cpu"),
    (["--cpu-level=neon"], r"neon")])  # fmt: skip
def test_what_is_asked_wrongly_is_said_before_anything_is_compiled(scripts, cuda_torch, args, message):
    folder = scripts(MAKES, MAKES)
    result = run(*args)
    assert result.exit_code == 2 and pytest.raises(AssertionError, match=message).matches(AssertionError(result.output))
    assert not (folder / "calls").exists()


def test_cuda_with_a_torch_that_has_none(scripts, monkeypatch):
    scripts(MAKES, MAKES)
    monkeypatch.setattr(torch.version, "cuda", None)
    result = run("--arch=8.6")
    assert result.exit_code == 2 and "is built for the CPU only" in result.output


def test_without_a_compiler(scripts, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    result = run("--device=cpu")
    assert result.exit_code == 2 and "apt install g++" in result.output


def test_a_compiler_that_fails_is_quoted_and_tried_again_each_time(scripts):
    folder = scripts(FAILS)
    first = run("--device=cpu", "--cpu-level=avx2")
    tried = len((folder / "calls").read_text().splitlines())
    assert first.exit_code == 2 and "The CPU library cannot be compiled" in first.output
    assert "    a.cpp:1: fatal error: b.h" in first.output
    assert "b.h" in Path(first.output.split("The whole log: ")[1].strip()).read_text()
    assert run("--device=cpu", "--cpu-level=avx2").exit_code == 2
    assert len((folder / "calls").read_text().splitlines()) > tried


def test_a_library_that_does_not_load_is_said(scripts):
    scripts(MAKES)
    result = run("--device=cpu", "--cpu-level=baseline")
    assert result.exit_code == 2 and "is compiled, but" in result.output and "cannot be loaded" in result.output


def test_a_cache_that_cannot_be_written(scripts, tmp_path, monkeypatch):
    scripts(MAKES)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("STYLEGAN2_CACHE", str(tmp_path / "file"))
    result = run("--device=cpu")
    assert result.exit_code == 2 and "Cannot write" in result.output and "Set STYLEGAN2_CACHE" in result.output


def test_a_time_limit_that_is_no_number(scripts, monkeypatch):
    scripts(MAKES)
    monkeypatch.setenv(build.TIME_LIMIT, "long")
    result = run("--device=cpu")
    assert result.exit_code == 2 and build.TIME_LIMIT in result.output
