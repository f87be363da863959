"""Claims about the encoder that reads both sides."""

from dataclasses import replace
from math import erf

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gptjax.config import ConfigError
from gptjax.models.bert import Bert
from gptjax.models.bidirectional import next_sentence

V, PADDED = 53, 64
SMALL = Bert(layers=2, width=32, heads=4, mlp_width=48, context=12, dropout=0.1)


@pytest.fixture(scope="module")
def model():
    return SMALL.build(V, PADDED)


@pytest.fixture(scope="module")
def params(model, draw):
    return draw(model)


@pytest.fixture(scope="module")
def features(model):
    return jax.jit(lambda *args: model.features(*args[:4], types_BT=args[4] if args[4:] else None))


@pytest.fixture(scope="module")
def rows():
    return np.random.default_rng(3).integers(0, V, (3, 10)).astype(np.int32)


def test_bert_base_has_the_published_number_of_parameters():
    V, D, F, T, L = 30_522, 768, 3072, 512, 12
    embeddings = (V + T + 2 + 2) * D
    layer = 4 * (D * D + D) + 2 * D * F + F + D + 4 * D
    pooler = D * D + D
    assert embeddings + L * layer + pooler == 109_482_240  # as published, without the two heads
    heads = (D * D + D + 2 * D + V) + (2 * D + 2)
    assert Bert().parameter_count(V) == 109_482_240 + heads == 110_106_428


def test_features_are_those_of_an_encoder_written_out(params, features, rows):
    p = jax.tree.map(lambda x: np.asarray(x, np.float64), params)
    types_BT = (np.arange(10) > 4).astype(np.int32) * np.ones((3, 1), np.int32)

    def norm(x, part):
        centred = x - x.mean(-1, keepdims=True)
        return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-12) * part["scale"] + part["bias"]

    def linear(x, part):
        return x @ part["kernel"] + part["bias"]

    gelu = np.vectorize(lambda x: 0.5 * x * (1 + erf(x / 2**0.5)))
    e = p["embed"]
    x = norm(e["tokens"][rows] + e["positions"][:10] + e["types"][types_BT], p["embed_norm"])
    for number in range(2):
        b = jax.tree.map(lambda a, number=number: a[number], p["blocks"])
        q, k, v = (linear(x, b["attn"][name]).reshape(3, 10, 4, 8) for name in "qkv")
        scores = np.einsum("btnh,bsnh->bnts", q, k) / 8**0.5
        weights = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
        out = np.einsum("bnts,bsnh->btnh", weights, v).reshape(3, 10, 32)
        x = norm(x + linear(out, b["attn"]["o"]), b["attn_norm"])
        x = norm(x + linear(gelu(linear(x, b["mlp"]["up"])), b["mlp"]["down"]), b["mlp_norm"])
    np.testing.assert_allclose(features(params, rows, None, None, types_BT), x, rtol=1e-4, atol=1e-4)
    pooled = np.tanh(linear(x[:, 0], p["pooler"]))
    expected = linear(pooled, p["next_sentence"])
    np.testing.assert_allclose(next_sentence(params, jnp.asarray(x, jnp.float32)), expected, rtol=1e-4, atol=1e-4)


def test_logits_are_tied_to_the_embedding_with_a_bias_and_padding_is_impossible(model, params):
    h = np.random.default_rng(0).standard_normal((2, 32)).astype(np.float32)
    logits = np.asarray(model.head(params, h))
    p = params["head"]["transform"]
    g = np.asarray(jax.nn.gelu(h @ p["kernel"] + p["bias"], approximate=False))
    g = (g - g.mean(-1, keepdims=True)) / g.std(-1, keepdims=True)
    g = g * np.asarray(params["head"]["norm"]["scale"]) + np.asarray(params["head"]["norm"]["bias"])
    expected = g @ np.asarray(params["embed"]["tokens"]).T + np.asarray(params["head"]["bias"])
    np.testing.assert_allclose(logits[:, :V], expected[:, :V], rtol=1e-4, atol=1e-4)
    assert (logits[:, V:] == -np.inf).all()


def test_every_token_sees_every_real_token_and_no_padding(params, features, rows):
    real = 7
    segments_BT = (np.arange(10) < real).astype(np.int32)[None].repeat(11, 0)
    one_other = np.repeat(rows[:1], 11, 0)
    one_other[np.arange(10), np.arange(10)] = (one_other[0] + 1) % V  # row 10 is the text itself
    found = np.asarray(features(params, one_other, segments_BT, None))
    changed = (found[:10] != found[10]).any(-1)
    assert changed[:real, :real].all()
    assert (found[real:10, :real] == found[10, :real]).all()  # bit for bit


