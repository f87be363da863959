"""Claims about products with gradients of their own: the definition's, and none leaves the fast path of a CPU."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gptjax.models import products

on_cpu = pytest.mark.skipif(jax.default_backend() != "cpu", reason="this is about the compiler for CPUs")
RANDOM = np.random.default_rng(0)
B, T, U, D = 3, 4, 6, 5
LEFT_BTU, X_BUD, Y_BTD = (
    jnp.asarray(RANDOM.normal(size=shape), jnp.float32) for shape in ((B, T, U), (B, U, D), (B, T, D))
)


def pulled(function, *factors):
    """The value, and the gradients of its product with fixed numbers."""
    value, pull = jax.vjp(function, *factors)
    return value, pull(jnp.asarray(np.random.default_rng(1).normal(size=value.shape), value.dtype))


def close(found, expected):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), found, expected)


def test_sums_by_shares_and_their_gradient_are_those_of_the_definition():
    def defined(x_BUD):
        return jnp.sum(LEFT_BTU[..., None] * x_BUD[:, None], axis=2)

    close(pulled(lambda x: products.mixed(LEFT_BTU, x), X_BUD), pulled(defined, X_BUD))


def test_scores_and_their_gradients_are_those_of_the_definition():
    def defined(x_BTD, y_BCD):
        return jnp.sum(x_BTD[:, :, None] * y_BCD[:, None], axis=-1)

    close(pulled(products.scores, Y_BTD, X_BUD), pulled(defined, Y_BTD, X_BUD))


def test_scores_of_small_floats_are_float32_and_gradients_have_the_factors_dtype():
    small = [leaf.astype(jnp.bfloat16) for leaf in (Y_BTD, X_BUD)]
    value, gradients = pulled(products.scores, *small)
    assert value.dtype == jnp.float32
    assert [gradient.dtype.name for gradient in gradients] == ["bfloat16"] * 2
    assert products.mixed(LEFT_BTU, small[1]).dtype == jnp.bfloat16


WIDTHS = ((5, 8), (8, 5))
"""Of a product's features and its result: the narrower one is transposed for the gradient of the weights."""


@pytest.mark.parametrize("shape_DV", WIDTHS)
@pytest.mark.parametrize("leading", [(7,), (2, 3), (2, 3, 4)])
@pytest.mark.parametrize("platform", ["cpu", "tpu", "cuda"])
def test_a_product_and_its_gradients_are_those_of_the_definition(shape_DV, leading, platform, monkeypatch):
    def chosen(*args, default, **forms):
        return forms.get(platform, default)(*args)

    monkeypatch.setattr(jax.lax, "platform_dependent", chosen)
    shapes = ((*leading, shape_DV[0]), shape_DV, shape_DV[1:])
    factors = [jnp.asarray(RANDOM.normal(size=shape), jnp.float32) for shape in shapes]

    def defined(x, kernel_DV, *bias_V):
        return jnp.sum(x[..., None] * kernel_DV, axis=-2) + sum(bias_V)

    for given in (factors, factors[:2]):
        close(pulled(lambda x, w, *b: products.product(x, w, jnp.float32, *b), *given), pulled(defined, *given))


def test_only_a_tpu_multiplies_rows_and_tokens_apart():
    product = jax.jit(lambda x, w: products.product(x, w, jnp.float32)).trace(jnp.ones((3, 4, 5)), jnp.ones((5, 6)))
    for platform, shape in (("cpu", "12x6"), ("cuda", "12x6"), ("tpu", "3x4x6")):
        text = product.lower(lowering_platforms=(platform,)).as_text()
        assert re.findall(r"dot_general.*?-> tensor<([\dx]+)xf32>", text) == [shape]


@pytest.mark.parametrize("shape_DV", WIDTHS)
def test_a_product_of_small_floats_may_be_float32_and_its_gradients_have_the_factors_dtype(shape_DV):
    x_MD, kernel_DV = jnp.ones((7, shape_DV[0]), jnp.bfloat16), jnp.ones(shape_DV, jnp.bfloat16)
    value, gradients = pulled(lambda *xs: products.product(*xs, jnp.float32), x_MD, kernel_DV)
    assert value.dtype == jnp.float32
    assert [gradient.dtype.name for gradient in gradients] == ["bfloat16"] * 2


def traced(shape_DV):
    """The gradients of a product of 300 tokens, one side 100 wide and the other 200."""

    def total(x_MD, kernel_DV):
        return jnp.sum(jnp.sin(products.product(x_MD, kernel_DV, jnp.float32)))

    return jax.jit(jax.grad(total, argnums=(0, 1))).trace(jnp.ones((300, shape_DV[0])), jnp.ones(shape_DV))


LARGE_WIDTHS = ((100, 200), (200, 100))


@on_cpu
@pytest.mark.parametrize("shape_DV", LARGE_WIDTHS)
def test_no_gradient_of_a_product_has_a_transposed_left_factor_once_compiled(shape_DV):
    text = traced(shape_DV).lower().compile().as_text()
    assert re.findall(r" dot\(.*?lhs_contracting_dims=\{(\d)\}", text) == ["1"] * 3


@pytest.mark.parametrize("shape_DV", LARGE_WIDTHS)
def test_the_narrower_side_is_transposed_and_only_for_a_cpu(shape_DV):
    barrier = r"optimization_barrier .*?: tensor<(\w+)xf32>"
    assert re.findall(barrier, traced(shape_DV).lower(lowering_platforms=("cpu",)).as_text())[0] == "100x300"
    for platform in ("cuda", "tpu"):
        assert "optimization_barrier" not in traced(shape_DV).lower(lowering_platforms=(platform,)).as_text()


@on_cpu
def test_no_compiled_product_has_a_transposed_left_factor():
    x_BTD, y_BCD = (jnp.ones((8, size, 100)) for size in (16, 32))

    def total(x_BTD, y_BCD):
        scores_BTC = products.scores(x_BTD, y_BCD)
        return jnp.sum(jnp.sin(scores_BTC)) + jnp.sum(products.mixed(jnp.tanh(scores_BTC), y_BCD) ** 3)

    text = jax.jit(jax.grad(total, argnums=(0, 1))).lower(x_BTD, y_BCD).compile().as_text()
    contracted = re.findall(r" dot\(.*?lhs_contracting_dims=\{(\d)\}", text)
    assert len(contracted) == 5
    assert set(contracted) == {"2"}
