"""Claims about one update, over a linear model small enough to be checked by hand."""

from dataclasses import replace
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import SingleDeviceSharding

from gptjax.config import ModelConfig, ObjectiveConfig, Run, TokenizerConfig
from gptjax.train.optim import SGD, AdamW, Muon
from gptjax.train.schedules import Constant
from gptjax.train.state import init_state
from gptjax.train.step import LaidOut, Layout, jitted, make_step
from gptjax.types import Objective

ROWS, WIDTH = 8, 3
RUN = Run(
    model=ModelConfig(),
    tokenizer=TokenizerConfig(),
    objective=ObjectiveConfig(),
    optimizer=SGD(learning_rate=1.0, momentum=0.0),
    schedule=Constant(),
    batch_rows=ROWS,
    clip_norm=None,
)


def init(key):
    return {"model": {"kernel": jax.random.normal(key, (WIDTH,))}}


def loss(params, batch, key):
    """Weighted squared error of a linear model, half of the inputs dropped in rows that ask for it."""
    inputs_BD, weights_B = batch["inputs"], batch["weights"]
    keep_BD = jax.random.bernoulli(key, 0.5, inputs_BD.shape)
    inputs_BD = jnp.where(batch["dropout"][:, None] > 0, 2 * keep_BD * inputs_BD, inputs_BD)
    predicted_B = inputs_BD.astype(params["model"]["kernel"].dtype) @ params["model"]["kernel"]
    error_B = (predicted_B.astype(jnp.float32) - batch["targets"]) ** 2
    total, count = jnp.sum(error_B * weights_B), jnp.sum(weights_B)
    return (
        total,
        count,
        {"error": (total, count), "large": (jnp.sum(error_B > 1.0).astype(jnp.float32), jnp.float32(len(error_B)))},
    )


OBJECTIVE = Objective(init, lambda rows: rows, loss)


def batch(seed=0, **changes):
    rng = np.random.default_rng(seed)
    values = {
        "inputs": rng.normal(size=(ROWS, WIDTH)),
        "targets": rng.normal(size=ROWS),
        "weights": np.array([0, 1, 5, 1, 0, 1, 0.5, 1]),
        "dropout": np.zeros(ROWS),
    }
    return {name: np.asarray(value, np.float32) for name, value in (values | changes).items()}


@cache
def compiled(run):
    optimizer = run.optimizer.build(run.schedule.build(run.steps))
    begin = jax.jit(lambda key: init_state(run, OBJECTIVE, optimizer, key))
    here = jax.tree.map(lambda _: SingleDeviceSharding(jax.devices()[0]), jax.eval_shape(begin, jax.random.key(0)))
    return begin, jitted(make_step(run, loss, optimizer), here)


def after(run, *batches):
    """The state and metrics after these batches."""
    begin, step = compiled(run)
    state, metrics = begin(jax.random.key(run.seed)), {}
    for rows in batches:
        state, metrics = step(state, rows)
    return state, metrics


def kernel(state):
    return np.asarray(state.params["model"]["kernel"])


def equal(one, other):
    """Whether two trees are the same bit for bit."""
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return all(np.asarray(a).tobytes() == np.asarray(b).tobytes() for a, b in pairs)


def test_an_update_is_the_gradient_of_the_sum_over_the_count():
    rows, start = batch(), kernel(after(RUN)[0])
    error_B = rows["inputs"] @ start - rows["targets"]
    gradient_D = 2 * (rows["weights"] * error_B) @ rows["inputs"] / rows["weights"].sum()
    state, metrics = after(RUN, rows)
    np.testing.assert_allclose(kernel(state), start - gradient_D, rtol=1e-4)
    assert metrics["loss_nats"] == pytest.approx((rows["weights"] * error_B**2).sum() / rows["weights"].sum(), rel=1e-5)
    assert metrics["tokens"] == rows["weights"].sum()
    assert metrics["grad_norm"] == pytest.approx(np.linalg.norm(gradient_D), rel=1e-5)
    assert metrics["error"] == metrics["loss_nats"]
    assert metrics["large"] == pytest.approx((error_B**2 > 1).mean())
    assert state.step == 1


