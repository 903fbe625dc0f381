"""PNG files: with stored pixels, quick to write and read and the same bytes everywhere, or compressed.

Stored blocks are laid out by hand (PNG, ISO/IEC 15948; zlib, RFC 1950; deflate, RFC 1951), so that the bytes do not
depend on the version of a compression library; compressed ones do.
"""

import struct
import zlib

import numpy as np

COLOR_TYPES = {1: 0, 3: 2, 4: 6}  # channels -> gray, RGB, RGBA
SIGNATURE = b"\x89PNG\r\n\x1a\n"
END = b"\0\0\0\0IEND\xae\x42\x60\x82"
MAX_STORED = 65535  # bytes in a block
BLOCK_HEADER = 5
TRIED_ROWS = 64  # on which row filters are tried


def encode_png(pixels: np.ndarray, level: int = 0) -> bytes:
    """pixels: uint8 [C,H,W] with C = 1, 3 or 4 -> the bytes of a PNG file.

    Quickest where the pixels are a view of [H,W,C]. level: 0 stores them, 1 to 9 compress ever harder.
    """
    assert pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[0] in COLOR_TYPES and 0 <= level <= 9
    channels, height, width = pixels.shape
    header = _chunk(b"IHDR", struct.pack(">2I5B", width, height, 8, COLOR_TYPES[channels], 0, 0, 0))
    rows = np.empty((height, 1 + width * channels), np.uint8)  # each begins with the number of its filter
    rows[:, 0] = 0
    by_pixel = rows[:, 1:].reshape(height, width, channels)
    if pixels.flags.c_contiguous:
        for channel in range(channels):  # three times as quick as all at once
            by_pixel[:, :, channel] = pixels[channel]
    else:
        by_pixel[...] = pixels.transpose(1, 2, 0)
    if level == 0:
        return _stored(SIGNATURE + header, rows.reshape(-1))
    return b"".join((SIGNATURE, header, _chunk(b"IDAT", _compressed(rows, channels, level)), END))


def _chunk(kind: bytes, data: bytes) -> bytes:
    return b"".join((struct.pack(">I", len(data)), kind, data, struct.pack(">I", zlib.crc32(data, zlib.crc32(kind)))))


def _stored(start: bytes, data: np.ndarray) -> bytes:
    """`start`, then one chunk with a zlib stream of uncompressed blocks of uint8 [N], then the end of the file."""
    blocks = -(-len(data) // MAX_STORED)
    size = 2 + len(data) + blocks * BLOCK_HEADER + 4
    begin = len(start) + 8
    file = bytearray(begin + size + 4 + len(END))
    view = memoryview(file)
    view[:begin + 2] = start + struct.pack(">I4s2s", size, b"IDAT", b"\x78\x01")
    bytes_of = memoryview(data)  # type: ignore[arg-type]
    at = begin + 2
    for first in range(0, len(data), MAX_STORED):
        block = bytes_of[first:first + MAX_STORED]
        struct.pack_into("<B2H", file, at, first + MAX_STORED >= len(data), len(block), len(block) ^ 0xFFFF)
        view[at + BLOCK_HEADER:at + BLOCK_HEADER + len(block)] = block
        at += BLOCK_HEADER + len(block)
    struct.pack_into(">I", file, at, zlib.adler32(bytes_of))
    struct.pack_into(">I", file, at + 4, zlib.crc32(view[begin - 4:at + 4]))
    view[at + 8:] = END
    return bytes(file)


def _compressed(rows: np.ndarray, channels: int, level: int) -> bytes:
    """Rows as they are, or each with the filter that leaves the smallest differences: what a part in the middle says.

    rows: uint8 [H,1+W*C], each beginning with a 0. Pictures of few flat colours are often smaller without.
    """
    start = max(0, (len(rows) - TRIED_ROWS) // 2)
    part = rows[start:start + TRIED_ROWS]
    plain, filtered = (len(_deflated(*tried, 1)) for tried in ((part, False), (_filtered(part, channels), True)))
    return _deflated(rows, False, level) if plain <= filtered else _deflated(_filtered(rows, channels), True, level)


def _deflated(rows: np.ndarray, filtered: bool, level: int) -> bytes:
    strategy = zlib.Z_FILTERED if filtered else zlib.Z_DEFAULT_STRATEGY  # differences seldom repeat, flat colours do
    stream = zlib.compressobj(level, zlib.DEFLATED, zlib.MAX_WBITS, 9, strategy)
    return stream.compress(rows.tobytes()) + stream.flush()


def _filtered(rows: np.ndarray, channels: int) -> np.ndarray:
    """Each row as its differences from one of PNG's five predictions, the one with the smallest sum."""
    x = rows[:, 1:].astype(np.int16)
    left, above, corner = np.zeros_like(x), np.zeros_like(x), np.zeros_like(x)
    left[:, channels:] = x[:, :-channels]
    above[1:] = x[:-1]
    corner[1:, channels:] = x[:-1, :-channels]
    guesses = (np.zeros_like(x), left, above, (left + above) >> 1, _paeth(left, above, corner))
    differences = np.stack([(x - guess).astype(np.uint8) for guess in guesses])  # [5HW]
    sizes = np.abs(differences.view(np.int8).astype(np.int16)).sum(2, dtype=np.int64)
    best = sizes.argmin(0)
    return np.concatenate([best[:, None].astype(np.uint8), differences[best, np.arange(len(rows))]], 1)


def _paeth(left: np.ndarray, above: np.ndarray, corner: np.ndarray) -> np.ndarray:
    """The neighbour nearest to left + above - corner; of equals the first in this order (PNG, 9.4)."""
    to_left, to_above, to_corner = abs(above - corner), abs(left - corner), abs(left + above - 2 * corner)
    return np.where((to_left <= to_above) & (to_left <= to_corner), left,
                    np.where(to_above <= to_corner, above, corner))
