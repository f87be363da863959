"""The means are those of all rows, each once."""

import jax.numpy as jnp
import numpy as np
import pytest

from gptjax.data.errors import DataError
from gptjax.evals import heldout
from gptjax.objectives.causal import next_token, to_batch
from gptjax.objectives.loss import Regular
from gptjax.types import Objective, Rows, RowSource

V = 7


def source_of(count):
    random = np.random.default_rng(1)
    tokens = random.integers(0, V, (count, 6)).astype(np.int32)
    weights = random.integers(0, 2, (count, 6)).astype(np.float32)
    segments = np.sort(random.integers(1, 4, (count, 6))).astype(np.int32)

    def take(indices_B, epoch):
        assert epoch == 0
        return Rows(tokens[indices_B], weights[indices_B], segments[indices_B])

    return RowSource(count, take)


@pytest.fixture(scope="module")
def objective(bag):
    return next_token(bag, regular=Regular(label_smoothing=0.1))


@pytest.mark.parametrize("rows", [4, 11, 16])
def test_the_means_are_those_of_one_batch_of_all_rows(objective, params, rows):
    source = source_of(11)
    total, count, metrics = objective.loss({"model": params}, objective.batch(source.take(np.arange(11), 0)), None)
    judge = heldout.evaluator(objective, source, rows)
    judge.compile({"model": params})
    found = judge({"model": params})
    assert found.keys() == {"loss_nats", "tokens", "nats_per_token", "perplexity"}
    assert found["tokens"] == count
    assert found["loss_nats"] == pytest.approx(float(total / count), rel=1e-6)
    assert found["nats_per_token"] == pytest.approx(float(metrics["nats"][0] / count), rel=1e-6)


def test_the_loss_is_traced_once_and_before_the_first_judging(objective, params):
    traced = []

    def loss(*arguments):
        traced.append(1)
        return objective.loss(*arguments)

    judge = heldout.evaluator(Objective(objective.init, objective.batch, loss), source_of(11), 4)
    judge.compile({"model": params})
    assert len(traced) == 1
    judge({"model": params})
    assert len(traced) == 1


def test_an_objective_that_counts_padding_is_refused(params):
    def loss(params, batch, key):
        return jnp.float32(0), jnp.float32(len(batch.inputs)), {}

    judge = heldout.evaluator(Objective(lambda key: None, to_batch, loss), source_of(3), 4)
    with pytest.raises(ValueError, match="loss_nats counts rows of zeros"):
        judge.compile({"model": params})


def test_metrics_that_never_count_are_absent_and_a_loss_that_never_counts_is_refused(params):
    def loss(params, batch, key):
        count = jnp.sum(batch.weights)
        return count * params["loss"], count * params["counts"], {"accuracy": (jnp.float32(0), jnp.float32(0))}

    judge = heldout.evaluator(Objective(lambda key: None, to_batch, loss), source_of(5), 4)
    assert judge({"loss": 2.0, "counts": 1.0}) == {"loss_nats": 2.0}
    with pytest.raises(DataError, match="none of the 5 held-out rows has a target that counts"):
        judge({"loss": 0.0, "counts": 0.0})
    with pytest.raises(FloatingPointError, match=r"\(sum, count\) of loss_nats: entry 0 is nan"):
        judge({"loss": float("nan"), "counts": 1.0})


def test_predictions_come_in_the_order_of_the_source(params):
    source = source_of(11)
    found = heldout.predictions(lambda params, batch: batch.inputs[:, 0], params, to_batch, source, 4)
    np.testing.assert_array_equal(found, source.take(np.arange(11), 0).tokens[:, 0])


def test_judging_can_be_stopped_after_any_batch(objective, params):
    calls = []
    heldout.evaluator(objective, source_of(11), 4)({"model": params}, lambda: calls.append(1))
    assert len(calls) == 3
    with pytest.raises(ZeroDivisionError):
        heldout.evaluator(objective, source_of(11), 4)({"model": params}, lambda: 1 // 0)