@pytest.mark.parametrize("parts", [2, 4, 8])
def test_accumulation_over_unequal_micro_batches_equals_the_full_batch(parts):
    whole, whole_metrics = after(RUN, batch(0), batch(1))
    split, split_metrics = after(replace(RUN, accumulation=parts), batch(0), batch(1))
    np.testing.assert_allclose(kernel(split), kernel(whole), rtol=1e-5)
    assert set(split_metrics) == set(whole_metrics)
    for name, value in whole_metrics.items():
        assert split_metrics[name] == pytest.approx(float(value), rel=1e-5), name


def test_a_micro_batch_that_counts_nothing_changes_nothing():
    weights = np.array([0, 1, 0, 1, 0, 1, 0, 1])  # of two micro-batches, the first has weight 0 throughout
    run = replace(RUN, accumulation=2)
    masked, _ = after(run, batch(weights=weights))
    poisoned, metrics = after(run, batch(weights=weights, targets=batch()["targets"] + 100.0 * (weights == 0)))
    assert equal(masked.params, poisoned.params)
    assert metrics["tokens"] == 4


def test_a_batch_that_counts_nothing_has_a_zero_gradient_and_a_zero_loss():
    state, metrics = after(RUN, batch(weights=np.zeros(ROWS)))
    assert equal(state.params, after(RUN)[0].params)
    assert metrics["loss_nats"] == metrics["grad_norm"] == metrics["tokens"] == metrics["skipped"] == 0


@pytest.mark.parametrize("poison", [np.nan, np.inf, 1e30])
def test_a_loss_or_gradient_that_is_not_finite_never_reaches_the_state(poison):
    run = replace(RUN, optimizer=AdamW(), ema_decay=0.9, clip_norm=1.0)
    before, _ = after(run, batch(0))
    bad = batch(1, targets=np.where(np.arange(ROWS) == 2, poison, 0.0))
    skipped, metrics = after(run, batch(0), bad, bad)
    assert equal((before.params, before.opt_state, before.ema), (skipped.params, skipped.opt_state, skipped.ema))
    assert metrics["skipped"] == metrics["skipped_in_a_row"] == skipped.skipped == 2
    assert skipped.step == 3
    healed, metrics = after(run, batch(0), bad, bad, batch(2))
    assert equal(healed.params, after(run, batch(0), batch(2))[0].params)
    assert (metrics["skipped"], metrics["skipped_in_a_row"]) == (2, 0)


def test_a_finite_gradient_whose_update_is_not_finite_never_reaches_the_state():
    run = replace(RUN, optimizer=AdamW(learning_rate=3e38), ema_decay=0.9)
    before, _ = after(run)
    skipped, metrics = after(run, batch(0))
    assert np.isfinite(metrics["grad_norm"])
    assert equal((before.params, before.opt_state, before.ema), (skipped.params, skipped.opt_state, skipped.ema))
    assert metrics["skipped"] == 1


def test_what_a_bounded_rule_made_is_not_read_again():
    class Vouched(AdamW):
        def bounded(self):
            return True

    _, metrics = after(replace(RUN, optimizer=Vouched(learning_rate=3e38)), batch(0))
    assert metrics["skipped"] == 0


def test_a_schedule_that_may_exceed_its_peak_has_the_result_looked_at():
    class Wild(Constant):
        def build(self, steps):
            return lambda step: 3e38 * (step + 1.0)

    run = replace(RUN, optimizer=AdamW(learning_rate=1.0), schedule=Wild())
    before, _ = after(run)
    skipped, metrics = after(run, batch(0))
    assert run.optimizer.bounded()
    assert equal((before.params, before.opt_state), (skipped.params, skipped.opt_state))
    assert metrics["skipped"] == 1


def test_a_gradient_whose_square_is_not_finite_never_reaches_the_state():
    run = replace(RUN, optimizer=AdamW())
    before, _ = after(run)
    inputs, weights = np.full((ROWS, WIDTH), 3.0), np.full(ROWS, 1e-21)  # the gradient of the sum is small
    skipped, metrics = after(run, batch(inputs=inputs, weights=weights, targets=np.full(ROWS, 1.5e19)))
    assert np.isfinite(metrics["loss_nats"])
    assert 1e20 < metrics["grad_norm"] < np.inf
    assert metrics["skipped"] == 1
    assert equal((before.params, before.opt_state), (skipped.params, skipped.opt_state))


def test_what_is_not_finite_in_a_batch_that_counts_nothing_never_reaches_the_state():
    nothing = batch(weights=np.zeros(ROWS), targets=np.full(ROWS, np.nan))
    state, metrics = after(RUN, nothing)
    assert equal(state.params, after(RUN)[0].params)
    assert metrics["skipped"] == 1


