import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gptjax.models.bert import Bert
from gptjax.objectives import task_loss
from gptjax.objectives.task_text import TaskBatch

RANDOM = np.random.default_rng(2)
KEY = jax.random.key(3)
QUESTIONS = {"classes": task_loss.classes(3), "choices": task_loss.choices(), "score": task_loss.score(0, 5)}


def random_batch(question, rows=4):
    """Three ways of 14 tokens at most, junk in the padding; the second example has two ways only."""
    lengths_BW = RANDOM.integers(3, 14, (rows, 3)).astype(np.int32)
    lengths_BW[1, 2] = 0
    tokens_BWT = RANDOM.integers(0, 24, (rows, 3, 14)).astype(np.int32)
    targets_B = RANDOM.integers(0, 2, rows).astype(question.dtype)
    return TaskBatch(tokens_BWT, lengths_BW, targets_B, np.ones(rows, np.float32))


@pytest.fixture(scope="module", params=QUESTIONS)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def case(name, model):
    """A question, its objective, and parameters whose head is large, so that no score is near another."""
    objective = task_loss.objective(model, QUESTIONS[name], 0.5, 0.1)
    params = objective.init(KEY)
    params["head"]["kernel"] *= 20
    return QUESTIONS[name], objective, params


@pytest.fixture(scope="module")
def by_hand(name, nats_alone):
    """(scores, task loss, language-model nats) of one example, each way read alone and without padding, in float64."""

    def compute(params, batch, row):
        ways = [ids[:n] for ids, n in zip(batch.tokens[row], batch.lengths[row], strict=True) if n]
        read = [nats_alone(params["model"], ids, 24) for ids in ways]
        hidden_WD, lm_nats = np.stack([features[-1] for features, _ in read]), np.mean([n.mean() for _, n in read])
        kernel_DC, bias_C = (np.asarray(params["head"][part], np.float64) for part in ("kernel", "bias"))
        scores = (hidden_WD @ kernel_DC + bias_C)[:, 0] if name == "choices" else hidden_WD.sum(0) @ kernel_DC + bias_C
        target = batch.targets[row]
        if name == "score":
            scores = 2.5 + 2.5 * scores
            return scores, ((scores[0] - target) / 2.5) ** 2, lm_nats
        return scores, np.log(np.exp(scores).sum()) - scores[target], lm_nats

    return compute


def test_the_loss_is_the_tasks_plus_half_the_language_models_whatever_the_padding(case, by_hand):
    question, objective, params = case
    batch = random_batch(question)
    total, count, metrics = jax.jit(objective.loss)(params, batch, None)
    found = [by_hand(params, batch, row) for row in range(4)]
    np.testing.assert_allclose(metrics["task"][0], sum(task for _, task, _ in found), rtol=1e-4)
    np.testing.assert_allclose(metrics["lm_nats"][0], sum(nats for _, _, nats in found), rtol=1e-4)
    np.testing.assert_allclose(total, sum(task + 0.5 * nats for _, task, nats in found), rtol=1e-4)
    assert count == metrics["task"][1] == 4


def test_predictions_are_finite_and_those_of_each_example_alone(case, model, by_hand):
    question, _, params = case
    batch = random_batch(question)
    scores_BC = np.asarray(jax.jit(task_loss.predictor(model, question))(params, batch))
    for row, scores_C in enumerate(scores_BC):
        expected, _, _ = by_hand(params, batch, row)
        np.testing.assert_allclose(scores_C[: len(expected)], expected, rtol=1e-4, atol=1e-5)
        assert (scores_C[len(expected) :] < -1e29).all()
    assert np.isfinite(scores_BC).all()


def test_accumulation_over_unequal_micro_batches_equals_the_full_batch(case, gradient, close):
    question, objective, params = case
    batch = random_batch(question)._replace(weights=np.array([0, 0, 1, 0], np.float32))
    parts = [jax.tree.map(lambda x, i=i: x[i : i + 2], batch) for i in (0, 2)]
    found = jax.tree.map(lambda *x: sum(x), *[gradient(objective, params, part) for part in parts])
    whole = gradient(objective, params, batch)
    assert whole[1] == 1
    close(found, whole, rtol=1e-4, atol=1e-5)


def test_an_example_without_weight_is_harmless_even_if_it_is_empty(case, gradient):
    question, objective, params = case
    empty = jax.tree.map(np.zeros_like, random_batch(question, rows=2))
    total, count, metrics, slopes = gradient(objective, params, empty)
    assert total == count == metrics["task"][0] == 0
    assert all((slope == 0).all() for slope in jax.tree.leaves(slopes))


def test_the_order_of_a_pair_does_not_matter(model):
    question = task_loss.classes(2)
    params, batch = task_loss.objective(model, question, 0.5, 0.1).init(KEY), random_batch(question)
    swapped = batch._replace(tokens=batch.tokens[:, ::-1], lengths=batch.lengths[:, ::-1])
    predict = jax.jit(task_loss.predictor(model, question))
    np.testing.assert_allclose(predict(params, swapped), predict(params, batch), rtol=1e-4)


