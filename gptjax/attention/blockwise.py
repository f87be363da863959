"""Attention in O(T) memory on any machine: blocks of queries meet blocks of keys, and no T x S array ever exists.

The softmax is accumulated over key blocks; backward recomputes each block's weights from the row's logsumexp. (Dao,
"FlashAttention-2", arXiv 2307.08691; Rabe & Staats, arXiv 2112.05682.) Pairs of blocks of which no query sees a key are
never visited: nearly half of them under a causal mask, all but a band under a window; those whose documents do not meet
in any row are passed over when they come. A CPU is given a few rows at a time, whose blocks stay in its caches.

Axes: I query blocks, J key blocks, P visited pairs of them; T queries and S keys of one block; G = N / K query heads of
a key head, M = G T.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.ad_checkpoint import checkpoint_name

from gptjax.attention.call import KEPT
from gptjax.attention.dropout import drop
from gptjax.attention.meetings import Grid, by_index, by_segment
from gptjax.attention.visible import Visible
from gptjax.types import Array

MASKED, LOWEST = -1e30, -1e20
"""The score of a key that is not seen, and where a row's maximum starts: its weight is exp(MASKED - LOWEST) = 0."""
BLOCK = 128
"""Queries, and keys, of one block at most."""
CACHED_BYTES = 3 * 2**20
"""Of float32 queries, that a CPU attends to at a time: eight times as much with keys, values, outputs and gradients.

Found on two cores with 32 MiB of cache.
"""

_product = partial(jnp.einsum, preferred_element_type=jnp.float32)


class _How(NamedTuple):
    """What is known of a call beside its arrays."""

    dropout: float = 0.0
    in_turn: bool = False


def attend(
    q_BTNH: jax.Array, k_BSKH: jax.Array, v_BSKH: jax.Array, visible: Visible, dropout: float, key: jax.Array | None
) -> jax.Array:
    """What `dense.attend` gives, block by block; dropout draws other bits."""
    return _attend(q_BTNH, k_BSKH, v_BSKH, visible, key, _How(dropout))


def attend_in_turn(q_BTNH: jax.Array, k_BSKH: jax.Array, v_BSKH: jax.Array, visible: Visible) -> jax.Array:
    """The same for one device that is a CPU: rows come in turn, as many at a time as its caches hold.

    Without dropout, which draws its bits for all rows at once. Whatever `visible` has of each row it must have of all.
    """
    return _attend(q_BTNH, k_BSKH, v_BSKH, visible, None, _How(in_turn=True))


@partial(jax.custom_vjp, nondiff_argnums=(5,))
def _attend(
    q_BTNH: jax.Array, k_BSKH: jax.Array, v_BSKH: jax.Array, visible: Visible, key: jax.Array | None, how: _How
) -> jax.Array:
    return _forward(q_BTNH, k_BSKH, v_BSKH, visible, key, how)[0]


def _forward(
    q_BTNH: jax.Array, k_BSKH: jax.Array, v_BSKH: jax.Array, visible: Visible, key: jax.Array | None, how: _How
) -> tuple[jax.Array, Any]:
    operands = q_BTNH, k_BSKH, v_BSKH, visible
    out_BTNH, logsum_BIKM = checkpoint_name(_by_rows(partial(_outputs, how, key), operands, how), KEPT)
    return out_BTNH, (*operands, key, out_BTNH, logsum_BIKM)


def _backward(how: _How, saved: Any, dout_BTNH: jax.Array) -> tuple[Any, ...]:
    q_BTNH, k_BSKH, v_BSKH, visible, key, out_BTNH, logsum_BIKM = saved
    operands = q_BTNH, k_BSKH, v_BSKH, visible, out_BTNH, logsum_BIKM, dout_BTNH
    return *_by_rows(partial(_gradients, how, key), operands, how), None, None


_attend.defvjp(_forward, _backward)


