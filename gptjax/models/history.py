"""What stands before a token in its document: the view of models that look back a fixed number of tokens.

J counts tokens that were read before a row; U = J + T.
"""

import jax
import jax.numpy as jnp

NOTHING = -1
"""Segment of the places before a text begins; no document has it."""


def beside(segments_BU: jax.Array, back: int, T: int) -> jax.Array:
    """[B, T] bool: whether the token `back` places before each of the last T is of the same document."""
    U = segments_BU.shape[1]
    return segments_BU[:, U - T :] == segments_BU[:, U - T - back : U - back]


def with_past(before_BJ: jax.Array, segments_BT: jax.Array) -> jax.Array:
    """Segments of the J tokens before a row and of the row, [B, U]; a row without a past has J places of `NOTHING`."""
    return jnp.concatenate([before_BJ, segments_BT], axis=1)


def latest(before_BJ: jax.Array, new_BT: jax.Array, counts_B: jax.Array) -> jax.Array:
    """The last J of what was read when of the T new ones the first `counts_B` are real; more axes may follow."""
    seen_BU = jnp.concatenate([before_BJ, new_BT.astype(before_BJ.dtype)], axis=1)
    last_BJ = counts_B[:, None] + jnp.arange(before_BJ.shape[1])
    return jnp.take_along_axis(seen_BU, last_BJ.reshape(*last_BJ.shape, *[1] * (seen_BU.ndim - 2)), axis=1)
