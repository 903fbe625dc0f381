"""What the first bytes of a NIfTI file say, and the voxels behind them."""

import gzip
import io
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import IO, Any

import numpy as np

from stylegan2_pipeline.decode import MAX_BYTES, BrokenImage
from stylegan2_pipeline.sources.base import require
from stylegan2_pipeline.sources.folder import FileTree
from stylegan2_pipeline.sources.labels import printable
from stylegan2_pipeline.sources.trees import Tree

START_BYTES = 4096        # of a file, packed or not: more than either kind of header has
HEADERS = {348: "Nifti1Header", 540: "Nifti2Header"}  # the first number of a file -> its reader in nibabel
MAX_SLICES = 2 ** 15      # of one volume along each axis; NIfTI-1 cannot have more
GZIP = b"\x1f\x8b"
PACKED_AT_MOST = 1032     # bytes that one byte of deflate can stand for
SKIP_BYTES = 2 ** 22
RGB, RGBA = ("R", "G", "B"), ("R", "G", "B", "A")  # names of the parts of a voxel in colour

Triple = tuple[int, int, int]


@dataclass(frozen=True)
class Header:
    """data: the file of the voxels; shape, channels, dtype, offset, slope, inter: as stored, the first axis fastest.

    order, flips: axis i of the stored array leads to the right, front or top (order[i] = 0, 1, 2) of the patient, or
    the other way (flips[i] = -1); spacing: mm of a voxel to the right, front and top. known: whether the file says
    how the volume lies at all.
    """

    data: str
    packed: bool
    shape: Triple
    channels: int
    dtype: np.dtype
    offset: int
    slope: float
    inter: float
    order: Triple
    flips: Triple
    spacing: tuple[float, float, float]
    known: bool

    @property
    def lengths(self) -> list[int]:
        """Of the axes to the right, front and top."""
        return [self.shape[self.order.index(axis)] for axis in range(3)]

    @property
    def volume_bytes(self) -> int:
        return int(np.prod(self.shape, dtype=object)) * self.dtype.itemsize


def data_file(name: str) -> str | None:
    """Where the voxels of a header file lie: in itself, but for .hdr in the .img beside it."""
    lower = name.lower()
    if lower.endswith((".nii", ".nii.gz")):
        return name
    for ending in (".hdr", ".hdr.gz"):
        if lower.endswith(ending):
            return name[:-len(ending)] + (".img" if name[-len(ending):].islower() else ".IMG") + ending[4:]
    return None


def is_there(tree: Tree, name: str) -> bool:
    """In the tree, or, where that is a single file, beside it."""
    return name in tree or (isinstance(tree, FileTree) and tree.beside(name))


def read_header(tree: Tree, name: str) -> Header:
    """Raises BrokenImage with the reason, UserError when nibabel is missing."""
    start = tree.read_bytes(name, START_BYTES)
    if start[:2] == GZIP:
        start = _unpack_start(start)
    size = next((size for size in HEADERS if start[:4] in (size.to_bytes(4, "little"), size.to_bytes(4, "big"))), 0)
    if len(start) < size or not size:
        raise BrokenImage("not a NIfTI file" if len(start) >= 348 else "cut off: the header is not whole")
    if start[344:347] not in (b"n+1", b"ni1") and size == 348:
        raise BrokenImage("an Analyze file, which does not say where left and right are; make a NIfTI file of it")
    nibabel = require("nibabel", "nifti", f"{tree.flag}: NIfTI files")
    data = data_file(name)
    assert data is not None
    try:
        parsed = getattr(nibabel, HEADERS[size])(start[:size], check=False)
        header = _header(parsed, nibabel, data, size)
    except BrokenImage:
        raise
    except Exception as error:  # nibabel raises its own errors, and numpy's where numbers make no sense
        raise BrokenImage(f"its header is damaged: {printable(str(error))}") from None
    return _checked(header, tree)


def _unpack_start(data: bytes) -> bytes:
    try:
        return zlib.decompressobj(wbits=31).decompress(data, START_BYTES)
    except zlib.error as error:
        raise BrokenImage(f"cannot be unpacked: {error}") from None


