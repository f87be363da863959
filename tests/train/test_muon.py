"""Claims about orthogonalisation: Optax's values, in fewer operations."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AbstractMesh, AxisType

from gptjax.models.gpt import GPT
from gptjax.train import sharding
from gptjax.train.muon import _iterated, _through_gram, orthogonalised
from gptjax.train.optim import Muon, roles
from gptjax.train.step import ANYWHERE

pytestmark = pytest.mark.usefixtures("optimised")

RANDOM = np.random.default_rng(0)


def with_singular_values(rows, columns, values):
    left, _ = np.linalg.qr(RANDOM.normal(size=(rows, rows)))
    right, _ = np.linalg.qr(RANDOM.normal(size=(columns, rows)))
    matrix = (left * values) @ right.T
    return matrix / np.linalg.norm(matrix)


def in_float64(x_MN):
    for _ in range(5):
        gram = x_MN @ x_MN.T
        x_MN = 3.4445 * x_MN + (-4.7750 * gram + 2.0315 * gram @ gram) @ x_MN
    return x_MN


@pytest.mark.parametrize("shape", [(3, 16, 16), (2, 16, 64), (2, 64, 16), (16, 24), (2, 3, 8, 16)])
def test_every_matrix_is_iterated_by_itself_whatever_its_shape(shape):
    matrices = RANDOM.normal(size=shape)
    matrices /= np.linalg.norm(matrices, axis=(-2, -1), keepdims=True)
    found = np.asarray(jax.jit(orthogonalised, static_argnums=1)(jnp.asarray(matrices, jnp.float32), 5))
    for x, y in zip(matrices.reshape(-1, *shape[-2:]), found.reshape(-1, *shape[-2:]), strict=True):
        expected = in_float64(x) if shape[-2] <= shape[-1] else in_float64(x.T).T
        np.testing.assert_allclose(y, expected, atol=1e-5)


@pytest.mark.parametrize("decades", [0, 2, 4, 8])
def test_a_wide_matrix_through_its_gram_matrix_is_the_same_even_where_it_is_nearly_singular(decades):
    x_MN = with_singular_values(32, 128, np.logspace(0, -decades, 32))
    expected = in_float64(x_MN)
    for form in (_iterated, _through_gram):
        assert np.abs(form(jnp.asarray(x_MN, jnp.float32), 5) - expected).max() < 2e-3 * np.abs(expected).max()


def operations(jaxpr):
    """Multiplications and additions of all products; of branches the costliest."""
    total = 0
    for eqn in jaxpr.eqns:
        if eqn.primitive.name == "dot_general":
            (contracted, _), _ = eqn.params["dimension_numbers"]
            total += 2 * eqn.outvars[0].aval.size * np.prod([eqn.invars[0].aval.shape[axis] for axis in contracted])
        values = [value for held in eqn.params.values() for value in (held if isinstance(held, tuple) else (held,))]
        inner = [operations(getattr(value, "jaxpr", value)) for value in values if hasattr(value, "eqns")]
        total += max(inner, default=0) * eqn.params.get("length", 1)
    return total


def gpt2():
    """GPT-2's smallest size, the shapes of its parameters, Muon's rule, and the shapes of its state."""
    model = GPT(layers=12, width=768, heads=12, mlp_width=3072, context=1024)
    params = jax.eval_shape(model.build(50_257, 50_304).init, jax.random.key(0))
    rule = Muon().build(lambda step: 1.0)
    return model, params, rule, jax.eval_shape(rule.init, params)


def test_muon_costs_at_most_three_percent_of_a_step_of_half_a_million_tokens():
    model, params, rule, state = gpt2()
    cost = operations(jax.make_jaxpr(rule.update)(params, state, params).jaxpr)
    kernels = [
        x for x, role in zip(jax.tree.leaves(params), jax.tree.leaves(roles(params)), strict=True) if role == "matrix"
    ]
    by_hand = sum(
        x.shape[0] * 5 * (4 * min(x.shape[1:]) ** 2 * max(x.shape) + 2 * min(x.shape[1:]) ** 3) for x in kernels
    )
    assert cost == by_hand  # nothing but the iteration multiplies, and every layer once
    assert cost < 0.03 * model.flops_per_token(50_304, 1024)[0] * 480 * 1024
    assert cost < 0.03 * model.flops_per_token(50_304, 1024)[0] * 64 * 1024  # from here on; with 32 rows it is 6%


@pytest.mark.parametrize("shape", [(8, 1, 1), (16, 1, 1), (512, 1, 1), (1, 8, 1), (2, 4, 2)], ids=str)
def test_on_several_devices_it_costs_each_at_most_three_percent_of_32_rows(shape):
    model, params, rule, state = gpt2()
    mesh = AbstractMesh(shape, sharding.AXES, axis_types=(AxisType.Auto,) * 3)

    def update(layout):
        return operations(jax.make_jaxpr(partial(rule.update, layout=layout))(params, state, params).jaxpr)

    of_device, alone = update(sharding.layout(mesh)), update(ANYWHERE)
    assert alone / min(12, math.prod(shape)) <= of_device <= 2 / 12 * alone  # no device has more than two layers
    assert of_device < 0.03 * model.flops_per_token(50_304, 1024)[0] * 32 * 1024 < alone


@pytest.mark.parametrize(("platform", "dtype"), [("cpu", "f32"), ("cuda", "bf16"), ("tpu", "bf16")])
def test_products_are_in_bfloat16_but_on_a_cpu(platform, dtype):
    matrices = jax.ShapeDtypeStruct((4, 16, 32), jnp.float32)
    lowered = jax.jit(orthogonalised, static_argnums=1).trace(matrices, 5).lower(lowering_platforms=(platform,))
    products = [line for line in lowered.as_text().splitlines() if "dot_general" in line]
    assert products
    assert all(line.split("->")[1].strip().split(">")[0].endswith(f"x{dtype}") for line in products), products
