"""Claims about losses of looked-up rows: by blocks they are what they are of the whole batch, value and gradient."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AbstractMesh, AxisType

from gptjax.models.embed import look_up
from gptjax.objectives import blocks
from gptjax.train import sharding
from gptjax.types import Place

HERE = Place("cpu")
V, D, B, T = 23, 4, 131, 5
RANDOM = np.random.default_rng(0)
BATCH = (
    ((RANDOM.integers(0, V, (B, T)),), (RANDOM.integers(0, 3, (B, T)), RANDOM.integers(0, V, (B, 2)))),
    RANDOM.integers(1, 4, (B, T)),
)
"""More rows than a block of every lane has, and no multiple of a block's; the ids of one lookup repeat in every row."""


def nats(looked, weights_BT):
    """Every row counts by its weights, so that rows of zeros count nothing."""
    (x_BTD,), (y_BTD, z_BKD) = looked
    own_BT = jnp.sum(x_BTD * y_BTD, axis=-1)
    cross_BT = jnp.einsum("btd,bkd->bt", x_BTD, z_BKD)
    return jnp.sum(weights_BT * jnp.cos(own_BT + cross_BT).astype(jnp.float32)), jnp.sum(weights_BT)


def whole(tables, batch):
    """The same without blocks, differentiated by JAX through the lookups."""
    ids, rest = batch
    looked = tuple(tuple(look_up(table, at) for at in places) for table, places in zip(tables, ids, strict=True))
    return nats(looked, rest)


def tables():
    return tuple(jnp.asarray(np.random.default_rng(seed).normal(size=(V, D)), jnp.float32) for seed in (1, 2))


def close(found, expected):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-4), found, expected)


def test_blocks_give_the_sum_count_and_gradient_of_the_whole_batch():
    ours = jax.jit(lambda t: blocks.summed(nats, HERE, t, *BATCH))
    assert ours.lower(tables()).as_text().count("stablehlo.while") == blocks.LANES
    close(ours(tables()), whole(tables(), BATCH))
    # Twice the sum, so that a gradient that leaves out what comes after the sum is seen.
    found = jax.jit(jax.value_and_grad(lambda t: 2.0 * blocks.summed(nats, HERE, t, *BATCH)[0]))(tables())
    close(found, jax.value_and_grad(lambda t: 2.0 * whole(t, BATCH)[0])(tables()))


def test_rows_of_a_block_that_the_batch_does_not_fill_count_nothing():
    one = jax.tree.map(lambda leaf: leaf[:1], BATCH)
    few = jax.tree.map(lambda leaf: leaf[: blocks.BLOCK_ROWS + 1], BATCH)
    for part in (one, few):
        close(blocks.summed(nats, HERE, tables(), *part), whole(tables(), part))


def test_gradients_of_small_floats_are_added_up_in_float32():
    def counted(looked, weights_BT):
        (y_BTD,) = looked[0]
        return jnp.sum(y_BTD.astype(jnp.float32) * weights_BT[..., None]), jnp.sum(weights_BT)

    weights_BT, table = RANDOM.integers(1, 4, (B, T)), jnp.zeros((2, D), "bfloat16")
    ids = ((np.ones((B, T), int),),)
    (slope_VD,) = jax.grad(lambda t: blocks.summed(counted, HERE, t, ids, weights_BT)[0])((table,))
    assert slope_VD.dtype.name == "bfloat16"
    # Added up in bfloat16 ones would be lost from 256 on.
    np.testing.assert_allclose(np.asarray(slope_VD[1], np.float32), weights_BT.sum(), rtol=2**-8)


@pytest.mark.parametrize(("platform", "loops"), [("cpu", blocks.LANES), ("cuda", 0), ("tpu", 0)])
def test_only_a_cpu_reads_the_batch_by_blocks(platform, loops):
    traced = jax.jit(jax.grad(lambda t: blocks.summed(nats, HERE, t, *BATCH)[0])).trace(tables())
    assert traced.lower(lowering_platforms=(platform,)).as_text().count("stablehlo.while") == loops


def test_devices_meet_once_however_many_blocks_there_are():
    mesh = AbstractMesh((1, 2, 1), sharding.AXES, axis_types=(AxisType.Auto,) * 3)
    place = Place("cpu", mesh, rows=("data", "fsdp"), heads=("tensor",))
    even = jax.tree.map(lambda leaf: leaf[: B - 1], BATCH)
    traced = jax.jit(jax.grad(lambda t: blocks.summed(nats, place, t, *even)[0])).trace(tables())
    text = traced.lower(lowering_platforms=("cpu",)).as_text()
    bodies = re.findall(r"stablehlo\.while.*?\n( *)} do {\n(.*?)\n\1}", text, re.DOTALL)
    assert len(bodies) == blocks.LANES // 2
    assert all("all_reduce" not in body for _, body in bodies)
    assert "all_reduce" in text
