"""CUDA's kernels without a GPU: they compile for every target without spilling, link, load, and register."""

import ctypes
import re
import subprocess

import pytest
import torch

from torch_utils.ops import build, native, recipe, toolchain
from torch_utils.ops.toolchain import Missing

TARGETS = ["7.5", "8.6", "8.9", "9.0"]


def nvcc_or_skip():
    try:
        return toolchain.find_tools("cuda", torch.version.cuda)
    except Missing as missing:
        pytest.skip(str(missing))


@pytest.fixture(scope="module")
def newest(request):
    known = max(toolchain.known_capabilities(nvcc_or_skip().nvcc))
    return f"{known // 10}.{known % 10}"


@pytest.mark.slow
@pytest.mark.parametrize("source", [path for path in recipe.sources("cuda") if path.suffix == ".cu"],
                         ids=lambda path: path.name)
def test_kernels_compile_for_every_target_without_spilling(source, newest, tmp_path):
    """Registers suffice: ptxas reports no stack frames and no spills."""
    tools = nvcc_or_skip()
    command = [tools.nvcc, *recipe.NVCC_FLAGS, "-Xptxas=-v", f"-ccbin={tools.cxx}", "-I", recipe.CSRC,
               *toolchain.gencode([*TARGETS, newest], tools.nvcc), "-c", source, "-o", tmp_path / "kernel.o"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and "warning" not in done.stderr, done.stderr
    assert len(set(re.findall(r"for '(sm_\d+)'", done.stderr))) == len(TARGETS) + 1
    used = re.findall(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", done.stderr)
    assert set(used) == {("0", "0", "0")}


@pytest.mark.slow
def test_the_library_links_loads_and_registers_every_operator(newest):
    tools = nvcc_or_skip()
    made = build.compile_ops("cuda", (newest,), tools, print)
    library = ctypes.CDLL(str(made.library))
    has = torch._C._dispatch_has_kernel_for_dispatch_key
    assert not torch.cuda.is_available() or native.state("cuda").native
    if not torch.cuda.is_available():
        assert not has("stylegan2::bias_act", "CUDA")
    assert library.stylegan2_register() == 0
    try:
        assert all(has(f"stylegan2::{name}", "CUDA") for name in native.operators("cuda"))
    finally:
        assert library.stylegan2_unregister() == 0
