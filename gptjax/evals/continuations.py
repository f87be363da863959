"""How likely continuations are behind their contexts, for many requests at once.

A context that several continuations share (multiple choice) is read once, and each of them reads on from its cache;
the head is applied where a token of a continuation is predicted, and nowhere else.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gptjax.config import ConfigError
from gptjax.data.errors import DataError
from gptjax.data.tokenizer import Tokenizer
from gptjax.evals import prefixes
from gptjax.evals.likelihood import refuse_non_finite
from gptjax.evals.prefixes import Rows
from gptjax.evals.sweep import Between, Fetch, Place, nothing, sweep
from gptjax.infer.sample import likeliest
from gptjax.types import Model, Params

TOKENS_AT_ONCE = 4096
"""Tokens, padding included, that are read at once unless a caller says otherwise."""
STATES_AT_ONCE = 128
"""Predictions whose logits exist at the same time, of all rows together."""


class Scored(NamedTuple):
    """What came of R requests, in their order."""

    nats_R: np.ndarray
    """float64; -log p of the whole continuation."""
    tokens_R: np.ndarray
    """int64; tokens that were predicted."""
    greedy_R: np.ndarray
    """bool; whether each of them was the likeliest there (of equally likely ones the lowest id)."""
    cut_R: np.ndarray
    """bool; whether the request was too long, and lost its oldest tokens."""


def start(tokenizer: Tokenizer) -> int | None:
    """What stands before a text without a context: the token that begins a text, or else the one that ends one."""
    return tokenizer.eos_id if tokenizer.bos_id is None else tokenizer.bos_id


def scored(
    model: Model,
    params: Params,
    requests: Sequence[tuple[np.ndarray, np.ndarray]],
    start_id: int | None = None,
    tokens: int = TOKENS_AT_ONCE,
    place: Place = jax.device_put,
    fetch: Fetch = np.asarray,
    between: Between = nothing,
    shards: int = 1,
) -> Scored:
    """Score requests (context ids, continuation ids), in the dtype of `params`, the model's own.

    An empty context is `start_id` (see `start`); a continuation that begins with that token itself gives it as its
    context. Where both do not fit into the model's context, the oldest tokens are left out.
    `tokens` are read at once, padding included, as rows that split evenly into `shards` parts (`place`).

    Raises `ConfigError` for a model that reads both sides of a token, `DataError` for an empty context without a
    `start_id`, a continuation that is empty or longer than the context, or an id beyond the vocabulary, and
    `FloatingPointError` naming the first request whose score is not finite.
    """
    if not model.causal:
        raise ConfigError("the model reads both sides of a token and has no continuations; score a GPT")
    pairs = [_pair(model, number, *request, start_id) for number, request in enumerate(requests)]
    nats_R, greedy_R = np.full(len(pairs), np.nan), np.zeros(len(pairs), bool)
    todo = prefixes.batches(*prefixes.groups(pairs, model.context), tokens, model.context, shards)
    predict = functools.partial(_predicted, model)
    for laid, (nats_SQK, best_SQK) in sweep(predict, params, todo, place, fetch, between):
        for one in laid:
            for (request, nats), (_, best) in zip(one.answers(nats_SQK), one.answers(best_SQK), strict=True):
                nats_R[request], greedy_R[request] = np.sum(nats, dtype=np.float64), best.all()
    refuse_non_finite("score of request", nats_R)
    cut_R = np.array([len(before) + len(after) > model.context + 1 for before, after in pairs], bool)
    return Scored(nats_R, np.array([len(after) for _, after in pairs], np.int64), greedy_R, cut_R)


def _pair(
    model: Model, number: int, before: np.ndarray, after: np.ndarray, start_id: int | None
) -> tuple[np.ndarray, np.ndarray]:
    """A request that can be scored: some context, and a continuation that fits."""
    before, after = np.asarray(before, np.int32), np.asarray(after, np.int32)
    if not len(before):
        if start_id is None:
            raise DataError(
                f"request {number} has no context, and the tokenizer no token that begins or ends a text; give it one"
            )
        begins = len(after) and after[0] == start_id
        before, after = (after[:1], after[1:]) if begins else (np.array([start_id], np.int32), after)
    if not 1 <= len(after) <= model.context:
        raise DataError(
            f"request {number}: its continuation has {len(after)} tokens; 1 to {model.context} can be scored"
        )
    low, high = min(np.min(before), np.min(after)), max(np.max(before), np.max(after))
    if low < 0 or high >= model.vocab_size:
        wrong = low if low < 0 else high
        raise DataError(f"request {number}: id {wrong} is not among the model's {model.vocab_size}, from 0 on")
    return before, after


@functools.partial(jax.jit, static_argnums=0)
def _predicted(model: Model, params: Params, rows: Rows) -> tuple[jax.Array, jax.Array]:
    """nats_SQK of the targets of every state, and whether each is the likeliest; those past the count mean nothing."""
    S, Q, K = rows.targets_SQK.shape
    features_BMD = _features(model, params, rows)
    features_SMD = features_BMD.reshape(S, -1, features_BMD.shape[-1])
    states_SQ, targets_SQK = jnp.asarray(rows.states_SQ), jnp.asarray(rows.targets_SQK)
    step = min(Q, -(-STATES_AT_ONCE // S))

    def some(number: jax.Array, found: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        # Starts are clamped alike where states are taken and results are put: the last part may repeat some.
        first = number * step
        at_SJ, targets_SJK = (jax.lax.dynamic_slice_in_dim(x, first, step, 1) for x in (states_SQ, targets_SQK))
        features_SJD = jnp.take_along_axis(features_SMD, at_SJ[..., None], axis=1)
        logits_SJV = model.head(params, features_SJD)
        log_z_SJ1 = jax.nn.logsumexp(logits_SJV, axis=-1, keepdims=True)
        nats_SJK = log_z_SJ1 - jnp.take_along_axis(logits_SJV, targets_SJK, axis=-1)
        best_SJK = likeliest(logits_SJV)[..., None] == targets_SJK
        put = functools.partial(jax.lax.dynamic_update_slice_in_dim, start_index=first, axis=1)
        return put(found[0], nats_SJK), put(found[1], best_SJK)

    empty = jnp.zeros((S, Q, K), jnp.float32), jnp.zeros((S, Q, K), bool)
    return jax.lax.fori_loop(0, -(-jnp.max(rows.counts_S) // step), some, empty)


def _features(model: Model, params: Params, rows: Rows) -> jax.Array:
    """What the head reads of the rows, and behind them of their branches, [B, T + C U, D]."""
    (B, T), (_, C, U) = rows.inputs_BT.shape, rows.branches_BCU.shape
    if not C * U:
        return model.features(params, rows.inputs_BT)
    length = min(T + U, model.context)
    cache = model.cache(B, length, jax.tree.leaves(params)[0].dtype)
    row_BTD, cache = model.extend(params, rows.inputs_BT, cache, rows.lengths_B)
    caches = jax.tree.map(lambda x: jnp.repeat(x, C, axis=0), cache)
    inputs, counts = rows.branches_BCU.reshape(B * C, U), rows.branch_lengths_BC.reshape(B * C)
    branches, _ = model.extend(params, inputs, caches, counts)
    return jnp.concatenate([row_BTD, branches.reshape(B, C * U, -1)], axis=1)
