"""Contexts and continuations as token ids, so that both together are the tokens of the whole text.

A tokenizer may join the end of a context and the start of what follows into one token: `"the doc"` and `"tor"`. The
whole text is tokenized, as a model reads it in training, and divided before the first token that the context alone
does not begin with.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from gptjax.data.errors import DataError
from gptjax.data.tokenizer import Tokenizer


class Spelled(NamedTuple):
    """What the model reads, and what it is then judged by."""

    context: np.ndarray
    """[S] int32, at least one id."""
    continuation: np.ndarray
    """[T] int32, at least one id."""
    uniform: int
    """Tokens more, that nothing is known of: 1 where a text's first token had to serve as its context, else 0."""


def spelled(tokenizer: Tokenizer, texts: Sequence[tuple[str, str]]) -> list[Spelled]:
    """(context, continuation) of each pair of texts, in order; raises `DataError` for an empty continuation.

    A context begins with the beginning-of-text token where the tokenizer has one. Without any text in it, it is that
    token, or the end of another text; where the tokenizer has neither, the first token is read and not judged.
    """
    contexts = list(dict.fromkeys(context for context, _ in texts))
    ids = dict(zip(contexts, tokenizer.encode_batch(contexts), strict=True))
    wholes = tokenizer.encode_batch([context + continuation for context, continuation in texts])
    return [_divided(tokenizer, pair, ids[pair[0]], whole_T) for pair, whole_T in zip(texts, wholes, strict=True)]


def _divided(tokenizer: Tokenizer, pair: tuple[str, str], context_S: np.ndarray, whole_T: np.ndarray) -> Spelled:
    shorter = min(len(context_S), len(whole_T) - 1)
    if not pair[1] or shorter < 0:
        raise DataError(f"nothing follows {pair[0][-40:]!r}; a continuation is text")
    alike = context_S[:shorter] == whole_T[:shorter]
    at = shorter if alike.all() else int(np.argmin(alike))
    begin = [] if tokenizer.bos_id is None else [tokenizer.bos_id]
    if at == 0 and not begin and tokenizer.eos_id is not None:
        begin = [tokenizer.eos_id]
    read, judged = np.concatenate([begin, whole_T[:at]]).astype(np.int32), whole_T[at:].astype(np.int32)
    if len(read):
        return Spelled(read, judged, 0)
    if len(judged) < 2:
        raise DataError(f"{pair[1]!r}: is one token with nothing before it; there is nothing to judge it by")
    return Spelled(judged[:1], judged[1:], 1)
