"""The bytes of one image file -> a checked array, with everything that image libraries leave to their caller.

EXIF rotation, palettes, transparency, CMYK, colour profiles and more than 8 bits are read for what they mean.
"""

import contextlib
import functools
import io
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
from PIL import Image, ImageCms, UnidentifiedImageError

from stylegan2_pipeline.image_formats import heif_reader, is_heif, readable, what_it_is_instead

MAX_PIXELS = 2 ** 27 + 2 ** 26  # 201 megapixels; a file that claims more is taken for a decompression bomb
MAX_BYTES = 2 ** 31
MAX_FRAMES = 2 ** 16
DEEP_MODES = frozenset(("I", "F", "I;16", "I;16L", "I;16B", "I;16N"))  # gray with more than 8 bits
EXIF_ORIENTATION = 0x0112
TIFF_SUBFILE = 254   # TIFF 6.0, NewSubfileType: of its bits,
NOT_A_PAGE = 1 | 4   # a smaller copy of another page, and a mask of one

SHALLOWER = "More than 8 bits a colour, read as 8"
NO_PROFILE = "CMYK without a colour profile, turned into RGB by rule of thumb"

# MAX_PIXELS is checked below, in our own words.
warnings.simplefilter("ignore", Image.DecompressionBombWarning)
warnings.filterwarnings("ignore", category=UserWarning, module=r"(PIL|pillow_heif)\.")  # damaged EXIF data and such


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


def decode_image(data: bytes, max_pixels: int = MAX_PIXELS, frame: int = 0) -> Decoded:
    """Decode one image file; of an animation or several pages, the frame with that number, from 0.

    A file of one frame gives that, whatever its number. Raises BrokenImage with the reason when it cannot be read
    whole, claims more than max_pixels, or lacks the frame.
    """
    with Reel(data, max_pixels) as reel:
        return reel.decode(frame)


def read_header(data: bytes) -> Header:
    """What the start of a file says, without decoding; for most formats the first 64 KiB suffice.

    Raises BrokenImage if it is no image, or if more of it is needed.
    """
    with Reel(data) as reel:
        return reel.header()


class Reel:
    """One image file, opened: its frames can be taken in turn without beginning at the first for each.

    Raises BrokenImage, from everything here, for a file that cannot be read.
    """

    def __init__(self, data: bytes, max_pixels: int = MAX_PIXELS) -> None:
        if not data:
            raise BrokenImage("an empty file")
        if is_heif(data) and not heif_reader():
            raise BrokenImage("HEIC, which needs the package pillow-heif: pip install '.[heic]'")
        if Image.MAX_IMAGE_PIXELS is not None:  # Pillow itself refuses twice as much
            Image.MAX_IMAGE_PIXELS = max(Image.MAX_IMAGE_PIXELS, max_pixels)
        self._max_pixels = max_pixels
        with _reasons(max_pixels, data):
            self._image = Image.open(io.BytesIO(data), formats=readable())
            self._first = self._image.tell()  # the main one; in HEIC it need not be the first

    def header(self) -> Header:
        with _reasons(self._max_pixels):
            width, height = self._image.size
            return Header(_channels(self._image), height, width, self._image.mode in DEEP_MODES)

    def frames(self) -> list[int]:
        """Numbers of the frames that are pictures of their own, without the smaller copies and masks of a TIFF."""
        with _reasons(self._max_pixels):
            image, count = self._image, self._count()
            if image.format != "TIFF":
                return list(range(count))
            numbers = []
            for number in range(count):
                image.seek(number)
                if not int(image.tag_v2.get(TIFF_SUBFILE, 0)) & NOT_A_PAGE:  # type: ignore[attr-defined]
                    numbers.append(number)
            return numbers or [0]

    def decode(self, frame: int = 0) -> Decoded:
        with _reasons(self._max_pixels):
            _check_size(self._image, self._max_pixels)
            if frame and (count := self._count()) > 1:
                if frame >= count:
                    raise BrokenImage(f"has {count} frames, and none with the number {frame} (the first is 0)")
                self._image.seek((self._first + frame) % count)
            elif self._image.tell() != self._first:
                self._image.seek(self._first)
            _check_size(self._image, self._max_pixels)
            return _decode_opened(self._image)

    def _count(self) -> int:
        if self._image.format == "MPO":  # the further frames are depth maps and thumbnails
            return 1
        return min(int(getattr(self._image, "n_frames", 1)), MAX_FRAMES)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._image.close()


