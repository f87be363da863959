"""Claims about networks that read both ways."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from gptjax.config import ConfigError
from gptjax.infer.sample import Decoding, generate
from gptjax.models.recurrent_encoder import BidirectionalRecurrent
from gptjax.objectives import task_loss
from gptjax.objectives.causal import next_token
from gptjax.objectives.task_text import TaskBatch

V = 23
CONFIG = BidirectionalRecurrent(cell="tanh", layers=2, width=6, embed_width=5, context=12)


@pytest.fixture(scope="module")
def built():
    model = CONFIG.build(V, V)
    random = np.random.default_rng(0)
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    params = jax.tree.map(lambda x: jnp.asarray(0.5 * random.standard_normal(x.shape, np.float32)), shapes)
    return model, params, jax.jit(model.features)


@pytest.fixture(scope="module")
def inputs():
    return np.random.default_rng(1).integers(0, V, (2, 9)).astype(np.int32)


def test_each_way_is_a_recurrence_and_the_way_back_reads_the_row_reversed(built, inputs):
    _, params, features = built
    swapped = jax.tree.map(lambda x: x, params)
    for number in range(2):
        both = swapped[f"layer_{number}"]
        both["forward"], both["backward"] = both["backward"], both["forward"]
    # The second layer reads both halves, and so its input matrices must change halves too.
    for way in swapped["layer_1"].values():
        way["input"] = {"kernel": jnp.roll(way["input"]["kernel"], CONFIG.width, axis=1)}
    there, back = features(params, inputs), features(swapped, inputs[:, ::-1])
    assert_allclose(jnp.roll(back[:, ::-1], CONFIG.width, axis=-1), there, rtol=1e-5, atol=1e-6)


def test_every_token_is_seen_from_everywhere_in_its_document_and_from_nowhere_else(built, inputs):
    _, params, features = built
    segments = np.repeat([[1, 2]], 2, axis=0).repeat([4, 5], axis=1)
    base = np.asarray(features(params, inputs, segments))
    for t in range(9):
        changed = inputs.copy()
        changed[:, t] = (changed[:, t] + 1) % V
        moved_T = np.abs(np.asarray(features(params, changed, segments)) - base).max(axis=(0, 2)) > 0
        assert moved_T.tolist() == ((np.arange(9) < 4) == (t < 4)).tolist()


def test_padding_that_is_marked_changes_no_real_token(built, inputs):
    _, params, features = built
    padded = np.concatenate([inputs, np.full((2, 3), 7, np.int32)], axis=1)
    segments = (np.arange(12) < 9).astype(np.int32)[None].repeat(2, 0)
    marked = features(params, padded, segments)[:, :9]
    assert_allclose(marked, features(params, inputs), rtol=1e-5, atol=1e-6)
    assert not np.allclose(features(params, padded)[:, :9], marked, atol=1e-3)


def test_a_task_learns_from_it_and_its_padding_changes_no_score(built, inputs):
    model, params, _ = built
    question = task_loss.classes(3)
    objective = task_loss.objective(model, question, 0.0, 0.0, "mean")
    head = {"kernel": jax.random.normal(jax.random.key(0), (12, 3)), "bias": jnp.zeros(3)}
    whole = {"model": params, "head": head}
    predict = jax.jit(task_loss.predictor(model, question, "mean"))

    def batch(tokens):
        arrays = np.full((2, 1), 9, np.int32), np.array([0, 2], np.int32), np.ones(2, np.float32)
        return TaskBatch(tokens[:, None], *arrays)

    padded = np.concatenate([inputs, np.full((2, 3), 7, np.int32)], axis=1)
    assert_allclose(predict(whole, batch(padded)), predict(whole, batch(inputs)), rtol=1e-4, atol=1e-6)
    gradient = jax.jit(jax.grad(lambda p: objective.loss(p, batch(padded), None)[0]))(whole)
    assert all(np.abs(x).max() > 0 for x in jax.tree.leaves(gradient))


def test_it_is_refused_as_a_language_model_in_one_line(built, inputs):
    model, params, _ = built
    with pytest.raises(ConfigError, match="reads both sides"):
        next_token(model)
    with pytest.raises(ConfigError, match="reads both sides"):
        generate(model, params, [inputs[0]], 1, Decoding(), jax.random.key(0))
    both = task_loss.objective(model, task_loss.classes(3), 0.5, 0.0)
    batch = TaskBatch(inputs[:, None], np.full((2, 1), 9), np.zeros(2, np.int32), np.ones(2, np.float32))
    shapes = jax.eval_shape(both.init, jax.random.key(0))
    with pytest.raises(ConfigError, match="has seen the tokens it would predict") as caught:
        jax.eval_shape(both.loss, shapes, batch, None)
    assert "\n" not in str(caught.value)


def test_sizes_are_those_of_both_ways(built):
    _, params, _ = built
    assert CONFIG.parameter_count(V) == sum(x.size for x in jax.tree.leaves(params))
    assert CONFIG.flops_per_token(V, 9)[0] == 6 * (CONFIG.parameter_count(V) - V * CONFIG.embed_width)
    with pytest.raises(ConfigError, match="width=0 must be positive"):
        replace(CONFIG, width=0)
