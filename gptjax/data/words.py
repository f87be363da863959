"""Tokens that are whole words: what stands between white space."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np

from gptjax.config import ConfigError, TokenizerConfig
from gptjax.data.errors import DataError
from gptjax.data.tokenizer import Tokenizer

UNKNOWN, LINE_END = "<unk>", "<eos>"
"""How word-level corpora write a word outside the vocabulary, and a line's end; a text may hold them as words."""


@dataclass(frozen=True, eq=False)
class WordCodec:
    """Ids are places in a list of words; id 0 stands for every word that is not in it."""

    words: tuple[str, ...]
    """[V] spellings, UNKNOWN first."""
    lowercase: bool
    """Text is read in lower case."""
    line_ends: bool
    """A line's end is the word LINE_END; otherwise it is white space."""
    kind = "words"
    bos = None
    eos = None
    unknown = 0
    specials: ClassVar[Mapping[str, int]] = {}

    @property
    def size(self) -> int:
        """Words, the unknown one among them."""
        return len(self.words)

    def encode_batch(self, texts: list[str]) -> list[np.ndarray]:
        """The ids of each text's words."""
        return [self._encode(text) for text in texts]

    def decode(self, ids: np.ndarray) -> str:
        """The words with single spaces between them; how much white space there was is lost."""
        return "".join(self.pieces(ids))

    def pieces(self, ids: np.ndarray) -> list[str]:
        """Each word with the space before it, if it has one; a line's end is one."""
        found, starts = [], True
        for id in ids.tolist():
            ends = self.line_ends and self.words[id] == LINE_END
            found.append("\n" if ends else self.words[id] if starts else " " + self.words[id])
            starts = ends
        return found

    def files(self) -> dict[str, bytes]:
        """The words in order, and how text is read, as JSON."""
        content = {"lowercase": self.lowercase, "line_ends": self.line_ends, "words": self.words}
        return {"words.json": json.dumps(content, ensure_ascii=False).encode()}

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {word: id for id, word in enumerate(self.words)}

    def _encode(self, text: str) -> np.ndarray:
        find = self._ids.get
        return np.array([find(word, 0) for word in split(text, self.lowercase, self.line_ends)], np.int32)


@dataclass(frozen=True)
class Words(TokenizerConfig):
    """Words between white space, learnt from the training text; all others are <unk>, which is counted and said.

    WikiText-2 as it is published, 33,278 words: eos off (its line ends are its ends) and the rest as it is here.
    """

    min_count: int = 1
    """Words that the training text holds fewer times than this are unknown."""
    vocab_size: int | None = None
    """Most ids in all, <unk> and <eos> among them: the most frequent words stay; None keeps all."""
    lowercase: bool = False
    """Read all text in lower case."""
    line_ends: bool = True
    """The end of a line is the word <eos>; otherwise it is white space like any other."""

    def check(self) -> None:
        super().check()
        self.require(self.min_count > 0, f"min_count={self.min_count} must be positive")
        least = 2 + self.line_ends
        self.require(
            self.vocab_size is None or self.vocab_size >= least,
            f"vocab_size={self.vocab_size} has no room for a word beside <unk> and <eos>; {least} is the least",
        )

    def build(self, documents: Callable[[], Iterator[str]]) -> Tokenizer:
        """The tokenizer: <unk>, <eos> where lines end in it, then words by falling count, equal ones by spelling.

        Raises `DataError` where `documents()` has no word, `ConfigError` where none is as frequent as min_count.
        """
        counts = count(documents(), self.lowercase, self.line_ends)
        first = (UNKNOWN, LINE_END) if self.line_ends else (UNKNOWN,)
        for word in first:
            counts.pop(word, None)
        if not counts:
            raise DataError("no text to learn words from; name a corpus with text in it")
        kept = sorted((-times, word) for word, times in counts.items() if times >= self.min_count)
        if not kept:
            raise ConfigError(
                f"min_count={self.min_count}: no word is so frequent, the most frequent has {max(counts.values()):,}"
            )
        words = [word for _, word in kept][: None if self.vocab_size is None else self.vocab_size - len(first)]
        codec = WordCodec((*first, *words), self.lowercase, self.line_ends)
        return Tokenizer(codec, self.bos, self.eos, self.pad_vocab_multiple)


def count(texts: Iterable[str], lowercase: bool, line_ends: bool) -> Counter[str]:
    """How often each word is in these texts."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(split(text, lowercase, line_ends))
    return counts


def split(text: str, lowercase: bool, line_ends: bool) -> list[str]:
    """The words of a text in order; with `line_ends` each line feed is LINE_END."""
    text = text.lower() if lowercase else text
    return (text.replace("\n", f" {LINE_END} ") if line_ends else text).split()


def read(content: bytes) -> WordCodec:
    """The codec of a saved `words.json`; raises `KeyError`, `TypeError` or `ValueError` where it is none."""
    saved = json.loads(content)
    return WordCodec(tuple(saved["words"]), saved["lowercase"], saved["line_ends"])
