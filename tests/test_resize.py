"""Pictures of another size: to the bit as Pillow makes them, by the library and, whatever is wrong with it, without."""

import platform
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from stylegan2_pipeline.conversion import resize as resizing
from stylegan2_pipeline.conversion.resize import FILTERS, resize
from torch_utils.ops import build, toolchain
from torch_utils.resampling import native

ROOT = Path(__file__).parent.parent
MODES = {"L": 1, "RGB": 3, "RGBA": 4}
SIDES = st.one_of(st.integers(1, 40), st.integers(1, 300))
compiled = pytest.mark.skipif(platform.machine() not in native.MACHINES or not shutil.which("g++"),
                              reason="there is no library here")


def noise(mode, size, seed=0, extreme=False):
    channels = MODES[mode]
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], channels), np.uint8)
    pixels = (pixels > 127).astype(np.uint8) * 255 if extreme else pixels
    return Image.frombytes(mode, size, pixels.tobytes())


def same(picture, size, name):
    expected, found = picture.resize(size, FILTERS[name]), resize(picture, size, name)
    return found.mode == expected.mode and found.size == size and np.array_equal(np.asarray(found),
                                                                                 np.asarray(expected))


@pytest.fixture(scope="module")
def resampler():
    assert native.state().reason == ""
    return native.state().resampler


@pytest.fixture
def unsettled(tmp_path, monkeypatch):
    """As in a new process, with an empty cache."""
    monkeypatch.setenv("STYLEGAN2_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv(native.MODE, raising=False)
    monkeypatch.setattr(native, "_state", None)


# What it computes


@compiled
@given(size=st.tuples(SIDES, SIDES), to=st.tuples(SIDES, SIDES), name=st.sampled_from(sorted(FILTERS)),
       mode=st.sampled_from(sorted(MODES)), seed=st.integers(0, 2 ** 32), extreme=st.booleans())
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_pixel_is_as_in_pillow(resampler, size, to, name, mode, seed, extreme):
    assert same(noise(mode, size, seed, extreme), to, name)


@compiled
@pytest.mark.parametrize("name", sorted(FILTERS))
@pytest.mark.parametrize(("size", "to"), [
    ((768, 768), (512, 512)), ((1024, 768), (256, 256)), ((100, 100), (777, 500)), ((1, 1), (64, 64)),
    ((3000, 2), (7, 5)), ((2, 3000), (5, 7)), ((517, 1), (1, 1)), ((640, 480), (640, 100)), ((640, 480), (100, 480))])
def test_usual_and_odd_sizes(resampler, size, to, name):
    assert same(noise("RGB", size), to, name)


def weights_of(name, width, to):
    """[width,to] for a picture that shrinks, from the definitions of the filters."""
    step = width / to
    x = (np.arange(width)[:, np.newaxis] + 0.5 - (np.arange(to) + 0.5) * step) / step
    a = np.abs(x)
    near, far = 1.5 * a ** 3 - 2.5 * a ** 2 + 1, -0.5 * a ** 3 + 2.5 * a ** 2 - 4 * a + 2
    values = {"box": (x > -0.5) & (x <= 0.5), "bicubic": np.where(a < 1, near, np.where(a < 2, far, 0)),
              "lanczos": np.where(a < 3, np.sinc(x) * np.sinc(x / 3), 0)}[name].astype(float)
    return values / values.sum(0)


@compiled
@pytest.mark.parametrize("name", sorted(FILTERS))
def test_weights_agree_in_the_last_bit(resampler, name):
    """Rows whose sums lie so near to a half that a weight that is off by its last bit may change the pixel."""
    rows = np.random.default_rng(1).integers(0, 256, (200_000, 23), np.uint8)
    near = np.abs((rows @ weights_of(name, 23, 14)) % 1 - 0.5) < 128 / 2 ** 22
    chosen = rows[near.any(1)][:20_000, :, np.newaxis]
    assert len(chosen) > 100
    size = 14, len(chosen)
    assert np.array_equal(resampler(chosen, size, name), native.by_pillow(chosen, size, name))


@compiled
@given(size=st.tuples(SIDES, SIDES), narrower=st.integers(-30, 150), by=st.integers(-2, 2))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_order_of_the_passes_is_that_of_pillow(resampler, size, narrower, by):
    """At its border: heights that shrink by twice what widths shrink by, and one or two pixels more or less."""
    to = max(1, size[0] - narrower), max(1, size[1] - 2 * narrower + by)
    assert same(noise("L", size), to, "lanczos")


@compiled
def test_part_of_a_picture_needs_no_copy(resampler):
    pixels = np.random.default_rng(2).integers(0, 256, (60, 90, 3), np.uint8)
    for part in (pixels[5:50, 10:80], pixels[::2, 3:], pixels[:, ::3], pixels[::-1], pixels[:, ::-1],
                 pixels.transpose(1, 0, 2), pixels[:, :, ::-1]):
        expected = native.by_pillow(np.ascontiguousarray(part), (31, 17), "lanczos")
        assert np.array_equal(resampler(part, (31, 17), "lanczos"), expected)


@compiled
def test_threads_share_it(resampler):
    pictures = [noise("RGB", (50 + i, 70 - i), i) for i in range(24)]
    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(lambda picture: same(picture, (33, 44), "lanczos"), pictures))


def test_transparent_pixels_have_no_weight():
    picture = Image.new("RGBA", (8, 8), (255, 0, 0, 0))
    picture.paste((0, 0, 255, 255), (0, 0, 4, 8))
    made = np.asarray(resize(picture, (4, 4), "box"))
    assert (made[:, :2] == (0, 0, 255, 255)).all() and (made[:, 2:, 3] == 0).all()


