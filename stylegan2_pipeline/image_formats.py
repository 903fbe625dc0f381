"""Which formats of image files are read, how they are told apart, and what else bears their endings."""

import contextlib
import functools

from PIL import Image

ENDINGS = {  # format, as Pillow calls it -> endings of its files
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"),
    "PNG": (".png", ".apng"),
    "WEBP": (".webp",),
    "BMP": (".bmp", ".dib"),
    "DIB": (".bmp", ".dib"),
    "GIF": (".gif",),
    "TIFF": (".tif", ".tiff"),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
    "JPEG2000": (".jp2", ".j2k", ".jpx"),
    "AVIF": (".avif",),
    "TGA": (".tga",),
    "HEIF": (".heic", ".heif", ".hif"),
}
EXTENSIONS = frozenset(ending for endings in ENDINGS.values() for ending in endings)
HEIF_BRANDS = frozenset((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"))

BEGINNINGS = (  # where, what stands there, what it is then
    (0, b"\xff\xd8\xff", "a damaged JPEG"),
    (0, b"\x89PNG\r\n\x1a\n", "a damaged PNG"),
    (0, b"GIF8", "a damaged GIF"),
    (0, b"II*\0", "a damaged TIFF"),
    (0, b"MM\0*", "a damaged TIFF"),
    (8, b"WEBP", "a damaged WebP"),
    (0, b"BM", "a damaged BMP"),
    (4, b"ftypavif", "a damaged AVIF"),
    (0, b"%PDF", "not an image but a PDF"),
    (0, b"PK\3\4", "not an image but a zip"),
    (0, b"\x1f\x8b", "not an image but a file packed by gzip"),
    (128, b"DICM", "a DICOM file"),
    (4, b"ftyp", "not an image but a video"),
    (0, b"\x1aE\xdf\xa3", "not an image but a video"),
)


def may_have_frames(start: bytes) -> bool:
    """Whether a file that begins like this is of a format with animations or pages."""
    return start[:4] in (b"GIF8", b"\x89PNG", b"RIFF", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+") or start[4:8] == b"ftyp"


@functools.cache
def readable() -> tuple[str, ...]:
    """The formats of ENDINGS that this build of Pillow reads. (MPO, the JPEG of some cameras, is opened as JPEG.)"""
    Image.init()
    return tuple(name for name in ENDINGS if name in Image.OPEN)


def is_heif(data: bytes) -> bool:
    """Whether a file begins as HEIC does: a box of types (ISO/IEC 14496-12) that names a brand of HEVC pictures."""
    size = int.from_bytes(data[:4], "big")
    if data[4:8] != b"ftyp" or not 16 <= size <= 1024:
        return False
    brands = {data[start:start + 4] for start in (8, *range(16, size, 4))}
    return bool(brands & HEIF_BRANDS)


@functools.cache
def heif_reader() -> bool:
    """Whether HEIC can be read: the package for it is loaded when the first such file is met."""
    with contextlib.suppress(ImportError):
        import pillow_heif
        pillow_heif.register_heif_opener(thumbnails=False)
        readable.cache_clear()
        return True
    return False


def what_it_is_instead(data: bytes) -> str:
    """Of bytes that no reader takes for an image."""
    start = data[:512].lstrip().lower()
    if start.startswith((b"<!doctype", b"<html", b"<head", b"<?xml", b"<svg")):
        return "not an image but a web page or XML text"
    if is_heif(data):
        return "a damaged HEIC"
    for place, magic, words in BEGINNINGS:
        if data[place:place + len(magic)] == magic:
            return words
    return "not an image that can be recognised" if any(data[:2 ** 20]) else "not an image: all bytes are zero"
