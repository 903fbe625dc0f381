"""PNG files whose pixels are stored, not compressed: quick to write and read, and the same bytes everywhere.

The blocks are laid out by hand (PNG, ISO/IEC 15948; zlib, RFC 1950; deflate, RFC 1951), so that the bytes do not
depend on the version of a compression library.
"""

import struct
import zlib

import numpy as np

COLOR_TYPES = {1: 0, 3: 2, 4: 6}  # channels -> gray, RGB, RGBA
MAX_STORED = 65535


def encode_png(pixels: np.ndarray) -> bytes:
    """pixels: uint8 [C,H,W] with C = 1, 3 or 4 -> the bytes of a PNG file."""
    assert pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[0] in COLOR_TYPES
    channels, height, width = pixels.shape
    rows = np.zeros((height, 1 + width * channels), np.uint8)  # each row begins with its filter type, 0
    rows[:, 1:].reshape(height, width, channels)[...] = pixels.transpose(1, 2, 0)
    header = struct.pack(">2I5B", width, height, 8, COLOR_TYPES[channels], 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", _stored(rows.tobytes())) + _chunk(b"IEND")


def _chunk(kind: bytes, data: bytes = b"") -> bytes:
    return b"".join((struct.pack(">I", len(data)), kind, data, struct.pack(">I", zlib.crc32(data, zlib.crc32(kind)))))


def _stored(data: bytes) -> bytes:
    """A zlib stream of uncompressed blocks."""
    parts = [b"\x78\x01"]
    for start in range(0, len(data), MAX_STORED):
        block = data[start:start + MAX_STORED]
        parts += [struct.pack("<B2H", start + MAX_STORED >= len(data), len(block), len(block) ^ 0xFFFF), block]
    return b"".join((*parts, struct.pack(">I", zlib.adler32(data))))
