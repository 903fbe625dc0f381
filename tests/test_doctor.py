"""`stylegan2 doctor`: what it finds where all is well, and where each thing is broken."""

import json
import platform
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from click.testing import CliRunner

from stylegan2_pipeline import doctor, doctor_operators, doctor_probes
from stylegan2_pipeline.commands.doctor import command
from stylegan2_pipeline.doctor import Fact, Section
from stylegan2_pipeline.doctor_probes import facts_of, no_gpu
from torch_utils.ops import native, toolchain


@pytest.fixture
def unsettled(tmp_path, monkeypatch):
    """A machine with neither a build nor a C++ compiler, and operators that have not been looked at."""
    monkeypatch.setattr(native, "_states", {})
    monkeypatch.setenv("STYLEGAN2_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    return tmp_path


@pytest.fixture
def torch_module(tmp_path, monkeypatch):
    """torch_module(source) stands in place of torch in the processes that a test starts."""

    def put(source):
        (tmp_path / "path").mkdir()
        (tmp_path / "path" / "torch.py").write_text(source)
        monkeypatch.setenv("PYTHONPATH", str(tmp_path / "path"))

    return put


def named(facts):
    return {fact.name: fact for fact in facts}


def test_all_is_well():
    result = CliRunner().invoke(command, ["--json", "--device=cpu"])
    facts = json.loads(result.stdout)
    assert result.exit_code == 0 and facts["well"] and facts["versions"]["torch"] == torch.__version__
    assert facts["cpu_operators"]["state"]["native"] and facts["cpu_operators"]["library"].endswith("stylegan2_cpu.so")
    assert set(facts["cpu_self_test"]) == set(native.OPERATORS)
    assert all(error < 1e-5 for error in (of["float32"] for of in facts["cpu_self_test"].values()))
    timed = {name: of for name, of in facts["cpu_speed"].items() if name != "images"}
    assert {name.split("_up_")[0].split("_down_")[0] for name in timed} == set(native.OPERATORS)
    assert all(of["native_sec"] > 0 and of["reference_sec"] > 0 for of in timed.values())
    assert facts["cpu"]["resizing"] is (platform.machine() in doctor_probes.resampling.MACHINES)
    assert {"cpu", "gpu", "compilers", "cache", "settings"} < set(facts) and "cuda_operators" not in facts


def test_every_operator_is_timed_as_training_calls_it():
    shape = (1, 4, 8, 8)
    for name in native.operators():
        for label, args in doctor_operators.cases(name, shape, torch.device("cpu")):
            assert label != "small" and args[0].shape in (shape, (4, 4, 3, 3))
            getattr(torch.ops.stylegan2, name)(*args)


def test_the_report_and_its_verdict():
    good = Section("cpu", "CPU", [Fact("model", "EPYC"), Fact("free memory", "1 GB", 1e9)])
    fair = Section("cache", "Cache", [Fact("disk", "0 B", 0, "warning", "Make room")])
    bad = Section("cpu_operators", "CPU operators", [Fact("state", "pure torch", False, "error", "Mend it")])
    assert doctor.rendered(good).splitlines()[1:] == ["  model        EPYC", "  free memory  1 GB"]
    assert "warning\x1b[0m: 0 B\n        Make room" in doctor.rendered(fair)
    assert "All is well." in doctor.verdict([good]) and doctor.holds([good, fair])
    assert doctor.verdict([good, fair]).endswith("could be better:\x1b[0m\n  Cache, disk: 0 B. Make room.")
    assert "To mend" in doctor.verdict([bad]) and not doctor.holds([good, bad])
    facts = json.loads(doctor.as_json([good, fair, bad]))
    assert facts["cpu"] == {"model": "EPYC", "free_memory": 1e9} and not facts["well"]
    assert [(of["section"], of["remedy"]) for of in facts["trouble"]] == [("cache", "Make room"),
                                                                          ("cpu_operators", "Mend it")]


@pytest.mark.parametrize(("mode", "machine", "level"), [
    ("reference", "x86_64", ""), ("", "aarch64", ""), ("", "x86_64", "warning")])
def test_pictures_that_pillow_resizes(monkeypatch, tmp_path, mode, machine, level):
    monkeypatch.setenv("STYLEGAN2_OPS", mode)
    monkeypatch.setenv("STYLEGAN2_CACHE", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(doctor_probes.platform, "machine", lambda: machine)
    monkeypatch.setattr(doctor_probes.resampling, "_state", None)
    fact = doctor_probes.resizing()
    assert fact.level == level and fact.value is False and fact.text.startswith("Pillow (")
    assert "ten times" in fact.text and bool(fact.remedy) == bool(level)


def test_json_has_no_infinity():
    memory = Fact("memory", "?", {"free": float("inf"), "list": [float("nan")]})
    facts = doctor.as_json([Section("cpu", "CPU", [memory])])
    assert json.loads(facts)["cpu"]["memory"] == {"free": None, "list": [None]}
    assert "NaN" not in facts and "Infinity" not in facts


NO_DRIVER = "Found no NVIDIA driver on your system. Please check that"
OLD = "The NVIDIA driver on your system is too old (found version 11040). Please update your GPU driver"


@pytest.mark.parametrize(("cuda", "driver", "on_bus", "told", "text", "level", "remedy"), [
    (None, "", False, "", "this torch is built for the CPU only", "", ""),
    (None, "580.82", False, "", "this torch is built for the CPU only", "warning", "--force-reinstall torch==2.13.0"),
    (None, "", True, "", "this torch is built for the CPU only", "warning", "install torch with CUDA"),
    ("13.0", "", False, NO_DRIVER, "there is no NVIDIA driver", "", ""),
    ("13.0", "", True, NO_DRIVER, "there is no NVIDIA driver", "warning", "docker run --gpus all"),
    ("13.0", "470.82", True, OLD, "too old (found version 11040)", "warning", "Update the driver, or install a torch"),
    ("13.0", "580.82", True, "No CUDA GPUs are available", "No CUDA GPUs are available", "warning", "CUDA_VISIBLE_DEV"),
    ("13.0", "580.82", True, "", "torch.cuda sees none", "warning", "nvidia-smi")])  # fmt: skip
def test_why_there_is_no_gpu(cuda, driver, on_bus, told, text, level, remedy):
    fact = no_gpu("2.13.0+cpu", cuda, driver, on_bus, told)
    assert text in fact.text and fact.level == level and remedy in fact.remedy and bool(fact.remedy) == bool(remedy)


def test_the_driver_as_nvidia_smi_has_it(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    if not Path("/proc/driver/nvidia/version").exists():
        assert doctor_probes.driver_version() == ""
        (tmp_path / "nvidia-smi").write_text("#!/bin/sh\necho 580.82.07\n")
        (tmp_path / "nvidia-smi").chmod(0o755)
    assert re.fullmatch(r"\d+\.\d+(\.\d+)?", doctor_probes.driver_version())


def test_each_gpu_is_asked_to_compute(monkeypatch):
    ones = torch.ones
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "init", lambda: None)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda i: SimpleNamespace(name="GPU", major=8, minor=6))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda i: (10**9, 12 * 10**9))

    def only_the_first(n, device):
        if device == "cuda:1":
            raise RuntimeError("CUDA error: no kernel image is available\nmore")
        return ones(n)

    monkeypatch.setattr(torch, "ones", only_the_first)
    facts = named(facts_of("gpu"))
    assert facts["device 0"].text == "GPU, compute capability 8.6, 1.0 GB free of 12 GB"
    assert facts["device 0"].level == "ok" and facts["device 0"].value["capability"] == "8.6"
    assert facts["device 1"].level == "error" and "does not compute (RuntimeError: CUDA error: no kernel image" in (
        facts["device 1"].text)


