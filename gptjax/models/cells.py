"""The cells of recurrent networks, and one layer of them run over rows.

Axes beside the alphabet's: E width of a layer's input, D width of its state, G gates. Time comes first, because that is
the order of the loop.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from gptjax.attention.dropout import drop
from gptjax.models.layers import Kernel

Kind = Literal["tanh", "gru", "lstm"]
State = tuple[jax.Array, ...]
"""What a layer remembers, [B, D] float32 each; the first is what the next layer reads."""


class Cell(NamedTuple):
    """One step of time, without its matrices."""

    gates: int
    states: int
    step: Callable[[jax.Array, jax.Array, State], State]
    """`step(x_BGD, u_BGD, state) -> state`: the input's product and the former state's, float32."""


def _tanh(x_BGD: jax.Array, u_BGD: jax.Array, state: State) -> State:
    """h = tanh(W x + U h). (Elman 1990, "Finding structure in time".)"""
    return (jnp.tanh(x_BGD + u_BGD)[:, 0],)


def _gru(x_BGD: jax.Array, u_BGD: jax.Array, state: State) -> State:
    """r, z = s(W x + U h); h = z h + (1 - z) tanh(W x + r (U h)). (Cho et al., arXiv 1406.1078, as cuDNN has it.)"""
    r_BD, z_BD = (jax.nn.sigmoid(x_BGD[:, gate] + u_BGD[:, gate]) for gate in (0, 1))
    return (z_BD * state[0] + (1 - z_BD) * jnp.tanh(x_BGD[:, 2] + r_BD * u_BGD[:, 2]),)


def _lstm(x_BGD: jax.Array, u_BGD: jax.Array, state: State) -> State:
    """i, f, o = s(W x + U h); c = f c + i tanh(W x + U h); h = o tanh(c). (Hochreiter & Schmidhuber 1997.)"""
    z_BGD = x_BGD + u_BGD
    i_BD, f_BD, o_BD = (jax.nn.sigmoid(z_BGD[:, gate]) for gate in (0, FORGET, 3))
    c_BD = f_BD * state[1] + i_BD * jnp.tanh(z_BGD[:, 2])
    return o_BD * jnp.tanh(c_BD), c_BD


FORGET = 1
"""The LSTM's forget gate among its gates."""
CELLS: dict[Kind, Cell] = {"tanh": Cell(1, 1, _tanh), "gru": Cell(3, 1, _gru), "lstm": Cell(4, 2, _lstm)}


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def run(cell: Cell, x_TBGD: jax.Array, kernel_GDD: jax.Array, start: State, keep_TB: jax.Array) -> State:
    """The states after each step, [T, B, D] float32 each, from the input's products and the state before the row.

    Where `keep_TB` is False the state is set to 0 before the token is read. The recurrent product multiplies in the
    dtype of its kernel; gates and states are float32. Left to differentiation, the loop backward would add a whole
    matrix up at every step; here the kernel's gradient is one product over all steps behind the loop.
    """
    return _forward(cell, x_TBGD, kernel_GDD, start, keep_TB)[0]


def _forward(
    cell: Cell, x_TBGD: jax.Array, kernel_GDD: jax.Array, start: State, keep_TB: jax.Array
) -> tuple[State, tuple[Any, ...]]:
    joined_DM = joined(kernel_GDD)

    def step(state: State, now: tuple[jax.Array, jax.Array]) -> tuple[State, tuple[State, jax.Array]]:
        x_BGD, keep_B = now
        before = _kept(state, keep_B)
        flat_BM = jnp.matmul(before[0].astype(joined_DM.dtype), joined_DM, preferred_element_type=jnp.float32)
        u_BGD = flat_BM.reshape(x_BGD.shape)
        after = cell.step(x_BGD.astype(jnp.float32), u_BGD, before)
        return after, (after, u_BGD.astype(x_BGD.dtype))

    _, (states, u_TBGD) = jax.lax.scan(step, start, (x_TBGD, keep_TB))
    return states, (x_TBGD, u_TBGD, kernel_GDD, start, states, keep_TB)


