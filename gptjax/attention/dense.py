"""Attention with all T x S scores in memory: the plain form, and the fastest for short rows on a CPU."""

import jax
import jax.numpy as jnp

from gptjax.attention.dropout import drop
from gptjax.attention.visible import Visible

MASKED = -1e30
"""Score of a key that is not seen: finite, so that no gradient is NaN, and exactly 0 after the softmax."""


def attend(
    q_BTNH: jax.Array, k_BSKH: jax.Array, v_BSKH: jax.Array, visible: Visible, dropout: float, key: jax.Array | None
) -> jax.Array:
    """softmax(q k^T / sqrt(H)) v over the visible keys, softmax in float32; see `gptjax.attention.attend`.

    The G = N / K query heads of a key head are rows of one matrix (M = G T): on a CPU, scores of five axes make the
    backward pass four times slower than scores of four.
    """
    B, T, N, H = q_BTNH.shape
    S, K = k_BSKH.shape[1:3]
    G = N // K
    q_BKMH = q_BTNH.reshape(B, T, K, G, H).transpose(0, 2, 3, 1, 4).reshape(B, K, G * T, H)
    scores_BKMS = jnp.einsum("BKMH,BSKH->BKMS", q_BKMH, k_BSKH, preferred_element_type=jnp.float32) * H**-0.5
    mask_BKMS = jnp.tile(visible.whole_mask(T, S), (1, G, 1))[:, None]
    weights_BKMS = jax.nn.softmax(jnp.where(mask_BKMS, scores_BKMS, MASKED), axis=-1)
    if visible.key_segments_BS is not None or visible.offsets_B is not None or T > S:
        # Otherwise every query sees itself. One that sees no key has equal weights by now.
        weights_BKMS = jnp.where(mask_BKMS.any(-1, keepdims=True), weights_BKMS, 0)
    weights_BKMS = drop(weights_BKMS, dropout, key).astype(v_BSKH.dtype)
    out_BKMH = jnp.einsum("BKMS,BSKH->BKMH", weights_BKMS, v_BSKH)
    return out_BKMH.reshape(B, K, G, T, H).transpose(0, 3, 1, 2, 4).reshape(B, T, N, H)
