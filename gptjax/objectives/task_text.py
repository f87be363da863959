"""GPT-1's input transformations: every task becomes token sequences that one decoder reads.

Axes beside the alphabet's: E examples, W ways of writing one example (both orders of a pair, one for each choice).
(Radford et al. 2018, "Improving Language Understanding by Generative Pre-Training", section 3.3.)
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gptjax.types import Array, RowSource

ROUND_TOKENS = 8
"""Rows are padded to a multiple of this, so that adding a few examples does not change compiled shapes."""


class TaskBatch(NamedTuple):
    """Examples of a task; every leaf has a leading B."""

    tokens: Array
    """[B, W, T] int32, padded on the right with 0, which no text sees."""
    lengths: Array
    """[B, W] int32; 0 where an example has fewer ways (choices) than others."""
    targets: Array
    """[B] int32 class or choice, or float32 score."""
    weights: Array
    """[B] float32; 0 where an example does not count."""


class Specials(NamedTuple):
    """Ids of the three tokens behind the tokenizer's vocabulary."""

    start: int
    delimiter: int
    extract: int


def specials(tokenizer: Any) -> Specials:
    """The ids that follow the tokenizer's own, in the order of `Specials`."""
    return Specials(*range(tokenizer.vocab_size, tokenizer.vocab_size + len(Specials._fields)))


def token_types(tokens_BT: jax.Array, delimiter: int) -> jax.Array:
    """[B, T] int32: 1 behind a row's delimiter, else 0; for models that tell the two texts of a row apart."""
    marks_BT = (tokens_BT == delimiter).astype(jnp.int32)
    return jnp.minimum(jnp.cumsum(marks_BT, axis=1) - marks_BT, 1)


Ids = np.ndarray
"""Token ids of one text."""


def classification(texts: Sequence[Ids], marks: Specials) -> list[Ids]:
    """One way: start text extract."""
    (text,) = texts
    return [_join([marks.start], text, [marks.extract])]


def entailment(texts: Sequence[Ids], marks: Specials) -> list[Ids]:
    """One way: start premise delimiter hypothesis extract."""
    premise, hypothesis = texts
    return [_join([marks.start], premise, [marks.delimiter], hypothesis, [marks.extract])]


def similarity(texts: Sequence[Ids], marks: Specials) -> list[Ids]:
    """Two ways, one for each order of the pair, since neither text comes first by right."""
    first, second = texts
    return entailment((first, second), marks) + entailment((second, first), marks)


def multiple_choice(texts: Sequence[Ids], marks: Specials) -> list[Ids]:
    """A way for each choice: start context delimiter choice extract; `texts` is the context, then the choices."""
    context, *choices = texts
    return [way for choice in choices for way in entailment((context, choice), marks)]


def _join(*parts: Sequence[int] | Ids) -> Ids:
    return np.concatenate([np.asarray(part, np.int32) for part in parts])


def fit(parts: Sequence[Ids], limit: int) -> tuple[Ids, int]:
    """One text of several parts (an article and its question) in at most `limit` tokens, and how many were dropped.

    The first part loses its end, so that a question survives a long article; the others only if that is not enough.
    """
    first, rest = parts[0], _join(*parts[1:], [])
    text = _join(first[: max(0, limit - len(rest))], rest)[:limit]
    return text, len(first) + len(rest) - len(text)


def row_source(ways: Sequence[Sequence[Ids]], targets_E: np.ndarray, most_ways: int, width: int) -> RowSource:
    """Examples as a `RowSource` of `TaskBatch`, one row an example, [most_ways, width] tokens, the same every epoch."""
    flat_N = _join(*(way for example in ways for way in example), [])
    lengths_EW = np.zeros((len(ways), most_ways), np.int32)
    for e, example in enumerate(ways):
        lengths_EW[e, : len(example)] = [len(way) for way in example]
    starts_EW = (np.cumsum(lengths_EW) - lengths_EW.reshape(-1)).reshape(lengths_EW.shape)

    def take(indices_B: np.ndarray, epoch: int) -> TaskBatch:
        lengths_BW = lengths_EW[indices_B]
        columns_T = np.arange(width)
        read_BWT = np.minimum(starts_EW[indices_B][..., None] + columns_T, len(flat_N) - 1)
        tokens_BWT = np.where(columns_T < lengths_BW[..., None], flat_N[read_BWT], 0).astype(np.int32)
        return TaskBatch(tokens_BWT, lengths_BW, targets_E[indices_B], np.ones(len(indices_B), np.float32))

    return RowSource(len(ways), take)


def padded_width(all_ways: Sequence[Sequence[Ids]], context: int) -> int:
    """Tokens of a row: the longest way, rounded up, and no more than the context."""
    longest = max(len(way) for example in all_ways for way in example)
    return min(context, -(-longest // ROUND_TOKENS) * ROUND_TOKENS)