def test_a_tie_is_an_error_and_so_is_a_score_that_is_not_a_number():
    scores_BC = jnp.array([[1.0, 1.0], [2.0, 1.0], [1.0, 2.0], [jnp.nan, 0.0]])
    _, metrics = task_loss.choices().losses(scores_BC, jnp.zeros(4, jnp.int32))
    assert metrics["accuracy"].tolist() == [0, 1, 0, 0]


def test_without_the_language_model_loss_its_head_is_not_computed(model):
    def refuse(*_):
        raise AssertionError("the language model's head was called")

    question = task_loss.classes(2)
    objective = task_loss.objective(model._replace(head=refuse), question, 0.0, 0.1)
    total, _, metrics = jax.jit(objective.loss)(objective.init(KEY), random_batch(question), None)
    assert sorted(metrics) == ["accuracy", "task"]
    assert total == metrics["task"][0]


def test_classifier_dropout_is_on_with_a_key_alone_and_one_mask_serves_all_choices(model):
    still = model._replace(features=lambda params, tokens_BT, key=None: jnp.ones((*tokens_BT.shape, 16)))
    batch = random_batch(task_loss.choices())._replace(lengths=np.full((4, 3), 5, np.int32))
    objective = task_loss.objective(still, task_loss.choices(), 0.0, 0.5)
    params = objective.init(KEY)
    # Equal hidden states stay equal under one mask, so every choice remains as likely as any other.
    np.testing.assert_allclose(jax.jit(objective.loss)(params, batch, KEY)[0], 4 * np.log(3), rtol=1e-6)
    classify = task_loss.objective(still, task_loss.classes(3), 0.0, 0.5)
    params, loss = classify.init(KEY), jax.jit(classify.loss)
    losses = [float(loss(params, batch, key)[0]) for key in (None, None, KEY, jax.random.key(9))]
    assert losses[0] == losses[1]
    assert len({losses[0], losses[2], losses[3]}) == 3


def test_an_untrained_score_is_near_the_middle_of_the_range(model):
    question = task_loss.score(-3, 13)
    params = task_loss.objective(model, question, 0.5, 0.1).init(KEY)
    params["head"]["kernel"] *= 0
    scores_BC = jax.jit(task_loss.predictor(model, question))(params, random_batch(question))
    assert scores_BC.tolist() == [[5.0]] * 4


def test_half_precision_parameters_still_give_float32_sums(case):
    question, objective, params = case
    half = jax.tree.map(lambda p: p.astype(jnp.bfloat16), params)
    total, count, metrics = jax.eval_shape(objective.loss, half, random_batch(question), KEY)
    assert {leaf.dtype for leaf in jax.tree.leaves((total, count, metrics))} == {np.dtype("float32")}


def test_pooled_values_are_those_of_the_real_tokens():
    features_RTD = RANDOM.standard_normal((3, 6, 5)).astype(np.float32)
    lengths_R = np.array([6, 1, 4], np.int32)
    texts = [row[:n] for row, n in zip(features_RTD, lengths_R, strict=True)]
    by_hand = {
        "first": [text[0] for text in texts],
        "last": [text[-1] for text in texts],
        "mean": [text.mean(0) for text in texts],
        "max": [text.max(0) for text in texts],
    }
    for pool, expected in by_hand.items():
        found = task_loss.pooled(pool, jnp.asarray(features_RTD), lengths_R)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    for pool in by_hand:  # an absent choice has no tokens, and its numbers are still finite
        assert np.isfinite(task_loss.pooled(pool, jnp.asarray(features_RTD), np.zeros(3, np.int32))).all()


@pytest.mark.parametrize("pool", ["first", "mean"])
def test_padding_cannot_change_what_a_model_of_both_sides_answers(pool):
    model = Bert(layers=1, width=16, heads=2, mlp_width=32, context=14, init_std=0.3).build(24, 24)
    question = task_loss.classes(3)
    params = jax.jit(task_loss.objective(model, question, 0.0, 0.0, pool).init)(KEY)
    params["head"]["kernel"] *= 20
    batch = random_batch(question)
    batch.tokens[:, :, 1] = 22  # the delimiter, after which the second text begins
    real_BWT = np.arange(14) < batch.lengths[..., None]
    other = batch._replace(tokens=np.where(real_BWT, batch.tokens, (batch.tokens + 5) % 24).astype(np.int32))
    predict = jax.jit(task_loss.predictor(model, question, pool))
    assert (predict(params, batch) == predict(params, other)).all()
    changed = batch._replace(tokens=np.where(real_BWT, (batch.tokens + 1) % 20, batch.tokens).astype(np.int32))
    assert (predict(params, batch) != predict(params, changed)).all()
