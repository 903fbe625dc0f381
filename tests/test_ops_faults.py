"""Nothing about the native operators ends a run: one line says what is missing, and the reference goes on."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from torch_utils.ops import build, native, toolchain

ROOT = Path(__file__).parent.parent
CALL = """
import torch
from torch_utils.ops.bias_act import bias_act
x = torch.tensor([[-1.0, 2.0]])
for _ in range(2):
    assert torch.allclose(bias_act(x, act="lrelu", gain=1.0), torch.tensor([[-0.2, 2.0]]))
from torch_utils.ops import native
print(native.load("cpu"))
"""
NO_COMPILER = {"PATH": "/nowhere", "CXX": ""}


def python(*args, **env):
    """What a command prints, in a process of its own that has settled nothing yet."""
    return subprocess.run([sys.executable, *args], env=os.environ | env, cwd=ROOT, capture_output=True, text=True)


def script(folder, name, text):
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def empty_cache(tmp_path):
    return str(tmp_path / "cache")


def one_line(done):
    assert done.returncode == 0, done.stderr
    assert done.stdout == "False\n"
    lines = [line for line in done.stderr.splitlines() if not line.startswith("Compiling")]
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("The native operators for the CPU cannot be used: ")
    assert "the results are the same" in lines[0]
    return lines[0]


def test_they_run_in_a_new_process_without_a_word():
    done = python("-c", CALL)
    assert (done.returncode, done.stdout, done.stderr) == (0, "True\n", "")


def test_without_a_compiler(empty_cache):
    assert "no C++ compiler on PATH. Install one: apt install g++" in one_line(
        python("-c", CALL, STYLEGAN2_CACHE=empty_cache, **NO_COMPILER))


def test_what_was_built_before_needs_no_compiler():
    done = python("-c", CALL, **NO_COMPILER)
    assert (done.stdout, done.stderr) == ("True\n", "")


def test_a_cache_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    line = one_line(python("-c", CALL, STYLEGAN2_CACHE=str(tmp_path / "file")))
    assert "Set STYLEGAN2_CACHE to a folder that can be written to" in line and str(tmp_path / "file") in line


def test_a_compiler_that_fails_is_called_once(empty_cache, tmp_path):
    note = f"[ $1 = --version ] || echo call >> {tmp_path}/calls"
    cxx = script(tmp_path, "cxx", f"{note}; echo 'a.h: fatal error: lost'; exit 1")
    env = {"STYLEGAN2_CACHE": empty_cache, "CXX": cxx}
    first = one_line(python("-c", CALL, **env))
    calls = (tmp_path / "calls").read_text()
    second = one_line(python("-c", CALL, **env))
    assert first == second and "a.h: fatal error: lost" in first and (tmp_path / "calls").read_text() == calls
    log = first.split("Log: ")[1].split(". Without")[0]
    assert "a.h: fatal error: lost" in Path(log).read_text()


def test_a_compiler_that_hangs(empty_cache, tmp_path):
    env = {"STYLEGAN2_CACHE": empty_cache, "CXX": script(tmp_path, "cxx", "sleep 100"), build.TIME_LIMIT: "1"}
    assert "longer than 1 s" in one_line(python("-c", CALL, **env))


def test_a_library_that_is_none(empty_cache, tmp_path):
    """As of another architecture: whole, as its checksum says, and impossible to load."""
    cxx = script(tmp_path, "cxx", 'while [ $# -gt 0 ]; do [ "$1" = -o ] && echo none > "$2"; shift; done')
    line = one_line(python("-c", CALL, STYLEGAN2_CACHE=empty_cache, CXX=cxx))
    assert "cannot be loaded" in line and "Remove " in line


def test_kernels_that_compute_something_else(empty_cache):
    wrong = ("import torch_utils.ops.bias_act\nfrom torch_utils.ops import native\nop = native.OPERATORS['bias_act']\n"
             "native.OPERATORS['bias_act'] = op._replace(reference=lambda *a: op.reference(*a) * 1.001)\n") + CALL
    line = one_line(python("-c", wrong))
    assert "self-test fails (bias_act in float32 is off by" in line


def test_whatever_else_goes_wrong(empty_cache):
    odd = ("from torch_utils.ops import native, build\n"
           "def broken(device): raise KeyError('odd')\nbuild.finished = broken\n" + CALL)
    assert "KeyError: 'odd'. Please report it" in one_line(python("-c", odd))


def test_the_reference_on_demand():
    done = python("-c", CALL, STYLEGAN2_OPS="reference")
    assert (done.returncode, done.stdout, done.stderr) == (0, "False\n", "")


def generate(tmp_path, **env):
    return python("generate.py", "--network=tests/golden/nvlabs_layout.pkl", "--seeds=0", f"--outdir={tmp_path}", **env)


def test_native_or_nothing(tmp_path, empty_cache):
    done = generate(tmp_path / "out", STYLEGAN2_OPS="native", STYLEGAN2_CACHE=empty_cache, **NO_COMPILER)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "STYLEGAN2_OPS=native, but the native operators for the CPU cannot be used: there is no C++" in done.stderr
    assert not (tmp_path / "out").exists()
    assert generate(tmp_path / "out", STYLEGAN2_OPS="native").returncode == 0


def test_native_or_nothing_names_the_log(tmp_path, empty_cache):
    cxx = script(tmp_path, "cxx", "echo 'error: all of it'; exit 1")
    done = generate(tmp_path, STYLEGAN2_OPS="native", STYLEGAN2_CACHE=empty_cache, CXX=cxx)
    assert done.returncode == 2 and "Log: " in done.stderr


def test_a_mode_that_there_is_not(tmp_path):
    done = generate(tmp_path, STYLEGAN2_OPS="fast")
    assert done.returncode == 2 and "STYLEGAN2_OPS=fast is none of auto, native and reference" in done.stderr


def test_a_user_without_a_name():
    """As in a container run with --user; torch would fail to register any operator."""
    nameless = ("import os, pwd\ndef none(uid): raise KeyError(uid)\npwd.getpwuid = none\n"
                "for name in ('USER', 'LOGNAME', 'LNAME', 'USERNAME'): os.environ.pop(name, None)\n")
    done = python("-c", nameless + CALL)
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr


def test_ranks_tell_once(empty_cache):
    assert python("-c", CALL, STYLEGAN2_CACHE=empty_cache, LOCAL_RANK="1", **NO_COMPILER).stderr == ""


@pytest.fixture
def cuda_torch(monkeypatch, tmp_path):
    """A torch with CUDA and one GPU, as far as the loader asks."""
    monkeypatch.setenv("STYLEGAN2_CACHE", str(tmp_path))
    monkeypatch.setenv("STYLEGAN2_OPS", "auto")
    monkeypatch.delenv("TORCH_CUDA_ARCH_LIST", raising=False)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(native, "_gpus", lambda: [(8, 6)])
    monkeypatch.setattr(native, "_states", {})
    monkeypatch.setattr(native, "_libraries", {})
    return monkeypatch


def test_a_torch_without_cuda(cuda_torch, capsys):
    cuda_torch.setattr(torch.version, "cuda", None)
    assert not native.load("cuda") and "this torch is not built for CUDA" in capsys.readouterr().err


def test_without_nvcc(cuda_torch, capsys):
    def none(cuda_version):
        raise toolchain.Missing("there is no CUDA compiler (nvcc)", "Install it")

    cuda_torch.setattr(toolchain, "find_nvcc", none)
    assert not native.load("cuda")
    assert "for CUDA cannot be used: there is no CUDA compiler (nvcc). Install it." in capsys.readouterr().err


def test_nvcc_that_fails(cuda_torch, capsys, tmp_path):
    answer = "[ $1 = --list-gpu-arch ] && echo compute_86 && exit"
    nvcc = script(tmp_path, "nvcc", f"{answer}; echo 'nvcc fatal: no'; exit 1")
    cuda_torch.setattr(toolchain, "find_nvcc", lambda version: Path(nvcc))
    assert not native.load("cuda") and "nvcc fatal: no" in capsys.readouterr().err
    assert native.state("cuda").log.exists()


def test_capabilities_that_leave_out_the_gpu(cuda_torch, capsys):
    cuda_torch.setenv("TORCH_CUDA_ARCH_LIST", "9.0")
    assert not native.load("cuda")
    assert "TORCH_CUDA_ARCH_LIST leaves out" in capsys.readouterr().err
    assert native.target_here("cuda") == ("9.0",)


def test_a_gpu_that_nvcc_does_not_know(cuda_torch, capsys, tmp_path):
    cuda_torch.setattr(native, "_gpus", lambda: [(6, 1)])
    nvcc = script(tmp_path, "nvcc", "echo compute_75; echo compute_86")
    cuda_torch.setattr(toolchain, "find_nvcc", lambda version: Path(nvcc))
    assert not native.load("cuda") and "7.5 and later, not for 6.1" in capsys.readouterr().err


def test_other_devices_have_the_reference():
    assert not native.load("meta") and "CPU and for CUDA only" in native.state("meta").reason


def test_the_manifest_says_what_was_built():
    made = native.state("cpu").build
    told = json.loads((made.folder / "manifest.json").read_text())
    assert told["target"] == [toolchain.cpu_level()] and told["seconds"] > 0 and told["versions"]
    assert native.summary("cpu").startswith(f"native ({toolchain.cpu_level()}")
