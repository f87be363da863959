"""Claims about the layers' own derivatives."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gptjax.models.layers import gelu_tanh, rotary_angles, rotate, turned

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


ANGLES = rotary_angles(jnp.arange(7)[None] + jnp.array([[0], [5]]), 8, 10_000.0)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_a_tpu_turns_as_others_do_in_value_and_gradient(dtype, monkeypatch):
    def chosen(*args, tpu, **_):
        return tpu(*args)

    keys = jax.random.split(jax.random.key(0), 2)
    x_BTNH, cotangent = (jax.random.normal(key, (2, 7, 3, 8), jnp.float32).astype(dtype) for key in keys)
    plain, pull = jax.vjp(lambda x: turned(x, *ANGLES), x_BTNH)
    here, pull_here = jax.vjp(lambda x: rotate(x, ANGLES), x_BTNH)
    monkeypatch.setattr(jax.lax, "platform_dependent", chosen)
    there, pull_there = jax.vjp(lambda x: rotate(x, ANGLES), x_BTNH)
    for expected, *others in ((plain, here, there), (*pull(cotangent), *pull_here(cotangent), *pull_there(cotangent))):
        for found in others:
            assert found.dtype == dtype
            np.testing.assert_allclose(np.float32(found), np.float32(expected), rtol=1e-6, atol=1e-6)
    assert not np.allclose(np.float32(plain), np.float32(x_BTNH), atol=0.1)


@pytest.mark.parametrize(("dtype", "name"), [(jnp.float32, "f32"), (jnp.bfloat16, "bf16")])
def test_only_a_tpu_turns_by_products_and_they_are_exact(dtype, name):
    x_BTNH = jnp.ones((2, 7, 3, 8), dtype)
    both = jax.jit(lambda x, angles: jax.vjp(lambda x: rotate(x, angles), x)[1](x)).trace(x_BTNH, ANGLES)
    for platform in ("cpu", "cuda"):
        assert "dot_general" not in both.lower(lowering_platforms=(platform,)).as_text()
    (product,) = re.findall(r"dot_general.*", both.lower(lowering_platforms=("tpu",)).as_text())
    assert f"x{name}>, tensor<8x8x{name}>) -> tensor<2x7x3x8xf32>" in product
    assert product.count("HIGHEST") == 2
