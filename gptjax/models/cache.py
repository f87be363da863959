"""What a transformer remembers of the tokens it has read, as values that are passed in and returned.

Axes: S tokens that there is room for; J tokens that a convolution looks back.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Remembered(NamedTuple):
    """One layer's part of a cache, with room for S tokens a row; J = conv_tokens - 1."""

    keys_BKSH: jax.Array
    values_BKSH: jax.Array
    attn_inputs_BJD: jax.Array
    """The last inputs of the attention branch, for its convolution."""
    mlp_inputs_BJD: jax.Array
    """The last inputs of the MLP branch, likewise."""


class Cache(NamedTuple):
    """Keys and values of the tokens read so far."""

    layers: tuple[Remembered, ...]
    lengths_B: jax.Array
    """Tokens read of each row."""


def written(old_BKSH: jax.Array, new_BTKH: jax.Array, slots_BT: jax.Array) -> jax.Array:
    """A cache with new keys or values in these places of its rows; those at S or behind are dropped.

    The heads stand before the tokens: what one query reads of a head is then one matrix, which no product transposes.
    """
    B, K = old_BKSH.shape[:2]
    # There are always several places: a single one XLA takes for a slice, and copies the cache before it writes. So
    # heads have indices of their own, and the one head of the one token of one row is written twice.
    if slots_BT.size * K == 1:
        new_BTKH, slots_BT = jnp.repeat(new_BTKH, 2, axis=1), jnp.repeat(slots_BT, 2, axis=1)
    at = jnp.arange(B)[:, None, None], jnp.arange(K), slots_BT[:, :, None]
    return old_BKSH.at[at].set(new_BTKH.astype(old_BKSH.dtype), mode="drop")