def test_the_same_size_is_the_same_picture():
    picture = noise("RGB", (20, 10))
    assert resize(picture, (20, 10), "lanczos") is picture


@pytest.mark.parametrize("mode", ["CMYK", "LA", "1"])
def test_other_modes_are_for_pillow(mode):
    picture = noise("L", (20, 10)).convert(mode)
    made = resize(picture, (7, 9), "bicubic")
    assert made.mode == mode and made.tobytes() == picture.resize((7, 9), Image.Resampling.BICUBIC).tobytes()


def test_what_cannot_be_is_for_pillow_to_refuse():
    with pytest.raises(ValueError):
        resize(noise("L", (20, 10)), (0, 5), "box")


def test_sides_that_are_very_long_are_for_pillow():
    assert same(noise("L", (native.LARGEST + 9, 2)), (30, 2), "box")


@compiled
@pytest.mark.slow
@pytest.mark.parametrize("level", list(toolchain.CPU_LEVELS))
def test_every_level_of_cpus(level, monkeypatch):
    if not toolchain.runs_cpu_level(level):
        pytest.skip("this CPU does not run it")
    made = build.compile_ops(native.DEVICE, (level,), toolchain.find_tools("cpu"), print)
    resampler = native.open_library(made)
    random = np.random.default_rng(3)
    for _ in range(400):
        size, to = tuple(random.integers(1, 200, 2)), tuple(map(int, random.integers(1, 200, 2)))
        pixels = random.integers(0, 256, (*size, int(random.choice([1, 3, 4]))), np.uint8)
        name = str(random.choice(sorted(FILTERS)))
        if (size[1], size[0]) != to:
            assert np.array_equal(resampler(pixels, to, name), native.by_pillow(pixels, to, name))


# What can be wrong


@compiled
def test_it_is_compiled_once_and_found_again(unsettled, monkeypatch):
    said = []
    resizing.prepare(said.append)
    assert len(said) == 1 and "Compiling what resizes pictures, once" in said[0]
    assert native.state().resampler and native.summary().startswith("native (")
    monkeypatch.setattr(native, "_state", None)
    monkeypatch.setattr(toolchain, "find_tools", lambda device: (_ for _ in ()).throw(toolchain.Missing("none", "")))
    resizing.prepare(said.append)
    assert len(said) == 1 and native.state().resampler


def check_pillow_serves(reason):
    picture = noise("RGB", (30, 20))
    assert same(picture, (17, 9), "lanczos")
    assert native.state().resampler is None and reason in native.state().reason
    assert native.summary().startswith("Pillow (")


def test_no_compiler(unsettled, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    check_pillow_serves("no C++ compiler" if platform.machine() in native.MACHINES else "x86-64")


@compiled
@pytest.mark.parametrize(("script", "reason"), [
    ("echo 'a.cpp:1: error: no'; exit 1", "a.cpp:1: error: no"),
    ('while [ $# -gt 0 ]; do [ "$1" = -o ] && echo nothing > "$2"; shift; done', "cannot be loaded")])
def test_a_compiler_that_fails(unsettled, tmp_path, monkeypatch, script, reason):
    compiler = tmp_path / "c++"
    compiler.write_text(f"#!/bin/sh\n[ \"$1\" = --version ] && exit\n{script}\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    check_pillow_serves(reason)


@compiled
@pytest.mark.parametrize(("code", "reason"), [
    ("extern \"C\" int something_else() { return 0; }", "cannot be loaded"),
    ("extern \"C\" int stylegan2_resample() { return 0; }", "is not as in Pillow"),
    ("extern \"C\" int stylegan2_resample() { return 1; }", "MemoryError")])
def test_a_wrong_library(unsettled, tmp_path, monkeypatch, code, reason):
    from torch_utils.resampling import recipe
    monkeypatch.setattr(recipe, "SOURCE", tmp_path / "wrong.cpp")
    recipe.SOURCE.write_text(code.replace("extern \"C\"", "extern \"C\" __attribute__((visibility(\"default\")))"))
    check_pillow_serves(reason)


def test_a_cache_that_cannot_be_written(unsettled, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("STYLEGAN2_CACHE", str(tmp_path / "file" / "cache"))
    check_pillow_serves("Not a directory" if platform.machine() in native.MACHINES else "x86-64")


def test_another_machine(unsettled, monkeypatch):
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    check_pillow_serves("this is aarch64")


def test_it_can_be_switched_off(unsettled, monkeypatch):
    monkeypatch.setenv(native.MODE, "reference")
    check_pillow_serves("STYLEGAN2_OPS=reference")


@compiled
def test_any_other_pillow_is_noticed(resampler, monkeypatch):
    """Whichever pass the installed one makes first, the other order fails the self-test."""
    others = [order for order in native.ORDERS if order is not resampler.rows_first]
    assert all(native.disagreement(replace(resampler, rows_first=order)) for order in others)
    assert native.disagreement(replace(resampler, rows_first=lambda a, b: not resampler.rows_first(a, b)))
    monkeypatch.setattr(native, "ORDERS", others)
    with pytest.raises(toolchain.Missing, match=r"self-test fails: .* is not as in Pillow"):
        native.open_library(native.state().build)


def test_processes_that_resize_load_no_torch():
    code = ("import sys; from PIL import Image; from stylegan2_pipeline.conversion.resize import resize; "
            "resize(Image.new('L', (9, 9)), (4, 5)); print('torch' in sys.modules)")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False"] and not done.stderr
