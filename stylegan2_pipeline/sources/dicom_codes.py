"""The stored values of one DICOM frame, decompressed: pydicom and its decoders, with sizes checked before they run."""

import contextlib
import re
import warnings
from typing import Any

import numpy as np

from stylegan2_pipeline.decode import BrokenImage
from stylegan2_pipeline.sources.dicom_headers import PIXEL_TAGS, numbers, quiet_pydicom, text
from stylegan2_pipeline.sources.labels import printable

VIDEO = "1.2.840.10008.1.2.4.10"        # MPEG-2, MPEG-4 and HEVC begin so
HIGH_THROUGHPUT = "1.2.840.10008.1.2.4.20"
JPEG = b"\xFF\xD8"  # and JPEG-LS: how its data begins
JP2 = b"\0\0\0\x0CjP  "
SIZES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC} | {0xF7}  # JPEG and JPEG-LS markers that precede a size
ALL_FAILED = "Unable to decode as exceptions were raised by all available plugins:"  # pydicom's, before the reason
# Damaged data keeps the first busy for 10 s now and then, and ends the second, and the process with it.
LAST_RESORT = ("pyjpegls", "gdcm")
RGB_KINDS = ("RGB", "YBR_ICT", "YBR_RCT")  # decoders of JPEG 2000 turn the latter two into RGB and keep the name


def stored_frame(dataset: Any, frame: int, max_pixels: int) -> np.ndarray:
    """[H,W] of gray or palette numbers, or RGB [H,W,3], of the type they are stored in. Raises BrokenImage."""
    rows, columns = (int(_needed(dataset, keyword)) for keyword in ("Rows", "Columns"))
    if rows * columns > max_pixels:
        raise BrokenImage(f"too large: {columns}x{rows} is more than {max_pixels // 10 ** 6} megapixels")
    if not any(tag in dataset for tag in PIXEL_TAGS):
        raise BrokenImage("holds no picture, or is cut short before it")
    syntax = _syntax(dataset)
    decoder = _decoder(syntax)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if syntax.is_encapsulated:
                check_coded_size(_coded(dataset, frame), columns, rows)
            array, found = _decoded(decoder, dataset, frame)
    except BrokenImage:
        raise
    except Exception as error:  # of many kinds; the text is about sizes and decoders, not about patients
        raise BrokenImage(f"its pixels ({syntax.name}) cannot be decoded: {_short(error)}") from None
    if array.ndim == 3 and not (array.shape[2] == 3 and found["photometric_interpretation"] in RGB_KINDS):
        raise BrokenImage("its colours are stored in a way that cannot be read here")
    return array


def _decoded(decoder: Any, dataset: Any, frame: int) -> tuple[np.ndarray, dict]:
    """By each decoder that is here, until one succeeds, those of LAST_RESORT only where there is no other."""
    if not decoder.is_encapsulated:
        return decoder.as_array(dataset, index=frame)
    there = decoder.available_plugins
    names = [name for name in there if name not in LAST_RESORT] or [name for name in LAST_RESORT if name in there][:1]
    for name in names[:-1]:
        with contextlib.suppress(Exception):
            return decoder.as_array(dataset, index=frame, decoding_plugin=name)
    return decoder.as_array(dataset, index=frame, decoding_plugin=names[-1])


def check_coded_size(code: bytes, width: int, height: int) -> None:
    """BrokenImage if compressed data claims another size than the header, which decoders would make room for."""
    size = coded_size(code)
    if size is None and code.startswith((JPEG, JP2)):
        raise BrokenImage("its compressed picture is damaged: its size is missing")
    if size is not None and size != (width, height):
        raise BrokenImage(f"its compressed picture is {size[0]}x{size[1]}, and its header says {width}x{height}")


def coded_size(code: bytes) -> tuple[int, int] | None:
    """width, height in the header of JPEG, JPEG-LS or JPEG 2000 data; None where there is none. Raises BrokenImage."""
    start = _unboxed(code)
    if code[start:start + 4] == b"\xFF\x4F\xFF\x51":  # JPEG 2000: the far corner, then the near one
        right, bottom, left, top = np.frombuffer(code[start + 8:start + 24].ljust(16, b"\0"), ">u4").tolist()
        return right - left, bottom - top
    position = 2
    while code.startswith(JPEG) and position + 9 <= len(code) and code[position] == 0xFF:
        if code[position + 1] in SIZES:
            height, width = np.frombuffer(code[position + 5:position + 9], ">u2").tolist()
            return width, height
        fill = code[position + 1] == 0xFF
        position += 1 if fill else 2 + int.from_bytes(code[position + 2:position + 4], "big")
    return None


def _unboxed(code: bytes) -> int:
    """Where JPEG 2000 data begins: some files have it in the boxes of JP2. pydicom would walk round in an empty one."""
    position = 12 if code.startswith(JP2) else 0
    while position and position < len(code):
        length = int.from_bytes(code[position:position + 4], "big")
        if code[position + 4:position + 8] == b"jp2c":
            return position + 8
        if length < 8:
            raise BrokenImage("its compressed picture is damaged: a box of no length")
        position += length
    return position


def bits_stored(dataset: Any) -> int:
    """1 to 64."""
    bits = numbers(dataset, "BitsStored", 1) or numbers(dataset, "BitsAllocated", 1) or [0.0]
    if not 1 <= bits[0] <= 64:
        raise BrokenImage("its header does not say how many bits a pixel has")
    return int(bits[0])


def _needed(dataset: Any, keyword: str) -> float:
    found = numbers(dataset, keyword, 1)
    if found is None or found[0] < 1:
        raise BrokenImage(f"its header has no {keyword}")
    return found[0]


def _syntax(dataset: Any) -> Any:
    """The transfer syntax; of files that do not say, the one in which their header was understood."""
    uid = quiet_pydicom().uid
    named = text(getattr(dataset, "file_meta", None) or {}, "TransferSyntaxUID")
    if named:
        return uid.UID(named)
    implicit, little = dataset.original_encoding
    plain = uid.ImplicitVRLittleEndian if implicit else uid.ExplicitVRLittleEndian
    return plain if little else uid.ExplicitVRBigEndian


def _decoder(syntax: Any) -> Any:
    name = printable(str(syntax.name))[:100]
    if syntax.startswith(VIDEO):
        raise BrokenImage(f"a video ({name}); take its pictures out with a program for videos")
    try:
        decoder = quiet_pydicom().pixels.get_decoder(syntax)
    except NotImplementedError:
        raise BrokenImage(f"compressed in a way that cannot be read here ({name})") from None
    if not decoder.is_available:
        package = "pylibjpeg-openjpeg" if syntax.startswith(HIGH_THROUGHPUT) else "'.[dicom]'"
        raise BrokenImage(f"compressed as {name}, for which no decoder is here: pip install {package}")
    return decoder


def _coded(dataset: Any, frame: int) -> bytes:
    """The beginning of a frame's compressed data."""
    count = numbers(dataset, "NumberOfFrames", 1) or [1.0]
    return quiet_pydicom().encaps.get_frame(dataset.PixelData, frame, number_of_frames=int(count[0]) or 1)


def _short(error: Exception) -> str:
    """Without what is quoted: in a damaged file it could be anything."""
    words = re.sub(r"(?<!\w)b?(['\"]).*?(\1(?!\w)|$)", "…", " ".join(str(error).removeprefix(ALL_FAILED).split()))
    return printable(words[:200]) or type(error).__name__
