"""Claims about layer normalisation: its own backward pass is the derivative."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gptjax.models.norm import layer_norm

RANDOM = np.random.default_rng(0)
X, DOUT = RANDOM.normal(1.0, 3.0, (3, 5, 16)), RANDOM.normal(size=(3, 5, 16))
SCALE_D, BIAS_D = RANDOM.normal(1.0, 0.5, 16), RANDOM.normal(size=16)
EPS = 0.1


def plain(x, scale_D, bias_D):
    centred = x - x.mean(-1, keepdims=True)
    out = centred / jnp.sqrt(jnp.square(centred).mean(-1, keepdims=True) + EPS) * scale_D
    return out if bias_D is None else out + bias_D


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("dtype", "share"), [("float32", 2e-6), ("bfloat16", 2e-2)])
def test_value_and_gradient_equal_differentiation_in_float64(dtype, share, bias):
    given = [jnp.asarray(a, dtype) for a in (X, SCALE_D, BIAS_D)]
    given = given if bias else [*given[:2], None]
    dout = jnp.asarray(DOUT, dtype)
    out, pull = jax.vjp(lambda *a: layer_norm(*a, EPS), *given)
    with jax.enable_x64(True):
        exact = jax.tree.map(lambda a: jnp.asarray(np.asarray(a, np.float64)), (given, dout))
        expected, expected_pull = jax.vjp(plain, *exact[0])
        slopes = expected_pull(exact[1])
    for found, reference in zip(jax.tree.leaves((out, pull(dout))), jax.tree.leaves((expected, slopes)), strict=True):
        assert found.dtype == dtype
        gap = np.abs(np.asarray(found, np.float64) - np.asarray(reference)).max()
        assert gap <= share * np.abs(np.asarray(reference)).max()


def test_half_precision_keeps_no_float32_copy_of_its_input():
    given = [jax.ShapeDtypeStruct(a.shape, jnp.bfloat16) for a in (X, SCALE_D, BIAS_D)]
    _, pull = jax.eval_shape(lambda *a: jax.vjp(lambda *b: layer_norm(*b, EPS), *a), *given)
    kept = [(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(pull)]
    assert (X.shape, np.dtype("float32")) not in kept
    assert kept.count((X.shape, jnp.dtype("bfloat16"))) == 1
