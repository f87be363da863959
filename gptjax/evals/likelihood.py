"""How well a model predicts a text: nats of every token, and what follows from them.

Every token is predicted once, in sliding windows. The first token of a unit has nothing before it and is charged ln V,
what a uniform guess costs, so that the totals are those of the whole text; a beginning-of-text token there is free.
"""

import functools
import math
from typing import Any

import jax
import numpy as np

from gptjax.config import ConfigError, Evaluation
from gptjax.data.errors import DataError
from gptjax.evals.sweep import Between, Evaluator, Fetch, Place, nothing, sweep
from gptjax.evals.windows import Windows, batches, gather, lay, windows
from gptjax.objectives.loss import token_nats as nats_of_logits
from gptjax.types import Model, Params, TokenSplit

LOGITS_AT_ONCE = 2**27
"""Largest number of logits that exist at the same time; 512 MiB of float32."""


@functools.partial(jax.jit, static_argnums=0)
def row_nats(model: Model, params: Params, batch: Any) -> jax.Array:
    """nats_BT of the targets of (inputs_BT, targets_BT, segments_BT or None, positions_BT or None).

    The head is applied to a part of the columns at a time where the logits would take too much memory. Raises
    `ConfigError` for a model that sees the token it is to predict.
    """
    if not model.causal:
        raise ConfigError(
            "the model reads both sides of a token and gives no left-to-right likelihood; "
            "`gptjax eval` gives its masked accuracy and pseudo-perplexity"
        )
    inputs_BT, targets_BT, segments_BT, positions_BT = batch
    return feature_nats(model, params, model.features(params, inputs_BT, segments_BT, positions_BT), targets_BT)


def feature_nats(model: Model, params: Params, features_BTD: jax.Array, targets_BT: jax.Array) -> jax.Array:
    """nats_BT of targets from what the head reads, a part of the columns at a time where logits would be too many."""
    (B, T), D = targets_BT.shape, features_BTD.shape[-1]
    tiles = _tiles(B, T, model.vocab_size)

    def tile(part: tuple[jax.Array, jax.Array]) -> jax.Array:
        return nats_of_logits(model.head(params, part[0]), part[1])

    if tiles == 1:
        return tile((features_BTD, targets_BT))
    parts = features_BTD.reshape(B, tiles, -1, D).swapaxes(0, 1), targets_BT.reshape(B, tiles, -1).swapaxes(0, 1)
    return jax.lax.map(tile, parts).swapaxes(0, 1).reshape(B, T)


def _tiles(rows: int, columns: int, vocab_size: int) -> int:
    """Into how many equal parts the columns are split so that the logits of one part are few enough."""
    wanted = rows * columns * vocab_size / LOGITS_AT_ONCE
    return next(n for n in range(1, columns + 1) if columns % n == 0 and (n >= wanted or n == columns))


def token_nats(
    model: Model,
    params: Params,
    split: TokenSplit,
    context: int,
    stride: int,
    rows: int,
    documents: bool,
    place: Place = jax.device_put,
    fetch: Fetch = np.asarray,
    between: Between = nothing,
    bos_id: int | None = None,
) -> np.ndarray:
    """-log p of every token of the split, nats_N float32, in the dtype of `params` (the model's own).

    documents=True reads each document by itself, False the whole split as one running text. Windows read `context`
    tokens, start `stride` tokens apart, and are judged `rows` rows at once. The first token of a document (of the text)
    is charged ln V, or nothing where it is `bos_id` (`given`). Raises `ConfigError` for a context beyond the model's, a
    stride beyond the context, and `DataError` for an empty split or an id beyond the vocabulary.
    """
    layout = _layout(model, split, context, stride, documents)
    free = given(split, documents, bos_id)
    return _nats(model, params, split.tokens, layout, free, rows, place, fetch, between)


def given(split: TokenSplit, documents: bool, bos_id: int | None) -> np.ndarray:
    """Which tokens are given to the model, not predicted: each unit's first, where it is the beginning-of-text token.

    They cost nothing and are not counted: training does not learn them, and they stand for no text.
    """
    starts = split.starts if documents else np.array([0, len(split.tokens)])
    firsts_U = starts[:-1][np.diff(starts) > 0]
    return firsts_U[split.tokens[firsts_U] == bos_id] if bos_id is not None else firsts_U[:0]


SUMMARY = ("tokens", "nats_per_token", "perplexity", "bytes", "bits_per_byte")
"""Names of what `summary` gives."""


