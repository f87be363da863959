"""Claims about looking rows up: the gradient is the sum over all tokens, however often one repeats."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gptjax.models.embed import look_up, merged

pytestmark = pytest.mark.usefixtures("optimised")

V, B, T, D = 50, 4, 70, 6
RANDOM = np.random.default_rng(0)
ZIPF_BT = np.minimum(RANDOM.zipf(1.3, (B, T)) - 1, V - 1).astype(np.int32)
SLOPES_BTD = RANDOM.normal(size=(B, T, D))


def in_float64(slopes_BTD):
    gradient_VD = np.zeros((V, D))
    np.add.at(gradient_VD, ZIPF_BT, np.asarray(slopes_BTD, np.float64))
    return gradient_VD


def backward(table_VD, ids_BT, slopes_BTD):
    return jax.vjp(look_up, table_VD, ids_BT)[1](slopes_BTD)[0]


@pytest.mark.parametrize(("dtype", "share"), [("float32", 1e-6), ("bfloat16", 2**-8)])
def test_the_gradient_of_a_row_is_the_sum_over_its_tokens_added_up_in_float32(dtype, share):
    table_VD, slopes_BTD = jnp.zeros((V, D), dtype), jnp.asarray(SLOPES_BTD, dtype)
    found = jax.jit(backward)(table_VD, ZIPF_BT, slopes_BTD)
    expected = in_float64(slopes_BTD)
    assert found.dtype == dtype
    assert np.bincount(ZIPF_BT.ravel()).max() > 60  # so often that a sum in bfloat16 would be far off
    np.testing.assert_allclose(np.asarray(found, np.float64), expected, rtol=share, atol=share)


@pytest.mark.parametrize("block_tokens", [16, 70, 128])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_tokens_merged_in_blocks_keep_their_sum_and_are_written_once_a_block(dtype, block_tokens):
    slopes_BTD = jnp.asarray(SLOPES_BTD, dtype)
    ids_BnK, sums_BnKD = merged(jnp.asarray(ZIPF_BT), slopes_BTD, V, block_tokens)
    for block_K in ids_BnK.reshape(-1, ids_BnK.shape[-1]):
        kept = block_K[block_K < V]
        assert len(set(kept.tolist())) == len(kept)
    gradient_VD = np.zeros((V + 1, D))
    np.add.at(gradient_VD, np.asarray(ids_BnK), np.asarray(sums_BnKD, np.float64))
    np.testing.assert_allclose(gradient_VD[:V], in_float64(slopes_BTD), rtol=1e-5, atol=1e-5)


def lowered(platform):
    shapes = [jax.ShapeDtypeStruct((V, D), jnp.bfloat16), jax.ShapeDtypeStruct((B, T), jnp.int32)]
    slopes_BTD = jax.ShapeDtypeStruct((B, T, D), jnp.bfloat16)
    return jax.jit(backward).trace(*shapes, slopes_BTD).lower(lowering_platforms=(platform,)).as_text()


@pytest.mark.parametrize(("platform", "products"), [("cuda", 1), ("rocm", 1), ("cpu", 0), ("tpu", 0)])
def test_tokens_are_merged_on_a_gpu_and_scattered_as_they_are_elsewhere(platform, products):
    assert lowered(platform).count("stablehlo.dot_general") == products


def test_rows_are_those_of_the_table():
    table_VD = RANDOM.normal(size=(V, D)).astype(np.float32)
    np.testing.assert_array_equal(look_up(table_VD, ZIPF_BT), table_VD[ZIPF_BT])