def _by_rows(function: Callable[..., Any], operands: Any, how: _How) -> Any:
    """`function(*operands)`, in turn for as many rows as the cache holds, or for all at once."""
    B, *row = operands[0].shape
    at_most = max(1, CACHED_BYTES // (4 * math.prod(row)))
    if not how.in_turn or at_most >= B:
        return function(*operands)
    rows = max(rows for rows in range(1, at_most + 1) if B % rows == 0)
    parts = jax.tree.map(lambda x: x.reshape(B // rows, rows, *x.shape[1:]), operands)
    found = jax.lax.map(lambda part: function(*part), parts)
    return jax.tree.map(lambda x: x.reshape(B, *x.shape[2:]), found)


def _outputs(
    how: _How, key: jax.Array | None, q_BTNH: jax.Array, k_BSKH: jax.Array, v_BSKH: jax.Array, visible: Visible
) -> tuple[jax.Array, jax.Array]:
    """(out_BTNH, the logsumexp of each query's scores, [B, I, K, M])."""
    blocks = _cut(q_BTNH, k_BSKH, v_BSKH, visible, how)
    empty_IBKM = jnp.zeros(blocks.q_IBKMH.shape[:-1], jnp.float32)
    start = jnp.zeros(blocks.q_IBKMH.shape, jnp.float32), empty_IBKM + LOWEST, empty_IBKM

    def visit(carry: Any, i: jax.Array, j: jax.Array) -> Any:
        out_IBKMH, top_IBKM, sum_IBKM = carry
        scores_BKMS = _scores(blocks, visible, i, j)
        top_BKM = jnp.maximum(top_IBKM[i], scores_BKMS.max(-1))
        weights_BKMS = jnp.exp(scores_BKMS - top_BKM[..., None])
        shrink_BKM = jnp.exp(top_IBKM[i] - top_BKM)
        sum_BKM = sum_IBKM[i] * shrink_BKM + weights_BKMS.sum(-1)
        weights_BKMS = drop(weights_BKMS, how.dropout, _pair_key(key, i, j)).astype(v_BSKH.dtype)
        out_BKMH = out_IBKMH[i] * shrink_BKM[..., None] + _product("BKMS,BKSH->BKMH", weights_BKMS, blocks.v_JBKSH[j])
        return out_IBKMH.at[i].set(out_BKMH), top_IBKM.at[i].set(top_BKM), sum_IBKM.at[i].set(sum_BKM)

    out_IBKMH, top_IBKM, sum_IBKM = _over_pairs(visit, start, blocks.grid, visible)
    sum_IBKM = jnp.maximum(sum_IBKM, jnp.finfo(jnp.float32).tiny)
    out_BTNH = _join((out_IBKMH / sum_IBKM[..., None]).astype(v_BSKH.dtype), q_BTNH.shape)
    return out_BTNH, (top_IBKM + jnp.log(sum_IBKM)).swapaxes(0, 1)


def _gradients(
    how: _How,
    key: jax.Array | None,
    q_BTNH: jax.Array,
    k_BSKH: jax.Array,
    v_BSKH: jax.Array,
    visible: Visible,
    out_BTNH: jax.Array,
    logsum_BIKM: jax.Array,
    dout_BTNH: jax.Array,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """(dq_BTNH, dk_BSKH, dv_BSKH)."""
    blocks = _cut(q_BTNH, k_BSKH, v_BSKH, visible, how)
    logsum_IBKM = logsum_BIKM.swapaxes(0, 1)
    out_IBKMH, dout_IBKMH = (_cut_heads(x, k_BSKH.shape[2], blocks.grid.query_block) for x in (out_BTNH, dout_BTNH))
    # The sum over keys of weight times its gradient is out . dout, with dropout or without.
    delta_IBKM = _product("IBKMH,IBKMH->IBKM", out_IBKMH, dout_IBKMH)
    start = tuple(jnp.zeros(x.shape, jnp.float32) for x in blocks[:3])

    def visit(carry: Any, i: jax.Array, j: jax.Array) -> Any:
        dq_IBKMH, dk_JBKSH, dv_JBKSH = carry
        dropped = partial(drop, rate=how.dropout, key=_pair_key(key, i, j))
        weights_BKMS = jnp.exp(_scores(blocks, visible, i, j) - logsum_IBKM[i][..., None])
        dweights_BKMS = dropped(_product("BKMH,BKSH->BKMS", dout_IBKMH[i], blocks.v_JBKSH[j]))
        dscores_BKMS = (weights_BKMS * (dweights_BKMS - delta_IBKM[i][..., None])).astype(q_BTNH.dtype)
        weights_BKMS = dropped(weights_BKMS).astype(dout_BTNH.dtype)
        dq_IBKMH = dq_IBKMH.at[i].add(_product("BKMS,BKSH->BKMH", dscores_BKMS, blocks.k_JBKSH[j]))
        dk_JBKSH = dk_JBKSH.at[j].add(_product("BKMS,BKMH->BKSH", dscores_BKMS, blocks.q_IBKMH[i]))
        dv_JBKSH = dv_JBKSH.at[j].add(_product("BKMS,BKMH->BKSH", weights_BKMS, dout_IBKMH[i]))
        return dq_IBKMH, dk_JBKSH, dv_JBKSH

    dq_IBKMH, dk_JBKSH, dv_JBKSH = _over_pairs(visit, start, blocks.grid, visible)
    scale = q_BTNH.shape[-1] ** -0.5
    dq_BTNH = _join(dq_IBKMH * scale, q_BTNH.shape).astype(q_BTNH.dtype)
    dk_BSKH = _join(dk_JBKSH * scale, k_BSKH.shape).astype(k_BSKH.dtype)
    return dq_BTNH, dk_BSKH, _join(dv_JBKSH, v_BSKH.shape).astype(v_BSKH.dtype)


class _Blocks(NamedTuple):
    """The operands cut into blocks, the block axis first."""

    q_IBKMH: jax.Array
    k_JBKSH: jax.Array
    v_JBKSH: jax.Array
    segments_IBT: Array | None
    key_segments_JBS: Array | None
    grid: Grid
    group: int
    """G, query heads of a key head."""


def _cut(q_BTNH: jax.Array, k_BSKH: jax.Array, v_BSKH: jax.Array, visible: Visible, how: _How) -> _Blocks:
    (T, N), (S, K) = q_BTNH.shape[1:3], k_BSKH.shape[1:3]
    # A CPU skips more by finer blocks than it loses: in longer rows too, where documents end in them.
    fine = 8 if how.in_turn and visible.segments_BT is not None else 2
    grid = Grid(T, S, _block(T, fine), _block(S, fine))
    return _Blocks(
        q_IBKMH=_cut_heads(q_BTNH, K, grid.query_block),
        k_JBKSH=_cut_heads(k_BSKH, K, grid.key_block),
        v_JBKSH=_cut_heads(v_BSKH, K, grid.key_block),
        segments_IBT=_cut_row(visible.segments_BT, grid.query_block),
        key_segments_JBS=_cut_row(visible.keys_segments, grid.key_block),
        grid=grid,
        group=N // K,
    )


def _block(length: int, fine: int) -> int:
    """The size of a block: as few as `BLOCK` allows, or half of it in rows of up to `fine`; padded as little as that
    leaves.
    """
    return -(-length // -(-length // (BLOCK if length > fine * BLOCK else BLOCK // 2)))


def _cut_heads(x_BTNH: Array, kv_heads: int, block: int) -> jax.Array:
    """[B, T, N, H] -> [I, B, K, M, H], padded with zeros to whole blocks."""
    B, T, N, H = x_BTNH.shape
    blocks = -(-T // block)
    x_BTNH = jnp.pad(x_BTNH, ((0, 0), (0, blocks * block - T), (0, 0), (0, 0)))
    x_IBKGTH = x_BTNH.reshape(B, blocks, block, kv_heads, N // kv_heads, H).transpose(1, 0, 3, 4, 2, 5)
    return x_IBKGTH.reshape(blocks, B, kv_heads, N // kv_heads * block, H)


def _cut_row(x_BT: Array | None, block: int) -> jax.Array | None:
    """[B, T] -> [I, B, T]."""
    return None if x_BT is None else _cut_heads(x_BT[:, :, None, None], 1, block)[:, :, 0, :, 0]


def _join(x_IBKMH: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """The inverse of `_cut_heads`."""
    B, T, N, H = shape
    blocks, _, K, M, _ = x_IBKMH.shape
    block = M * K // N
    x_BITKGH = x_IBKMH.reshape(blocks, B, K, N // K, block, H).transpose(1, 0, 4, 2, 3, 5)
    return x_BITKGH.reshape(B, blocks * block, N, H)[:, :T]


def _over_pairs(visit: Callable[[Any, jax.Array, jax.Array], Any], carry: Any, grid: Grid, visible: Visible) -> Any:
    """`carry = visit(carry, i, j)` over all pairs of blocks of which a query may see a key."""
    i_P, j_P = map(jnp.asarray, np.nonzero(by_index(grid, visible)))
    if visible.segments_BT is None or visible.keys_segments is None:
        return jax.lax.scan(lambda carry, pair: (visit(carry, pair[0], pair[1]), None), carry, (i_P, j_P))[0]
    meet_P = by_segment(grid, visible.segments_BT, visible.keys_segments).any(0)[i_P, j_P]

    def pass_or_visit(carry: Any, pair: Any) -> tuple[Any, None]:
        i, j, meet = pair
        return jax.lax.cond(meet, visit, lambda carry, *_: carry, carry, i, j), None

    return jax.lax.scan(pass_or_visit, carry, (i_P, j_P, meet_P))[0]


def _scores(blocks: _Blocks, visible: Visible, i: jax.Array, j: jax.Array) -> jax.Array:
    """Scores [B, K, M, S] float32 of one pair of blocks, `MASKED` where a query does not see a key."""
    T, S = blocks.q_IBKMH.shape[3] // blocks.group, blocks.k_JBKSH.shape[3]
    scores_BKMS = _product("BKMH,BKSH->BKMS", blocks.q_IBKMH[i], blocks.k_JBKSH[j]) * blocks.q_IBKMH.shape[4] ** -0.5
    segments_BT = None if blocks.segments_IBT is None else blocks.segments_IBT[i]
    key_segments_BS = None if blocks.key_segments_JBS is None else blocks.key_segments_JBS[j]
    keys_S = j * S + jnp.arange(S)
    seen_BTS = visible.mask(i * T + jnp.arange(T), keys_S, segments_BT, key_segments_BS) & (keys_S < blocks.grid.keys)
    seen_BKMS = jnp.tile(seen_BTS, (1, blocks.group, 1))[:, None]
    return jnp.where(seen_BKMS, scores_BKMS, MASKED)


def _pair_key(key: jax.Array | None, i: jax.Array, j: jax.Array) -> jax.Array | None:
    """Every pair of blocks draws bits of its own, the same forward and backward."""
    return None if key is None else jax.random.fold_in(jax.random.fold_in(key, i), j)
