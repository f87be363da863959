"""The size of a run's vocabulary, without its text."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NoReturn

import numpy as np

from gptjax.config import ConfigError, Run
from gptjax.data.tokenizer import Tokenizer
from gptjax.data.tokenizers import GPT2BPE, SentencePiece
from gptjax.interop import origin

GPT2_SIZE = 50_257


class _NeedsText(Exception):
    """A tokenizer asked for the text that it learns from."""


@dataclass(frozen=True)
class Sized:
    """A codec of which only the size is known; the ends of documents are among its ids."""

    size: int
    kind: str = "sized"
    bos: int = 0
    eos: int = 0
    unknown: int | None = None
    specials: ClassVar[Mapping[str, int]] = {}

    def encode_batch(self, texts: list[str]) -> list[np.ndarray]:
        """It spells nothing."""
        _refuse()

    def decode(self, ids: np.ndarray) -> str:
        """It spells nothing."""
        _refuse()

    def pieces(self, ids: np.ndarray) -> list[str]:
        """It spells nothing."""
        _refuse()

    def files(self) -> dict[str, bytes]:
        """There is nothing to keep."""
        _refuse()


def _refuse() -> NoReturn:
    raise NotImplementedError("only the size of this vocabulary is known")


def tokenizer(run: Run, size: int | None) -> tuple[Tokenizer, str]:
    """(a tokenizer as large as the run's, where its size is from); `size`, if given, is its ids without padding.

    Nothing is learnt from text: where a vocabulary is the text's own (characters) its size must be given, and
    `ConfigError` says so.
    """
    config = run.tokenizer

    def sized(ids: int) -> Tokenizer:
        return Tokenizer(Sized(ids), config.bos, config.eos, config.pad_vocab_multiple)

    if size is not None:
        return sized(size), "--vocab-size"
    if run.init is not None:
        return origin.recall(Path(run.init), "--init")[1], f"the tokenizer of --init {run.init}"
    if isinstance(config, SentencePiece):
        return sized(config.vocab_size), "tokenizer.vocab_size, which training will fill"
    if isinstance(config, GPT2BPE) and not Path(config.folder).exists():
        return sized(GPT2_SIZE), f"GPT-2's published vocabulary; there is no folder {config.folder} here to read"
    try:
        return config.build(_no_text), "the tokenizer itself"
    except _NeedsText:
        name = type(config).__name__
        why = "its vocabulary is its text's, which plan does not read"
        raise ConfigError(f"tokenizer {name}: {why}; add --vocab-size N") from None


def _no_text() -> Iterator[Any]:
    raise _NeedsText
