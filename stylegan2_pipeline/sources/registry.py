"""Which reader opens a path: the one list to which a new kind of source is added."""

import importlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from stylegan2_pipeline.sources.base import Reading, Source
from stylegan2_pipeline.sources.folder import FileTree, FolderTree
from stylegan2_pipeline.sources.images import ImageFiles
from stylegan2_pipeline.sources.tar import TarTree
from stylegan2_pipeline.sources.trees import Tree
from stylegan2_pipeline.sources.zip import ZipTree
from torch_utils.errors import UserError


class Reader(NamedTuple):
    """A kind of collection.

    what: in words; place: module and class in stylegan2_pipeline.sources, a class (tree, reading) -> Source with a
    function claims(tree) -> int beside it: about how many images of the tree it would read, found without opening each
    file where names tell. takes: fields of Reading beside max_pixels that it heeds. whole: a published set with files
    of fixed names, which it reads whatever else lies there.
    """

    what: str
    place: str
    takes: frozenset[str] = frozenset()
    whole: bool = False


READERS: dict[str, Reader] = {
    "images": Reader("images", "images.ImageFiles", frozenset({"frames"})),
    "dicom": Reader("DICOM files", "dicom.DicomFiles", frozenset({"window", "slices", "every", "keep_localizers"})),
    "nifti": Reader("NIfTI volumes", "nifti.Nifti", frozenset({"axis", "slices", "every", "channel"})),
    "matlab": Reader("the figshare brain tumour set (.mat)", "matlab.MatlabSlices"),
    "parquet": Reader("tables of Hugging Face datasets", "parquet.TableImages"),
    "mnist": Reader("MNIST, Fashion-MNIST and the like (idx files)", "idx.IdxImages", whole=True),
    "cifar": Reader("CIFAR-10 and CIFAR-100 for Python", "cifar.CifarImages", whole=True),
    "lsun": Reader("LSUN and other LMDB databases of images", "lsun.LmdbImages", whole=True),
    "arrays": Reader("numpy arrays", "arrays.ArrayImages"),
}
OPTIONS = {"frames": "--frames", "window": "--window=header", "axis": "--axis", "slices": "--slices",
           "every": "--every", "channel": "--channel", "keep_localizers": "--keep-localizers"}
TREES: dict[str, Callable[[Path, str], Tree]] = {
    ".zip": ZipTree,
    **dict.fromkeys((".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz"), TarTree),
}


def open_source(path: str | Path, flag: str = "--source", reading: Reading = Reading(),  # noqa: B008
                kind: str | None = None, only: Sequence[str] = ()) -> Source:
    """Open any collection of images; kind: a name of READERS instead of what its files look like; only: patterns such
    as "*t1ce*" of which a file's path must match one, however its letters are written.

    Raises UserError, naming the flag, for a path that no reader takes, or options that its reader does not take.
    """
    tree = open_tree(Path(path), flag)
    if only:
        tree.narrow(only)
    if kind is not None and kind not in READERS:
        raise UserError(f"--source-type={kind}: choose one of {', '.join(READERS)}.")
    beside: list[str] = []
    if kind is None:
        kind, beside = recognized(tree)
    refused = [OPTIONS[name] for name in OPTIONS
               if name not in READERS[kind].takes and getattr(reading, name) != getattr(Reading(), name)]
    if refused:
        raise UserError(f"{', '.join(refused)}: {flag} {path} is read as {READERS[kind].what} (--source-type={kind}), "
                        f"which cannot heed that; leave it out.")
    source: Source = _attribute(READERS[kind].place)(tree, reading)
    source.beside = beside
    return source


def open_files(path: str | Path, flag: str = "--data") -> ImageFiles:
    """Open a collection that is a tree of image files: a folder or a zip."""
    path = Path(path)
    if path.is_file() and path.suffix.lower() != ".zip":
        raise UserError(f"{flag}: {path} is neither a folder nor a .zip of images. Make one of it: "
                        f"python dataset_tool.py --source {path} --dest {path.with_suffix('.zip')}")
    return ImageFiles(open_tree(path, flag))


def open_tree(path: Path, flag: str) -> Tree:
    if not os.path.exists(path):
        raise UserError(f"{flag}: {path} does not exist.")
    if path.is_dir():
        return FolderTree(path, flag)
    if is_zip(path):
        return ZipTree(path, flag)
    ending = next((ending for ending in TREES if path.name.lower().endswith(ending)), None)
    return TREES[ending](path, flag) if ending else FileTree(path, flag)


def is_zip(path: Path) -> bool:
    """By its first bytes, whatever it is called; but for numpy's archives, which are read as arrays."""
    try:
        with path.open("rb") as file:
            return file.read(4) == b"PK\x03\x04" and path.suffix.lower() != ".npz"
    except OSError:
        return False


def recognized(tree: Tree) -> tuple[str, list[str]]:
    """The kind of collection - a published set where its files are there, else what most files are - and a sentence on
    each other kind that is there too."""
    counts = {kind: _claims(reader, tree) for kind, reader in READERS.items()}
    best = max(counts, key=lambda kind: (READERS[kind].whole and counts[kind] > 0, counts[kind]))
    if counts[best]:
        return best, [f"Also there, and passed over: {READERS[kind].what}; --source-type={kind} reads them."
                      for kind in READERS if counts[kind] and kind != best]
    if len(tree.files) == 1 and tree.path.is_file():
        known = ", ".join(reader.what for reader in READERS.values())
        raise UserError(f"{tree.flag}: {tree.path} is none of what can be read: {known}; in a folder, .zip, .tar or "
                        f".tar.gz.")
    return "images", []  # which says what there is instead


def _claims(reader: Reader, tree: Tree) -> int:
    return _attribute(f"{reader.place.partition('.')[0]}.claims")(tree)


def _attribute(place: str) -> Any:
    module, _, name = place.partition(".")
    return getattr(importlib.import_module(f"stylegan2_pipeline.sources.{module}"), name)
