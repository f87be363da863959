"""Sentencepiece models: trained here so that nothing of a text is lost, or read from a file as they are.

A model trained here normalises nothing, adds no space, keeps white space and line ends, and spells unknown characters
in bytes, so that `decode(encode(text)) == text` for every text that UTF-8 can spell. Sentencepiece writes a space as
U+2581 and cannot tell it from that character itself, which is escaped here (with U+E000, which is escaped in turn).
"""

import hashlib
import heapq
import io
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import sentencepiece

from gptjax.config import ConfigError
from gptjax.data import cuts, utf8
from gptjax.data.errors import DataError

SPACE, ESCAPE = "\u2581", "\ue000"
CUT_CHARACTERS = 4096
"""Longer texts are encoded in parts of this size, four times as fast and on any number of threads. The tokens are the
same; unigram may choose otherwise between spellings whose sums of scores differ by rounding alone."""
_MODEL = "sentencepiece.model"


@dataclass(frozen=True, eq=False)
class SentencePieceCodec:
    """A sentencepiece model; `lossless` if it was trained here."""

    model: bytes
    """The model as the library writes it."""
    processor: sentencepiece.SentencePieceProcessor
    """The library's own object."""
    lossless: bool
    """It was trained here."""

    @property
    def kind(self) -> str:
        """Whether texts are escaped is part of the kind."""
        return "sentencepiece" if self.lossless else "sentencepiece-file"

    @property
    def size(self) -> int:
        """Pieces of the model, its control symbols included."""
        return self.processor.vocab_size()

    @property
    def bos(self) -> int | None:
        """The model's own id of a beginning of text, if it has one."""
        return self.processor.bos_id() if self.processor.bos_id() >= 0 else None

    @property
    def eos(self) -> int | None:
        """The model's own id of an end of text, if it has one."""
        return self.processor.eos_id() if self.processor.eos_id() >= 0 else None

    @property
    def unknown(self) -> int | None:
        """The unknown piece; a model trained here spells everything in bytes and never needs it."""
        return None if self.lossless else self.processor.unk_id()

    @property
    def specials(self) -> dict[str, int]:
        """Its control symbols."""
        ids = filter(self.processor.is_control, range(self.size))
        return {self.processor.id_to_piece(id): id for id in ids}

    def encode_batch(self, texts: list[str]) -> list[np.ndarray]:
        """The pieces of each text, on all cores."""
        if not self.lossless:
            return [np.array(ids, np.int32) for ids in self._encode(texts)]
        parts = [cuts.cut(_escape(text), CUT_CHARACTERS) for text in texts]
        encoded = iter(self._encode([part for of_text in parts for part in of_text]))
        nothing = np.zeros(0, np.int32)
        return [np.concatenate([nothing, *(np.array(next(encoded), np.int32) for _ in of_text)]) for of_text in parts]

    def decode(self, ids: np.ndarray) -> str:
        """The text; bytes that are not UTF-8 show as U+FFFD."""
        if not self.lossless:
            return self.processor.decode(ids.tolist())
        return _unescape(b"".join(self._spelling[id] for id in ids.tolist()).decode("utf-8", "replace"))

    def pieces(self, ids: np.ndarray) -> list[str]:
        """What each piece adds to the text; nothing for control symbols and while a character is unfinished."""
        return [_unescape(text) for text in utf8.pieces(self._spelling[id] for id in ids.tolist())]

    def files(self) -> dict[str, bytes]:
        """The model as the library reads it."""
        return {_MODEL: self.model}

    def _encode(self, texts: list[str]) -> list[list[int]]:
        return self.processor.encode(texts, out_type=int, num_threads=os.cpu_count() or 1) if texts else []

    @cached_property
    def _spelling(self) -> list[bytes]:
        """The bytes of every id."""

        def spelling(id: int) -> bytes:
            piece = self.processor.id_to_piece(id)
            if self.processor.is_byte(id):
                return bytes([int(piece[3:5], 16)])  # "<0x0A>"
            silent = self.processor.is_control(id) or self.processor.is_unknown(id)
            return b"" if silent else piece.replace(SPACE, " ").encode()

        return [spelling(id) for id in range(self.size)]


def read(model: bytes, lossless: bool, origin: str) -> SentencePieceCodec:
    """The codec of a model's bytes; raises `DataError` naming `origin` where they are no model."""
    try:
        return SentencePieceCodec(model, sentencepiece.SentencePieceProcessor(model_proto=model), lossless)
    except (RuntimeError, OSError, ValueError):
        raise DataError(f"{origin}: not a sentencepiece model") from None


def train(
    texts: Iterable[str], vocab_size: int, algorithm: str, split_digits: bool, max_bytes: int, bos: bool, eos: bool
) -> SentencePieceCodec:
    """A model of `vocab_size` ids: the unknown piece, bos and eos where asked for, 256 bytes, and what it learns.

    Depends on the texts and the arguments alone, not on the machine. Raises `ConfigError` where the vocabulary is too
    small or too large for the text.
    """
    sentences = sample(texts, max_bytes)
    if not sentences:
        raise DataError("no text to train a tokenizer on; name a corpus with text in it")
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(sentences),
            model_writer=model,
            vocab_size=vocab_size,
            model_type=algorithm,
            split_digits=split_digits,
            normalization_rule_name="identity",
            add_dummy_prefix=False,
            remove_extra_whitespaces=False,
            allow_whitespace_only_pieces=True,
            byte_fallback=True,
            unk_id=0,
            bos_id=1 if bos else -1,
            eos_id=1 + bos if eos else -1,
            pad_id=-1,
            max_sentence_length=1 << 20,
            num_threads=16,  # written into the model, and the order of unigram's sums: not the machine's number
            minloglevel=2,
        )
    except RuntimeError as error:
        reason = re.search(r"Vocabulary size.*", str(error))
        raise ConfigError(f"vocab_size={vocab_size}: {reason.group() if reason else error}") from None
    return read(model.getvalue(), lossless=True, origin="trained model")


def sample(texts: Iterable[str], max_bytes: int) -> list[str]:
    """At most `max_bytes` of the texts in short parts, from all over them: those whose hashes are smallest.

    One pass, and memory for what is kept. NUL is left out, which the trainer takes for its own.
    """
    heap: list[tuple[int, int, str]] = []
    held = number = 0
    for text in texts:
        for part in cuts.cut(_escape(text).replace("\0", ""), CUT_CHARACTERS):
            data = part.encode()
            draw = int.from_bytes(hashlib.sha256(data).digest()[:8], "big")
            heapq.heappush(heap, (-draw, number, part))
            held, number = held + len(data), number + 1
            while held > max_bytes:
                held -= len(heapq.heappop(heap)[2].encode())
    return [part for _, _, part in sorted(heap, key=lambda item: item[1])]


def _escape(text: str) -> str:
    return text.replace(ESCAPE, ESCAPE + "0").replace(SPACE, ESCAPE + "1")


def _unescape(text: str) -> str:
    if ESCAPE not in text:
        return text
    return re.sub(f"{ESCAPE}([01])", lambda match: (ESCAPE, SPACE)[int(match[1])], text)
