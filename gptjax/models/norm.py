"""Layer normalisation with a backward pass of its own."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from gptjax.models.products import kept_apart


class _Saved(NamedTuple):
    """All that backward needs: x in its own dtype, and two numbers a token."""

    x: jax.Array
    scale_D: jax.Array
    bias_D: jax.Array | None
    mean: jax.Array
    inverse_std: jax.Array


@partial(jax.custom_vjp, nondiff_argnums=(3,))
def layer_norm(x: jax.Array, scale_D: jax.Array, bias_D: jax.Array | None, eps: float) -> jax.Array:
    """(x - mean) / sqrt(variance + eps) * scale + bias over the last axis, float32 inside, in the dtype of x.

    Left to differentiation, the backward pass keeps the centred x in float32 beside x itself and takes more passes over
    them. (An RMSNorm written like this was no faster and kept no less.)
    """
    return _forward(x, scale_D, bias_D, eps)[0]


def _forward(x: jax.Array, scale_D: jax.Array, bias_D: jax.Array | None, eps: float) -> tuple[jax.Array, _Saved]:
    x32 = x.astype(jnp.float32)
    mean = x32.mean(-1, keepdims=True)
    inverse_std = jax.lax.rsqrt(jnp.square(x32 - mean).mean(-1, keepdims=True) + eps)
    out = (x32 - mean) * inverse_std * scale_D.astype(jnp.float32)
    if bias_D is not None:
        out += bias_D.astype(jnp.float32)
    # With the mean at hand a GPU adds up the gradient of the scale as it reads; without it writes what to add up first.
    return out.astype(x.dtype), _Saved(x, scale_D, bias_D, *kept_apart((mean, inverse_std)))


def _backward(eps: float, saved: _Saved, dout: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array | None]:
    """dx = (d - mean(d) - h mean(d h)) / std with h the normalised x and d = dout * scale."""
    dout32, tokens = dout.astype(jnp.float32), tuple(range(dout.ndim - 1))
    h = (saved.x.astype(jnp.float32) - saved.mean) * saved.inverse_std
    d = dout32 * saved.scale_D.astype(jnp.float32)
    dx = saved.inverse_std * (d - d.mean(-1, keepdims=True) - h * (d * h).mean(-1, keepdims=True))
    dscale_D = jnp.sum(dout32 * h, tokens).astype(saved.scale_D.dtype)
    dbias_D = None if saved.bias_D is None else jnp.sum(dout32, tokens).astype(saved.bias_D.dtype)
    return dx.astype(saved.x.dtype), dscale_D, dbias_D


layer_norm.defvjp(_forward, _backward)
