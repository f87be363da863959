"""What one program of the GPU kernel computes: a block of queries, or of keys, against all the blocks that it meets.

Axes: T queries and S keys of one block; G query heads of a key head. Scores are in base 2 (times log2 e), so that the
exponential is one instruction. References hold whole rows, read a block at a time.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

from gptjax.attention.meetings import Grid

LOG2_E = math.log2(math.e)
MASKED, LOWEST = -1e30, -1e20
"""The score of a key that is not seen, and where a row's maximum starts: its weight is 2^(MASKED - LOWEST) = 0."""

Ref = Any


class Row(NamedTuple):
    """What is known of a row when the kernel is compiled."""

    causal: bool
    window: int | None
    grid: Grid
    scale: float
    """1 / sqrt(H)."""


class Met(NamedTuple):
    """The blocks [first, last) that this program's block meets, scalars."""

    first: Ref
    last: Ref


class Segments(NamedTuple):
    """Segments of the queries and of the keys."""

    queries: Ref
    keys: Ref


def forward(
    row: Row, met: Met, q_ref: Ref, k_ref: Ref, v_ref: Ref, segments: Segments | None, out_ref: Ref, logsum_ref: Ref
) -> None:
    """A block of outputs [T, H], and the base-2 logsumexp [T] of their scores."""
    i = pl.program_id(0)
    q_TH = q_ref[...]
    of_queries = None if segments is None else segments.queries[...]

    def visit(causal: bool, j: jax.Array, carry: Any) -> Any:
        out_TH, top_T, sum_T = carry
        at = pl.ds(j * row.grid.key_block, row.grid.key_block)
        both = None if segments is None else (of_queries, segments.keys[at])
        scores_TS = _masked(row, causal, _dot(q_TH, k_ref[at, :], trans_b=True), i, j, both, keys_axis=1)
        new_top_T = jnp.maximum(top_T, scores_TS.max(-1))
        weights_TS, shrink_T = jnp.exp2(scores_TS - new_top_T[:, None]), jnp.exp2(top_T - new_top_T)
        v_SH = v_ref[at, :]
        out_TH = out_TH * shrink_T[:, None] + _dot(weights_TS.astype(v_SH.dtype), v_SH)
        return out_TH, new_top_T, sum_T * shrink_T + weights_TS.sum(-1)

    lowest_T = jnp.full(row.grid.query_block, LOWEST, jnp.float32)
    start = jnp.zeros(q_TH.shape, jnp.float32), lowest_T, jnp.zeros_like(lowest_T)
    out_TH, top_T, sum_T = _before_and_on_the_diagonal(row, i, met, visit, start)
    sum_T = jnp.maximum(sum_T, jnp.finfo(jnp.float32).tiny)
    out_ref[...] = (out_TH / sum_T[:, None]).astype(out_ref.dtype)
    logsum_ref[...] = top_T + jnp.log2(sum_T)


def backward_queries(
    row: Row,
    met: Met,
    q_ref: Ref,
    k_ref: Ref,
    v_ref: Ref,
    segments: Segments | None,
    dout_ref: Ref,
    logsum_ref: Ref,
    delta_ref: Ref,
    dq_ref: Ref,
) -> None:
    """A block of query gradients [T, H]; delta [T] is out . dout."""
    i = pl.program_id(0)
    q_TH, dout_TH, logsum_T, delta_T = q_ref[...], dout_ref[...], logsum_ref[...], delta_ref[...]
    of_queries = None if segments is None else segments.queries[...]

    def visit(causal: bool, j: jax.Array, dq_TH: jax.Array) -> jax.Array:
        at = pl.ds(j * row.grid.key_block, row.grid.key_block)
        k_SH, both = k_ref[at, :], None if segments is None else (of_queries, segments.keys[at])
        scores_TS = _masked(row, causal, _dot(q_TH, k_SH, trans_b=True), i, j, both, keys_axis=1)
        weights_TS = jnp.exp2(scores_TS - logsum_T[:, None])
        dscores_TS = weights_TS * (_dot(dout_TH, v_ref[at, :], trans_b=True) - delta_T[:, None])
        return dq_TH + _dot(dscores_TS.astype(k_SH.dtype), k_SH)

    start_TH = jnp.zeros(q_TH.shape, jnp.float32)
    dq_TH = _before_and_on_the_diagonal(row, i, met, visit, start_TH)
    dq_ref[...] = (dq_TH * row.scale).astype(dq_ref.dtype)


