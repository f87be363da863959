"""Claims about the head and the loss as one operation: the plain form's value and gradient, in less memory."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gptjax.models.gpt import GPT
from gptjax.objectives.head import weighted_nats
from gptjax.objectives.loss import PLAIN, Regular

pytestmark = pytest.mark.usefixtures("optimised")

V, PADDED, B, T, D = 53, 64, 3, 10, 16
EVERYTHING = Regular(z_loss=0.1, label_smoothing=0.2)
TILES = ("auto", "all", 1, 9, 12)
"""9 tokens are 3 columns, which do not divide 10; 1 token is less than a column."""
TIED = GPT(layers=1, width=D, heads=2, mlp_width=32, context=T)
UNTIED, CAPPED = replace(TIED, tied=False), replace(TIED, logit_softcap=2.0)
BOTH = replace(UNTIED, logit_softcap=2.0)
CASES = [(TIED, tile_tokens, PLAIN, "float32") for tile_tokens in TILES]
CASES += [(kind, tile_tokens, EVERYTHING, "float32") for kind in (UNTIED, CAPPED) for tile_tokens in ("all", 9)]
CASES += [(kind, 9, EVERYTHING, "bfloat16") for kind in (TIED, BOTH)] + [(BOTH, "all", PLAIN, "bfloat16")]
RANDOM = np.random.default_rng(0)
FEATURES_BTD = RANDOM.normal(size=(B, T, D)).astype(np.float32)
TARGETS_BT = RANDOM.integers(0, V, (B, T)).astype(np.int32)
WEIGHTS_BT = (RANDOM.random((B, T)) * (RANDOM.random((B, T)) < 0.7)).astype(np.float32)
TARGETS_BT[WEIGHTS_BT == 0] = V + 1  # padding, whose nats are infinite


def parameters(config, dtype=jnp.float32):
    shapes = jax.eval_shape(config.build(V, PADDED).init, jax.random.key(0))
    return jax.tree.map(lambda x: jnp.asarray(np.random.default_rng(1).normal(size=x.shape) / 2, dtype), shapes)


@partial(jax.jit, static_argnums=(0, 1, 2))
def found(config, tile_tokens, regular, params, features_BTD):
    """((loss, nats), gradient by parameters and features)."""
    model = config.build(V, PADDED)

    def total(params, features_BTD):
        return weighted_nats(model, params, features_BTD, TARGETS_BT, WEIGHTS_BT, tile_tokens, regular)

    return jax.value_and_grad(total, argnums=(0, 1), has_aux=True)(params, features_BTD)


def in_float64(config, regular, params, features_BTD):
    """(loss, nats, gradient by the head's kernel [V, D], by the features), by hand."""
    kernel = params["embed"]["tokens"] if config.tied else params["head"]["kernel"].T
    kernel_VD, x_MD = (np.asarray(a, np.float64) for a in (kernel[:V], features_BTD.reshape(-1, D)))
    weights_M, cap = WEIGHTS_BT.reshape(-1).astype(np.float64), config.logit_softcap
    counts_M = np.flatnonzero(weights_M)
    raw_MV = x_MD @ kernel_VD.T
    logits_MV = raw_MV if cap is None else cap * np.tanh(raw_MV / cap)
    log_z_M = np.log(np.exp(logits_MV).sum(-1))
    log_p_MV = logits_MV - log_z_M[:, None]
    one_hot_MV = np.eye(PADDED)[TARGETS_BT.reshape(-1)][:, :V]
    s, z = regular.label_smoothing, regular.z_loss
    q_MV = (1 - s) * one_hot_MV + s / V
    nats_M, loss_M = -(one_hot_MV * log_p_MV).sum(-1), -(q_MV * log_p_MV).sum(-1) + z * log_z_M**2
    slopes_MV = np.exp(log_p_MV) * (1 + 2 * z * log_z_M[:, None]) - q_MV
    slopes_MV *= weights_M[:, None] * (1 if cap is None else 1 - (logits_MV / cap) ** 2)
    sums = [(weights_M * values_M)[counts_M].sum() for values_M in (loss_M, nats_M)]
    return *sums, slopes_MV.T @ x_MD, (slopes_MV @ kernel_VD).reshape(B, T, D)


def close(value, expected, share):
    value, expected = np.asarray(value, np.float64), np.asarray(expected)
    assert np.abs(value - expected).max() <= share * np.abs(expected).max()


@pytest.mark.parametrize(("kind", "tile_tokens", "regular", "dtype"), CASES)
def test_every_tiling_equals_a_float64_computation(kind, tile_tokens, regular, dtype):
    share = {"float32": 1e-5, "bfloat16": 2e-2}[dtype]
    params, features_BTD = parameters(kind, dtype), jnp.asarray(FEATURES_BTD, dtype)
    (loss, nats), (of_params, of_features_BTD) = found(kind, tile_tokens, regular, params, features_BTD)
    expected = in_float64(kind, regular, params, features_BTD)
    of_kernel = of_params["embed"]["tokens"] if kind.tied else of_params["head"]["kernel"].T
    assert of_kernel.dtype == of_features_BTD.dtype == dtype
    assert loss.dtype == nats.dtype == jnp.float32
    for value, reference in zip((loss, nats, of_kernel[:V], of_features_BTD), expected, strict=True):
        close(value, reference, share)
    assert not np.asarray(of_kernel[V:]).any()
    others = of_params["blocks"], of_params["embed"].get("positions"), None if kind.tied else of_params["embed"]
    assert all(not np.asarray(x).any() for x in jax.tree.leaves(others))


@pytest.mark.parametrize("tile_tokens", ["auto", 9])
def test_without_a_gradient_the_sums_are_the_same(tile_tokens):
    params, model = parameters(TIED), TIED.build(V, PADDED)
    expected = in_float64(TIED, EVERYTHING, params, FEATURES_BTD)[:2]
    arguments = FEATURES_BTD, TARGETS_BT, WEIGHTS_BT, tile_tokens, EVERYTHING
    np.testing.assert_allclose(weighted_nats(model, params, *arguments), expected, rtol=1e-5)


def test_the_gradient_scales_with_what_is_made_of_the_loss_and_the_nats_have_none():
    params, model = parameters(TIED), TIED.build(V, PADDED)

    def total(params, factor):
        loss, nats = weighted_nats(model, params, FEATURES_BTD, TARGETS_BT, WEIGHTS_BT, 9)
        return factor * loss + 7 * nats

    once, thrice = (jax.jit(jax.grad(total))(params, factor)["embed"]["tokens"] for factor in (1.0, 3.0))
    np.testing.assert_allclose(3 * once, thrice, rtol=1e-5)
    close(once[:V], in_float64(TIED, PLAIN, params, FEATURES_BTD)[2], 1e-5)


def compiled(tile_tokens, dtype, tokens=2048, vocabulary=4096):
    """The gradient of the head over so many tokens in 8 rows, compiled."""
    config = replace(TIED, width=64, heads=1)
    model = config.build(vocabulary, vocabulary)
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    params = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, dtype), shapes)
    features_BTD = jax.ShapeDtypeStruct((8, tokens // 8, 64), dtype)
    tokens_BT = jax.ShapeDtypeStruct(features_BTD.shape[:2], jnp.int32)

    def total(params, features_BTD, tokens_BT):
        return weighted_nats(model, params, features_BTD, tokens_BT, tokens_BT, tile_tokens)[0]

    return jax.jit(jax.grad(total, argnums=(0, 1))).trace(params, features_BTD, tokens_BT)


def test_tiles_take_less_than_a_quarter_of_the_memory():
    whole, tiled = (
        compiled(tile, "float32").lower().compile().memory_analysis().temp_size_in_bytes for tile in ("all", 128)
    )
    assert whole >= 4 * 2048 * 4096
    assert tiled < whole / 4


def test_half_precision_logits_are_materialised_in_half_precision():
    text = str(compiled("all", "bfloat16").lower().as_text())
    products = [line for line in text.splitlines() if "dot_general" in line]
    assert len(products) == 3
    assert all("xf32>" not in line for line in products), products


@pytest.mark.parametrize(("platform", "loops"), [("cpu", 1), ("cuda", 0), ("tpu", 0)])
def test_auto_is_tiled_on_a_cpu_and_whole_elsewhere(platform, loops):
    lowered = compiled("auto", "float32").lower(lowering_platforms=(platform,))
    assert lowered.as_text().count("stablehlo.while") == loops


def test_the_gradient_of_what_the_head_does_not_read_is_not_added_up():
    (loop,) = [eqn for eqn in compiled(128, "float32").jaxpr.eqns if eqn.primitive.name == "scan"]
    shapes = [out.aval.shape for out in loop.outvars]
    assert shapes == [(), (), (4096, 64), (16, 8, 16, 64)]  # two sums, the kernel's gradient, the features'
