"""How often the units of a judged text occur in what a run was trained on.

The tokens are read from the store that training left in the cache, so that nothing is tokenized again for a table; the
words from the run's own corpora. Both are believed only where they are what the run remembers of its data.
"""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gptjax import config, counted, trained
from gptjax.config import Data
from gptjax.data import corpora, store
from gptjax.data.errors import DataError
from gptjax.data.tokenizer import Tokenizer
from gptjax.interop import origin
from gptjax.objectives.causal import Causal
from gptjax.train.folder import FolderError, remembered
from gptjax.types import TokenSplit

AT_ONCE = 1 << 24
"""Tokens of a store that are counted at a time; they become integers of 8 bytes."""


class Unknown(Exception):
    """Why the text that a run was trained on cannot be told; the message is one line."""


class Training(NamedTuple):
    """The text that a run itself was trained on, every document once; not what its --init had read before."""

    data: Data
    parts: Sequence[TokenSplit]
    """As tokens, corpus by corpus."""
    vocab_size: int
    key: str
    """Equal for the same files, cut alike, whatever the tokenizer."""
    sums: tuple[str, ...]
    """SHA-256 of the tokens, corpus by corpus: equal for the same text under one tokenizer, wherever its files lie."""

    def of_tokens(self, ids_U: np.ndarray) -> np.ndarray:
        """How often each of these ids occurs: counts_U."""
        counts_V = np.zeros(self.vocab_size, np.int64)
        for part in self.parts:
            for first in range(0, len(part.tokens), AT_ONCE):
                counts_V += np.bincount(part.tokens[first : first + AT_ONCE], minlength=self.vocab_size)
        return counts_V[ids_U]

    def of_words(self, words_U: Sequence[str]) -> np.ndarray:
        """How often each of these occurs between white space: counts_U. What is empty stands for no word, and is 0."""
        counts, wanted = Counter[str](), set(words_U)
        for words in _words(self.data):
            counts.update(filter(wanted.__contains__, words))
        return np.array([counts[word] for word in words_U], np.int64)


def training(folder: Path, tokenizer: Tokenizer, cache: Path) -> Training:
    """What the run of a folder was trained on, where that is there and unchanged; else raises `Unknown`."""
    if origin.foreign(folder):
        raise Unknown("a Hugging Face folder does not say what it was trained on")
    data, home = _recalled(folder)
    if not (home / "data.json").is_file():
        raise Unknown("the run folder does not say what was read")
    try:
        found = store.built(data, tokenizer, cache)
        before = remembered(home / "data.json", "identity")
    except (DataError, FolderError, OSError) as error:
        raise Unknown(str(error)) from None
    if found is None:
        raise Unknown(f"no store of its tokens is in {cache}, or its files have changed since; --cache names another")
    if found.identity != before:
        raise Unknown("its source now gives other text than the run began with")
    made = found.manifest["origin"]
    cut = [made["split"], made["validation_fraction"]] if made["split"] and made["validation_fraction"] else None
    key = json.dumps([made["corpora"], cut])
    sums = tuple(part["tokens_sha256"] for part in found.manifest["splits"]["train"])
    return Training(data, found.splits["train"], tokenizer.vocab_size, key, sums)


def _recalled(folder: Path) -> tuple[Data, Path]:
    """(what a run reads, its folder)."""
    if counted.holds(folder):
        found = config.read(folder / "config.json")
        assert isinstance(found, counted.Counting)
        return found.data, folder
    run, _, home = trained.recall(folder)
    learnt = run.objective.plain()
    if not isinstance(learnt, Causal):
        raise Unknown(f"it learnt {type(learnt).__name__}, not the next token of running text")
    return run.data, home


def _words(data: Data) -> Iterator[list[str]]:
    """The words of the training text, some at a time; one that goes on in the next part of a document is whole."""
    begun = ""
    for _, piece in corpora.splits(data)["train"]():
        text = begun + piece.text
        words, begun = text.split(), ""
        if not piece.ends and words and not text[-1].isspace():
            begun = words.pop()
        yield words