@contextlib.contextmanager
def _reasons(most: int, data: bytes = b"") -> Iterator[None]:
    """Whatever Pillow raises (OSError, SyntaxError, ValueError, struct.error, zlib.error and more) as BrokenImage."""
    try:
        yield
    except BrokenImage:
        raise
    except UnidentifiedImageError:
        raise BrokenImage(what_it_is_instead(data)) from None
    except Image.DecompressionBombError:
        raise BrokenImage(f"too large: more than {most / 10 ** 6:g} megapixels") from None
    except Exception as error:
        raise BrokenImage(f"cannot be decoded: {str(error) or type(error).__name__}") from None


def _check_size(image: Image.Image, most: int) -> None:
    width, height = image.size
    if width * height > most:
        raise BrokenImage(f"too large: {width}x{height} is more than {most / 10 ** 6:g} megapixels")


def _decode_opened(image: Image.Image) -> Decoded:
    shallower = _shallower(image)
    image.load()
    mode = image.mode
    orientation = _orientation(image)  # after load(): the TIFF reader has rotated by then, and says so
    stored, profile = _pixels(image)
    pixels = ORIENTATIONS[orientation](stored)
    if pixels.dtype != np.uint8 and not np.isfinite(pixels).all():
        raise BrokenImage("holds values that are not finite")
    remarks = ((SHALLOWER,) if shallower else ()) + ((NO_PROFILE,) if mode == "CMYK" and not profile else ())
    return Decoded(np.ascontiguousarray(pixels), mode, orientation != 1, _animated(image),
                   "JPEG" if image.format == "MPO" else image.format or "", profile, remarks=remarks)


def _shallower(image: Image.Image) -> bool:
    """Whether loading will cut colours to 8 bits; to be asked before. (Gray keeps its bits.)"""
    if image.mode in DEEP_MODES:
        return False
    tiles = getattr(image, "tile", None)
    packed = tiles[0].args if tiles else ""  # such as "RGB;16B", or ("RGB", 65535)
    packed = packed if isinstance(packed, tuple) else (packed,)
    return (any(isinstance(part, str) and ";16" in part for part in packed[:1])
            or (image.format == "PPM" and len(packed) > 1 and packed[1] > 255)
            or image.info.get("bit_depth", 8) > 8)


def _channels(image: Image.Image) -> int:
    """Of what _pixels will give; known before the pixels are."""
    if image.mode in DEEP_MODES:
        return 1
    if image.mode != "CMYK" and image.has_transparency_data:
        return 4
    return 1 if image.mode in ("1", "L") else 3


def _pixels(image: Image.Image) -> tuple[np.ndarray, bool]:
    """[H,W,C] as it lies in the file, and whether a colour profile was applied."""
    if image.mode in DEEP_MODES:
        return np.asarray(image, dtype=np.float32)[:, :, np.newaxis], False
    wanted = {1: "L", 3: "RGB", 4: "RGBA"}[_channels(image)]
    if image.mode != wanted and not (image.mode == "CMYK" and image.info.get("icc_profile")):
        image = _converted(image, wanted)
    managed = _to_srgb(image)
    if managed is not None:
        image = managed
    pixels = np.asarray(image if image.mode != "CMYK" else image.convert("RGB"))
    if wanted == "L":
        pixels = (pixels[:, :, 0] if pixels.ndim == 3 else pixels)[:, :, np.newaxis]
    return pixels, managed is not None


def _converted(image: Image.Image, mode: str) -> Image.Image:
    """In another mode, still with its colour profile."""
    converted = image.convert(mode)
    if profile := image.info.get("icc_profile"):
        converted.info["icc_profile"] = profile
    return converted


def _to_srgb(image: Image.Image) -> Image.Image | None:
    """The image in sRGB (RGB for gray too), or None when it has no usable colour profile or is sRGB already."""
    profile = image.info.get("icc_profile")
    if not profile:
        return None
    transform = _srgb_transform(bytes(profile), image.mode)
    return None if transform is None else ImageCms.applyTransform(image, transform)


@functools.lru_cache(maxsize=16)
def _srgb_transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if "srgb" in ImageCms.getProfileDescription(source).lower():
            return None
        wanted = "RGBA" if mode == "RGBA" else "RGB"
        return ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, wanted)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None  # a damaged profile, or one of another colour space: the pixels are still good


def _orientation(image: Image.Image) -> int:
    try:
        orientation = image.getexif().get(EXIF_ORIENTATION, 1)
    except Exception:  # damaged EXIF data is no reason to lose the picture
        return 1
    return orientation if orientation in ORIENTATIONS else 1


def _animated(image: Image.Image) -> bool:
    if image.format == "MPO":
        return False
    try:
        return bool(getattr(image, "is_animated", False))
    except Exception:  # damage behind the first frame
        return True


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
