"""Attention with all T x S scores in memory: the plain form, and the fastest for short rows on a CPU."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from gptjax.attention.call import KEPT
from gptjax.attention.dropout import drop
from gptjax.attention.visible import Visible

MASKED = -1e30
"""Score of a key that is not seen: finite, so that no gradient is NaN, and exactly 0 after the softmax."""


def attend(
    q_BTNH: jax.Array, k_BSKH: jax.Array, v_BSKH: jax.Array, visible: Visible, dropout: float, key: jax.Array | None
) -> jax.Array:
    """softmax(q k^T / sqrt(H)) v over the visible keys, softmax in float32; see `gptjax.attention.attend`."""
    weights_BKMS = drop(_weights(q_BTNH, k_BSKH, visible), dropout, key)
    return checkpoint_name(_mixed(weights_BKMS, v_BSKH, q_BTNH.shape[2]), KEPT)


def looking(seen: list[jax.Array]) -> Callable[..., jax.Array]:
    """`attend` without dropout that also appends to `seen` the weights_BNTS by which it mixes the values, float32.

    For those who look inside: a head's weights for a query sum to 1 over the keys, and are 0 where it does not see.
    """

    def kernel(q_BTNH: jax.Array, k_BSKH: jax.Array, v_BSKH: jax.Array, visible: Visible, **_: object) -> jax.Array:
        B, T, N, _H = q_BTNH.shape
        weights_BKMS = _weights(q_BTNH, k_BSKH, visible)
        seen.append(weights_BKMS.reshape(B, N, T, -1))
        return _mixed(weights_BKMS, v_BSKH, N)

    return kernel


def _weights(q_BTNH: jax.Array, k_BSKH: jax.Array, visible: Visible) -> jax.Array:
    """Softmax over the visible keys, weights_BKMS.

    The G = N / K query heads of a key head are rows of one matrix (M = G T): on a CPU, scores of five axes make the
    backward pass four times slower than scores of four.
    """
    B, T, N, H = q_BTNH.shape
    S, K = k_BSKH.shape[1:3]
    G = N // K
    q_BKMH = q_BTNH.reshape(B, T, K, G, H).transpose(0, 2, 3, 1, 4).reshape(B, K, G * T, H)
    axes, keys = _laid_out(k_BSKH, T)
    scores_BKMS = jnp.einsum(f"BKMH,{axes}->BKMS", q_BKMH, keys, preferred_element_type=jnp.float32) * H**-0.5
    mask_BKMS = jnp.tile(visible.whole_mask(T, S), (1, G, 1))[:, None]
    weights_BKMS = jax.nn.softmax(jnp.where(mask_BKMS, scores_BKMS, MASKED), axis=-1)
    if visible.key_segments_BS is not None or visible.offsets_B is not None or T > S:
        # Otherwise every query sees itself. One that sees no key has equal weights by now.
        weights_BKMS = jnp.where(mask_BKMS.any(-1, keepdims=True), weights_BKMS, 0)
    return weights_BKMS


def _mixed(weights_BKMS: jax.Array, v_BSKH: jax.Array, heads: int) -> jax.Array:
    """The values in these shares, [B, T, N, H]."""
    B, K, M, _ = weights_BKMS.shape
    G, H = heads // K, v_BSKH.shape[-1]
    axes, values = _laid_out(v_BSKH, M // G)
    out_BKMH = jnp.einsum(f"BKMS,{axes}->BKMH", weights_BKMS.astype(v_BSKH.dtype), values)
    return out_BKMH.reshape(B, K, G, M // G, H).transpose(0, 3, 1, 2, 4).reshape(B, M // G, heads, H)


def _laid_out(x_BSKH: jax.Array, queries: int) -> tuple[str, jax.Array]:
    """Keys or values as a product is to read them, and its name for their axes.

    A single query mostly reads a cache, whose heads stand before the tokens: said in that order, a CPU multiplies by it
    as it lies, and said in the other it transposes a single row's first.
    """
    return ("BKSH", x_BSKH.swapaxes(1, 2)) if queries == 1 else ("BSKH", x_BSKH)
