"""Claims about the layers' own derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gptjax.models.layers import gelu_tanh, rotary_angles, turned, turned_by_product

pytestmark = pytest.mark.usefixtures("optimised")


@pytest.mark.parametrize(("dtype", "tolerance"), [(jnp.float32, 3e-6), (jnp.bfloat16, 1e-2)])
def test_the_gelu_is_jax_s_and_its_slope_the_derivative(dtype, tolerance):
    x = jnp.linspace(-12, 12, 4001).astype(dtype)
    assert np.array_equal(gelu_tanh(x), jax.nn.gelu(x, approximate=True))
    found, x64 = jax.vmap(jax.grad(gelu_tanh))(x), np.asarray(x, np.float64)
    tanh = np.tanh((2 / np.pi) ** 0.5 * (x64 + 0.044715 * x64**3))
    inner = (2 / np.pi) ** 0.5 * (1 + 3 * 0.044715 * x64**2)
    assert found.dtype == dtype
    np.testing.assert_allclose(
        np.asarray(found, np.float64), (1 + tanh + x64 * (1 - tanh**2) * inner) / 2, atol=tolerance
    )
    far = [float(jax.grad(gelu_tanh)(jnp.float32(x))) for x in (-1e4, 1e4)]
    assert far == [0, 1]
    assert float(jax.grad(jax.grad(gelu_tanh))(jnp.float32(-12))) == 0


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="what a CPU's compiler keeps")
def test_no_array_is_kept_between_the_passes_for_the_gelu_but_what_goes_in_and_out():
    shape = jax.ShapeDtypeStruct((256, 256), jnp.float32)

    def scratch(activation):
        def loss(x, *kernels):
            for kernel in kernels:
                x = activation(x @ kernel)
            return jnp.sum(x**2)

        lowered = jax.jit(jax.grad(loss, argnums=tuple(range(1, 9)))).lower(*[shape] * 9)
        return lowered.compile().memory_analysis().temp_size_in_bytes / (4 * 256**2)

    arrays = scratch(lambda x: jax.nn.gelu(x, approximate=True)) - scratch(gelu_tanh)
    assert arrays > 6


@pytest.mark.parametrize(("dtype", "tolerance"), [(jnp.float32, 1e-6), (jnp.bfloat16, 1e-2)])
def test_turning_by_a_product_is_turning_in_value_and_gradient(dtype, tolerance):
    keys = jax.random.split(jax.random.key(0), 2)
    x_BTNH, cotangent = (jax.random.normal(key, (2, 7, 3, 8), jnp.float32).astype(dtype) for key in keys)
    angles = rotary_angles(jnp.arange(7)[None] + jnp.array([[0], [5]]), 8, 10_000.0)
    plain, by_product = (jax.vjp(lambda x, form=form: form(x, *angles), x_BTNH) for form in (turned, turned_by_product))
    pairs = zip((plain[0], *plain[1](cotangent)), (by_product[0], *by_product[1](cotangent)), strict=True)
    for found, other in pairs:
        assert found.dtype == other.dtype == dtype
        np.testing.assert_allclose(np.float32(found), np.float32(other), rtol=tolerance, atol=tolerance)
    assert not np.allclose(np.float32(plain[0]), np.float32(x_BTNH), atol=0.1)