def backward_keys(
    row: Row,
    met: Met,
    q_ref: Ref,
    k_ref: Ref,
    v_ref: Ref,
    segments: Segments | None,
    dout_ref: Ref,
    logsum_ref: Ref,
    delta_ref: Ref,
    dk_ref: Ref,
    dv_ref: Ref,
) -> None:
    """A block of key and value gradients [S, H], summed over the G query heads that read them."""
    j = pl.program_id(0)
    k_SH, v_SH = k_ref[...], v_ref[...]
    of_keys = None if segments is None else segments.keys[...]
    first, last = met.first[...], met.last[...]
    # Query blocks that start at or after this block's last key see all of it.
    past = (
        jnp.clip(_blocks((j + 1) * row.grid.key_block - 1, row.grid.query_block), first, last) if row.causal else first
    )

    def visit(causal: bool, g: jax.Array, i: jax.Array, carry: Any) -> Any:
        dk_SH, dv_SH = carry
        at = pl.ds(i * row.grid.query_block, row.grid.query_block)
        q_TH, dout_TH = q_ref[at, g, :], dout_ref[at, g, :]
        both = None if segments is None else (segments.queries[at], of_keys)
        scores_ST = _masked(row, causal, _dot(k_SH, q_TH, trans_b=True), i, j, both, keys_axis=0)
        weights_ST = jnp.exp2(scores_ST - logsum_ref[g, at][None])
        dv_SH += _dot(weights_ST.astype(dout_TH.dtype), dout_TH)
        dscores_ST = weights_ST * (_dot(v_SH, dout_TH, trans_b=True) - delta_ref[g, at][None])
        return dk_SH + _dot(dscores_ST.astype(q_TH.dtype), q_TH), dv_SH

    def of_head(g: jax.Array, carry: Any) -> Any:
        carry = jax.lax.fori_loop(first, past, lambda i, c: visit(True, g, i, c), carry)
        return jax.lax.fori_loop(past, last, lambda i, c: visit(False, g, i, c), carry)

    zeros_SH = jnp.zeros(k_SH.shape, jnp.float32)
    dk_SH, dv_SH = jax.lax.fori_loop(0, q_ref.shape[1], of_head, (zeros_SH, zeros_SH))
    dk_ref[...] = (dk_SH * row.scale).astype(dk_ref.dtype)
    dv_ref[...] = dv_SH.astype(dv_ref.dtype)


def _before_and_on_the_diagonal(
    row: Row, i: jax.Array, met: Met, visit: Callable[[bool, jax.Array, Any], Any], carry: Any
) -> Any:
    """Visit the key blocks met in order, those wholly before the queries without the causal mask."""
    first, last = met.first[...], met.last[...]
    if row.causal:
        # Key blocks that end at or before this block's first query.
        before = jnp.clip(jax.lax.div(i * row.grid.query_block + 1, row.grid.key_block), first, last)
        carry = jax.lax.fori_loop(first, before, lambda j, c: visit(False, j, c), carry)
        first = before
    return jax.lax.fori_loop(first, last, lambda j, c: visit(row.causal, j, c), carry)


def _masked(
    row: Row, causal: bool, products: jax.Array, i: jax.Array, j: jax.Array, segments: Any, keys_axis: int
) -> jax.Array:
    """Base-2 scores float32 of query block i and key block j, `MASKED` where a query does not see a key.

    `products` are q k^T, [T, S] or, with `keys_axis` 0, [S, T]; `segments` those of these queries and keys, or None.
    """
    scores = products * (row.scale * LOG2_E)
    axes = 1 - keys_axis, keys_axis
    at = i * row.grid.query_block, j * row.grid.key_block
    queries, keys = (n + jax.lax.broadcasted_iota(jnp.int32, scores.shape, a) for n, a in zip(at, axes, strict=True))
    masks = [keys <= queries] if causal else []
    if row.window is not None:
        masks.append(keys > queries - row.window)
    if row.grid.keys % row.grid.key_block:
        masks.append(keys < row.grid.keys)
    if segments is not None:
        masks.append(jnp.expand_dims(segments[0], keys_axis) == jnp.expand_dims(segments[1], 1 - keys_axis))
    for mask in masks:
        scores = jnp.where(mask, scores, MASKED)
    return scores


def _dot(a: jax.Array, b: jax.Array, trans_b: bool = False) -> jax.Array:
    """a b, or a b^T, with a float32 sum."""
    contracted = (((1,), (1 if trans_b else 0,)), ((), ()))
    return jax.lax.dot_general(a, b, contracted, preferred_element_type=jnp.float32)


def _blocks(count: jax.Array, block: int) -> jax.Array:
    """How many blocks hold `count`."""
    return jax.lax.div(count + block - 1, block)
