"""Claims about what layers keep for the backward pass, and what it recomputes."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gptjax.models.gpt import GPT
from gptjax.models.stack import REMAT
from gptjax.plan import flops
from gptjax.types import Place

V = 53
LAYERS, B, T, D, M = 3, 2, 128, 128, 256
KERNELS = {
    "dense": Place("cpu"),
    "blockwise": Place("cpu"),
    "pallas": Place("gpu", interpret=True),
    "splash": Place("tpu", interpret=True),
    "cudnn": Place("gpu"),
}


def saved_bytes(config, inputs):
    """What the forward pass keeps for the backward pass."""
    model = config.build(V, 64)
    params = jax.eval_shape(model.init, jax.random.key(0))
    _, pull = jax.eval_shape(lambda p: jax.vjp(lambda p: model.features(p, inputs), p), params)
    return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(pull))


def test_rematerialisation_keeps_less(gpt2, inputs):
    none, dots, mlp, block = (saved_bytes(replace(gpt2, layers=4, mlp_width=256, remat=r), inputs) for r in REMAT)
    assert dots < 0.6 * none
    assert mlp < 0.75 * dots
    assert block < 0.85 * mlp
    assert block < 0.6 * dots


def compiled_temporaries(config):
    """Bytes that gradients take beside parameters and results, as compiled for this machine."""
    model, inputs_BT = config.build(V, 64), np.zeros((4, 64), np.int32)
    params = jax.eval_shape(model.init, jax.random.key(0))
    program = jax.jit(jax.grad(lambda p: model.features(p, inputs_BT).sum())).lower(params).compile()
    return program.memory_analysis().temp_size_in_bytes


def test_rematerialisation_takes_less_memory_once_compiled(gpt2):
    config = replace(gpt2, layers=8, mlp_width=256, context=64)
    none, dots, mlp, block = (compiled_temporaries(replace(config, remat=r)) for r in REMAT)
    assert dots < 0.5 * none
    assert mlp < 0.8 * dots
    assert block < 0.8 * mlp


@pytest.mark.parametrize("remat", ["dots", "mlp", "block"])
def test_unrolled_as_on_an_accelerator_nothing_changes_and_recomputation_stays_apart(gpt2, inputs, draw, remat):
    def gradients(remat):
        config = replace(gpt2, attention="dense", dropout=0.2, remat=remat)
        model = config.build(V, 64, Place("tpu"))
        params, key = draw(model), jax.random.key(3)
        gradient = jax.grad(lambda params: jnp.sin(model.features(params, inputs, key=key)).sum())
        return str(jax.make_jaxpr(gradient)(params)), jax.jit(gradient)(params)

    (_, expected), (jaxpr, found) = gradients("none"), gradients(remat)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-4), found, expected)
    assert jaxpr.count("prevent_cse=True") == gpt2.layers
    assert "prevent_cse=False" not in jaxpr


@pytest.mark.parametrize("kernel", KERNELS)
def test_backward_recomputes_no_more_than_it_is_told(kernel, request):
    if kernel == "cudnn":
        request.getfixturevalue("cudnn_claimed")

    def counted(remat):
        config = GPT(layers=LAYERS, width=D, heads=2, mlp_width=M, context=T, attention=kernel, remat=remat)
        model = config.build(V, 64, KERNELS[kernel])
        params = jax.eval_shape(model.init, jax.random.key(0))
        params = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, jnp.bfloat16), params)
        tokens_BT = jnp.zeros((B, T), jnp.int32)
        gradient = jax.grad(lambda params: model.features(params, tokens_BT).astype(jnp.float32).sum())
        return flops.count(jax.make_jaxpr(gradient)(params), T / 2, "cuda")

    none, dots, mlp, block = (counted(remat) for remat in REMAT)
    scores = 2.0 * LAYERS * B * T * T * D if kernel == "dense" else 0.0
    assert dots == none._replace(products=none.products + scores)
    assert mlp.kernels == none.kernels
    assert mlp.products - dots.products == 2.0 * LAYERS * B * T * D * M
    assert block.all - none.all > 2.0 * LAYERS * B * T * D * (4 * D + M)
    assert (block.kernels > none.kernels) == (kernel not in ("dense", "blockwise"))
