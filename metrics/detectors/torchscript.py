"""Tensors out of TorchScript archives, by the names of attributes, without loading, compiling or running their code.

An archive is a zip: data.pkl holds the objects of the model, pickled, with tensors that refer to files of raw numbers.
Pickles can name any function to call; here only those few are known that make tensors and lists, and objects of the
archive's own classes keep their attributes and can do nothing.
"""

import io
import pickle
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor

from torch_utils.errors import UserError

STORAGES = {
    "DoubleStorage": torch.float64, "FloatStorage": torch.float32, "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16, "LongStorage": torch.int64, "IntStorage": torch.int32,
    "ShortStorage": torch.int16, "CharStorage": torch.int8, "ByteStorage": torch.uint8, "BoolStorage": torch.bool,
}
LISTS = ("build_intlist", "build_doublelist", "build_boollist", "build_tensorlist", "restore_type_tag")


class Refused(Exception):
    """What the archive asks for is not harmless, or it is no archive of this kind."""


class Inert:
    """An object of a class that the archive brings: its attributes by name."""

    attributes: dict[str, Any]

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, dict) or not all(isinstance(name, str) for name in state):
            raise Refused("it holds an object without attributes by name")
        self.attributes = state


def read_torchscript(path: Path) -> dict[str, Tensor]:
    """{"layers.conv.weight": Tensor, ...} on the CPU. Raises UserError, which names the file, for anything else."""
    try:
        with open(path, "rb") as file:
            return _read(file, path)
    except OSError as error:
        raise UserError(f"Cannot read the weights file {path}: {error.strerror}.") from error


def _read(file: IO[bytes], path: Path) -> dict[str, Tensor]:
    try:
        with zipfile.ZipFile(file) as archive:
            return dict(_tensors(TensorUnpickler(archive).load(), "", set()))
    except Exception as error:  # whatever a damaged file provokes
        reason = str(error) if isinstance(error, Refused) else "it is damaged, or no such archive"
        raise UserError(f"{path} cannot be read as a TorchScript archive of weights: {reason}. A download that ended "
                        f"early is the usual reason: compare its size with the published one, or get it again."
                        ) from error


def _tensors(value: Any, name: str, seen: set[int]) -> Iterator[tuple[str, Tensor]]:
    """Those under value by their names; an object that is met again has its names already."""
    if isinstance(value, Tensor):
        yield name, value
    elif isinstance(value, Inert) and id(value) not in seen:
        seen.add(id(value))
        for key, part in getattr(value, "attributes", {}).items():
            yield from _tensors(part, f"{name}.{key}" if name else key, seen)


class TensorUnpickler(pickle.Unpickler):
    """Reads the data.pkl of an archive. Its methods stand for the functions that a pickle may name."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        pickles = [name for name in archive.namelist() if name.count("/") == 1 and name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise Refused("it is no TorchScript archive: there is no data.pkl")
        self.archive, self.folder = archive, pickles[0].removesuffix("data.pkl")
        swapped = f"{self.folder}byteorder" in archive.namelist() and self._file("byteorder").decode() != sys.byteorder
        self.swapped = swapped
        self.storages: dict[str, Tensor] = {}
        super().__init__(io.BytesIO(self._file("data.pkl")))

    def _file(self, name: str) -> bytes:
        return self.archive.read(self.folder + name)  # which compares checksums

    def find_class(self, module: str, name: str) -> Any:
        if module.split(".")[0] == "__torch__":
            return Inert
        if module == "torch" and name in STORAGES:
            return STORAGES[name]
        if module == "torch.jit._pickle" and name in LISTS:
            return self._first
        known = {
            ("torch._utils", "_rebuild_tensor_v2"): self._tensor, ("torch._utils", "_rebuild_parameter"): self._first,
            ("collections", "OrderedDict"): OrderedDict, ("torch", "device"): str,
        }
        if (module, name) not in known:
            raise Refused(f"it asks for {module}.{name}, which is not on the list of harmless names")
        return known[module, name]

    def persistent_load(self, pid: Any) -> Tensor:
        """All numbers of a storage [n]."""
        kind, dtype, key, _, size = pid
        if kind != "storage" or not isinstance(dtype, torch.dtype):
            raise Refused(f"it refers to a {kind}")
        if key not in self.storages:
            data = bytearray(self._file(f"data/{key}"))
            if len(data) != size * dtype.itemsize:
                raise Refused(f"{key} has {len(data)} bytes instead of {size * dtype.itemsize}")
            if self.swapped:
                data = bytearray(np.frombuffer(data, f"u{dtype.itemsize}").byteswap().tobytes())
            self.storages[key] = torch.frombuffer(data, dtype=dtype) if size else torch.empty(0, dtype=dtype)
        return self.storages[key]

    def _tensor(self, storage: Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> Tensor:
        return storage.as_strided(size, stride, offset).contiguous()  # which checks that they lie within

    def _first(self, value: Any, *_: Any) -> Any:
        return value