def _header(parsed: Any, nibabel: ModuleType, data: str, size: int) -> Header:
    dims = [int(length) for length in parsed.get_data_shape()]
    if not dims or min(dims) < 1:
        raise BrokenImage("its header is damaged: a side has no length")
    affine = np.asarray(parsed.get_best_affine(), np.float64)
    known = bool(int(parsed["qform_code"]) > 0 or int(parsed["sform_code"]) > 0)
    order, flips, known = _orientation(affine, nibabel, known)
    lengths = np.sqrt((affine[:3, :3] ** 2).sum(0))  # mm of a voxel along each stored axis
    slope, inter = parsed.get_slope_inter()
    offset = int(parsed["vox_offset"])
    within = bytes(parsed["magic"])[:2] == b"n+"
    shape = (*dims[:3], 1, 1)
    return Header(
        data=data, packed=False, shape=(shape[0], shape[1], shape[2]),
        channels=int(np.prod(dims[3:], dtype=object)), dtype=parsed.get_data_dtype(),
        offset=max(offset, size + 4) if within else offset,
        slope=1.0 if slope is None else float(slope), inter=0.0 if inter is None else float(inter),
        order=order, flips=flips, known=known,
        spacing=(lengths[order.index(0)], lengths[order.index(1)], lengths[order.index(2)]))


def _orientation(affine: np.ndarray, nibabel: ModuleType, known: bool) -> tuple[Triple, Triple, bool]:
    """order and flips of Header: those nearest to the affine's."""
    found = nibabel.orientations.io_orientation(affine)
    if not np.isfinite(found).all():  # a side without length: nothing can be said
        return (0, 1, 2), (1, 1, 1), False
    axes, flips = found.astype(int).T.tolist()
    return (axes[0], axes[1], axes[2]), (flips[0], flips[1], flips[2]), known


def _checked(header: Header, tree: Tree) -> Header:
    """With `packed` as it is. Raises BrokenImage for sizes that cannot be true, before memory is taken for them."""
    if header.offset < 0 or header.channels < 1:
        raise BrokenImage("its header is damaged: numbers that are negative")
    if header.volume_bytes > MAX_BYTES or max(header.shape) > MAX_SLICES:
        raise BrokenImage(f"too large: a volume of {'x'.join(map(str, header.shape))} voxels")
    if header.dtype.kind not in "iuf" and header.dtype.names not in (RGB, RGBA):
        raise BrokenImage(f"holds {header.dtype.name} numbers, which are no picture; store their magnitude")
    if not is_there(tree, header.data):
        raise BrokenImage("its voxels lie in an .img file of the same name, which is not here")
    packed = tree.read_bytes(header.data, 2) == GZIP
    size = tree.stamp(header.data)[0] * (PACKED_AT_MOST if packed else 1)
    if size < header.offset + header.volume_bytes:
        raise BrokenImage("cut off: its header promises more voxels than the file has")
    return replace(header, packed=packed)


def read_voxels(tree: Tree, header: Header, channel: int) -> np.ndarray:
    """One volume as stored, [X,Y,Z] to the right, front and top, in the file's numbers. Raises BrokenImage."""
    offset = header.offset + channel * header.volume_bytes
    data = _read(tree, header, offset, last=channel == header.channels - 1)
    if len(data) < header.volume_bytes:
        raise BrokenImage("cut off: its header promises more voxels than the file has")
    stored = np.frombuffer(data, header.dtype).reshape(header.shape, order="F")
    upright = stored[tuple(slice(None, None, flip) for flip in header.flips)]
    return upright.transpose([header.order.index(axis) for axis in range(3)])


def _read(tree: Tree, header: Header, offset: int, last: bool) -> bytes:
    size, path = header.volume_bytes, tree.local(header.data)
    try:
        if header.packed:
            with _open(tree, header.data, path) as file, gzip.GzipFile(fileobj=file) as unpacked:
                return _read_packed(unpacked, offset, size, last)
        if path is None:
            return tree.read_bytes(header.data, offset + size)[offset:]
        with path.open("rb") as file:
            file.seek(offset)
            return file.read(size)
    except (OSError, EOFError, zlib.error) as error:  # a damaged gzip is an OSError, too
        raise BrokenImage(f"cannot be unpacked: {printable(str(error))}") from None


def _open(tree: Tree, name: str, path: Path | None) -> IO[bytes]:
    return io.BytesIO(tree.read_bytes(name)) if path is None else path.open("rb")


def _read_packed(file: gzip.GzipFile, offset: int, size: int, last: bool) -> bytes:
    while offset > 0:
        passed = len(file.read(min(offset, SKIP_BYTES)))
        if not passed:
            return b""
        offset -= passed
    data = file.read(size)
    if last:
        file.read(1)  # the end, where the checksum is
    return data
