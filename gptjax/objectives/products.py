"""Products of many small matrices, one a row, whose gradients a CPU computes as fast as their values.

The gradient of a product has factors that are transposed. Where the left one is, XLA's CPU compiler leaves its library
of fast small products, and takes twice the time. Here the few numbers of that factor are written out transposed first.
"""

import jax
import jax.numpy as jnp


@jax.custom_vjp
def mixed(shares_BTU: jax.Array, x_BUD: jax.Array) -> jax.Array:
    """[B, T, D]: sums of rows of x by given shares, which have no gradient; in the dtype of x."""
    return _product(shares_BTU, x_BUD)


def _mixed_forward(shares_BTU: jax.Array, x_BUD: jax.Array) -> tuple[jax.Array, jax.Array]:
    return mixed(shares_BTU, x_BUD), shares_BTU


def _mixed_backward(shares_BTU: jax.Array, dsums_BTD: jax.Array) -> tuple[None, jax.Array]:
    return None, _product(_transposed(shares_BTU), dsums_BTD)


mixed.defvjp(_mixed_forward, _mixed_backward)


@jax.custom_vjp
def scores(x_BTD: jax.Array, y_BCD: jax.Array) -> jax.Array:
    """[B, T, C] float32: every row of x by every row of y. Backward multiplies in their dtype."""
    return jnp.einsum("btd,bcd->btc", x_BTD, y_BCD, preferred_element_type=jnp.float32)


def _scores_forward(x_BTD: jax.Array, y_BCD: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return scores(x_BTD, y_BCD), (x_BTD, y_BCD)


def _scores_backward(factors: tuple[jax.Array, jax.Array], dscores_BTC: jax.Array) -> tuple[jax.Array, jax.Array]:
    x_BTD, y_BCD = factors
    return _product(dscores_BTC, y_BCD), _product(_transposed(dscores_BTC), x_BTD)


scores.defvjp(_scores_forward, _scores_backward)


def _product(left_BTU: jax.Array, right_BUD: jax.Array) -> jax.Array:
    return jnp.einsum("btu,bud->btd", left_BTU.astype(right_BUD.dtype), right_BUD)


def _transposed(left_BTU: jax.Array) -> jax.Array:
    # Apart, or the compiler puts the transposition back into the product.
    return jax.lax.optimization_barrier(left_BTU.swapaxes(1, 2))
