"""Reading TorchScript archives: the tensors, and nothing of their code."""

import pickle
import struct
import sys
import zipfile

import pytest
import torch
from torch import nn

from metrics.detectors.torchscript import TensorUnpickler, read_torchscript
from torch_utils.errors import UserError

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 4))
        self.register_buffer("mean", torch.randn(4)[::2])  # not contiguous
        self.eps, self.sizes, self.names, self.where = 1e-3, [1, 2], ["a"], torch.device("cpu")
        self.lists, self.table = [torch.ones(2)], {"x": 1}

    def forward(self, x):
        return x @ self.weight * torch.tensor([1.0, 2.0, 3.0, 4.0])


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([Layer(), Layer()])
        self.register_parameter("none", None)
        self.tied = self.layers[0].weight
        for dtype in (torch.float16, torch.bfloat16, torch.float64, torch.uint8, torch.int16, torch.int32, torch.bool):
            self.register_buffer(str(dtype).split(".")[1] + "s", torch.tensor([1, 0, 1]).to(dtype))
        self.register_buffer("scalar", torch.tensor(7))
        self.register_buffer("empty", torch.zeros(0, 3))

    def forward(self, x):
        for layer in self.layers:
            x = layer(x) @ torch.ones(4, 3)
        return x


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return Model()


@pytest.fixture(scope="module", params=["scripted", "traced"])
def archive(request, model, tmp_path_factory):
    path = tmp_path_factory.mktemp("archive") / "model.pt"
    made = torch.jit.script(model) if request.param == "scripted" else torch.jit.trace(model, torch.ones(2, 3))
    torch.jit.save(made, path)
    return path


