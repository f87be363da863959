"""Small models of every kind that the family has."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gptjax.models.gpt import GPT
from gptjax.types import Place

V, PADDED = 53, 64
GPT2 = GPT(layers=2, width=32, heads=4, mlp_width=48, context=24, init_std=0.2)
FAMILIES = {
    "gpt1": replace(GPT2, norm_place="post", residual_init="plain", dropout=0.1),
    "gpt2": GPT2,
    "modern": replace(
        GPT2,
        kv_heads=2,
        positions="rotary",
        norm="rms",
        mlp="swiglu",
        bias=False,
        qk_norm=True,
        window=6,
        tied=False,
        logit_softcap=5.0,
    ),
    "squared": replace(GPT2, positions="none", mlp="relu2", bias=False, kv_heads=1, residual_init="plain"),
    "convolved": replace(GPT2, positions="rotary", norm="rms", conv_tokens=3, embed_norm=True, tied=False),
}


def random_parameters(model):
    """Parameters of the model's shapes, gains and biases random too; no compilation, unlike `model.init`."""
    random = np.random.default_rng(0)

    def draw(path, shape):
        leaf = 0.2 * random.standard_normal(shape.shape, np.float32)
        return jnp.asarray(leaf + 1 if path[-1].key == "scale" else leaf)

    return jax.tree.map_with_path(draw, jax.eval_shape(model.init, jax.random.key(0)))


class Built:
    """A config, its model, random parameters, and its functions compiled."""

    def __init__(self, config):
        self.config, self.model = config, config.build(V, PADDED, Place("cpu"))
        self.params = random_parameters(self.model)
        self.apply, self.extend = jax.jit(self.model.apply), jax.jit(self.model.extend)
        self.features = jax.jit(self.model.features)


BUILT: dict = {}


@pytest.fixture(params=FAMILIES)
def built(request):
    """Each family in turn, compiled once for all tests."""
    if request.param not in BUILT:
        BUILT[request.param] = Built(FAMILIES[request.param])
    return BUILT[request.param]


@pytest.fixture(scope="session")
def gpt2():
    return GPT2


@pytest.fixture(scope="session")
def draw():
    """Random parameters of a model."""
    return random_parameters


@pytest.fixture(scope="session")
def inputs():
    """Three rows of 20 token ids."""
    return np.random.default_rng(1).integers(0, V, (3, 20)).astype(np.int32)