def _backward(cell: Cell, saved: tuple[Any, ...], dstates: State) -> tuple[Any, ...]:
    x_TBGD, u_TBGD, kernel_GDD, start, states, keep_TB = saved
    joined_MD = joined(kernel_GDD).T

    def former(first: jax.Array, states_TBD: jax.Array) -> jax.Array:
        shifted_TBD = jnp.concatenate([first[None], states_TBD[:-1]])
        return jnp.where(keep_TB[..., None], shifted_TBD, 0)

    before = jax.tree.map(former, start, states)

    def step(dstate: State, now: tuple[Any, ...]) -> tuple[State, tuple[jax.Array, jax.Array]]:
        x_BGD, u_BGD, before, dafter, keep_B = now
        dafter = jax.tree.map(jnp.add, dafter, dstate)
        _, pull = jax.vjp(cell.step, x_BGD.astype(jnp.float32), u_BGD.astype(jnp.float32), before)
        dx_BGD, du_BGD, dbefore = pull(dafter)
        du_BGD = du_BGD.astype(joined_MD.dtype)
        flat_BM = du_BGD.reshape(len(du_BGD), -1)
        dh_BD = dbefore[0] + jnp.matmul(flat_BM, joined_MD, preferred_element_type=jnp.float32)
        return _kept((dh_BD, *dbefore[1:]), keep_B), (dx_BGD.astype(x_BGD.dtype), du_BGD)

    zeros = jax.tree.map(jnp.zeros_like, start)
    dstart, (dx_TBGD, du_TBGD) = jax.lax.scan(step, zeros, (x_TBGD, u_TBGD, before, dstates, keep_TB), reverse=True)
    (T, B, G, D), h_TBD = du_TBGD.shape, before[0].astype(joined_MD.dtype)
    dkernel_DM = h_TBD.reshape(T * B, D).T @ du_TBGD.reshape(T * B, G * D)
    return dx_TBGD, dkernel_DM.reshape(D, G, D).swapaxes(0, 1), dstart, None


run.defvjp(_forward, _backward)


def joined(kernel_GDD: jax.Array) -> jax.Array:
    """All gates' matrices side by side, [D, G * D]."""
    G, E, D = kernel_GDD.shape
    return kernel_GDD.swapaxes(0, 1).reshape(E, G * D)


def _kept(state: State, keep_B: jax.Array) -> State:
    return tuple(jnp.where(keep_B[:, None], x_BD, 0) for x_BD in state)


class Recurrence(nn.Module):
    """One layer: every gate has an input matrix, a bias and an orthogonal recurrent matrix of its own."""

    kind: Kind
    width: int
    forget_bias: float
    weight_dropout: float

    @nn.compact
    def __call__(self, x_TBE: jax.Array, start: State, keep_TB: jax.Array, key: jax.Array | None) -> State:
        """The states after each step; a key drops entries of the recurrent matrices, the same ones at every step."""
        cell, (T, B, E), D = CELLS[self.kind], x_TBE.shape, self.width
        normal = nn.initializers.normal(E**-0.5)
        kernel_GED = Kernel((cell.gates, E, D), normal, name="input")().astype(x_TBE.dtype)
        kernel_GDD = Kernel((cell.gates, D, D), orthogonal, name="recurrent")().astype(x_TBE.dtype)
        bias_GD = self.param("bias", self._bias, (cell.gates, D), jnp.float32).astype(x_TBE.dtype)
        flat = x_TBE.reshape(T * B, E) @ joined(kernel_GED)
        x_TBGD = flat.reshape(T, B, cell.gates, D) + bias_GD
        return run(cell, x_TBGD, drop(kernel_GDD, self.weight_dropout, key), start, keep_TB)

    def _bias(self, key: jax.Array, shape: tuple[int, ...], dtype: Any) -> jax.Array:
        zeros_GD = jnp.zeros(shape, dtype)
        return zeros_GD.at[FORGET].set(self.forget_bias) if self.kind == "lstm" else zeros_GD


def orthogonal(key: jax.Array, shape: tuple[int, ...], dtype: Any) -> jax.Array:
    """[G, D, D], every gate's matrix orthogonal by itself: at first no direction of the state is forgotten or grows."""
    each = nn.initializers.orthogonal()
    return jax.vmap(lambda one: each(one, shape[1:], dtype))(jax.random.split(key, shape[0]))
