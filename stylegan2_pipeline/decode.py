"""The bytes of one image file -> a checked array, with everything that image libraries leave to their caller.

EXIF rotation, palettes, transparency, CMYK, colour profiles and more than 8 bits are read for what they mean.
"""

import contextlib
import functools
import io
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageCms, UnidentifiedImageError

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "DIB", "GIF", "TIFF", "PPM", "JPEG2000", "AVIF", "TGA")
EXTENSIONS = frozenset((
    ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".webp", ".bmp", ".dib", ".gif", ".tif", ".tiff",
    ".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".j2k", ".jpx", ".avif", ".tga",
))
MAX_PIXELS = 2 ** 27 + 2 ** 26  # 201 megapixels; a file that claims more is taken for a decompression bomb
MAX_BYTES = 2 ** 31
DEEP_MODES = frozenset(("I", "F", "I;16", "I;16L", "I;16B", "I;16N"))  # gray with more than 8 bits
EXIF_ORIENTATION = 0x0112

# MAX_PIXELS is checked below, in our own words; Pillow's error at about the same size stays.
warnings.simplefilter("ignore", Image.DecompressionBombWarning)
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")  # damaged EXIF data, and the like


class BrokenImage(Exception):
    """The bytes are no image that can be read; the message is the reason, without the name of the file."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """One image, upright.

    pixels: uint8 [H,W,C] with C = 1 gray, 3 RGB or 4 RGBA; or, for gray with more than 8 bits, float32 [H,W,1] in
    the file's own units, which only a window chosen for the whole set or volume can turn into 8 bits.
    mode: what the file holds, in Pillow's names or the format's; format: the name of the file's format; rotated: EXIF
    asked for a rotation or flip; animated: it has further frames, which were not asked for; profile: a colour profile
    was applied; empty: of deep pixels, the value that means that nothing is there, which windows do not count;
    remarks: what else a user should know of this image, in the words of a heading ("Burned-in text is announced").
    """

    pixels: np.ndarray
    mode: str = "L"
    rotated: bool = False
    animated: bool = False
    format: str = ""
    profile: bool = False
    empty: float | None = None
    remarks: tuple[str, ...] = ()

    @property
    def deep(self) -> bool:
        return self.pixels.dtype != np.uint8


class Header(NamedTuple):
    """What Decoded will be like, as far as the start of the file tells: EXIF rotation is not looked at."""

    channels: int
    height: int
    width: int
    deep: bool


def decode_image(data: bytes) -> Decoded:
    """Decode one image file. Raises BrokenImage with the reason when it cannot be read whole."""
    with _opened(data) as image:
        return _decode_opened(image)


def read_header(data: bytes) -> Header:
    """What the start of a file says, without decoding; for most formats the first 64 KiB suffice.

    Raises BrokenImage if it is no image, or if more of it is needed.
    """
    with _opened(data) as image:
        width, height = image.size
        return Header(_channels(image), height, width, image.mode in DEEP_MODES)


@contextlib.contextmanager
def _opened(data: bytes) -> Iterator[Image.Image]:
    if not data:
        raise BrokenImage("an empty file")
    try:
        with Image.open(io.BytesIO(data), formats=_formats()) as image:
            yield image
    except BrokenImage:
        raise
    except UnidentifiedImageError:
        raise BrokenImage(_what_it_is_instead(data)) from None
    except Image.DecompressionBombError as error:
        raise BrokenImage(f"too large: {error}") from None
    except Exception as error:  # Pillow raises OSError, SyntaxError, ValueError, struct.error, zlib.error and more
        raise BrokenImage(f"cannot be decoded: {str(error) or type(error).__name__}") from None


@functools.cache
def _formats() -> tuple[str, ...]:
    """FORMATS as far as this build of Pillow has them. (MPO, the JPEG of some cameras, is opened as JPEG.)"""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _decode_opened(image: Image.Image) -> Decoded:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise BrokenImage(f"too large: {width}x{height} is more than {MAX_PIXELS // 10 ** 6} megapixels")
    image.load()
    mode = image.mode
    orientation = _orientation(image)  # after load(): the TIFF reader has rotated by then, and says so
    pixels = ORIENTATIONS[orientation](_pixels(image))
    if pixels.dtype != np.uint8 and not np.isfinite(pixels).all():
        raise BrokenImage("holds values that are not finite")
    return Decoded(np.ascontiguousarray(pixels), mode, orientation != 1, _animated(image))


def _channels(image: Image.Image) -> int:
    """Of what _pixels will give; known before the pixels are."""
    if image.mode in DEEP_MODES:
        return 1
    if image.mode != "CMYK" and image.has_transparency_data:
        return 4
    return 1 if image.mode in ("1", "L") else 3


def _pixels(image: Image.Image) -> np.ndarray:
    """[H,W,C] as it lies in the file."""
    if image.mode in DEEP_MODES:
        return np.asarray(image, dtype=np.float32)[:, :, np.newaxis]
    channels = _channels(image)
    if channels == 1:
        return np.asarray(image.convert("L"))[:, :, np.newaxis]
    if image.mode != "CMYK" or not image.info.get("icc_profile"):
        image = image.convert("RGBA" if channels == 4 else "RGB")
    image = _to_srgb(image) or image
    return np.asarray(image if image.mode != "CMYK" else image.convert("RGB"))


def _to_srgb(image: Image.Image) -> Image.Image | None:
    """The image in sRGB, or None when it has no usable colour profile or is sRGB already."""
    profile = image.info.get("icc_profile")
    if not profile:
        return None
    transform = _srgb_transform(bytes(profile), image.mode)
    if transform is None:
        return None
    converted = ImageCms.applyTransform(image, transform)
    if converted is not None:
        converted.info.pop("icc_profile", None)
    return converted


@functools.lru_cache(maxsize=16)
def _srgb_transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if "srgb" in ImageCms.getProfileDescription(source).lower():
            return None
        return ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB" if mode == "CMYK" else mode)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None  # a damaged profile, or one of another colour space: the pixels are still good


def _orientation(image: Image.Image) -> int:
    try:
        orientation = image.getexif().get(EXIF_ORIENTATION, 1)
    except Exception:  # damaged EXIF data is no reason to lose the picture
        return 1
    return orientation if orientation in ORIENTATIONS else 1


def _animated(image: Image.Image) -> bool:
    if image.format == "MPO":  # the further frames are depth maps and thumbnails
        return False
    try:
        return bool(getattr(image, "is_animated", False))
    except Exception:  # damage behind the first frame
        return True


def _what_it_is_instead(data: bytes) -> str:
    start = data[:512].lstrip().lower()
    if start.startswith((b"<!doctype", b"<html", b"<head", b"<?xml", b"<svg")):
        return "not an image but a web page or XML text"
    if data[4:12] in (b"ftypheic", b"ftypheix", b"ftypmif1", b"ftyphevc"):
        return "HEIC, which cannot be read here; convert it to JPEG or PNG"
    if not any(data):
        return "not an image: all bytes are zero"
    return "not an image that can be recognised"


ORIENTATIONS: dict[int, Callable[[np.ndarray], np.ndarray]] = {  # EXIF value -> what sets [H,W,C] upright
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a.swapaxes(0, 1)[::-1, ::-1],
    8: lambda a: np.rot90(a, 1),
}
