"""The arrays within .npy and .npz files: what they are, where they lie, and their bytes. Never a pickled object."""

import contextlib
import io
import math
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from stylegan2_pipeline.decode import MAX_BYTES, BrokenImage
from stylegan2_pipeline.sources.labels import printable
from stylegan2_pipeline.sources.trees import Tree

CHUNK = 2 ** 20
MAX_HEADER = 10_000      # characters; numpy's own limit
HEADER_BYTES = 2 ** 14   # of a file; all of an .npy header is within
LOCAL_HEADER = struct.Struct("<26x2H")  # of a file in a zip: the lengths of its name and of further fields follow
TROUBLES = (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError,
            struct.error, SyntaxError, tokenize.TokenError, TypeError, OverflowError, MemoryError, RecursionError)


class Array(NamedTuple):
    """key: its name in an .npz, "" in an .npy; place: file and byte where its elements begin, if it lies there as it
    is; None if it is compressed or in an archive."""

    file: str
    key: str
    shape: tuple[int, ...]
    dtype: np.dtype
    fortran: bool
    place: tuple[Path, int] | None

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def arrays_in(tree: Tree, name: str) -> list[Array]:
    """All arrays of one file whose elements are plain numbers or strings. Raises BrokenImage."""
    with _naming_trouble():
        local = tree.local(name)
        if name.lower().endswith(".npy"):
            size = tree.stamp(name)[0]
            array = _read_header(io.BytesIO(tree.read_bytes(name, HEADER_BYTES)), name, "", size, local, 0)
            return [array]
        with _opened(tree, name) as file, zipfile.ZipFile(file) as archive:
            return [_member(archive, info, file, name, local) for info in archive.infolist()
                    if info.filename.endswith(".npy")]


def read_array(tree: Tree, array: Array) -> np.ndarray:
    """All of an array. Raises BrokenImage, also if it is too large for that."""
    if array.nbytes > MAX_BYTES:
        raise BrokenImage(f"too large: more than {MAX_BYTES >> 30} GiB")
    data = b"".join(chunks(tree, array))
    with _naming_trouble():
        return np.frombuffer(data, array.dtype).reshape(array.shape, order="F" if array.fortran else "C")


def chunks(tree: Tree, array: Array) -> Iterator[bytes]:
    """The elements of an array, as bytes in pieces. Raises BrokenImage."""
    with _naming_trouble(), _opened(tree, array.file) as file:
        if not array.key:
            yield from _elements(file, array.nbytes)
            return
        with zipfile.ZipFile(file) as archive, archive.open(f"{array.key}.npy") as member:
            yield from _elements(member, array.nbytes)


def _elements(file: IO[bytes], left: int) -> Iterator[bytes]:
    _header(file)
    while left:
        chunk = file.read(min(CHUNK, left))
        if not chunk:
            raise ValueError("it is cut short")
        left -= len(chunk)
        yield chunk


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, file: IO[bytes], name: str, local: Path | None) -> Array:
    with archive.open(info) as member:
        start = member.read(HEADER_BYTES)
    begin = 0
    if info.compress_type != zipfile.ZIP_STORED:
        local = None
    elif local is not None:
        file.seek(info.header_offset)
        begin = info.header_offset + 30 + sum(LOCAL_HEADER.unpack(file.read(LOCAL_HEADER.size)))
    return _read_header(io.BytesIO(start), name, info.filename.removesuffix(".npy"), info.file_size, local, begin)


def _read_header(file: IO[bytes], name: str, key: str, size: int, local: Path | None, begin: int) -> Array:
    shape, fortran, dtype = _header(file)
    array = Array(name, key, shape, dtype, fortran, None if local is None else (local, begin + file.tell()))
    if not dtype.hasobject and array.nbytes + file.tell() > size:
        raise ValueError(f"{array.nbytes} bytes are announced, and {size - file.tell()} are there")
    return array


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, order and type; the file is at its elements then."""
    version = np.lib.format.read_magic(file)
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}.get(version)
    if read is None:
        raise ValueError(f"its format has the version {version[0]}.{version[1]}, which arrays of numbers do not need")
    shape, fortran, dtype = read(file, max_header_size=MAX_HEADER)
    if any(length < 0 for length in shape):
        raise ValueError("a length in it is negative")
    return shape, fortran, dtype


@contextlib.contextmanager
def _opened(tree: Tree, name: str) -> Iterator[IO[bytes]]:
    local = tree.local(name)
    with local.open("rb") if local else io.BytesIO(tree.read_bytes(name)) as file:
        yield file


@contextlib.contextmanager
def _naming_trouble() -> Iterator[None]:
    try:
        yield
    except TROUBLES as error:
        raise BrokenImage(f"cannot be read: {printable(str(error))}") from None