@pytest.mark.gpu
def test_all_is_well_on_cuda():
    result = CliRunner().invoke(command, ["--json", "--device=cuda"], env={native.MODE: "native"})
    facts = json.loads(result.stdout)
    assert result.exit_code == 0 and facts["well"] and facts["gpu"]["device_0"]["capability"]
    assert set(facts["cuda_self_test"]) == set(native.operators("cuda"))


@pytest.mark.parametrize(("mode", "level"), [("auto", "warning"), ("native", "error"), ("reference", "")])
def test_operators_that_are_not_native(unsettled, monkeypatch, mode, level):
    monkeypatch.setenv(native.MODE, mode)
    state = named(facts_of("cpu_operators"))["state"]
    assert state.level == level and state.value["native"] is False
    assert ("C++ compiler" in state.text and "apt install g++" in state.remedy) == (mode != "reference")
    assert facts_of("cpu_self_test") == facts_of("cpu_speed") == []


def test_a_compiler_that_fails_is_shown_with_its_log(unsettled, monkeypatch):
    compiler = unsettled / "cxx"
    compiler.write_text("#!/bin/sh\necho 'a.cpp:1: fatal error: b.h: No such file'; exit 1\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    monkeypatch.setenv("PATH", f"{unsettled}:/usr/bin:/bin")
    facts = named(facts_of("cpu_operators"))
    assert "fatal error: b.h" in facts["state"].text and "build-ops" in facts["state"].remedy
    with open(facts["log"].text) as log:
        assert "b.h: No such file" in log.read()


def test_a_mode_that_there_is_not(monkeypatch):
    monkeypatch.setenv(native.MODE, "fast")
    state, = facts_of("cpu_operators")
    assert state.level == "error" and state.text.startswith("STYLEGAN2_OPS=fast is none of")
    assert facts_of("cpu_self_test") == []


@pytest.mark.parametrize("error", [1e-3, float("nan")])
def test_a_kernel_that_disagrees(monkeypatch, error):
    found = [("bias_act", torch.float32, 0.0), ("bias_act", torch.float32, error), ("bias_act", torch.float32, 1e-9),
             ("upfirdn2d", torch.float16, 1e-4)]
    monkeypatch.setattr(native, "errors", lambda device: iter(found))
    facts = named(facts_of("cpu_self_test"))
    assert facts["bias_act"].level == "error" and "reference" in facts["bias_act"].remedy
    assert facts["upfirdn2d"].level == "ok"


def test_a_kernel_that_raises(monkeypatch):
    def errors(device):
        raise RuntimeError("CUDA error: an illegal memory access\nmore")
        yield

    monkeypatch.setattr(native, "errors", errors)
    fact, = facts_of("cpu_self_test")
    assert fact.level == "error" and fact.text == "fails (CUDA error: an illegal memory access)"


def test_a_cache_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("STYLEGAN2_CACHE", str(tmp_path / "file"))
    fact = named(facts_of("cache"))["writable"]
    assert fact.level == "error" and "STYLEGAN2_CACHE" in fact.remedy
    monkeypatch.setenv("STYLEGAN2_CACHE", str(tmp_path / "new"))
    assert named(facts_of("cache"))["writable"].level == "ok" and not list((tmp_path / "new").iterdir())


def test_compilers_that_are_not_there(monkeypatch, unsettled):
    def missing(*args):
        raise toolchain.Missing("there is none", "Install it")

    monkeypatch.setattr(toolchain, "find_nvcc", missing)
    facts = named(facts_of("compilers"))
    assert facts["nvcc"].text == "not found: there is none" and facts["nvcc"].remedy == "Install it"
    assert facts["C++"].value["path"] is None and facts["ninja"].value["version"]


def test_settings_that_matter(monkeypatch):
    for name in doctor_probes.SETTINGS:
        monkeypatch.delenv(name, raising=False)
    assert [fact.name for fact in facts_of("settings")] == ["STYLEGAN2_OPS"]
    monkeypatch.setenv("TORCH_CUDA_ARCH_LIST", "8.6")
    assert named(facts_of("settings"))["TORCH_CUDA_ARCH_LIST"].text == "8.6"


def test_a_probe_that_fails_is_shown(monkeypatch):
    def broken():
        raise ValueError("odd\nlines")

    monkeypatch.setitem(doctor_probes.PROBES, "cpu", broken)
    fact, = facts_of("cpu")
    assert fact.level == "warning" and fact.text == "cannot be found out (ValueError: odd)"


def test_a_torch_that_does_not_load(torch_module):
    torch_module("raise ImportError('libcudart.so.13: cannot open shared object file')")
    result = CliRunner().invoke(command, ["--json"])
    facts = json.loads(result.stdout)
    assert result.exit_code == 1 and "libcudart.so.13" in facts["versions"]["torch"]
    assert facts["cache"]["writable"] and "cpu_operators" not in facts
    assert [of["level"] for of in facts["trouble"]] == ["error", "warning"]  # torch; its GPU


def test_cuda_that_is_asked_for(torch_module):
    torch_module("raise ImportError('none')")
    result = CliRunner().invoke(command, ["--device=cuda"])
    assert result.exit_code == 1 and "error: --device=cuda is asked for; torch sees no GPU" in result.output
    assert "To mend:" in result.output and "\x1b" not in result.output


def test_a_process_that_is_killed_ends_a_section_and_not_the_report(torch_module):
    torch_module("import os; os.kill(os.getpid(), 11)")
    sections = {section.key: section for section in doctor.examine("cpu")}
    assert list(sections) == ["versions", "gpu", "cpu", "compilers", "cache", "settings", "cpu_operators"]
    assert "SIGSEGV" in sections["gpu"].facts[0].text and sections["cache"].facts[0].name == "folder"
    assert "export STYLEGAN2_OPS=reference" in sections["cpu_operators"].facts[0].remedy


def test_without_another_process_this_one_looks(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    monkeypatch.setattr(doctor_probes, "facts_of", lambda key: [Fact("key", key)])
    assert [section.facts[0].text for section in doctor.examine("cpu")] == list(doctor.titles(["cpu"]))
