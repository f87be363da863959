"""A matrix of shares as a PNG picture: one pixel a number, which a page can read back."""

import base64
import struct
import zlib

import numpy as np

COLOUR = (0x37, 0x80, 0xC8)
"""Seen on light and on dark pages."""


def shares(values_TS: np.ndarray) -> bytes:
    """Pixels of one colour, the more opaque the larger the value in [0, 1]: opacity is round(255 sqrt(value)) / 255.

    The root shows small values, and a value is read back to about 0.004 near 1 and finer near 0.
    """
    T, S = values_TS.shape
    levels_TS = np.round(255 * np.sqrt(np.clip(values_TS, 0, 1))).astype(np.uint8)
    lines = np.concatenate([np.zeros((T, 1), np.uint8), levels_TS], axis=1)  # each line begins with its filter, none
    header = struct.pack(">IIBBBBB", S, T, 8, 3, 0, 0, 0)  # eight bits, a palette
    chunks = [
        (b"IHDR", header),
        (b"PLTE", bytes(COLOUR) * 256),
        (b"tRNS", bytes(range(256))),
        (b"IDAT", zlib.compress(lines.tobytes(), 9)),
        (b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(name, data) for name, data in chunks)


def uri(values_TS: np.ndarray) -> str:
    """`shares` as the source of an image."""
    return "data:image/png;base64," + base64.b64encode(shares(values_TS)).decode()


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
