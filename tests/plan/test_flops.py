"""Claims about counted FLOPs: they are the textbook's where there is a textbook."""

from functools import partial

import jax
import jax.numpy as jnp
import pytest

from gptjax.attention import Visible, attend
from gptjax.models.gpt import GPT
from gptjax.plan import flops
from gptjax.types import Place

V, B, T = 64, 4, 32
SIZES = {"layers": 3, "width": 32, "heads": 4, "mlp_width": 96, "context": T}


def counted(platform="tpu", **fields) -> tuple[float, float]:
    """(FLOPs of loss and gradient as counted, as the model's own formula has them)."""
    config = GPT(**SIZES, attention="dense", **fields)
    model = config.build(V, V)
    params = jax.eval_shape(model.init, jax.random.key(0))
    tokens = jax.ShapeDtypeStruct((B, T), jnp.int32)
    step = jax.value_and_grad(lambda params, inputs: model.apply(params, inputs).sum())
    found = flops.count(jax.make_jaxpr(step)(params, tokens), T / 2, platform)
    assert found.kernels == 0
    return found.all, config.flops_per_token(V, T)[0] * B * T


def matrices(config: GPT) -> int:
    """Parameters of all layers that multiply."""
    return config.layers * (4 * config.width**2 + 2 * config.width * config.mlp_width)


@pytest.mark.parametrize("scan", [False, True])
def test_a_gpt_costs_what_the_formula_says_also_when_layers_are_a_loop(scan):
    found, formula = counted(scan=scan)
    gains = 6.0 * B * T * (GPT(**SIZES).parameter_count(V) - matrices(GPT(**SIZES)) - V * 32 - T * 32)
    assert found == formula - gains  # the formula counts gains and biases, which multiply no matrix


def test_gradients_that_nobody_reads_cost_nothing():
    model = GPT(**SIZES, attention="dense").build(V, V)
    params = jax.eval_shape(model.init, jax.random.key(0))
    tokens = jax.ShapeDtypeStruct((B, T), jnp.int32)

    def gradient_of_queries(params, inputs):
        def loss(kernel):
            blocks = params["blocks"]
            attn = blocks["attn"] | {"q": blocks["attn"]["q"] | {"kernel": kernel}}
            return model.apply(params | {"blocks": blocks | {"attn": attn}}, inputs).sum()

        return jax.grad(loss)(params["blocks"]["attn"]["q"]["kernel"])

    found = flops.count(jax.make_jaxpr(gradient_of_queries)(params, tokens), T / 2, "tpu")
    config = GPT(**SIZES)
    of_frozen = 2.0 * B * T * (matrices(config) - config.layers * config.width**2 + V * config.width)
    assert found.all <= counted()[0] - of_frozen


def test_recomputation_is_counted():
    plain, _ = counted()
    once_more = 2.0 * B * T * matrices(GPT(**SIZES)) + 4.0 * SIZES["layers"] * B * T * T * SIZES["width"]
    again, _ = counted(remat="block")
    last = 2.0 * B * T * (SIZES["mlp_width"] * SIZES["width"]) * SIZES["layers"]
    assert again in (plain + once_more, plain + once_more - last)  # nobody needs a layer's last product again


def test_of_forms_for_several_platforms_the_platforms_own_is_counted():
    assert counted("cuda")[0] == counted("tpu")[0] + 2.0 * (B + 1) * T * T * 32  # equal tokens are added up by products


@pytest.mark.parametrize(("tokens", "products"), [(512, 2 + 5), (8192, 2 + 5), (9216, 2 + 3 + 4)])
def test_kernels_are_counted_by_what_their_queries_see(tokens, products):
    q = jax.ShapeDtypeStruct((2, tokens, 4, 64), jnp.bfloat16)
    run = partial(attend, visible=Visible(), impl="splash", place=Place("tpu", interpret=True))
    found = flops.count(jax.make_jaxpr(jax.grad(lambda q: run(q, q, q).astype(jnp.float32).sum()))(q), 256, "tpu")
    assert found.kernels == products * 2 * q.size * 256


def test_keys_that_a_query_sees():
    assert flops.seen(1024, None, causal=True) == 512
    assert flops.seen(1024, 128, causal=True) == 128 - 128**2 / 2048
    assert flops.seen(1024, None, causal=False) == 1024
