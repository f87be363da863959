"""Rows of a table by number, with a gradient that repeated numbers cannot slow down or round away."""

import jax
import jax.numpy as jnp

BLOCK_TOKENS = 1024
"""Neighbouring tokens among which equal ones are added up by a product."""


@jax.custom_vjp
def look_up(table_VD: jax.Array, ids_BT: jax.Array) -> jax.Array:
    """[V, D] and ids [B, T] -> rows [B, T, D]; the gradient of a row is added up in float32 whatever its dtype is.

    On a GPU adding to a row is a compare-and-swap loop (float32 scatter of jaxlib 0.10 and 0.11), and in text a few
    tokens make up much of every batch: all their gradients would queue for the same addresses. There equal tokens of a
    row are added up first, so that a row of the table is written at most once for every 1,024 tokens.
    """
    return table_VD[ids_BT]


def _forward(table_VD: jax.Array, ids_BT: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return look_up(table_VD, ids_BT), (ids_BT, table_VD[:, :0])


def _backward(saved: tuple[jax.Array, jax.Array], drows_BTD: jax.Array) -> tuple[jax.Array, None]:
    ids_BT, table_V0 = saved
    zeros_VD = jnp.zeros((len(table_V0), drows_BTD.shape[-1]), jnp.float32)
    return add_rows(zeros_VD, ids_BT, drows_BTD).astype(table_V0.dtype), None


look_up.defvjp(_forward, _backward)


def add_rows(table_VD: jax.Array, ids_BT: jax.Array, rows_BTD: jax.Array) -> jax.Array:
    """A float32 table with `rows_BTD` added to its rows `ids_BT`, on a GPU after equal ids are merged."""

    def scattered(table_VD: jax.Array, ids_BT: jax.Array, rows_BTD: jax.Array) -> jax.Array:
        return table_VD.at[ids_BT].add(rows_BTD.astype(jnp.float32), mode="drop")

    def scattered_once(table_VD: jax.Array, ids_BT: jax.Array, rows_BTD: jax.Array) -> jax.Array:
        return scattered(table_VD, *merged(ids_BT, rows_BTD, len(table_VD)))

    return jax.lax.platform_dependent(
        table_VD, ids_BT, rows_BTD, cuda=scattered_once, rocm=scattered_once, default=scattered
    )


def merged(
    ids_BT: jax.Array, drows_BTD: jax.Array, absent: int, block_tokens: int = BLOCK_TOKENS
) -> tuple[jax.Array, jax.Array]:
    """(ids_BnK, float32 sums_BnKD) of n blocks: the first of equal ids has their sum, the others become `absent`.

    The sum is a product with the matrix of which tokens of a block are equal: 2 K D operations a token on the matrix
    units, and no exchange between devices that hold different rows, which sorting a whole batch would need.
    """
    B, T, D = drows_BTD.shape
    K = min(T, block_tokens)
    spare = -T % K
    ids_BnK = jnp.pad(ids_BT, [(0, 0), (0, spare)], constant_values=absent).reshape(B, -1, K)
    drows_BnKD = jnp.pad(drows_BTD, [(0, 0), (0, spare), (0, 0)]).reshape(B, -1, K, D)
    equal_BnKK = ids_BnK[..., :, None] == ids_BnK[..., None, :]
    repeated_BnK = jnp.any(equal_BnKK & jnp.tri(K, k=-1, dtype=bool), axis=-1)
    sums_BnKD = jnp.einsum(
        "bnij,bnjd->bnid",
        equal_BnKK.astype(drows_BTD.dtype),
        drows_BnKD,
        precision=jax.lax.Precision.HIGHEST,
        preferred_element_type=jnp.float32,
    )
    return jnp.where(repeated_BnK, absent, ids_BnK), sums_BnKD
