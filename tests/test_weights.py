"""Weights: which file is taken, which is refused and in what words, and what is read from it."""

import dataclasses
import hashlib
import io
import os
import pickle
import re
import subprocess
import sys

import pytest
import torch
from http_site import Page, closed_port, serving

from metrics import weights
from metrics.weights import WEIGHTS, WeightsFile, WeightsSource, fetch, locate, read_state, weights_dir
from torch_utils.errors import UserError

STATE = {"mask_token": torch.ones(1, 3), "blocks.0.ls1.gamma": torch.arange(3.0)}


def saved(data, **kwargs):
    buffer = io.BytesIO()
    torch.save(data, buffer, **kwargs)
    return buffer.getvalue()


DATA = saved(STATE)


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch):
    """No folder of the machine is looked at."""
    monkeypatch.setenv("STYLEGAN2_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.delenv("STYLEGAN2_OFFLINE", raising=False)
    (tmp_path / "weights").mkdir()
    (tmp_path / "torch/hub/checkpoints").mkdir(parents=True)


@pytest.fixture
def site(monkeypatch):
    """Publishes DATA as the weights of dinov2."""
    with serving() as found:
        found.pages["/dino.pth"] = Page(DATA)
        entry = dataclasses.replace(WEIGHTS["dinov2"], url=found.url("/dino.pth"), filename="dino.pth",
                                    nbytes=len(DATA), sha256=hashlib.sha256(DATA).hexdigest(),
                                    also=(weights.WEIGHTS["dinov2"].files[0],))
        monkeypatch.setitem(WEIGHTS, "dinov2", entry)
        yield found


def file_of(path):
    return WeightsFile("dinov2", path, "", False)


def test_the_table_is_consistent():
    for name, entry in WEIGHTS.items():
        assert entry.name == name and entry.url.startswith("https://") and entry.licence
        for file in entry.files:
            assert re.fullmatch("[0-9a-f]{64}", file.sha256) and file.nbytes > 7000
            prefix = re.search(r"-([0-9a-f]{8})\.pth$", file.filename)
            assert not prefix or file.sha256.startswith(prefix[1])  # torch.hub's convention
    names = [file.filename for entry in WEIGHTS.values() for file in entry.files]
    assert len(set(names)) == len(names)


def test_light_to_import():
    code = "import sys, metrics.weights; print({'torch', 'numpy', 'requests'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"


def test_downloaded_once_after_saying_so_and_then_found(site, capsys):
    found = locate("dinov2")
    said = capsys.readouterr().err
    assert said.index("DINOv2") < said.index("Downloading") and "Apache-2.0" in said
    assert found == WeightsFile("dinov2", weights_dir() / "dino.pth", WEIGHTS["dinov2"].sha256, True)
    assert locate("dinov2") == found and list(fetch(["dinov2"])) == [found]
    assert len(site.asked) == 1 and capsys.readouterr().err == ""


@pytest.mark.parametrize("how", ["flag", "variable"])
def test_offline_says_what_to_get_and_where_to_put_it(site, monkeypatch, how):
    if how == "variable":
        monkeypatch.setenv("STYLEGAN2_OFFLINE", "1")
    source = WeightsSource(offline=how == "flag")
    with pytest.raises(UserError) as failure:
        locate("dinov2", source)
    entry = WEIGHTS["dinov2"]
    for part in (entry.url, f"{entry.nbytes:,}", entry.sha256, str(weights_dir() / "dino.pth"), "--weights", "offline"):
        assert part in failure.value.message
    assert not site.asked


@pytest.mark.parametrize("fault", ["gone", "other", "html", "down"])
def test_a_download_that_fails_says_the_same(site, monkeypatch, fault):
    monkeypatch.setattr("torch_utils.download.PAUSE_SEC", 0)
    entry = WEIGHTS["dinov2"]
    pages = {"gone": {}, "other": {"/dino.pth": Page(DATA[::-1])}, "html": {"/dino.pth": Page(b"<html>")}}
    site.pages = pages.get(fault, {})
    if fault == "down":
        entry = dataclasses.replace(entry, url=f"http://127.0.0.1:{closed_port()}/dino.pth")
        monkeypatch.setitem(WEIGHTS, "dinov2", entry)
    with pytest.raises(UserError) as failure:
        locate("dinov2")
    for part in ("Cannot download", entry.url, f"{entry.nbytes:,}", entry.sha256, str(weights_dir() / "dino.pth")):
        assert part in failure.value.message
    assert list(weights_dir().iterdir()) == []


@pytest.mark.parametrize("folder", ["weights", "torch/hub/checkpoints"])
@pytest.mark.parametrize("name", ["dino.pth", "dinov2_vitl14_pretrain.pth"])
def test_what_lies_here_already_is_taken(site, tmp_path, folder, name):
    path = tmp_path / folder / name
    path.write_bytes(DATA)
    assert locate("dinov2", WeightsSource(offline=True)) == WeightsFile("dinov2", path, WEIGHTS["dinov2"].sha256, True)
    assert not site.asked


@pytest.mark.parametrize(("data", "reason"), [
    (DATA[:-100], rf"it has {len(DATA) - 100:,} bytes instead of {len(DATA):,}"),
    (DATA[:-1] + b"x", r"it is damaged or another one, its SHA-256 being [0-9a-f]{64}"),
    (b"<!DOCTYPE html><title>Sign in</title>", "it is a web page"),
    (b"", "it is empty"),
])
def test_another_file_is_refused_in_the_weights_folder_and_passed_over_elsewhere(site, tmp_path, capsys, data, reason):
    (tmp_path / "torch/hub/checkpoints/dino.pth").write_bytes(data)
    with pytest.raises(UserError, match=f"Not used: .*hub.*{reason}"):
        locate("dinov2", WeightsSource(offline=True))
    assert locate("dinov2").path == weights_dir() / "dino.pth"
    assert re.search(f"Not used: .*hub.*{reason}", capsys.readouterr().err)
    (weights_dir() / "dino.pth").write_bytes(data)
    with pytest.raises(UserError, match=rf"weights/dino\.pth is not the published file .*{reason}.*Remove it.*http"):
        locate("dinov2")


def test_hashed_once_and_again_when_it_changes(site, tmp_path, monkeypatch):
    hashed = []
    sha256_of = weights.sha256_of
    monkeypatch.setattr(weights, "sha256_of", lambda path: hashed.append(path) or sha256_of(path))
    path = weights_dir() / "dino.pth"
    path.write_bytes(DATA)
    for _ in range(3):
        locate("dinov2")
    assert len(hashed) == 1
    before = path.stat()
    with open(path, "r+b") as file:  # of the same size, in the same place, at the same time as far as mtime tells
        file.write(b"damage")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(UserError, match="damaged"):
        locate("dinov2")
    assert len(hashed) == 2
    path.unlink()
    (tmp_path / "torch/hub/checkpoints/dino.pth").write_bytes(DATA)
    locate("dinov2")
    assert str(path) not in (weights_dir() / "hashes.json").read_text()


@pytest.mark.parametrize("memo", [b"", b"[]", b"{", b"\xff", b'{"a": 1}', b"{}"])
def test_a_damaged_memory_of_hashes_is_made_anew(site, memo):
    path = weights_dir() / "dino.pth"
    path.write_bytes(DATA)
    (weights_dir() / "hashes.json").write_bytes(memo)
    assert locate("dinov2").published
    (weights_dir() / "hashes.json").unlink()
    (weights_dir() / "hashes.json").mkdir()  # it cannot be written, either
    assert locate("dinov2").published


def test_paths_go_first_and_may_hold_other_weights(site, tmp_path):
    (weights_dir() / "dino.pth").write_bytes(DATA)
    (tmp_path / "mine").mkdir()
    for path in (tmp_path / "mine" / "dino.pth", tmp_path / "trained.pt"):  # by its name; by its tensors
        path.write_bytes(other := saved(STATE | {"more": torch.ones(2)}))
        expected = WeightsFile("dinov2", path, hashlib.sha256(other).hexdigest(), False)
        assert locate("dinov2", WeightsSource((path,), offline=True)) == expected
        assert locate("dinov2", WeightsSource((tmp_path / "mine", path))).path == tmp_path / "mine" / "dino.pth"
        assert read_state(expected).keys() == {*STATE, "more"}
    assert not locate("dinov2", WeightsSource((tmp_path / "mine",))).published
    (tmp_path / "copy.pth").write_bytes(DATA)
    assert locate("dinov2", WeightsSource((tmp_path / "copy.pth",))).published


def test_a_file_is_what_its_tensors_say_unless_name_and_size_agree(site, tmp_path):
    path = tmp_path / "vgg.pth"  # as LPIPS calls its heads
    path.write_bytes(saved({"features.28.weight": torch.ones(1), "classifier.3.weight": torch.ones(1)}))
    assert locate("vgg16", WeightsSource((path,))).path == path
    with pytest.raises(UserError, match="weights of LPIPS"):
        locate("lpips", WeightsSource((path,), offline=True))
    assert locate("dinov2", WeightsSource((path,))).path == weights_dir() / "dino.pth"  # paths hold others: as without


@pytest.mark.parametrize("data", [DATA[:-100], b"<html>", b""])
def test_a_damaged_file_of_a_known_name_is_told_by_whoever_reads_it(site, tmp_path, data):
    path = tmp_path / "dino.pth"
    path.write_bytes(data)
    found = locate("dinov2", WeightsSource((path,)))
    with pytest.raises(UserError, match=r"dino\.pth cannot be read as weights: it is .*http.*--weights"):
        read_state(found)


def test_paths_that_help_nobody_are_refused(site, tmp_path):
    (tmp_path / "net.pth").write_bytes(saved({"x": torch.ones(1)}))
    (tmp_path / "text.pth").write_text("no weights")
    (tmp_path / "empty").mkdir()
    for name, reason in (("none.pth", "there is no file or folder"), ("net.pth", "holds none of the weights"),
                         ("text.pth", "cannot be read as weights"), ("empty", "no file that is known by its name")):
        with pytest.raises(UserError, match=rf"{re.escape(str(tmp_path / name))}.*{reason}|{reason}.*{name}"):
            locate("dinov2", WeightsSource((tmp_path / name,)))
    assert not site.asked


def test_a_file_in_the_place_of_the_weights_folder_is_said(site, tmp_path, monkeypatch):
    (tmp_path / "inception.pth").write_bytes(b"x")
    monkeypatch.setenv("STYLEGAN2_WEIGHTS", str(tmp_path / "inception.pth"))
    with pytest.raises(UserError, match=r"STYLEGAN2_WEIGHTS is the file .*inception\.pth.*the folder.*--weights"):
        locate("inception")
    assert not site.asked


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"state_dict": s, "epoch": 3},
                                  lambda s: {"model": {"params": s}}])
