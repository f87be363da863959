"""What every translator is: pure functions from a source and the target so far to the next target token.

A source row is read once into a memory; a target row is predicted from it, whole (teacher forcing) or token by token.
(Sutskever et al., arXiv 1409.3215; Cho et al., arXiv 1406.1078.)
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gptjax.config import ConfigError
from gptjax.models.embed import look_up
from gptjax.types import Key, Params

Memory = Any
"""What was read of the source: a pytree whose every leaf has a leading B."""
State = Any
"""What was read of the target: a pytree whose every leaf has a leading B, passed in and returned, never mutated."""


class Translator(NamedTuple):
    """A sequence-to-sequence model as pure functions of its parameters; a key turns dropout on.

    The compute dtype is that of the parameters; norms, softmax and logits are float32 inside whatever it is.
    """

    init: Callable[[Key], Params]
    """`init(key) -> params`, float32."""
    encode: Callable[..., Memory]
    """`encode(params, source_BS, lengths_B, key=None) -> memory`; tokens at or past a row's length are padding, which
    nothing sees."""
    decode: Callable[..., jax.Array]
    """`decode(params, memory, inputs_BT, key=None) -> features_BTD`: the features of column t, which the head turns
    into logits of target t, depend on the memory and on inputs 0 ... t."""
    head: Callable[..., jax.Array]
    """`head(params, features_...D, dtype=float32) -> logits_...V`; logits of vocabulary padding are -inf."""
    start: Callable[[Params, Memory, int], State]
    """`start(params, memory, length) -> state` before any target token; there is room for `length` of them."""
    extend: Callable[..., tuple[jax.Array, State]]
    """`extend(params, memory, inputs_BT, state, key=None) -> (features_BTD, state)` reads T more target tokens."""
    attention: Callable[..., jax.Array] | None
    """`attention(params, memory, inputs_BT) -> weights_BTS`, float32: where each step looks in the source, rows that
    sum to 1. None: it never looks back."""
    context: int
    """The longest source row, and target row, in tokens."""
    vocab_size: int
    """V without padding, shared by source and target; ids must be below it."""


def embedded(params: Params, ids_BT: jax.Array) -> jax.Array:
    """[B, T] -> [B, T, D]: rows of the shared embedding times sqrt(D) (Vaswani et al. 2017, section 3.4).

    Rows of standard deviation 1 / sqrt(D) suit the tied head, these the layers.
    """
    x_BTD = look_up(params["embed"]["tokens"], ids_BT)
    return x_BTD * x_BTD.shape[-1] ** 0.5


def new_embedding(key: Key, rows: int, width: int) -> Params:
    """{"tokens": [V, D]} of standard deviation 1 / sqrt(D)."""
    return {"tokens": width**-0.5 * jax.random.normal(key, (rows, width))}


def alive(lengths_B: jax.Array, columns: int) -> jax.Array:
    """[B, columns] bool: what is no padding."""
    return jnp.arange(columns) < lengths_B[:, None]


def require_room(context: int, tokens: int, what: str) -> None:
    """Raise `ConfigError` where a row is longer than the context."""
    if tokens > context:
        raise ConfigError(f"a {what} row of {tokens} tokens is longer than context={context}")
