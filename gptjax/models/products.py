"""Products of matrices whose gradients are computed as fast as their values.

The gradient of a product has factors that are transposed. Where the left one is, XLA's CPU compiler leaves its library
of fast products: small ones take twice the time, an update of a small model 6% more. So here that factor is
written out transposed first; of a weight's gradient, the narrower of the two.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def product(x_MD: jax.Array, kernel_DV: jax.Array, dtype: Any) -> jax.Array:
    """x W, accumulated in float32 and returned in `dtype`; backward multiplies in the dtype of x.

    Left to itself JAX would multiply a float32 gradient of the logits with bfloat16 operands cast up to it, the slow
    way through the largest product of the model. There is no forward-mode derivative (`jax.jvp`).
    """
    return jnp.matmul(x_MD, kernel_DV, preferred_element_type=dtype)


def _product_forward(
    x_MD: jax.Array, kernel_DV: jax.Array, dtype: Any
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return product(x_MD, kernel_DV, dtype), (x_MD, kernel_DV)


def _product_backward(
    dtype: Any, saved: tuple[jax.Array, jax.Array], dout_MV: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x_MD, kernel_DV = saved
    dout_MV = dout_MV.astype(x_MD.dtype)
    dkernel_DV = jax.lax.platform_dependent(x_MD, dout_MV, cpu=_contracted_on_cpu, default=_contracted)
    return dout_MV @ kernel_DV.T, dkernel_DV


product.defvjp(_product_forward, _product_backward)


def _contracted(x_MD: jax.Array, dout_MV: jax.Array) -> jax.Array:
    return x_MD.T @ dout_MV


def _contracted_on_cpu(x_MD: jax.Array, dout_MV: jax.Array) -> jax.Array:
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
