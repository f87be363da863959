"""Tokens that are single bytes, or single characters."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np

from gptjax.data import utf8
from gptjax.data.errors import DataError

CODE_POINTS = 0x110000
"""Unicode has this many."""


@dataclass(frozen=True, eq=False)
class ByteCodec:
    """Ids are the bytes of the text's UTF-8."""

    kind = "bytes"
    size = 256
    bos = None
    eos = None
    unknown = None
    specials: ClassVar[Mapping[str, int]] = {}

    def encode_batch(self, texts: list[str]) -> list[np.ndarray]:
        """The bytes of each text."""
        return [np.frombuffer(text.encode(), np.uint8).astype(np.int32) for text in texts]

    def decode(self, ids: np.ndarray) -> str:
        """The text; bytes that are not UTF-8 show as U+FFFD."""
        return ids.astype(np.uint8).tobytes().decode("utf-8", "replace")

    def pieces(self, ids: np.ndarray) -> list[str]:
        """What each byte adds to the text."""
        return utf8.pieces(bytes([byte]) for byte in ids.tolist())

    def files(self) -> dict[str, bytes]:
        """Nothing: bytes are bytes."""
        return {}


@dataclass(frozen=True, eq=False)
class CharacterCodec:
    """Ids are places in a sorted alphabet."""

    alphabet_V: np.ndarray
    """[V] uint32 code points, ascending."""
    kind = "characters"
    bos = None
    eos = None
    unknown = None
    specials: ClassVar[Mapping[str, int]] = {}

    @classmethod
    def learn(cls, texts: Iterable[str]) -> "CharacterCodec":
        """The alphabet of these texts; raises `DataError` where they are empty."""
        seen = np.zeros(CODE_POINTS, bool)
        for text in texts:
            seen[_code_points(text)] = True
        if not seen.any():
            raise DataError("no text to learn an alphabet from; name a corpus with text in it")
        return cls(np.flatnonzero(seen).astype(np.uint32))

    @property
    def size(self) -> int:
        """Characters of the alphabet."""
        return len(self.alphabet_V)

    def encode_batch(self, texts: list[str]) -> list[np.ndarray]:
        """The places of each text's characters; raises `DataError` that names one outside the alphabet."""
        return [self._known(self._ids[_code_points(text)], text) for text in texts]

    def decode(self, ids: np.ndarray) -> str:
        """The characters."""
        return self.alphabet_V[ids].astype("<u4").tobytes().decode("utf-32-le")

    def pieces(self, ids: np.ndarray) -> list[str]:
        """The character of each id."""
        return list(self.decode(ids))

    def files(self) -> dict[str, bytes]:
        """The code points as JSON."""
        return {"alphabet.json": json.dumps(self.alphabet_V.tolist()).encode()}

    @cached_property
    def _ids(self) -> np.ndarray:
        """The id of every code point, -1 where it has none."""
        ids = np.full(CODE_POINTS, -1, np.int32)
        ids[self.alphabet_V] = np.arange(self.size, dtype=np.int32)
        return ids

    def _known(self, ids: np.ndarray, text: str) -> np.ndarray:
        if ids.size and ids.min() < 0:
            place = int(np.argmax(ids < 0))
            character, near = text[place], text[max(0, place - 20) : place + 20]
            raise DataError(
                f"character {character!r} (U+{ord(character):04X}) at offset {place} of a text (near {near!r}) is not "
                f"in the tokenizer's alphabet of {self.size}; learn it from text that has it, or take tokenizer Bytes"
            )
        return ids


def _code_points(text: str) -> np.ndarray:
    return np.frombuffer(text.encode("utf-32-le"), "<u4")