def test_a_gradient_longer_than_the_clip_norm_is_shortened_to_it_and_a_shorter_one_left():
    start = kernel(after(RUN)[0])
    free, metrics = after(RUN, batch())
    clipped, clipped_metrics = after(replace(RUN, clip_norm=0.1), batch())
    assert metrics["grad_norm"] == clipped_metrics["grad_norm"] > 0.1
    assert np.linalg.norm(kernel(clipped) - start) == pytest.approx(0.1, rel=1e-4)
    assert equal(after(replace(RUN, clip_norm=1e6), batch())[0].params, free.params)


def test_dropout_differs_between_steps_and_micro_batches_and_repeats_with_the_seed():
    rows = batch(inputs=np.ones((ROWS, WIDTH)), weights=np.ones(ROWS), dropout=np.ones(ROWS))
    still = replace(RUN, optimizer=SGD(learning_rate=1e-30))  # the same parameters throughout
    losses = [float(after(still, *[rows] * n)[1]["loss_nats"]) for n in (1, 2, 3)]
    assert len(set(losses)) == 3
    assert losses == [float(after(still, *[rows] * n)[1]["loss_nats"]) for n in (1, 2, 3)]
    # The same rows in both micro-batches: with one key for both, it would not matter which of them counts.
    rows |= {"targets": np.zeros(ROWS, np.float32)}
    halves = [rows | {"weights": np.array(weights * 4, np.float32)} for weights in ([1, 0], [0, 1])]
    first, second = (after(replace(still, accumulation=2), half)[1]["loss_nats"] for half in halves)
    assert first != second


def test_the_average_follows_the_parameters_faster_while_it_is_young():
    run = replace(RUN, ema_decay=0.15, optimizer=SGD(learning_rate=0.1))
    begin, step = compiled(run)
    state = begin(jax.random.key(0))
    assert equal(state.ema, state.params)
    expected = kernel(state)
    for n in range(3):
        state, _ = step(state, batch(n))
        decay = min(0.15, (1 + n) / (10 + n))
        expected = decay * expected + (1 - decay) * kernel(state)
        np.testing.assert_allclose(state.ema["model"]["kernel"], expected, rtol=1e-5)


def test_bfloat16_computes_from_a_cast_copy_and_keeps_float32_master_weights():
    seen = []

    def spy(params, rows, key):
        seen.append(params["model"]["kernel"].dtype)
        return loss(params, rows, key)

    run = replace(RUN, precision="bfloat16", accumulation=2, optimizer=SGD(learning_rate=1e-4))
    optimizer = run.optimizer.build(run.schedule.build(run.steps))
    start = init_state(run, OBJECTIVE, optimizer, jax.random.key(0))
    state, metrics = jax.jit(make_step(run, spy, optimizer))(start, batch())
    assert set(seen) == {jnp.dtype("bfloat16")}
    assert {leaf.dtype for leaf in jax.tree.leaves((state.params, state.opt_state))} <= {
        jnp.dtype("float32"),
        jnp.dtype("int32"),
    }
    assert 0 < np.abs(kernel(state) - kernel(start)).max() < 1e-3  # below what bfloat16 weights could hold
    assert metrics["loss_nats"].dtype == jnp.float32


def test_a_step_can_be_traced_without_values_so_that_it_compiles_ahead():
    begin, step = compiled(replace(RUN, optimizer=AdamW(), ema_decay=0.9))
    abstract = jax.eval_shape(begin, jax.random.key(0))
    out, _ = step.eval_shape(abstract, batch())
    assert jax.tree.map(lambda x: (x.shape, x.dtype), out) == jax.tree.map(lambda x: (x.shape, x.dtype), abstract)


def test_a_rule_is_given_the_layout_only_where_it_takes_it():
    given, layout = [], Layout()

    def update(updates, state, params=None, **arguments):
        given.append(arguments)
        return updates, state

    for kind in (optax.GradientTransformationExtraArgs, LaidOut):
        rule = kind(optax.init_empty_state, update)
        state = jax.eval_shape(lambda key, rule=rule: init_state(RUN, OBJECTIVE, rule, key), jax.random.key(0))
        jax.eval_shape(make_step(RUN, loss, rule, layout), state, batch())
    assert given == [{}, {"layout": layout}]
    assert isinstance(Muon().build(Constant().build(1)), LaidOut)