def rewritten(source, target, changes):
    """A copy of an archive with other contents of some files; None leaves one out."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for info in old.infolist():
            data = changes.get(info.filename.split("/", 1)[1], old.read(info))
            if data is not None:
                new.writestr(info.filename, data)
    return target


def test_tensors_by_name(model, archive):
    found = read_torchscript(archive)
    expected = model.state_dict()
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype and torch.equal(found[name], tensor), name
        assert found[name].is_contiguous() and not found[name].requires_grad


def test_any_name_of_the_folder_and_compression(model, archive, tmp_path):
    with zipfile.ZipFile(archive) as old, zipfile.ZipFile(tmp_path / "x.pt", "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr("another/" + name.split("/", 1)[1], old.read(name))
    assert torch.equal(read_torchscript(tmp_path / "x.pt")["tied"], model.tied)


def test_byte_order(model, archive, tmp_path):
    other = "big" if sys.byteorder == "little" else "little"
    changes = {"byteorder": other.encode()}
    with zipfile.ZipFile(archive) as source:
        reader = TensorUnpickler(source)
        reader.load()
        for key, storage in reader.storages.items():
            data, size = source.read(f"{reader.folder}data/{key}"), storage.element_size()
            changes[f"data/{key}"] = b"".join(data[i:i + size][::-1] for i in range(0, len(data), size))
    path = rewritten(archive, tmp_path / "swapped.pt", changes)
    for name, tensor in model.state_dict().items():
        assert torch.equal(read_torchscript(path)[name], tensor), name


class Calls:
    """Pickled, it asks for a call."""

    def __init__(self, function, *args):
        self.asked = function, args

    def __reduce__(self):
        return self.asked


def named(module, name, *args):
    """A pickle that calls what is named: protocol 2, as archives have."""
    return b"\x80\x02c" + f"{module}\n{name}\n".encode() + pickle.dumps(args, 2)[2:-1] + b"R."


def tensor_pickle(count, offset, size, stride):
    """A pickle of one float32 tensor in data/0, said to have `count` numbers."""
    parts = [pickle.dumps(value, 2)[2:-1] for value in (count, offset, (size,), (stride,), False)]
    storage = b"(X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpu" + parts[0] + b"tQ"
    return b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(" + storage + b"".join(parts[1:]) + b"tR."


@pytest.mark.parametrize("hostile, why", [
    (pickle.dumps(Calls(print, "harm"), 2), "__builtin__.print"),
    (pickle.dumps(Calls(eval, "1"), 2), "eval"),
    (named("os", "system", "true"), "os.system"),
    (named("torch.jit._pickle", "build_tensor_from_id", 0), "build_tensor_from_id"),
    (named("torch", "load", "x"), "torch.load"),
    (named("torch", "ComplexFloatStorage", 1), "ComplexFloatStorage"),
    (named("__torch__", "Model", 1), "damaged"),  # such objects are made without arguments
    (named("__torch__", "Model.__init__.__globals__"), ""),
    (b"\x80\x02c__torch__\nM\n)\x81K\x01b.", "without attributes by name"),
    (b"\x80\x02c__torch__\nM\n)\x81}K\x01K\x02sb.", "without attributes by name"),
    (b"\x80\x02X\x01\0\0\0aQ.", "damaged"),  # a reference that is no storage
    (b"\x80\x02c__torch__\nM\n}X\x0c\0\0\0__setstate__Nsb.", "damaged"),  # attributes for the class itself
    (b"", "damaged"), (b"\x80\x02N", "damaged"),
])
def test_hostile_pickles_are_refused(archive, tmp_path, hostile, why, capsys):
    path = rewritten(archive, tmp_path / "hostile.pt", {"data.pkl": hostile})
    if not why:  # a class of the archive's own, by whatever name, is an empty object
        assert read_torchscript(path) == {}
        return
    with pytest.raises(UserError) as error:
        read_torchscript(path)
    assert "hostile.pt" in error.value.message and why in error.value.message
    assert "harm" not in capsys.readouterr().out


@pytest.mark.parametrize("count, offset, size, stride, good", [
    (4, 0, 4, 1, True), (4, 1, 2, 2, True), (4, 0, 5, 1, False), (4, 2, 3, 1, False), (4, -1, 2, 1, False),
    (4, 0, 2, -1, False), (4, 0, -2, 1, False), (5, 0, 4, 1, False), (3, 0, 3, 1, False),
])
def test_tensors_stay_within_their_storage(tmp_path, count, offset, size, stride, good):
    path = tmp_path / "one.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("one/data.pkl", tensor_pickle(count, offset, size, stride))
        archive.writestr("one/data/0", struct.pack("=4f", 0, 1, 2, 3))
    if good:
        assert read_torchscript(path)[""].tolist() == [0.0, 1.0, 2.0, 3.0][offset:offset + size * stride:stride]
    else:
        with pytest.raises(UserError, match=r"one\.pt"):
            read_torchscript(path)


def test_damaged_files(archive, tmp_path):
    whole = archive.read_bytes()
    path = tmp_path / "weights.pt"
    flipped = bytearray(whole)
    with zipfile.ZipFile(archive) as source:
        at = whole.index(source.read(next(n for n in source.namelist() if n.endswith("data/0"))))
    flipped[at] ^= 1
    for data in (b"", b"PK", whole[:1000], whole[:-100], whole[1000:], bytes(flipped), b"<html>Not Found</html>"):
        path.write_bytes(data)
        with pytest.raises(UserError, match=r"weights\.pt cannot be read .* get it again"):
            read_torchscript(path)
    for missing in ("data.pkl", "data/0"):
        with pytest.raises(UserError):
            read_torchscript(rewritten(archive, path, {missing: None}))
    with pytest.raises(UserError, match="No such file"):
        read_torchscript(tmp_path / "nothing.pt")


def test_objects_within_each_other(tmp_path):
    """An object that holds itself, and one that would have 2^60 names."""
    loop = b"\x80\x02c__torch__\nM\n)\x81q\x00}X\x01\0\0\0ah\x00sb."
    bomb = b"c__torch__\nM\n)\x81}X\x01\0\0\0aK\x01sbq\x00"
    for _ in range(60):
        bomb = bomb + b"0c__torch__\nM\n)\x81}(X\x01\0\0\0ah\x00X\x01\0\0\0bh\x00ubq\x00"
    for data in (loop, b"\x80\x02" + bomb + b"."):
        with zipfile.ZipFile(tmp_path / "x.pt", "w") as archive:
            archive.writestr("x/data.pkl", data)
        assert read_torchscript(tmp_path / "x.pt") == {}
