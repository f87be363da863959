"""Claims about parameters that no update changes."""

from contextlib import closing
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from train.test_step import OBJECTIVE, RUN, WIDTH, batch, loss

from gptjax.train import checkpoint, snapshot
from gptjax.train.optim import AdamW
from gptjax.train.state import init_state, joined, parted
from gptjax.train.step import make_step
from gptjax.types import Objective


@jax.custom_vjp
def without_gradient(x):
    return x


def refused(_, __):
    raise AssertionError("a gradient of a frozen parameter was asked for")


without_gradient.defvjp(lambda x: (x, None), refused)


def init(key):
    model = {"kernel": jax.random.normal(key, (WIDTH,)), "still": jnp.full(WIDTH, 0.1)}
    return {"model": model, "head": jnp.zeros(())}


def moved(params, rows, key):
    """The linear model of the steps' tests, whose weights are the sum of trained and frozen ones."""
    still = without_gradient(params["model"]["still"])
    total, count, metrics = loss({"model": {"kernel": params["model"]["kernel"] + still}}, rows, key)
    return total + params["head"] ** 2, count, metrics


SOME = Objective(init, lambda rows: rows, moved, frozen=lambda path: path == "model/still")
TRAINED = replace(RUN, optimizer=AdamW(learning_rate=0.1), ema_decay=0.9)


def after(objective, run, steps, loss):
    optimizer = run.optimizer.build(run.schedule.build(run.steps))
    state = init_state(run, objective, optimizer, jax.random.key(0))
    step = jax.jit(make_step(run, loss, optimizer), donate_argnums=0)
    for number in range(steps):
        state, _ = step(state, batch(number))
    return state


@pytest.fixture(scope="module")
def state():
    return after(SOME, TRAINED, 3, moved)


def leaves(tree):
    return {jax.tree_util.keystr(path): np.asarray(x) for path, x in jax.tree_util.tree_leaves_with_path(tree)}


def test_an_update_changes_what_is_trained_and_asks_for_no_other_gradient(state):
    start = init(jax.random.split(jax.random.key(0))[0])
    found = joined(state.params, state.frozen)
    np.testing.assert_array_equal(found["model"]["still"], start["model"]["still"])
    assert not np.any(np.asarray(found["model"]["kernel"]) == np.asarray(start["model"]["kernel"]))


def test_only_trained_parameters_have_optimizer_state_and_an_average(state):
    assert not any("still" in path for path in (*leaves(state.opt_state), *leaves(state.ema), *leaves(state.params)))
    assert sum("kernel" in path for path in leaves(state.opt_state)) == 2  # both moments of Adam
    assert list(leaves(state.frozen)) == ["['model']['still']"]


def test_what_is_trained_learns_as_if_the_rest_were_constants(state):
    """The same model, its frozen part written into the loss."""

    def alone(params, rows, key):
        shifted = {"model": {"kernel": params["model"]["kernel"] + 0.1}}
        return loss(shifted, rows, key)

    expected = after(OBJECTIVE, TRAINED, 3, alone)
    np.testing.assert_allclose(state.params["model"]["kernel"], expected.params["model"]["kernel"], rtol=1e-6)


def test_accumulated_and_half_precision_updates_leave_it_too():
    run = replace(TRAINED, accumulation=2, precision="bfloat16", clip_norm=0.5)
    state = after(SOME, run, 1, moved)
    np.testing.assert_array_equal(state.frozen["model"]["still"], np.full(WIDTH, 0.1, np.float32))
    assert np.all(np.isfinite(state.params["model"]["kernel"]))


@pytest.mark.parametrize("ema_decay", [None, 0.9])
def test_a_state_with_frozen_parameters_is_saved_whole_and_restored_bit_for_bit(tmp_path, ema_decay):
    run = replace(TRAINED, ema_decay=ema_decay)
    saved = after(SOME, run, 2, moved)
    with closing(checkpoint.Writer(tmp_path / "checkpoints", 1, None)) as writer:
        snapshot.save(writer, saved, {"metrics": {}})
    optimizer = run.optimizer.build(run.schedule.build(run.steps))
    abstract = jax.eval_shape(lambda key: init_state(run, SOME, optimizer, key), jax.random.key(0))
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    found = snapshot.restore(tmp_path / "checkpoints/2", abstract, jax.tree.map(lambda _: device, abstract))
    keyless = [replace(x, key=jax.random.key_data(x.key)) for x in (saved, found)]
    first, second = map(leaves, keyless)
    assert first.keys() == second.keys()
    for path in first:
        np.testing.assert_array_equal(first[path], second[path], err_msg=path)
    whole = leaves(snapshot.judged(found))
    assert whole.keys() == leaves(init(jax.random.key(0))).keys()
    own = found.params if ema_decay is None else found.ema
    np.testing.assert_array_equal(whole["['model']['kernel']"], own["model"]["kernel"])


def test_parameters_of_which_none_are_frozen_are_as_they_were():
    params = init(jax.random.key(0))
    assert parted(params, lambda path: False) == (params, None)
    assert joined(params, None) is params
