"""Dropout: the one place where training draws random bits, so it draws as few as it can."""

import jax
import jax.numpy as jnp
import numpy as np

LEVELS = 2**16


def drop(x: jax.Array, rate: float, key: jax.Array | None) -> jax.Array:
    """Zero a share `rate` of x and scale up the rest; the identity without a key or a rate.

    The share is rounded to 1/65536, and never all. Every element takes 16 bits, two to a word: half the time of
    `jax.random.bernoulli`. The same key and shape drop the same elements, on any mesh.
    """
    threshold = min(round(rate * LEVELS), LEVELS - 1)
    if key is None or threshold == 0:
        return x
    words = jax.random.bits(key, (*x.shape[:-1], -(-x.shape[-1] // 2)), jnp.uint32)
    limit = np.uint32(threshold)
    kept = jnp.concatenate([(words & 0xFFFF) >= limit, (words >> 16) >= limit], axis=-1)[..., : x.shape[-1]]
    return jnp.where(kept, x * (LEVELS / (LEVELS - threshold)), 0).astype(x.dtype)
