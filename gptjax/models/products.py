"""Products of matrices whose gradients are computed as fast as their values.

The gradient of a product has factors that are transposed. Where the left one is, XLA's CPU compiler leaves its library
of fast products: small ones take twice the time, an update of a small model 6% more. So here that factor is
written out transposed first; of a weight's gradient, the narrower of the two.
"""

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def product(x: jax.Array, kernel_DV: jax.Array, dtype: Any, bias_V: jax.Array | None = None) -> jax.Array:
    """x W + b over the last axis of x, added up in float32 and returned in `dtype`; backward multiplies in x's dtype.

    Left to itself JAX would multiply a float32 gradient of the logits with bfloat16 operands cast up to it, the slow
    way through the largest product of the model. There is no forward-mode derivative (`jax.jvp`).
    """
    return _multiplied(dtype, x, kernel_DV, bias_V)


_Saved = tuple[jax.Array, jax.Array, jax.Array | None]


def _product_forward(
    x: jax.Array, kernel_DV: jax.Array, dtype: Any, bias_V: jax.Array | None = None
) -> tuple[jax.Array, _Saved]:
    return product(x, kernel_DV, dtype, bias_V), (x, kernel_DV, bias_V)


def _product_backward(dtype: Any, saved: _Saved, dout: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array | None]:
    x, kernel_DV, bias_V = saved
    dout = dout.astype(x.dtype)
    forms = {"cpu": _contracted_on_cpu, "tpu": _contracted_as_it_is, "default": _contracted}
    dkernel_DV = jax.lax.platform_dependent(x, dout, **forms)
    dbias_V = None
    if bias_V is not None:
        dbias_V = jax.lax.platform_dependent(dout, tpu=_summed, default=_summed_flat).astype(bias_V.dtype)
    return _multiplied(None, dout, kernel_DV.T), dkernel_DV, dbias_V


product.defvjp(_product_forward, _product_backward)


def _multiplied(dtype: Any, x: jax.Array, kernel_DV: jax.Array, bias_V: jax.Array | None = None) -> jax.Array:
    """x W + b, with the axes before the last as one: over several the gradient by W leaves a CPU's fast products, which
    doubles the time of a step; a GPU does not mind.

    A TPU lays out what it computes for the reader, head by head for attention. With rows and tokens as one axis it
    cannot, and copies queries, keys, values and their gradients twice.
    """

    def as_it_is(x: jax.Array, kernel_DV: jax.Array, bias_V: jax.Array | None) -> jax.Array:
        out = jnp.matmul(x, kernel_DV, preferred_element_type=dtype)
        return out if bias_V is None else out + bias_V.astype(out.dtype)

    def as_one(x: jax.Array, kernel_DV: jax.Array, bias_V: jax.Array | None) -> jax.Array:
        return as_it_is(_flat(x), kernel_DV, bias_V).reshape(*x.shape[:-1], kernel_DV.shape[-1])

    if x.ndim == 2:
        return as_it_is(x, kernel_DV, bias_V)
    return jax.lax.platform_dependent(x, kernel_DV, bias_V, tpu=as_it_is, default=as_one)


def product_by_columns(x: jax.Array, kernel_VD: jax.Array, dtype: Any, bias_V: jax.Array | None = None) -> jax.Array:
    """x W + b where W lies transposed, as values only.

    W is the left factor: of a single row by a right one that is transposed, XLA's CPU compiler makes scalar sums.
    """
    out = jnp.matmul(kernel_VD, _flat(x).T, preferred_element_type=dtype).T.reshape(*x.shape[:-1], len(kernel_VD))
    return out if bias_V is None else out + bias_V.astype(out.dtype)


def _flat(x: jax.Array) -> jax.Array:
    return x.reshape(math.prod(x.shape[:-1]), x.shape[-1])


def _summed(dout: jax.Array) -> jax.Array:
    return jnp.sum(dout, tuple(range(dout.ndim - 1)))


def _summed_flat(dout: jax.Array) -> jax.Array:
    return _summed(_flat(dout))


def _contracted(x: jax.Array, dout: jax.Array) -> jax.Array:
    return _flat(x).T @ _flat(dout)


def _contracted_as_it_is(x: jax.Array, dout: jax.Array) -> jax.Array:
    leading = list(range(x.ndim - 1))
    return jnp.tensordot(x, dout, (leading, leading))


def _contracted_on_cpu(x: jax.Array, dout: jax.Array) -> jax.Array:
    x_MD, dout_MV = _flat(x), _flat(dout)
    if x_MD.shape[1] <= dout_MV.shape[1]:
        return transposed(x_MD) @ dout_MV
    return jax.lax.optimization_barrier(transposed(dout_MV) @ x_MD).T


@jax.custom_vjp
def mixed(shares_BTU: jax.Array, x_BUD: jax.Array) -> jax.Array:
    """[B, T, D]: sums of rows of x by given shares, which have no gradient; in the dtype of x."""
    return _product(shares_BTU, x_BUD)


def _mixed_forward(shares_BTU: jax.Array, x_BUD: jax.Array) -> tuple[jax.Array, jax.Array]:
    return mixed(shares_BTU, x_BUD), shares_BTU


def _mixed_backward(shares_BTU: jax.Array, dsums_BTD: jax.Array) -> tuple[None, jax.Array]:
    return None, _product(transposed(shares_BTU), dsums_BTD)


mixed.defvjp(_mixed_forward, _mixed_backward)


@jax.custom_vjp
def scores(x_BTD: jax.Array, y_BCD: jax.Array) -> jax.Array:
    """[B, T, C] float32: every row of x by every row of y. Backward multiplies in their dtype."""
    return jnp.einsum("btd,bcd->btc", x_BTD, y_BCD, preferred_element_type=jnp.float32)


def _scores_forward(x_BTD: jax.Array, y_BCD: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return scores(x_BTD, y_BCD), (x_BTD, y_BCD)


def _scores_backward(factors: tuple[jax.Array, jax.Array], dscores_BTC: jax.Array) -> tuple[jax.Array, jax.Array]:
    x_BTD, y_BCD = factors
    return _product(dscores_BTC, y_BCD), _product(transposed(dscores_BTC), x_BTD)


scores.defvjp(_scores_forward, _scores_backward)


def _product(left_BTU: jax.Array, right_BUD: jax.Array) -> jax.Array:
    return jnp.einsum("btu,bud->btd", left_BTU.astype(right_BUD.dtype), right_BUD)


def transposed(x: jax.Array) -> jax.Array:
    """The last two axes exchanged, and apart: else the compiler puts the transposition back into the product."""
    return jax.lax.optimization_barrier(x.mT)


def kept_apart(x: Any) -> Any:
    """Arrays that a GPU writes to memory as they are, where its compiler would have every reader compute them again."""
    return jax.lax.platform_dependent(x, cuda=jax.lax.optimization_barrier, default=lambda x: x)
