"""Claims about what a decoder computes."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from gptjax.attention import dense
from gptjax.config import ConfigError
from gptjax.models import block, decoder
from gptjax.types import Place

V = 53


def gradients(model, params, inputs_BT, **kwargs):
    def loss(params):
        return jnp.sum(jnp.where(jnp.arange(64) < V, jnp.sin(model.apply(params, inputs_BT, **kwargs)), 0))

    return jax.jit(jax.grad(loss))(params)


def assert_trees_close(a, b, rtol=2e-4, atol=2e-4):
    for (path, x), y in zip(jax.tree.leaves_with_path(a), jax.tree.leaves(b), strict=True):
        assert_allclose(x, y, rtol=rtol, atol=atol, err_msg=jax.tree_util.keystr(path))


# --- causality and segments ---


def test_future_tokens_cannot_change_past_logits(built, inputs):
    changed = np.concatenate([inputs[:, :11], (inputs[:, 11:] + 7) % V], axis=1)
    a, b = (np.asarray(built.apply(built.params, x)) for x in (inputs, changed))
    assert np.array_equal(a[:, :11], b[:, :11])
    assert not np.array_equal(a[:, 11:], b[:, 11:])


def test_the_gradient_of_past_logits_by_future_inputs_is_zero(built, inputs, monkeypatch):
    T = inputs.shape[1]
    embed = decoder._embed

    def first_row(x_BTD):
        monkeypatch.setattr(decoder, "_embed", lambda *args: embed(*args) + x_BTD)
        return built.model.features(built.params, inputs[:1])[0].sum(-1)

    jacobian_TBTD = jax.jit(jax.jacrev(first_row))(jnp.zeros((1, T, built.config.width)))
    influence_TS = np.abs(np.asarray(jacobian_TBTD)[:, 0]).sum(-1)
    reach = built.config.layers * ((built.config.window or T) - 1)
    seen = np.tril(np.ones((T, T), bool)) & ~np.tril(np.ones((T, T), bool), -reach - 1)
    assert (influence_TS[seen] > 0).all()
    assert (influence_TS[~seen] == 0).all()


def test_packed_documents_equal_the_documents_alone(built, inputs):
    segments = np.repeat([1, 2, 0], [8, 9, 3])[None].repeat(3, 0)
    positions = np.concatenate([np.arange(8), np.arange(9), np.arange(3)])[None].repeat(3, 0)
    packed = built.apply(built.params, inputs, segments, positions)[..., :V]
    for start, end in ((0, 8), (8, 17)):
        alone = np.asarray(built.apply(built.params, np.roll(inputs, -start, axis=1)))[:, : end - start, :V]
        assert_allclose(packed[:, start:end], alone, rtol=1e-4, atol=2e-5)


# --- the same function, computed in other ways ---


@pytest.fixture(scope="module")
def unrolled(gpt2, inputs, draw):
    """A config with dropout, its parameters, and its gradients with layers unrolled."""
    config = replace(gpt2, dropout=0.2)
    params = draw(config.build(V, 64))
    return config, params, gradients(config.build(V, 64), params, inputs, key=jax.random.key(3))


@pytest.mark.parametrize(
    "fields", [{"scan": True}, {"remat": "dots", "scan": True}, {"remat": "mlp"}, {"remat": "block"}]
)
def test_scanned_and_rematerialised_layers_equal_unrolled_ones(unrolled, inputs, fields):
    config, params, expected = unrolled
    model = replace(config, **fields).build(V, 64)
    assert_trees_close(gradients(model, params, inputs, key=jax.random.key(3)), expected)


def test_grouped_heads_equal_full_heads_with_repeated_kernels(gpt2, inputs, draw):
    grouped = replace(gpt2, kv_heads=2)
    params = draw(grouped.build(V, 64))
    full = jax.tree.map(lambda x: x, params)
    for name in "kv":
        full["blocks"]["attn"][name] = jax.tree.map(
            lambda x: x.reshape(*x.shape[:-1], 2, 1, 8).repeat(2, -2).reshape(*x.shape[:-1], 32),
            params["blocks"]["attn"][name],
        )
    expected = jax.jit(gpt2.build(V, 64).features)(full, inputs)
    assert_allclose(jax.jit(grouped.build(V, 64).features)(params, inputs), expected, rtol=1e-5, atol=1e-5)


def test_computation_is_in_the_dtype_of_the_parameters_and_logits_are_float32(built, inputs):
    half = jax.tree.map(lambda x: x.astype(jnp.bfloat16), built.params)
    logits = built.apply(half, inputs)
    assert logits.dtype == jnp.float32
    assert jax.eval_shape(built.features, half, inputs).dtype == jnp.bfloat16
    gradient = jax.eval_shape(lambda params: gradients(built.model, params, inputs), half)
    assert {x.dtype for x in jax.tree.leaves(gradient)} == {np.dtype(jnp.bfloat16)}
    exact, found = np.asarray(built.apply(built.params, inputs))[..., :V], np.asarray(logits)[..., :V]
    assert np.abs(found - exact).mean() < 0.05 * np.abs(exact).mean()


def test_no_product_of_the_backward_pass_leaves_bfloat16(gpt2, inputs):
    model = gpt2.build(V, 64)
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    params = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, jnp.bfloat16), shapes)
    text = str(jax.make_jaxpr(jax.grad(lambda p: jnp.sum(model.head(p, model.features(p, inputs))[..., 0])))(params))
    products = [line for line in text.splitlines() if "dot_general" in line and "32" in line.split("=")[0]]
    wide = [line for line in products if "f32[60," in line.split("=")[0]]
    assert len(wide) <= 1, wide  # the logits themselves


# --- dropout and padding ---


def test_dropout_stands_where_gpt1_has_it_and_every_place_draws_its_own(gpt2, inputs, monkeypatch):
    places = []

    def recorded(x, rate, key):
        if rate and key is not None:
            places.append((x.shape, key))
        return x

    for module in (decoder, block, dense):
        monkeypatch.setattr(module, "drop", recorded)
    for module in (decoder, block):  # a key is the path of numbers that were folded into it
        monkeypatch.setattr(module, "subkey", lambda key, number: None if key is None else (*key, number))
    model = replace(gpt2, dropout=0.1, attention="dense").build(V, V)
    params = jax.eval_shape(model.init, jax.random.key(0))
    jax.eval_shape(lambda params: model.apply(params, inputs, key=()), params)
    row, weights = (3, 20, 32), (3, 4, 20, 20)
    assert [shape for shape, _ in places] == [row, *[weights, row, row] * 2]
    assert len({key for _, key in places}) == len(places)
    jax.eval_shape(lambda params: model.apply(params, inputs), params)
    assert len(places) == 7


def test_padded_vocabulary_is_never_predicted_and_has_no_gradient(built, inputs):
    logits = built.apply(built.params, inputs)
    assert logits.shape[-1] == 64
    assert np.isneginf(np.asarray(logits[..., V:])).all()
    assert np.isfinite(np.asarray(logits[..., :V])).all()

    def nats(params, features):
        return -jnp.sum(jax.nn.log_softmax(built.model.head(params, features))[..., 0])

    gradient = jax.grad(nats)(built.params, jnp.ones((2, 32)))
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(gradient))
    padding = gradient["embed"]["tokens"][V:] if built.config.tied else gradient["head"]["kernel"][:, V:]
    assert not np.asarray(padding).any()


def test_a_kernel_for_rows_of_bfloat16_still_initialises_and_generates(gpt2, inputs):
    model = replace(gpt2, attention="cudnn").build(V, V, Place("gpu"))
    params = jax.eval_shape(model.init, jax.random.key(0))
    features, _ = jax.eval_shape(model.extend, params, inputs, model.cache(3, 20, jnp.float32))
    assert features.shape == (3, 20, 32)
    with pytest.raises(ConfigError, match=r"cudnn.*float32"):
        jax.eval_shape(model.features, params, inputs)


def test_a_row_longer_than_the_context_is_refused(gpt2):
    model = gpt2.build(V, V)
    with pytest.raises(ConfigError, match="a row of 25 tokens is longer than context=24"):
        jax.eval_shape(model.apply, jax.eval_shape(model.init, jax.random.key(0)), jnp.zeros((1, 25), jnp.int32))
