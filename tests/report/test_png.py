"""Claims about shares as pixels."""

import struct
import zlib

import numpy as np
import pytest

from gptjax.report.png import COLOUR, shares


def read(data):
    """{name: content} of the chunks, their sums checked."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    found, at = {}, 8
    while at < len(data):
        (size,) = struct.unpack(">I", data[at : at + 4])
        name, content = data[at + 4 : at + 8], data[at + 8 : at + 8 + size]
        assert struct.unpack(">I", data[at + 8 + size : at + 12 + size]) == (zlib.crc32(name + content),)
        found[name], at = content, at + 12 + size
    return found


@pytest.mark.parametrize("shape", [(5, 5), (1, 1), (3, 7)])
def test_a_page_can_read_every_share_back(shape):
    values_TS = np.random.default_rng(0).uniform(size=shape) ** 4
    values_TS[0, 0] = 1.0
    found = read(shares(values_TS))
    T, S = shape
    assert found[b"IHDR"] == struct.pack(">IIBBBBB", S, T, 8, 3, 0, 0, 0)
    lines = np.frombuffer(zlib.decompress(found[b"IDAT"]), np.uint8).reshape(T, S + 1)
    assert not lines[:, 0].any()
    opacity = np.frombuffer(found[b"tRNS"], np.uint8)[lines[:, 1:]]
    np.testing.assert_allclose((opacity / 255) ** 2, values_TS, atol=0.004)
    assert found[b"PLTE"] == bytes(COLOUR) * 256
    assert (opacity[values_TS == 1] == 255).all()
