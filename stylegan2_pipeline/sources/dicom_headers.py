"""The header of a DICOM file: to which series and patient it belongs, how its frames lie, and whether it is a picture.

Values of a header never reach a message: they may name a patient.
"""

import functools
import io
import math
import re
import warnings
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from stylegan2_pipeline.decode import BrokenImage
from stylegan2_pipeline.sources.base import require
from stylegan2_pipeline.sources.trees import Tree

FIRST_READ = 2 ** 18      # bytes; most headers fit, and longer ones are read in steps of 16 times as much
MAX_INFLATED = 2 ** 29    # bytes that a file of the deflated syntax may grow to
DEFLATED, EXPLICIT = b"1.2.840.10008.1.2.1.99", b"1.2.840.10008.1.2.1"
COMPRESSED = ("1.2.840.10008.1.2.4", "1.2.840.10008.1.2.5")  # JPEG and its kin; RLE
PIXEL_TAGS = frozenset((0x7FE00008, 0x7FE00009, 0x7FE00010))  # float, double and integer pixel data
VIEWS = ("sagittal", "coronal", "axial")  # across the patient's x, y, z
STEEP = 0.8               # cosine between the normal of a picture and an axis from which on it counts as that view

LOCALIZER = "a localiser"
CAPTURE = "a secondary capture, such as a screenshot or a scanned sheet"
COLOURED = "a colour picture in a CT, MR or PET series: a screenshot or a map"
MOSAIC = "a mosaic: all slices of a volume side by side"
KEEPABLE = (LOCALIZER, CAPTURE, COLOURED, MOSAIC)  # what Reading.keep_localizers keeps
STORAGE = "1.2.840.10008.5.1.4.1.1."
NO_PICTURES = {
    "1.2.840.10008.1.3.10": "a directory of files (DICOMDIR)", STORAGE + "11": "a presentation state",
    STORAGE + "88": "a report", STORAGE + "481": "data of radiotherapy", STORAGE + "9": "a waveform",
    STORAGE + "104": "an encapsulated document", STORAGE + "66": "a segmentation, registration or raw data",
    STORAGE + "67": "a mapping of values", STORAGE + "68": "a surface", STORAGE + "4.2": "a spectrum",
}
KEYWORDS = (
    "ImageType", "SOPClassUID", "Modality", "SeriesDescription", "ProtocolName", "PatientID", "PatientName",
    "BodyPartExamined", "StudyInstanceUID", "SeriesInstanceUID", "SeriesNumber", "InstanceNumber", "NumberOfFrames",
    "Rows", "Columns", "SamplesPerPixel", "BitsAllocated", "PhotometricInterpretation", "ImagePositionPatient",
    "ImageOrientationPatient", "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence",
)
NOBODY = re.compile(r"(anon(ymous|ymi[sz]ed)?|unknown|none|no[ _-]?(name|id)|removed|de-?identified|[x0*?-])*",
                    re.IGNORECASE)  # what anonymizers write for everybody
SCOUT = re.compile(r"locali[sz]er|scout|survey|3[- ]?plane", re.IGNORECASE)
HEADS = frozenset(("HEAD", "BRAIN", "SKULL", "FACE", "HEADNECK"))


class Plane(NamedTuple):
    """How one frame lies in the patient: axial, coronal, sagittal, oblique or "" (not said); mm along the normal."""

    view: str = ""
    position: float | None = None


@dataclass(frozen=True, slots=True)
class FileHeader:
    """One file. planes: one a frame; left_out: why it is no image to train on; error: why it cannot be read."""

    name: str
    series: str = ""
    subject: str | None = None
    instance: int = 0
    planes: tuple[Plane, ...] = (Plane(),)
    head: bool = False
    left_out: str = ""
    error: str = ""


