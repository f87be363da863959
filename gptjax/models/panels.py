"""Matrices cut into panels of columns, each in one piece: how a CPU reads a matrix that few rows are multiplied by.

A product takes some columns at a time: of a whole matrix they lie pages apart in every row, of a panel one behind the
other. With one row it then takes little longer than memory takes to give the matrix.

Axes: J panels of P columns; M rows.
"""

from typing import Any

import jax
import jax.numpy as jnp

from gptjax.types import Params

COLUMNS = 64
"""Of one panel: four cache lines of float32. Of 32, 64 and 128 the fastest for 1 and for 16 rows."""
FEW_ROWS = 32
"""Up to which panels pay, each meeting its own copy of the rows. More are multiplied by the matrix put together again,
which is worth it once, for a prompt, and not in a loop."""


def cut(params: Params) -> Params:
    """Parameters with "panels" [J, D, P] for every "kernel" [D, F] that can be cut."""
    if isinstance(params, list):
        return [cut(x) for x in params]
    if not isinstance(params, dict):
        return params
    return dict(
        _cut(x) if name == "kernel" and x.shape[1] % COLUMNS == 0 else (name, cut(x)) for name, x in params.items()
    )


def _cut(kernel_DF: jax.Array) -> tuple[str, jax.Array]:
    return "panels", kernel_DF.reshape(len(kernel_DF), -1, COLUMNS).swapaxes(0, 1)


def product(x_MD: jax.Array, panels_JDP: jax.Array, dtype: Any) -> jax.Array:
    """x W, [M, F], accumulated and returned in `dtype`."""
    J, D, P = panels_JDP.shape
    if len(x_MD) > FEW_ROWS:
        return jnp.matmul(x_MD, panels_JDP.swapaxes(0, 1).reshape(D, J * P), preferred_element_type=dtype)
    x_JMD = jnp.broadcast_to(x_MD, (J, *x_MD.shape))
    return jnp.matmul(x_JMD, panels_JDP, preferred_element_type=dtype).swapaxes(0, 1).reshape(len(x_MD), J * P)
