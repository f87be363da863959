"""The pseudo-likelihood of a text under a model that reads both sides: every token predicted from all the others.

    PLL(w) = sum_t log P(w_t | w without t)      pseudo-perplexity = exp(-PLL / tokens)

The sum is no log-likelihood (the conditionals of a text do not multiply to its probability), and the perplexity is
smaller than a left-to-right model's, which sees one side: compare it among models of this kind only. (Salazar et al.
2020, "Masked Language Model Scoring", arXiv 1910.14659.)
"""

import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gptjax.data.errors import DataError
from gptjax.evals.likelihood import per_token, refuse_non_finite
from gptjax.evals.sweep import Between, Fetch, Place, nothing, sweep
from gptjax.objectives.loss import token_nats as nats_of_logits
from gptjax.objectives.masked_text import Marks
from gptjax.types import Array, Model, Params


class _Rows(NamedTuple):
    inputs: Array
    """[B, T] int32."""
    segments: Array
    """[B, T] int32, 0 for padding."""
    slots: Array
    """[B] int32: where the hidden token stands."""
    targets: Array
    """[B] int32: what it is."""


@functools.partial(jax.jit, static_argnums=0)
def _hidden_nats(model: Model, params: Params, rows: _Rows) -> jax.Array:
    features_BTD = model.features(params, rows.inputs, rows.segments)
    hidden_BD = jnp.take_along_axis(features_BTD, rows.slots[:, None, None], axis=1)[:, 0]
    return nats_of_logits(model.head(params, hidden_BD), rows.targets)


def token_nats(
    model: Model,
    params: Params,
    tokens_N: np.ndarray,
    marks: Marks,
    rows: int,
    place: Place = jax.device_put,
    fetch: Fetch = np.asarray,
    between: Between = nothing,
) -> np.ndarray:
    """-log P of every token from those around it, nats_N float32; a whole row each, `rows` at once.

    The text is read in windows of context - 2 tokens between start and extract; `params` are the model's own. Raises
    `DataError` for a text without tokens or an id beyond the tokenizer's vocabulary.
    """
    if not len(tokens_N):
        raise DataError("the text to judge has no tokens; give it some")
    if np.max(tokens_N) >= marks.start:
        raise DataError(f"the text has id {np.max(tokens_N)}, not below the tokenizer's vocabulary of {marks.start}")
    todo = _batches(np.asarray(tokens_N, np.int32), marks, model.context, rows)
    score = functools.partial(_hidden_nats, model)
    found = [nats_B for _, nats_B in sweep(score, params, todo, place, fetch, between)]
    return np.concatenate(found)[: len(tokens_N)]


def summary(nats_N: np.ndarray) -> dict[str, float]:
    """pseudo_tokens, pseudo_nats_per_token, pseudo_perplexity; raises `FloatingPointError` for what is not finite."""
    refuse_non_finite("score of token", nats_N)
    return {f"pseudo_{k}": v for k, v in per_token(float(np.sum(nats_N, dtype=np.float64)), len(nats_N)).items()}


def _batches(tokens_N: np.ndarray, marks: Marks, context: int, rows: int) -> Iterator[tuple[None, Any]]:
    """Every token hidden once, in the order of the text; the last batch is filled up with its last row."""
    room = context - 2
    for first in range(0, len(tokens_N), rows):
        at_B = np.minimum(np.arange(first, first + rows), len(tokens_N) - 1)
        starts_B = at_B // room * room
        counts_B = np.minimum(len(tokens_N) - starts_B, room)
        columns_T = np.arange(context)
        text_BT = (columns_T >= 1) & (columns_T <= counts_B[:, None])
        read_BT = np.where(text_BT, starts_B[:, None] + columns_T - 1, 0)
        inputs_BT = np.where(text_BT, tokens_N[read_BT], 0).astype(np.int32)
        inputs_BT[:, 0] = marks.start
        row_B, slots_B = np.arange(rows), (at_B - starts_B + 1).astype(np.int32)
        inputs_BT[row_B, counts_B + 1] = marks.extract
        inputs_BT[row_B, slots_B] = marks.mask
        segments_BT = (columns_T < counts_B[:, None] + 2).astype(np.int32)
        yield None, _Rows(inputs_BT, segments_BT, slots_B, tokens_N[at_B])