def read_file_header(tree: Tree, name: str, keep: bool = False) -> FileHeader:
    """Never raises for what is wrong with the file. keep: also what KEEPABLE lists."""
    try:
        dataset = _parse_header(tree, name)
        reason = why_left_out(dataset)
        if reason and not (keep and reason in KEEPABLE):
            return FileHeader(name, left_out=reason)
        frames = count_frames(dataset, tree.stamp(name)[0])
        own = frames if value(dataset, "PerFrameFunctionalGroupsSequence") else 1
        planes = tuple(plane(dataset, frame) for frame in range(own)) * (frames // own)
        return FileHeader(name, _series(dataset, name), _subject(dataset), _whole(dataset, "InstanceNumber", 0), planes,
                          text(dataset, "BodyPartExamined").upper() in HEADS)
    except BrokenImage as error:
        return FileHeader(name, error=str(error))


def _parse_header(tree: Tree, name: str) -> Any:
    size = FIRST_READ
    while True:
        data = tree.read_bytes(name, size)
        try:
            dataset, reached = parse(data, pixels=False)
        except BrokenImage:
            if len(data) < size:
                raise
            reached = False
        if reached or len(data) < size:
            return dataset
        size *= 16


def parse(data: bytes, pixels: bool) -> tuple[Any, bool]:
    """A pydicom dataset of a file: all of it, or what KEYWORDS lists; and whether its pixels were reached.

    Raises BrokenImage, in words that hold nothing of the content.
    """
    if not is_dicom(data):
        raise BrokenImage("not a DICOM file" if any(data) else "an empty file, or all bytes are zero")
    pydicom, reached = quiet_pydicom(), False

    def stop(tag: int, vr: str | None, length: int) -> bool:
        nonlocal reached
        reached = reached or tag in PIXEL_TAGS
        return reached and not pixels

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset = pydicom.filereader.read_partial(
                io.BytesIO(_inflated(data)), stop, force=True, specific_tags=None if pixels else _tags())
    except BrokenImage:
        raise
    except Exception:  # pydicom raises whatever the bytes lead it to
        raise BrokenImage("its DICOM header is damaged, or the file is cut short") from None
    return dataset, reached


def is_dicom(data: bytes) -> bool:
    """With the mark at 128, or, as old files are, beginning with an element of group 2 or 8."""
    return data[128:132] == b"DICM" or (data[:2] in (b"\2\0", b"\x08\0") and data[3:4] == b"\0") \
        or data[:3] == b"\0\x08\0"


@functools.cache
def quiet_pydicom() -> Any:
    """The package, told not to check values as it reads: its warnings quote them. Raises UserError."""
    pydicom = require("pydicom", "dicom", "--source: DICOM files")
    require("pydicom.pixels", "dicom", "--source: DICOM files")
    pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
    warnings.filterwarnings("ignore", module=r"pydicom\.")  # of values that are converted later, when asked for
    return pydicom


@functools.cache
def _tags() -> list[int]:
    return [quiet_pydicom().tag.Tag(keyword) for keyword in KEYWORDS]


def _inflated(data: bytes) -> bytes:
    """A file of the deflated syntax as one of the plain syntax; others as they are."""
    if DEFLATED not in data[:1024] or data[132:138] != b"\2\0\0\0UL":
        return data
    end = 144 + int.from_bytes(data[140:144], "little")  # of the file's meta information
    stream = zlib.decompressobj(-zlib.MAX_WBITS)
    content = stream.decompress(data[end:], MAX_INFLATED)
    if stream.unconsumed_tail:
        raise BrokenImage(f"too large: more than {MAX_INFLATED >> 20} MiB unpacked")
    return data[:end].replace(DEFLATED, EXPLICIT.ljust(len(DEFLATED), b"\0")) + content


def why_left_out(dataset: Any) -> str:
    """"" for a picture of a patient."""
    kind = text(dataset, "SOPClassUID") or text(getattr(dataset, "file_meta", {}), "MediaStorageSOPClassUID")
    for prefix, reason in NO_PICTURES.items():
        if kind == prefix or kind.startswith(prefix + "."):
            return reason
    types = text(dataset, "ImageType").upper()
    if "LOCALIZER" in types or SCOUT.search(f"{text(dataset, 'SeriesDescription')} {text(dataset, 'ProtocolName')}"):
        return LOCALIZER
    if kind == STORAGE + "7" or kind.startswith(STORAGE + "7.") or "SCREEN" in types:
        return CAPTURE
    if "MOSAIC" in types:
        return MOSAIC
    scanned = text(dataset, "Modality").upper() in ("CT", "MR", "PT")
    colours = text(dataset, "PhotometricInterpretation").upper()
    return COLOURED if scanned and colours and not colours.startswith("MONOCHROME") else ""


def count_frames(dataset: Any, size: int) -> int:
    """How many frames a file of `size` bytes has. Raises BrokenImage for more than it can hold."""
    rows, columns = _whole(dataset, "Rows", 0), _whole(dataset, "Columns", 0)
    if rows < 1 or columns < 1:
        raise BrokenImage("holds no picture, or is cut short before it")
    frames = max(1, _whole(dataset, "NumberOfFrames", 1))
    if frames > max(1, size // _least_bytes(dataset, rows * columns)):
        raise BrokenImage(f"claims {frames} frames, which do not fit into {size} bytes")
    return frames


def _least_bytes(dataset: Any, pixels: int) -> int:
    """That a frame takes in the file, at the least."""
    syntax = text(getattr(dataset, "file_meta", {}), "TransferSyntaxUID")
    if syntax == DEFLATED.decode():
        return 1
    if syntax.startswith(COMPRESSED):
        return 64  # headers of JPEG and RLE alone are longer
    bits = pixels * _whole(dataset, "SamplesPerPixel", 1) * _whole(dataset, "BitsAllocated", 8)
    return max(1, bits // 12)  # two thirds: colours may be stored for every other pixel only


def plane(dataset: Any, frame: int) -> Plane:
    turns = orientation(dataset, frame)
    place = numbers(group(dataset, frame, "PlanePositionSequence"), "ImagePositionPatient", 3)
    if turns is None:
        return Plane()
    normal = np.cross(turns[:3], turns[3:])
    axis = int(np.argmax(abs(normal)))
    view = VIEWS[axis] if abs(normal[axis]) >= STEEP else "oblique"
    if place is None:
        return Plane(view)
    return Plane(view, round(float(np.dot(place, normal) * np.sign(normal[axis])), 2))


def orientation(dataset: Any, frame: int) -> np.ndarray | None:
    """float64 [6]: where in the patient (left, back, up) the picture's right and down point, of unit length."""
    turns = numbers(group(dataset, frame, "PlaneOrientationSequence"), "ImageOrientationPatient", 6)
    if turns is None:
        return None
    right, down = np.array(turns[:3]), np.array(turns[3:])
    lengths = float(np.linalg.norm(right)), float(np.linalg.norm(down))
    if min(lengths) < 0.5 or abs(right @ down) > 0.1 * lengths[0] * lengths[1]:
        return None
    return np.concatenate([right / lengths[0], down / lengths[1]])


def group(dataset: Any, frame: int, keyword: str) -> Any:
    """Where a multi-frame file keeps what belongs to one frame: its own item, one for all, or the file itself."""
    for sequence, index in (("PerFrameFunctionalGroupsSequence", frame), ("SharedFunctionalGroupsSequence", 0)):
        items = value(dataset, sequence)
        if isinstance(items, Sequence) and index < len(items):
            found = value(items[index], keyword)
            if isinstance(found, Sequence) and found:
                return found[0]
    return dataset


def value(dataset: Any, keyword: str) -> Any:
    """None where it is missing, empty or damaged."""
    try:
        return dataset.get(keyword)
    except Exception:  # pydicom converts values when they are asked for
        return None


def text(dataset: Any, keyword: str) -> str:
    """Of several values, with a backslash between them, as in the file."""
    found = value(dataset, keyword)
    if found is None:
        return ""
    try:
        several = not isinstance(found, str) and isinstance(found, Sequence)
        return "\\".join(map(str, found)) if several else str(found).strip()
    except Exception:  # names of people are decoded here
        return ""


def numbers(dataset: Any, keyword: str, count: int) -> list[float] | None:
    """Exactly so many finite numbers, or None."""
    found = value(dataset, keyword)
    if count == 1 and not isinstance(found, Sequence):
        found = [found]
    try:
        result = [float(number) for number in found]
    except (TypeError, ValueError):
        return None
    return result if len(result) == count and all(map(math.isfinite, result)) else None


def _whole(dataset: Any, keyword: str, otherwise: int) -> int:
    found = numbers(dataset, keyword, 1)
    return int(found[0]) if found else otherwise


def _series(dataset: Any, name: str) -> str:
    """Its identifier; where somebody took that away, what else keeps series apart."""
    folder = name.rpartition("/")[0]
    return text(dataset, "SeriesInstanceUID") or \
        f"{text(dataset, 'StudyInstanceUID')}/{text(dataset, 'SeriesNumber')}/{folder}"


def _subject(dataset: Any) -> str | None:
    """The first of these that tells patients apart."""
    found = (text(dataset, keyword) for keyword in ("PatientID", "PatientName", "StudyInstanceUID"))
    return next((who for who in found if not NOBODY.fullmatch(who)), None)
