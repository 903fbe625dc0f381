"""The kernels that one matrix of tests runs against the references: the CPU's, CUDA's, and CUDA's source on the CPU."""

import contextlib
import ctypes
import hashlib
import os
import shlex
import subprocess
from pathlib import Path

import pytest
import torch

from torch_utils.ops import native, recipe, toolchain
from torch_utils.ops.build import first_error

EMULATION = Path(__file__).parent / "cuda_emulation"
KINDS = ["cpu", pytest.param("emulated", marks=pytest.mark.slow), pytest.param("cuda", marks=pytest.mark.gpu)]


def registration_is_sound(name, *args):
    """stylegan2::name is what torch's dispatcher thinks; the derivative is that of the function that calls it."""
    args = [arg.detach() if isinstance(arg, torch.Tensor) else arg for arg in args]
    torch.library.opcheck(getattr(torch.ops.stylegan2, name).default, tuple(args), test_utils=(
        "test_schema", "test_faketensor", "test_aot_dispatch_static"))


@contextlib.contextmanager
def running(kind):
    """Within it the operators run these kernels; the device to run them on."""
    if kind == "reference":
        with native.reference():
            yield torch.device("cpu")
        return
    if kind != "emulated":
        state = native.state(kind)
        assert state.native, f"{state.reason}. {state.remedy}"
        yield torch.device(kind)
        return
    library = ctypes.CDLL(str(emulated_library()))
    with native.reference():
        assert library.stylegan2_register() == 0
        try:
            yield torch.device("cpu")
        finally:
            library.stylegan2_unregister()


def emulated_library(flags=("-O2",)):
    """The .cu files compiled as C++ against the stand-in for CUDA, with the bindings of the CPU; kept in the cache."""
    sources = recipe.sources("cuda")
    files = sorted([*recipe.CSRC.iterdir(), *EMULATION.iterdir()])
    key = hashlib.sha256(b"".join(path.read_bytes() for path in files) + repr((flags, torch.__version__)).encode())
    folder = Path(os.environ["STYLEGAN2_CACHE"]) / f"emulated-{key.hexdigest()[:16]}"
    library = folder / "emulated.so"
    if not library.exists():
        folder.mkdir(parents=True, exist_ok=True)
        compiler = shlex.join(map(str, [
            toolchain.find_cxx(), "-std=c++17", *flags, "-fPIC", "-fvisibility=hidden", "-I", EMULATION, "-I",
            recipe.CSRC, "-isystem", recipe.TORCH / "include", "-DTORCH_TARGET_VERSION=0x020b000000000000"]))
        link = f"{compiler} -shared $in -o $out -L{recipe.TORCH / 'lib'} -ltorch_cpu -Wl,-zdefs"
        lines = [f"rule compile\n  command = {compiler} -x c++ -c $in -o $out", f"rule link\n  command = {link}"]
        lines += [f"build {source.name}.o: compile {source}" for source in sources]
        lines.append("build emulated.so: link " + " ".join(f"{source.name}.o" for source in sources))
        (folder / "build.ninja").write_text("\n".join(lines) + "\n")
        done = subprocess.run([toolchain.find_ninja(), "-C", folder], capture_output=True, text=True)
        assert done.returncode == 0, first_error(done.stdout + done.stderr)
    return library