def summary(nats_N: np.ndarray, bytes: int, given: int = 0) -> dict[str, float]:
    """tokens, bytes, nats_per_token, perplexity per token, and bits_per_byte = total nats / ln 2 / bytes.

    So many of the tokens are `given`, cost nothing, and are not counted. Raises `FloatingPointError` where a score is
    not finite: a model that gives NaN must not look like a good one.
    """
    tokens = len(nats_N) - given
    if not tokens or not bytes:
        raise DataError(f"nothing to judge: {tokens} tokens of {bytes} bytes of text")
    refuse_non_finite("score of token", nats_N)
    total = float(np.sum(nats_N, dtype=np.float64))
    return {**per_token(total, tokens), "bytes": bytes, "bits_per_byte": total / math.log(2) / bytes}


def per_token(nats: float, tokens: int) -> dict[str, float]:
    """tokens, nats_per_token and perplexity of so many nats in all."""
    mean = nats / tokens
    return {"tokens": tokens, "nats_per_token": mean, "perplexity": math.exp(mean) if mean < 700 else math.inf}


def refuse_non_finite(what: str, values: np.ndarray) -> None:
    """Raise `FloatingPointError` naming the first of the values that is NaN or infinite, and how many there are."""
    bad = ~np.isfinite(values)
    if bad.any():
        first = int(np.argmax(bad.reshape(-1)))
        raise FloatingPointError(
            f"{what} {first} is {values.reshape(-1)[first]} ({int(bad.sum())} of {bad.size} are not finite); "
            "the parameters are damaged or have diverged, or the computation overflowed"
        )


def evaluator(
    model: Model,
    split: TokenSplit,
    context: int,
    evaluation: Evaluation,
    documents: bool,
    place: Place = jax.device_put,
    fetch: Fetch = np.asarray,
    bos_id: int | None = None,
) -> Evaluator:
    """Judges an objective's params (the model's are under "model") on a split: `summary`, the stride and the context.

    With `evaluation.max_tokens` only the start of the split is judged, and the bytes are its share in proportion.
    """
    stride = context if evaluation.stride is None else evaluation.stride
    split = head(split, evaluation.max_tokens)
    layout = _layout(model, split, context, stride, documents)
    free, rows = given(split, documents, bos_id), evaluation.rows

    def judge(params: Params, between: Between) -> dict[str, float]:
        nats_N = _nats(model, params["model"], split.tokens, layout, free, rows, place, fetch, between)
        return {**summary(nats_N, split.bytes, len(free)), "stride": stride, "context": context}

    def warm(params: Params) -> None:
        empty = lay(layout, slice(0, 0), 0, split.tokens, evaluation.rows, model.vocab_size)
        jax.block_until_ready(row_nats(model, params["model"], place(empty)))

    return Evaluator(judge, warm, lambda params: (*SUMMARY, "stride", "context"))


def head(split: TokenSplit, max_tokens: int | None) -> TokenSplit:
    """The first `max_tokens` tokens of a split (None: all), with their share of its bytes."""
    if max_tokens is None or max_tokens >= len(split.tokens):
        return split
    starts = np.append(split.starts[split.starts < max_tokens], max_tokens)
    return TokenSplit(split.tokens[:max_tokens], starts, round(split.bytes * max_tokens / len(split.tokens)))


def _layout(model: Model, split: TokenSplit, context: int, stride: int, documents: bool) -> Windows:
    if context > model.context:
        raise ConfigError(f"context={context} is longer than the model's context of {model.context}")
    if not len(split.tokens):
        raise DataError("the split to judge has no tokens; give it some text")
    starts = split.starts if documents else np.array([0, len(split.tokens)])
    return windows(starts, context, stride)


def _nats(
    model: Model,
    params: Params,
    tokens: np.ndarray,
    layout: Windows,
    given: np.ndarray,
    rows: int,
    place: Place,
    fetch: Fetch,
    between: Between,
) -> np.ndarray:
    nats_N = np.full(len(tokens), np.nan, np.float32)
    nats_N[layout.firsts_U] = math.log(model.vocab_size)
    nats_N[given] = 0.0
    todo = batches(layout, tokens, rows, model.vocab_size)
    score = functools.partial(row_nats, model)
    for number, (chosen, nats_BT) in enumerate(sweep(score, params, todo, place, fetch, between)):
        gather(layout, chosen, nats_BT, number * rows, nats_N)
    return nats_N
