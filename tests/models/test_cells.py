"""Claims about the loop over time."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from gptjax.models import cells
from gptjax.models.cells import CELLS, Recurrence

T, B, D = 5, 2, 3


def drawn(kind):
    """Inputs, matrices, first state and resets of a layer; weights of the states in a loss."""
    cell, random = CELLS[kind], np.random.default_rng(0)

    def normal(*shape):
        return jnp.asarray(random.standard_normal(shape), jnp.float32)

    start = tuple(normal(B, D) for _ in range(cell.states))
    weights = tuple(normal(T, B, D) for _ in range(cell.states))
    keep_TB = jnp.asarray([[1, 1], [1, 0], [0, 1], [1, 1], [1, 1]], bool)
    return cell, normal(T, B, cell.gates, D), normal(cell.gates, D, D), start, keep_TB, weights


@pytest.mark.parametrize("kind", CELLS)
def test_the_gradient_written_out_is_that_of_the_loop(kind):
    cell, x_TBGD, kernel_GDD, start, keep_TB, weights = drawn(kind)

    def loss(run, x_TBGD, kernel_GDD, start):
        states = run(cell, x_TBGD, kernel_GDD, start, keep_TB)
        return sum(jnp.sum(w * s) for w, s in zip(weights, states, strict=True))

    def gradient(run):
        return jax.jit(jax.grad(partial(loss, run), argnums=(0, 1, 2)))(x_TBGD, kernel_GDD, start)

    expected = gradient(lambda *args: cells._forward(*args)[0])
    for found, wanted in zip(jax.tree.leaves(gradient(cells.run)), jax.tree.leaves(expected), strict=True):
        assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def by_hand(kind, x_GD, kernel_GDD, state):
    u_GD = np.einsum("e,ged->gd", state[0], kernel_GDD)
    if kind == "tanh":
        return (np.tanh(x_GD + u_GD)[0],)
    if kind == "gru":
        r, z = sigmoid(x_GD[0] + u_GD[0]), sigmoid(x_GD[1] + u_GD[1])
        return (z * state[0] + (1 - z) * np.tanh(x_GD[2] + r * u_GD[2]),)
    i, f, g, o = x_GD + u_GD
    c = sigmoid(f) * state[1] + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c


@pytest.mark.parametrize("kind", CELLS)
def test_states_are_those_of_the_equations_and_zero_where_a_document_begins(kind):
    cell, x_TBGD, kernel_GDD, start, keep_TB, _ = drawn(kind)
    found = jax.jit(partial(cells.run, cell))(x_TBGD, kernel_GDD, start, keep_TB)
    for row in range(B):
        state = tuple(np.asarray(s[row]) for s in start)
        for t in range(T):
            state = state if keep_TB[t, row] else tuple(np.zeros(D) for _ in state)
            state = by_hand(kind, np.asarray(x_TBGD[t, row]), np.asarray(kernel_GDD), state)
            for s_TBD, s_D in zip(found, state, strict=True):
                assert_allclose(s_TBD[t, row], s_D, rtol=1e-4, atol=1e-5)


def test_recurrent_matrices_start_orthogonal_and_only_the_forget_gate_is_biased():
    layer = Recurrence("lstm", 6, 1.5, 0.0)
    start = (jnp.zeros((1, 6)), jnp.zeros((1, 6)))
    init = jax.jit(lambda key: layer.init(key, jnp.zeros((1, 1, 4)), start, jnp.ones((1, 1), bool), None))
    params = init(jax.random.key(0))["params"]
    for kernel_DD in np.asarray(params["recurrent"]["kernel"]):
        assert_allclose(kernel_DD @ kernel_DD.T, np.eye(6), atol=1e-5)
    assert np.asarray(params["bias"]).tolist() == [[0.0] * 6, [1.5] * 6, [0.0] * 6, [0.0] * 6]


def test_weight_dropout_drops_the_same_entries_at_every_step_and_row():
    layer = Recurrence("tanh", 4, 0.0, 0.5)
    start, keep_TB = (jnp.full((2, 4), 0.5),), jnp.ones((3, 2), bool)
    params = {
        "input": {"kernel": jnp.zeros((1, 4, 4))},
        "recurrent": {"kernel": jnp.eye(4)[None]},
        "bias": jnp.zeros((1, 4)),
    }
    run = jax.jit(lambda key: layer.apply({"params": params}, jnp.zeros((3, 2, 4)), start, keep_TB, key)[0])
    h_TBD = np.asarray(run(jax.random.key(1)))
    dropped_TBD = h_TBD == 0
    assert 0 < dropped_TBD[0, 0].sum() < 4
    assert (dropped_TBD == dropped_TBD[0, 0]).all()
    kept = h_TBD[0][~dropped_TBD[0]]
    assert_allclose(kept, np.tanh(2 * 0.5), rtol=1e-5)  # what is kept is scaled up
