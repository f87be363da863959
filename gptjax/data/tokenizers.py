"""The tokenizers there are to choose from, and reading a saved one."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from gptjax.config import TokenizerConfig
from gptjax.data import libraries, sentencepieces, utf8, words
from gptjax.data.alphabets import ByteCodec, CharacterCodec
from gptjax.data.errors import DataError
from gptjax.data.tokenizer import FORMAT, MANIFEST, Codec, Tokenizer, contents_of
from gptjax.data.words import Words

__all__ = [
    "GPT2BPE",
    "Bytes",
    "Characters",
    "SentencePiece",
    "SentencePieceFile",
    "Tokenizer",
    "TokenizerFile",
    "Words",
    "load",
]

Texts = Callable[[], Iterator[str]]
"""Reads the text that a tokenizer learns from, from its start."""


class _Choice(TokenizerConfig):
    def _with(self, codec: Codec) -> Tokenizer:
        return Tokenizer(codec, self.bos, self.eos, self.pad_vocab_multiple)


@dataclass(frozen=True)
class Bytes(_Choice):
    """The 256 bytes of UTF-8; any text, nothing to learn."""

    def build(self, documents: Texts) -> Tokenizer:
        """The tokenizer; `documents` is not read."""
        return self._with(ByteCodec())


@dataclass(frozen=True)
class Characters(_Choice):
    """The characters of the text, held-out text included, in the order of their code points; no others."""

    LEARNS_FROM = ("train", "validation")

    def build(self, documents: Texts) -> Tokenizer:
        """The tokenizer of every character in `documents()`; raises `DataError` where there is none."""
        return self._with(CharacterCodec.learn(documents()))


@dataclass(frozen=True)
class SentencePiece(_Choice):
    """A sentencepiece model learnt from the training text; loses nothing of any text."""

    vocab_size: int = 4096
    """Ids in all, with the 256 bytes, the unknown piece, bos and eos."""
    algorithm: Literal["bpe", "unigram"] = "bpe"
    """Byte-pair merges, or the unigram language model (about twenty times slower to learn)."""
    split_digits: bool = True
    """Every digit is a token by itself."""
    max_training_bytes: int = 10_000_000
    """Learn from at most this many bytes, drawn from all over the text by hash."""

    def check(self) -> None:
        super().check()
        self.require(self.vocab_size > 259, f"vocab_size={self.vocab_size} has no room beside 256 bytes and 3 symbols")
        self.require(self.max_training_bytes > 0, f"max_training_bytes={self.max_training_bytes} must be positive")

    def build(self, documents: Texts) -> Tokenizer:
        """The tokenizer; raises `ConfigError` where the text cannot fill, or does not fit, the vocabulary."""
        size, limit = self.vocab_size, self.max_training_bytes
        codec = sentencepieces.train(
            documents(), size, self.algorithm, self.split_digits, limit, bos=self.bos, eos=self.eos
        )
        return self._with(codec)


@dataclass(frozen=True, kw_only=True)
class SentencePieceFile(_Choice):
    """A sentencepiece model as it is; what its normalisation loses of a text is lost."""

    path: str
    """The .model file."""

    def build(self, documents: Texts) -> Tokenizer:
        """The tokenizer; `documents` is not read. Raises `DataError` where the file is no model."""
        return self._with(sentencepieces.read(_content(self.path), lossless=False, origin=self.path))


@dataclass(frozen=True, kw_only=True)
class GPT2BPE(_Choice):
    """GPT-2's byte-level byte-pair encoding; <|endoftext|> of its vocabulary is the end of text."""

    folder: str
    """Holds encoder.json and vocab.bpe (OpenAI's names) or vocab.json and merges.txt (Hugging Face's)."""

    def build(self, documents: Texts) -> Tokenizer:
        """The tokenizer; `documents` is not read. Raises `DataError` where a file is missing or wrong."""
        folder = Path(self.folder)
        names = ("vocab.json", "merges.txt") if (folder / "vocab.json").exists() else ("encoder.json", "vocab.bpe")
        vocabulary, merges = (_content(folder / name) for name in names)
        return self._with(libraries.gpt2(vocabulary, merges, self.folder))


@dataclass(frozen=True, kw_only=True)
class TokenizerFile(_Choice):
    """A tokenizer.json of the tokenizers library; what its normalisation loses of a text is lost."""

    path: str
    """The tokenizer.json file."""
    bos_token: str | None = None
    """The text of its token for the beginning of a document; None adds one behind the vocabulary where bos is on."""
    eos_token: str | None = None
    """The text of its token for the end of a document; None adds one behind the vocabulary where eos is on."""

    def build(self, documents: Texts) -> Tokenizer:
        """The tokenizer; `documents` is not read. Raises `DataError` where the file is none."""
        return self._with(libraries.from_json(_content(self.path), self.bos_token, self.eos_token, self.path))


def _content(path: str | Path) -> bytes:
    with utf8.opened(Path(path)) as file:
        return file.read()


def load(folder: Path) -> Tokenizer:
    """The tokenizer that `save` wrote; raises `DataError` where it is missing, or is not what its hash says."""
    origin = str(folder)
    contents = contents_of(folder)
    if MANIFEST not in contents:
        raise DataError(f"{folder}: no tokenizer there ({MANIFEST} is missing)")
    try:
        manifest = json.loads(contents.pop(MANIFEST))
        codec = _read(manifest["kind"], contents, origin)
        tokenizer = Tokenizer(codec, manifest["bos"], manifest["eos"], manifest["pad_vocab_multiple"])
        whole = manifest["format"] == FORMAT and tokenizer.hash == manifest["hash"]
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{folder}: the tokenizer is damaged ({error}); restore the folder") from None
    if not whole:
        raise DataError(f"{folder}: the tokenizer is not what its hash says; restore the folder")
    return tokenizer


def _read(kind: str, files: dict[str, bytes], origin: str) -> Codec:
    if kind == "bytes":
        return ByteCodec()
    if kind == "characters":
        return CharacterCodec(np.array(json.loads(files["alphabet.json"]), np.uint32))
    if kind == "words":
        return words.read(files["words.json"])
    if kind == "gpt2":
        return libraries.gpt2(files["encoder.json"], files["vocab.bpe"], origin)
    if kind == "tokenizer.json":
        bos, eos = json.loads(files["specials.json"])
        return libraries.from_json(files["tokenizer.json"], bos, eos, origin)
    return sentencepieces.read(files["sentencepiece.model"], kind == "sentencepiece", origin)