def test_the_gradient_of_the_first_token_reaches_the_last_and_not_the_padding(model, params, rows):
    segments_BT = (np.arange(10) < 7).astype(np.int32)[None]

    def first(tokens_VD):
        own = {**params, "embed": {**params["embed"], "tokens": tokens_VD}}
        return model.features(own, np.arange(10)[None], segments_BT)[0, 0].sum() ** 2

    slope_V = np.abs(jax.jit(jax.grad(first))(params["embed"]["tokens"])).sum(-1)
    assert (slope_V[:7] > 0).all()
    assert (slope_V[7:] == 0).all()


def test_texts_of_a_packed_row_are_read_as_if_alone(params, features, rows):
    segments = np.array([[1] * 6 + [2] * 4])
    positions = np.array([[0, 1, 2, 3, 4, 5, 0, 1, 2, 3]])
    together = features(params, rows[:1], segments, positions)
    alone = features(params, rows[:1, :6], None, None), features(params, rows[:1, 6:], None, None)
    np.testing.assert_allclose(together, np.concatenate(alone, axis=1), rtol=1e-4, atol=1e-5)


def test_states_begin_with_the_embedding_and_end_with_the_features(model, params, features, rows):
    states = jax.jit(SMALL.states)
    states_LBTD = np.asarray(states(params, rows))
    assert states_LBTD.shape == (3, 3, 10, 32)
    np.testing.assert_allclose(states_LBTD[-1], features(params, rows, None, None), rtol=1e-4, atol=1e-5)
    other = rows.copy()
    other[:, 0] = (other[:, 0] + 1) % V
    changed = (np.asarray(states(params, other)) != states_LBTD).any(-1)
    assert not changed[0, :, 1:].any()  # an embedding knows nothing of its neighbours
    assert changed[1:].all()


def test_a_loop_over_layers_gives_what_unrolled_layers_give(params, features, rows):
    looped = replace(SMALL, scan=True, remat="block").build(V, PADDED)
    found = jax.jit(looped.features)(params, rows)
    np.testing.assert_allclose(found, features(params, rows, None, None), rtol=1e-4, atol=1e-5)


def test_bfloat16_parameters_give_bfloat16_features_near_the_float32_ones(params, features, rows):
    half = jax.tree.map(lambda x: x.astype(jnp.bfloat16), params)
    found = features(half, rows, None, None)
    assert found.dtype == jnp.bfloat16
    difference = np.abs(np.asarray(found, np.float32) - np.asarray(features(params, rows, None, None)))
    assert 0 < difference.mean() < 0.03


def test_without_a_key_nothing_is_dropped_and_with_one_something_is(model, params, features, rows):
    dropped = jax.jit(model.features)(params, rows, key=jax.random.key(1))
    assert (features(params, rows, None, None) == features(params, rows, None, None)).all()
    assert not np.allclose(dropped, features(params, rows, None, None), atol=1e-2)


def test_what_needs_the_left_side_alone_is_refused(model):
    assert not model.causal
    with pytest.raises(ConfigError, match="cannot continue a text"):
        model.cache(1, 8, jnp.float32)


def test_a_row_beyond_the_context_is_refused(model, params):
    with pytest.raises(ConfigError, match="longer than context=12"):
        model.features(params, np.zeros((1, 13), np.int32))


def test_gpt_states_end_where_the_final_norm_begins(gpt2, draw):
    model = gpt2.build(V, PADDED)
    params = draw(model)
    rows = np.random.default_rng(0).integers(0, V, (2, 8)).astype(np.int32)
    x = np.asarray(jax.jit(gpt2.states)(params, rows), np.float64)
    expected = (x[-1] - x[-1].mean(-1, keepdims=True)) / np.sqrt(x[-1].var(-1, keepdims=True) + gpt2.norm_eps)
    expected = expected * np.asarray(params["final_norm"]["scale"]) + np.asarray(params["final_norm"]["bias"])
    np.testing.assert_allclose(jax.jit(model.features)(params, rows), expected, rtol=1e-3, atol=1e-4)
    embedded = np.asarray(params["embed"]["tokens"])[rows] + np.asarray(params["embed"]["positions"])[:8]
    np.testing.assert_allclose(x[0], embedded, rtol=1e-5, atol=1e-6)
