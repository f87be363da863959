"""Claims about what a model shows of its layers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gptjax.config import ConfigError
from gptjax.models.bert import Bert
from gptjax.models.recurrent import Recurrent

V, PADDED = 53, 64


FOUND: dict = {}


@pytest.fixture
def found(built, inputs):
    """What each family shows of the same rows, computed once for all tests."""
    if built.config not in FOUND:
        FOUND[built.config] = jax.jit(built.config.inside)(built.params, inputs)
    return FOUND[built.config]


def test_the_stream_made_of_the_shown_weights_ends_in_the_models_own_logits(built, found, inputs):
    L, N, T = built.config.layers, built.config.heads, inputs.shape[1]
    assert found.features_LBTD.shape == (L + 1, 3, T, built.config.width)
    assert found.weights_LBNTS.shape == (L, 3, N, T, T)
    own = built.apply(built.params, inputs)[..., :V]
    last = built.model.head(built.params, found.features_LBTD[-1])[..., :V]
    np.testing.assert_allclose(last, own, atol=2e-5)
    assert np.abs(built.model.head(built.params, found.features_LBTD[0])[..., :V] - own).max() > 0.1


def test_every_head_looks_at_what_it_sees_and_nowhere_else(built, found, inputs):
    weights = np.asarray(found.weights_LBNTS)
    T, window = inputs.shape[1], built.config.window or inputs.shape[1]
    distance_TS = np.arange(T)[:, None] - np.arange(T)
    sees_TS = (distance_TS >= 0) & (distance_TS < window)
    np.testing.assert_allclose(weights.sum(-1), 1, rtol=1e-5)
    assert np.all(weights[..., ~sees_TS] == 0)
    assert np.all(weights[..., sees_TS] > 0)


def test_grouped_heads_have_weights_of_their_own(built, found):
    weights = np.asarray(found.weights_LBNTS)
    for first in range(built.config.heads):
        for second in range(first):
            assert np.abs(weights[:, :, first] - weights[:, :, second]).max() > 1e-3


def test_bert_shows_layers_that_end_in_its_own_features_and_looks_at_both_sides(draw, inputs):
    config = Bert(layers=2, width=32, heads=4, mlp_width=48, context=24)
    model = config.build(V, PADDED)
    params = draw(model)
    found = jax.jit(config.inside)(params, inputs)
    np.testing.assert_allclose(found.features_LBTD[-1], jax.jit(model.features)(params, inputs), atol=1e-5)
    weights = np.asarray(found.weights_LBNTS)
    np.testing.assert_allclose(weights.sum(-1), 1, rtol=1e-5)
    assert np.all(weights > 0)


def test_a_family_without_attention_says_so():
    with pytest.raises(ConfigError, match="Recurrent has no attention to show"):
        Recurrent().inside({}, jnp.zeros((1, 2), jnp.int32))
