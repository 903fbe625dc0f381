"""The cache of real statistics: never stale, never in the way."""

import errno
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from metrics import cache as module
from metrics.cache import KEY, StatisticsCache, canonical, content_digest, default_limit
from torch_utils.errors import UserError

ROWS = {"rows": np.arange(600, dtype=np.float32).reshape(20, 30), "mean": np.float64(0.5) * np.ones([]),
        "file": np.ones([2, 2], order="F"), "empty": np.zeros([0, 5])}
DATASET = {"dataset": "a" * 32, "detector": "inception", "digest": "sha256:1",
           "options": {"count": 20, "mirror": False}}


@pytest.fixture(autouse=True)
def untold():
    module._told.clear()


@pytest.fixture
def cache(tmp_path):
    return StatisticsCache(tmp_path / "metrics", limit=10**6)


def entry(cache):
    path, = cache.folder.glob("*.npz")
    return path


def same(a, b):
    return a.keys() == b.keys() and all(
        np.array_equal(a[name], b[name]) and a[name].dtype == b[name].dtype for name in a)


def test_what_was_put_comes_back(cache, capsys):
    assert cache.get(DATASET) is None
    assert cache.put(DATASET, ROWS)
    assert same(cache.get(DATASET), ROWS)
    assert same(StatisticsCache(cache.folder).get(dict(reversed(DATASET.items()))), ROWS)  # order says nothing
    assert cache.put(DATASET, {"rows": np.zeros(3)}) and cache.get(DATASET).keys() == {"rows"}
    assert len(list(cache.folder.iterdir())) == 1 and capsys.readouterr().err == ""


@pytest.mark.parametrize("change", [
    {"dataset": "b" * 32}, {"detector": "vgg16"}, {"digest": "sha256:2"}, {"options": {"count": 21, "mirror": False}},
    {"options": {"count": 20, "mirror": True}}, {"options": {"count": 20.0, "mirror": False}}, {"more": None}])
def test_another_key_is_another_entry(cache, change):
    cache.put(DATASET, ROWS)
    assert cache.get(DATASET | change) is None


scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
keys = st.dictionaries(st.text(), st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3), max_leaves=5))


@settings(max_examples=40)
@given(a=keys, b=keys)
def test_equal_texts_mean_equal_keys(a, b):
    assert (canonical(a) == canonical(b)) == (repr(normal(a)) == repr(normal(b)))
    assert json.loads(canonical(a))["key"] == a


def normal(value):
    if isinstance(value, dict):
        return sorted((key, normal(inner)) for key, inner in value.items())
    return [normal(inner) for inner in value] if isinstance(value, list) else value


def test_keys_that_say_nothing_are_mistakes(cache):
    for value in (object(), float("nan"), Path("data.zip")):
        with pytest.raises((TypeError, ValueError)):
            cache.put({"x": value}, ROWS)


def test_a_file_under_the_name_of_another_key_is_not_served(cache):
    cache.put(DATASET | {"dataset": "b"}, {"rows": np.zeros(1)})
    foreign = entry(cache).read_bytes()
    cache.put(DATASET, ROWS)
    for path in cache.folder.glob("*.npz"):
        path.write_bytes(foreign)
    assert cache.get(DATASET) is None
    assert cache.put(DATASET, ROWS) and same(cache.get(DATASET), ROWS)


def test_another_version_is_computed_anew(cache, monkeypatch):
    cache.put(DATASET, ROWS)
    monkeypatch.setattr(module, "FORMAT", module.FORMAT + 1)
    assert cache.get(DATASET) is None


@pytest.mark.parametrize("seed", range(30))
def test_a_damaged_file_is_made_anew_without_a_word(cache, capsys, seed):
    generator = random.Random(seed)
    cache.put(DATASET, ROWS)
    path = entry(cache)
    data = bytearray(path.read_bytes())
    if seed % 3 == 0:
        data = data[:generator.randrange(len(data))]
    elif seed % 3 == 1:
        data[generator.randrange(len(data))] ^= 1 << generator.randrange(8)  # one bit anywhere
    else:
        data = bytearray(generator.randbytes(len(data)))
    path.write_bytes(data)
    found = cache.get(DATASET)
    assert found is None or same(found, ROWS)  # a bit of no meaning, such as of a date
    assert cache.put(DATASET, ROWS) and same(cache.get(DATASET), ROWS) and capsys.readouterr().err == ""


def test_a_pickle_in_an_entry_is_never_run(cache, tmp_path):
    class Runs:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "was-run"),)

    cache.put(DATASET, ROWS)
    np.savez(entry(cache), **{KEY: np.frombuffer(canonical(DATASET), np.uint8), "rows": np.array([Runs()], object)})
    assert cache.get(DATASET) is None and not (tmp_path / "was-run").exists()


def test_those_used_longest_ago_go_first(cache):
    one = {"rows": np.zeros(25_000)}  # 200 kB
    for i in range(4):
        cache.put({"i": i}, one)
        os.utime(cache._path(canonical({"i": i})), (i, i))
    assert cache.get({"i": 0}) is not None  # used just now
    cache.put({"i": 4}, one)
    assert [cache.get({"i": i}) is not None for i in range(5)] == [True, False, True, True, True]
    assert sum(path.stat().st_size for path in cache.folder.iterdir()) <= cache.limit


