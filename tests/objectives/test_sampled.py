"""Claims about the sampled softmax."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from gptjax.config import ConfigError
from gptjax.models.feedforward import FeedForward
from gptjax.models.gpt import GPT
from gptjax.objectives import sampled
from gptjax.objectives.causal import Causal
from gptjax.objectives.sampled import SampledCausal
from gptjax.types import Batch

V = 13
MODEL = FeedForward(window=2, embed_width=6, width=8, tied=True, context=5).build(V, 16)


@pytest.fixture(scope="module")
def params():
    random = np.random.default_rng(0)
    shapes = jax.eval_shape(MODEL.init, jax.random.key(0))
    return {"model": jax.tree.map(lambda x: jnp.asarray(random.standard_normal(x.shape, np.float32)), shapes)}


@pytest.fixture(scope="module")
def batch():
    random = np.random.default_rng(1)
    inputs, targets = random.integers(0, V, (2, 3, 5)).astype(np.int32)
    weights = np.ones((3, 5), np.float32)
    weights[1] = 0
    return Batch(inputs, targets, weights, None, None)


def test_words_are_drawn_as_often_as_their_probability_says():
    ids = np.asarray(sampled.zipf(jax.random.key(0), 100_000, V))
    shares = np.bincount(ids, minlength=V) / len(ids)
    p = np.asarray(sampled.zipf_probability(jnp.arange(V), V))
    assert p.sum() == pytest.approx(1.0, abs=1e-6)
    assert_allclose(shares, p, atol=5e-3)


def test_loss_and_gradient_approach_those_of_the_whole_softmax(params, batch):
    exact, estimate = Causal().build(MODEL, None), SampledCausal(samples=50_000).build(MODEL, None)
    (wanted, found) = (
        jax.jit(jax.value_and_grad(lambda p, o=o: o.loss(p, batch, jax.random.key(3))[0]))(params)
        for o in (exact, estimate)
    )
    assert_allclose(found[0], wanted[0], rtol=0.01)
    for one, other in zip(jax.tree.leaves(found[1]), jax.tree.leaves(wanted[1]), strict=True):
        assert np.abs(one - other).max() < 0.03 * np.abs(other).max()


def test_evaluation_is_exact_and_only_training_samples(params, batch):
    exact, estimate = Causal().build(MODEL, None), SampledCausal(samples=4).build(MODEL, None)
    loss = jax.jit(estimate.loss)
    assert loss(params, batch, None)[0] == jax.jit(exact.loss)(params, batch, None)[0]
    assert loss(params, batch, jax.random.key(0))[0] != loss(params, batch, jax.random.key(1))[0]
    assert loss(params, batch, jax.random.key(0))[1] == 10


def test_a_sample_that_is_the_target_is_no_rival():
    features_MD, kernel_SD = jnp.ones((1, 2)), jnp.ones((3, 2))
    ids_S = jnp.array([4, 4, 7])
    nats = sampled.sampled_nats(features_MD, kernel_SD, jnp.ones((1, 2)), ids_S, jnp.array([4]), V)
    rival = np.exp(2.0) / (3 * np.log1p(1 / 8) / np.log(V + 1))
    assert_allclose(nats, np.log((np.exp(2.0) + rival) / np.exp(2.0)), rtol=1e-5)


def test_the_targets_own_logit_is_as_exact_as_its_rivals_in_half_precision():
    features_MD, target_MD = (jax.random.normal(jax.random.key(i), (50, 64), jnp.bfloat16) for i in (0, 1))
    ids_S, targets_M = jnp.array([0, 1]), jnp.full(50, 5)
    rows = features_MD, target_MD[:2], target_MD
    exact = sampled.sampled_nats(*(x.astype(jnp.float32) for x in rows), ids_S, targets_M, V)
    assert_allclose(sampled.sampled_nats(*rows, ids_S, targets_M, V), exact, rtol=1e-5, atol=1e-5)


def test_what_cannot_be_sampled_is_refused():
    with pytest.raises(ConfigError, match="needs a model whose head is one product"):
        SampledCausal().build(GPT(layers=1, width=8, heads=2, mlp_width=8, context=5).build(V, V), None)
    with pytest.raises(ConfigError, match="samples=0 must be positive"):
        SampledCausal(samples=0)
    with pytest.raises(ConfigError, match="never computes"):
        SampledCausal(z_loss=1e-4)
