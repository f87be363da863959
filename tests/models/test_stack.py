"""Claims about what layers keep for the backward pass, and what it recomputes."""

from dataclasses import replace
from types import SimpleNamespace
from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gptjax.models.gpt import GPT
from gptjax.models.stack import Remat
from gptjax.plan import flops
from gptjax.types import Place

V = 53
LAYERS, B, T, D, M = 3, 2, 128, 128, 256
KERNELS = {
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
    none, dots, mlp, block = (saved_bytes(replace(gpt2, layers=4, remat=r), inputs) for r in get_args(Remat))
    assert block < 0.6 * mlp < 0.6 * dots < 0.6 * none


def compiled_temporaries(config):
    """Bytes that gradients take beside parameters and results, as compiled for this machine."""
    model, inputs_BT = config.build(V, 64), np.zeros((4, 64), np.int32)
    params = jax.eval_shape(model.init, jax.random.key(0))
    program = jax.jit(jax.grad(lambda p: model.features(p, inputs_BT).sum())).lower(params).compile()
    return program.memory_analysis().temp_size_in_bytes


def test_rematerialisation_takes_less_memory_once_compiled(gpt2):
    config = replace(gpt2, layers=8, context=64)
    none, dots, mlp, block = (compiled_temporaries(replace(config, remat=r)) for r in get_args(Remat))
    assert block < 0.8 * mlp < 0.8 * dots < 0.8 * none


@pytest.mark.parametrize("kernel", KERNELS)
def test_backward_recomputes_no_more_than_it_is_told(kernel, monkeypatch):
    if kernel == "cudnn":
        library = pytest.importorskip("jax._src.cudnn.fused_attention_stablehlo")
        monkeypatch.setattr(library, "cuda_versions", SimpleNamespace(cudnn_get_version=lambda: 91000), raising=True)

    def counted(remat):
        config = GPT(layers=LAYERS, width=D, heads=2, mlp_width=M, context=T, attention=kernel, remat=remat)
        model = config.build(V, 64, KERNELS[kernel])
        params = jax.eval_shape(model.init, jax.random.key(0))
        params = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, jnp.bfloat16), params)
        tokens_BT = jnp.zeros((B, T), jnp.int32)
        gradient = jax.grad(lambda params: model.features(params, tokens_BT).astype(jnp.float32).sum())
        return flops.count(jax.make_jaxpr(gradient)(params), T / 2, "cuda")

    none, dots, mlp, block = (counted(remat) for remat in get_args(Remat))
    assert dots == none
    assert mlp.kernels == none.kernels
    assert mlp.products - none.products == 2.0 * LAYERS * B * T * D * M
    assert block.all - none.all > 2.0 * LAYERS * B * T * D * (4 * D + M)
    assert (block.kernels > none.kernels) == (kernel != "blockwise")