def test_tensors_are_read_by_name(tmp_path, legacy, wrap):
    state = STATE | {"p": torch.nn.Parameter(torch.ones(2))}
    (tmp_path / "w.pth").write_bytes(saved(wrap(state), _use_new_zipfile_serialization=not legacy))
    read = read_state(file_of(tmp_path / "w.pth"))
    assert read.keys() == state.keys() and not any(tensor.requires_grad for tensor in read.values())
    assert all(torch.equal(read[name], state[name]) for name in state)


class Runs:
    """Pickled, it would make a folder when read."""

    def __reduce__(self):
        return os.mkdir, ("was-run",)


@pytest.mark.parametrize("data", [
    *(saved(STATE)[:size] for size in (10, 300, 900)), *(saved(STATE, _use_new_zipfile_serialization=False)[:size]
                                                         for size in (10, 200, 400)),
    b"", b"<html>", b"version https://git-lfs.github.com/spec/v1\n", b"\x80\x02garbage", saved([1, 2]), saved({"a": 1}),
    saved(Runs()), pickle.dumps(Runs(), protocol=2)])
def test_other_files_are_refused_without_running_them(tmp_path, monkeypatch, data):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "w.pth").write_bytes(data)
    with pytest.raises(UserError, match=r"w\.pth (cannot be read as weights: it|holds no tensors by name\. Get http)"):
        read_state(file_of(tmp_path / "w.pth"))
    assert not (tmp_path / "was-run").exists()


@pytest.mark.parametrize("seed", range(20))
def test_no_damage_ends_in_a_traceback(tmp_path, seed):
    generator = torch.Generator().manual_seed(seed)
    data = bytearray(saved(STATE, _use_new_zipfile_serialization=seed % 2 == 0))
    for place in torch.randint(len(data), [8], generator=generator).tolist():
        data[place] ^= 255
    (tmp_path / "w.pth").write_bytes(data)
    try:
        read_state(file_of(tmp_path / "w.pth"))
    except UserError as error:
        assert "w.pth" in error.message


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_torchscript_is_read_by_its_tensors_without_its_code(tmp_path):
    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layers, self.output = torch.nn.ModuleDict({"conv": torch.nn.Conv2d(1, 2, 3)}), torch.nn.Linear(2, 2)

        def forward(self, x):
            return self.output(self.layers["conv"](x))

    model = Model()
    torch.jit.save(torch.jit.script(model), tmp_path / "renamed.pt")
    found = locate("inception", WeightsSource((tmp_path / "renamed.pt",), offline=True))
    assert not found.published
    assert torch.equal(read_state(found)["layers.conv.weight"], model.layers["conv"].weight)