def test_what_is_larger_than_the_limit_is_not_kept_and_drives_nothing_out(cache, capsys):
    cache.put(DATASET, ROWS)
    assert not cache.put({"i": 1}, {"rows": np.zeros(10**6)}) and not cache.put({"i": 2}, {"rows": np.zeros(10**6)})
    assert same(cache.get(DATASET), ROWS)
    assert capsys.readouterr().err.count("\n") == 1  # told once
    assert not StatisticsCache(cache.folder, limit=0).put({"i": 3}, ROWS)


def test_what_killed_processes_were_writing_goes_in_time(cache):
    cache.put(DATASET, ROWS)
    old, new = cache.folder / ".a.1-2.tmp", cache.folder / ".b.1-2.tmp"
    for path in (old, new):
        path.write_bytes(b"x")
    os.utime(old, (time.time() - 7200,) * 2)
    cache.put({"i": 1}, ROWS)
    assert not old.exists() and new.exists()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EIO, errno.EDQUOT])
@pytest.mark.parametrize("what", ["os.replace", "os.mkdir", "zipfile.ZipFile"])
def test_a_disk_that_refuses_is_told_once_and_never_raises(cache, monkeypatch, capsys, number, what):
    def refuse(*args, **kwargs):
        raise OSError(number, "refused")

    monkeypatch.setattr(what, refuse)
    assert not cache.put(DATASET, ROWS) and not cache.put({"i": 1}, ROWS)
    assert cache.get(DATASET) is None
    said = capsys.readouterr().err
    assert said == f"Statistics of the real images are not kept for the next time: {cache.folder}: refused.\n"
    assert not cache.folder.exists() or not list(cache.folder.iterdir())


def test_a_disk_that_fills_up_while_writing(tmp_path):
    code = """
        import resource, sys
        import numpy as np
        from metrics.cache import StatisticsCache
        cache = StatisticsCache(sys.argv[1])
        assert cache.put({"small": 1}, {"x": np.zeros(10)})
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
        assert not cache.put({"large": 1}, {"x": np.zeros(100_000)})
        assert cache.get({"small": 1}) is not None and cache.get({"large": 1}) is None
        """
    code = "\n".join(line[8:] for line in code.splitlines())
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "metrics")], capture_output=True, text=True)
    assert done.returncode == 0 and "File too large" in done.stderr and done.stderr.count("\n") == 1, done.stderr
    assert len(list((tmp_path / "metrics").iterdir())) == 1


def test_the_last_room_of_a_disk_is_left_to_others(cache, monkeypatch, capsys):
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 3000}))
    assert not cache.put(DATASET, ROWS)
    assert "has room for 3.0 kB" in capsys.readouterr().err


def test_a_folder_that_cannot_be(tmp_path):
    (tmp_path / "file").write_text("")
    cache = StatisticsCache(tmp_path / "file" / "metrics")
    assert not cache.put(DATASET, ROWS) and cache.get(DATASET) is None


def test_writers_and_readers_at_once(tmp_path):
    """Four processes put and get the same few keys in a cache that holds half of them: each answer is whole."""
    code = """
        import sys
        import numpy as np
        from metrics.cache import StatisticsCache
        cache, seed = StatisticsCache(sys.argv[1], limit=250_000), int(sys.argv[2])
        hits = 0
        for i in np.random.default_rng(seed).integers(0, 6, 80).tolist():
            found = cache.get({"i": i})
            if found is None:
                assert cache.put({"i": i}, {"x": np.full(10_000, i)})
            else:
                hits += 1
                assert (found["x"] == i).all() and found["x"].shape == (10_000,)
        assert hits
        """
    code = "\n".join(line[8:] for line in code.splitlines())
    running = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path), str(seed)], stderr=subprocess.PIPE,
                                text=True) for seed in range(4)]
    assert [(process.communicate(timeout=60)[1], process.returncode) for process in running] == [("", 0)] * 4
    assert all(path.suffix == ".npz" for path in tmp_path.iterdir())


def test_the_limit_of_the_environment(tmp_path, monkeypatch):
    monkeypatch.delenv(module.LIMIT_VARIABLE, raising=False)
    monkeypatch.setenv("STYLEGAN2_CACHE", str(tmp_path))
    assert default_limit() == 10**10 and StatisticsCache().folder == tmp_path / "metrics"
    for text, limit in (("0", 0), ("0.5", 5 * 10**8)):
        monkeypatch.setenv(module.LIMIT_VARIABLE, text)
        assert StatisticsCache(tmp_path).limit == limit
    for text in ("ten", "-1", "nan", "inf"):
        monkeypatch.setenv(module.LIMIT_VARIABLE, text)
        with pytest.raises(UserError, match=rf"{module.LIMIT_VARIABLE}={text} is no size"):
            StatisticsCache(tmp_path)


def test_the_content_of_a_fingerprint_is_read_once(cache):
    read = []

    def digest():
        read.append(1)
        return f"{len(read):032x}"

    first = content_digest(cache, "f1", digest)
    assert content_digest(cache, "f1", digest) == first == f"{1:032x}" and len(read) == 1
    assert content_digest(cache, "f2", digest) == f"{2:032x}"
    for path in cache.folder.iterdir():
        path.write_bytes(path.read_bytes()[:-30])
    assert content_digest(cache, "f1", digest) == f"{3:032x}"
    assert content_digest(StatisticsCache(cache.folder / "no", limit=0), "f1", digest) == f"{4:032x}"
