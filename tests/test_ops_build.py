"""Building the native operators, with compilers that work, fail, hang, or are killed: small scripts in their place."""

import dataclasses
import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from torch_utils.ops import build, recipe, toolchain
from torch_utils.ops.build import BuildFailure
from torch_utils.ops.toolchain import Missing, Tools

WORKS = 'while [ $# -gt 0 ]; do [ "$1" = -o ] && echo made > "$2"; shift; done'
ROOT = Path(__file__).parent.parent


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("STYLEGAN2_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def compiler(tmp_path):
    """compiler(script) -> Tools whose C++ compiler notes each call in `calls` and then runs the script."""
    path = tmp_path / "bin" / "g++"
    path.parent.mkdir()

    def make(script):
        path.write_text(f'#!/bin/sh\n[ "$1" = --version ] && exit\necho call >> {tmp_path}/calls\n{script}\n')
        path.chmod(0o755)
        return Tools(toolchain.find_ninja(), path)

    return make


def calls(tmp_path):
    file = tmp_path / "calls"
    return len(file.read_text().splitlines()) if file.exists() else 0


STEPS = len(recipe.sources("cpu")) + 1  # and the link


def compile_ops(tools, said=None, retry=False):
    return build.compile_ops("cpu", ("baseline",), tools, (said if said is not None else []).append, retry)


def in_another_process(tools, wait=""):
    code = ("import sys; from pathlib import Path; from torch_utils.ops import build; from torch_utils.ops.toolchain "
            "import Tools; tools = Tools(*map(Path, sys.argv[1:])); "
            "print(build.compile_ops('cpu', ('baseline',), tools, print).library.read_text())")
    return subprocess.Popen([sys.executable, "-c", code, str(tools.ninja), str(tools.cxx)], cwd=ROOT, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def until(condition, seconds=30):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def running(pid):
    status = Path("/proc", pid, "status")
    return status.exists() and "State:\tZ" not in status.read_text()


def test_a_build_happens_once(cache, compiler, tmp_path):
    tools, said = compiler(WORKS), []
    first = compile_ops(tools, said)
    assert first.library.read_text() == "made\n" and (first.folder / "build.log").exists()
    assert "once" in said[0] and str(cache) in said[0]
    assert compile_ops(tools, said) == first == build.finished("cpu")[0]
    assert calls(tmp_path) == STEPS and len(said) == 1


def test_a_build_is_no_larger_than_needed_and_others_may_read_it(cache, compiler):
    umask = os.umask(0o022)
    try:
        made = compile_ops(compiler(WORKS))
    finally:
        os.umask(umask)
    assert {path.name for path in made.folder.iterdir()} - {".ninja_log", ".ninja_deps"} == {
        "build.log", "build.ninja", "manifest.json", "stylegan2_cpu.so"}
    assert made.folder.stat().st_mode & 0o777 == 0o755 and made.library.stat().st_mode & 0o044 == 0o044


def test_another_compiler_builds_anew(cache, compiler, tmp_path):
    compile_ops(compiler(WORKS))
    compile_ops(compiler(WORKS + " # another"))
    assert calls(tmp_path) == 2 * STEPS and len(build.finished("cpu")) == 2


def test_other_sources_or_flags_have_another_folder(cache, monkeypatch):
    before = build.cache_folder("cpu")
    monkeypatch.setattr(recipe, "CXX_FLAGS", [*recipe.CXX_FLAGS, "-g"])
    assert build.cache_folder("cpu") != before


@pytest.mark.parametrize("damage", [lambda p: p.write_bytes(p.read_bytes()[:-1]), lambda p: p.unlink()],
                         ids=["truncated", "gone"])
def test_a_damaged_library_is_built_again(cache, compiler, tmp_path, damage):
    tools = compiler(WORKS)
    damage(compile_ops(tools).library)
    assert build.finished("cpu") == []
    assert compile_ops(tools).library.read_text() == "made\n" and calls(tmp_path) == 2 * STEPS


def test_a_failure_is_told_and_remembered_until_something_changes(cache, compiler, tmp_path):
    tools = compiler("echo 'In file included'; echo 'x.cpp:3: fatal error: no_such.h: No such file'; exit 1")
    with pytest.raises(BuildFailure, match=r"compiling failed \(x.cpp:3: fatal error: no_such.h"):
        compile_ops(tools)
    tried = calls(tmp_path)
    with pytest.raises(BuildFailure, match=r"fatal error: no_such.h") as raised:
        compile_ops(tools)
    assert calls(tmp_path) == tried and "In file included" in raised.value.log.read_text()
    with pytest.raises(BuildFailure):
        compile_ops(tools, retry=True)
    assert calls(tmp_path) > tried
    assert compile_ops(compiler(WORKS)).library.exists()  # the compiler was mended
    assert not list(cache.rglob("building-*"))


def test_a_compiler_that_hangs_is_ended(cache, compiler, monkeypatch, tmp_path):
    monkeypatch.setenv(build.TIME_LIMIT, "1")
    tools = compiler(f"echo $$ >> {tmp_path}/pids; sleep 600")
    began = time.monotonic()
    with pytest.raises(BuildFailure, match=r"longer than 1 s") as raised:
        compile_ops(tools)
    assert time.monotonic() - began < 20 and build.TIME_LIMIT in raised.value.remedy
    until(lambda: not any(running(pid) for pid in (tmp_path / "pids").read_text().split()))


def test_two_processes_build_once(cache, compiler, tmp_path):
    tools = compiler("sleep 0.3; " + WORKS)
    processes = [in_another_process(tools) for _ in range(2)]
    outputs = [process.communicate(timeout=60)[0] for process in processes]
    assert all(output.endswith("made\n\n") for output in outputs)
    assert calls(tmp_path) == STEPS
    assert sum("Compiling" in output for output in outputs) == sum("Waiting" in output for output in outputs) == 1


def test_a_build_killed_in_the_middle_blocks_nobody(cache, compiler, tmp_path):
    process = in_another_process(compiler("sleep 5; " + WORKS))
    until(lambda: calls(tmp_path) > 0)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert list(cache.rglob("building-*"))
    began = time.monotonic()
    assert compile_ops(compiler(WORKS)).library.exists()
    assert time.monotonic() - began < 4 and not list(cache.rglob("building-*"))


def test_an_nvcc_that_hangs_is_remembered(cache, compiler, tmp_path, monkeypatch):
    monkeypatch.setattr(toolchain, "ANSWER_SECONDS", 1)
    nvcc = tmp_path / "nvcc"
    nvcc.write_text(f"#!/bin/sh\necho call >> {tmp_path}/nvcc-calls\nexec sleep 100\n")
    nvcc.chmod(0o755)
    tools = dataclasses.replace(compiler(WORKS), nvcc=nvcc)
    for _ in range(2):
        with pytest.raises(BuildFailure, match=r"nvcc --list-gpu-arch fails.*timed out"):
            build.compile_ops("cuda", ("8.6",), tools, print)
    assert len((tmp_path / "nvcc-calls").read_text().split()) == 1


def test_without_file_locks_nobody_removes_anothers_build(cache, compiler, monkeypatch):
    def none(*args):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(build.fcntl, "flock", none)
    tools = compiler(WORKS)
    other = build.cache_folder("cpu") / "building-another"
    other.mkdir(parents=True)
    assert compile_ops(tools).library.exists() and other.exists()
    (other / "manifest.json").write_text((build.finished("cpu")[0].folder / "manifest.json").read_text())
    (other / "stylegan2_cpu.so").write_text("made\n")
    assert len(build.finished("cpu")) == 1  # what is being built is not finished


def test_what_compilers_heed_is_a_new_attempt(cache, compiler, tmp_path, monkeypatch):
    tools = compiler("echo 'error: unsupported GNU version!'; exit 1")
    with pytest.raises(BuildFailure, match=r"older g\+\+ and name it: export CXX"):
        compile_ops(tools)
    tried = calls(tmp_path)
    monkeypatch.setenv("NVCC_PREPEND_FLAGS", "-allow-unsupported-compiler")
    with pytest.raises(BuildFailure):
        compile_ops(tools)
    assert calls(tmp_path) > tried


def test_a_cache_that_cannot_be_written_raises(monkeypatch, compiler, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("STYLEGAN2_CACHE", str(tmp_path / "file"))
    with pytest.raises(OSError):
        compile_ops(compiler(WORKS))
    assert build.finished("cpu") == []


def test_a_time_limit_that_is_no_number(monkeypatch, cache, compiler):
    monkeypatch.setenv(build.TIME_LIMIT, "long")
    with pytest.raises(Missing, match=r"no number of seconds"):
        compile_ops(compiler(WORKS))


def test_paths_with_spaces_and_dollars_compile(cache, compiler, tmp_path, monkeypatch):
    sources = tmp_path / "a $b c"
    sources.mkdir()
    (sources / "bindings.cpp").write_text("")
    monkeypatch.setattr(recipe, "CSRC", sources)
    tools = compiler(f'echo "$@" >> {tmp_path}/words; ' + WORKS)
    assert compile_ops(tools).library.exists()
    assert str(sources / "bindings.cpp") in (tmp_path / "words").read_text()


@pytest.mark.parametrize(("log", "line"), [
    ("FAILED: bias.o\nnvcc fatal   : Unsupported gpu architecture 'compute_99'\nninja: stopped", "Unsupported gpu"),
    ("[1/2] g++\nkernels.h:1:10: fatal error: a.h: No such file or directory\nmore", "a.h: No such file"),
    ("ninja: Entering x\nFAILED: a.o\n/usr/bin/g++ -c a -o a.o\n", "no message")])  # fmt: skip
def test_the_line_that_says_most(log, line):
    assert line in build.first_error(log)


def test_the_compilers_environment_is_the_users(cache, compiler, tmp_path):
    """Such as NVCC_PREPEND_FLAGS or CCACHE_DIR."""
    os.environ["STYLEGAN2_TEST_WORD"] = "kept"
    try:
        compile_ops(compiler(f"echo $STYLEGAN2_TEST_WORD > {tmp_path}/word; " + WORKS))
    finally:
        del os.environ["STYLEGAN2_TEST_WORD"]
    assert (tmp_path / "word").read_text() == "kept\n"
