"""Pixels -> the bytes of an image file of an archive, without loss."""

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image

from stylegan2_pipeline.png import encode_png
from torch_utils.errors import UserError

ENDINGS = {"png": ".png", "webp": ".webp"}
WEBP_SIDE = 16383
ALPHA_IS_USED = 0x10  # in byte 4 of a VP8L stream (RFC 9649, 3.4): bit 28 after the two sides


@dataclass(frozen=True)
class Encoding:
    """How images of an archive are written. format: png or webp; level: 0 stores PNG files and makes the quickest
    WebP, 9 the smallest of each."""

    format: str = "png"
    level: int = 0


def encode(pixels: np.ndarray, encoding: Encoding = Encoding()) -> bytes:
    """pixels: uint8 [C,H,W] with C = 1, 3 or 4 (see check_encoding) -> a file that decode_image reads as they are."""
    if encoding.format == "webp":
        return encode_webp(pixels, encoding.level)
    return encode_png(pixels, encoding.level)


def ending(encoding: Encoding) -> str:
    """Of the names of its files, with the dot."""
    return ENDINGS[encoding.format]


def check_encoding(encoding: Encoding, channels: int, width: int, height: int, flag: str = "--format") -> None:
    """Raise UserError, naming the flag, unless images of this kind come back from their files as they are."""
    if encoding.format != "webp":
        return
    if channels == 1:
        raise UserError(f"{flag}=webp: WebP has no gray images, they would come back with three channels. Choose "
                        f"{flag}=png, which is about as small for gray with --compress=9, or --channels=3.")
    if max(width, height) > WEBP_SIDE:
        raise UserError(f"{flag}=webp: the sides of WebP images end at {WEBP_SIDE}, and these are {width}x{height}. "
                        f"Choose {flag}=png.")


def encode_webp(pixels: np.ndarray, level: int = 0) -> bytes:
    """pixels: uint8 [C,H,W] with C = 3 or 4 -> the bytes of a lossless WebP file; colours under alpha 0 stay.

    Level 9 ends below the encoder's last step, which takes ten times as long for nothing that can be seen in the size.
    """
    assert pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[0] in (3, 4) and 0 <= level <= 9
    stream = io.BytesIO()
    picture = Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0)))
    picture.save(stream, "WEBP", lossless=True, exact=True, quality=level * 10, method=level * 6 // 9)
    data = bytearray(stream.getvalue())
    if len(pixels) == 4 and data[12:16] == b"VP8L":
        data[24] |= ALPHA_IS_USED  # else an image that is opaque everywhere would be read as RGB, unlike its set
    return bytes(data)
