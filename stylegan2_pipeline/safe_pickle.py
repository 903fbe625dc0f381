"""Reading pickles without running code from them.

A pickle names the functions that rebuild it. Only those below are ever called, and none of them can do more than make
containers, arrays and tensors; any other name ends the reading with an error. Modules in the public snapshots of this
ecosystem are pickled with their source text: the text is never looked at, a PublicModule keeps the rest.
"""

import collections
import io
import pickle
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from torch_utils.errors import UserError


class Refused(pickle.UnpicklingError):
    """What a file asks for is not on the list."""


class PublicModule:
    """A network module as a public snapshot holds it: its class name, constructor arguments, tensors, submodules."""

    def __init__(self, meta: dict[str, Any]) -> None:
        self.class_name: str = meta["class_name"]
        self.attributes: dict[str, Any] = meta["state"]

    @property
    def kwargs(self) -> dict[str, Any]:
        return dict(self.attributes["_init_kwargs"])

    def modules(self) -> Iterator["PublicModule"]:
        yield self
        for child in self._children().values():
            yield from child.modules()

    def state_dict(self, prefix: str = "") -> dict[str, Tensor]:
        own = {**self.attributes["_parameters"], **self.attributes["_buffers"]}
        state = {prefix + name: value.detach() for name, value in own.items() if value is not None}
        for name, child in self._children().items():
            state.update(child.state_dict(f"{prefix}{name}."))
        return state

    def _children(self) -> dict[str, "PublicModule"]:
        return {name: child for name, child in self.attributes["_modules"].items() if isinstance(child, PublicModule)}


def load_storage(data: bytes) -> Any:
    return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)


def numeric_scalar(dtype: np.dtype, data: bytes) -> Any:
    if dtype.hasobject:
        raise Refused("it holds a numpy scalar of objects")
    return np.frombuffer(data, dtype)[0]


def allowed() -> dict[tuple[str, str], Callable[..., Any]]:
    names: dict[tuple[str, str], Callable[..., Any]] = {
        ("collections", "OrderedDict"): collections.OrderedDict,
        ("dnnlib.util", "EasyDict"): dict,
        ("numpy", "dtype"): np.dtype,
        ("numpy", "ndarray"): np.ndarray,
        ("torch", "Size"): torch.Size,
        ("torch", "device"): torch.device,
        ("torch._utils", "_rebuild_tensor_v2"): torch._utils._rebuild_tensor_v2,
        ("torch._utils", "_rebuild_parameter"): torch._utils._rebuild_parameter,
        ("torch.storage", "_load_from_bytes"): load_storage,
        ("torch_utils.persistence", "_reconstruct_persistent_obj"): PublicModule,
    }
    for module in ("numpy.core.multiarray", "numpy._core.multiarray"):
        names[module, "_reconstruct"] = np._core.multiarray._reconstruct  # type: ignore[attr-defined]
        names[module, "scalar"] = numeric_scalar
    return names


class SafeUnpickler(pickle.Unpickler):
    names = allowed()

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.names:
            raise Refused(f"it asks for {module}.{name}, which is not on the list of harmless names")
        return self.names[module, name]


def read_pickle(path: Path) -> Any:
    """The contents of a pickle file. Raises UserError naming the file when it is unreadable or asks for code."""
    try:
        with open(path, "rb") as file:
            return SafeUnpickler(file).load()
    except OSError as error:
        raise UserError(f"Cannot read the network file {path}: {error.strerror}.") from error
    except Exception as error:
        reason = str(error) if isinstance(error, Refused) else "it is no pickle, or a torn one"
        reason = "it is a zip archive (training images belong to --data)" if zipfile.is_zipfile(path) else reason
        raise UserError(
            f"{path} is not a snapshot that can be opened safely: {reason}. Snapshots of this project "
            f"(network-snapshot-*.pkl) and of the public stylegan2-ada-pytorch can be; if this is one, it may be "
            f"damaged: copy it again."
        ) from error
