"""Recurrent language models: the state after each token is all that the next prediction sees.

Simple recurrent networks (Mikolov et al. 2010), GRU and LSTM, in layers, with the regularisation of later years: one
dropout mask for all steps of a row (Gal & Ghahramani 2016, arXiv 1512.05287), whole words dropped, recurrent weights
dropped (Merity et al. 2017, "Regularizing and optimizing LSTM language models", arXiv 1708.02182). Parameters:
embed/tokens [V, E]; layer_0, layer_1, .../{input/kernel [G, E, D], recurrent/kernel [G, D, D], bias [G, D]}, one matrix
a gate; head/kernel [D, V] unless it is tied, and then the last layer is as wide as the embedding.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from gptjax.attention.dropout import drop
from gptjax.config import ModelConfig
from gptjax.models import readout
from gptjax.models.cells import CELLS, Kind, Recurrence, State
from gptjax.models.embed import look_up
from gptjax.models.layers import subkey
from gptjax.types import Key, Model, Params, Place


@dataclass(frozen=True)
class Network(ModelConfig):
    """What recurrent networks have, whichever way they read."""

    cell: Kind = "lstm"
    """The simple recurrent network (tanh), GRU or LSTM."""
    layers: int = 2
    """Recurrent layers."""
    width: int = 256
    """Width of a layer's state."""
    embed_width: int = 256
    """Width of a token's embedding."""
    context: int = 64
    """Length of a training row, in tokens; longer ones are read as well."""
    word_dropout: float = 0.0
    """Share of the vocabulary's words that an update reads as zeros wherever they stand."""
    embed_dropout: float = 0.0
    """Share dropped of the embeddings, one mask for all tokens of a row."""
    layer_dropout: float = 0.0
    """Share dropped between layers, one mask for all tokens of a row."""
    output_dropout: float = 0.0
    """Share dropped of the last layer's output, one mask for all tokens of a row."""
    weight_dropout: float = 0.0
    """Share dropped of the recurrent matrices' entries, drawn once an update (DropConnect)."""
    forget_bias: float = 1.0
    """Initial bias of the LSTM's forget gate (Jozefowicz et al. 2015); above 0 it begins by remembering."""
    init_std: float = 0.1
    """Standard deviation of initial embeddings; recurrent matrices start orthogonal, others with 1 / sqrt(inputs)."""

    def check(self) -> None:
        for name in ("layers", "width", "embed_width", "context", "init_std"):
            self.require(getattr(self, name) > 0, f"{name}={getattr(self, name)} must be positive")
        for name in ("word_dropout", "embed_dropout", "layer_dropout", "output_dropout", "weight_dropout"):
            self.require(0 <= getattr(self, name) < 1, f"{name}={getattr(self, name)} is not in [0, 1)")


@dataclass(frozen=True)
class Recurrent(Network):
    """Recurrent layers that read from left to right: a language model."""

    tied: bool = True
    """The output matrix is the token embedding, and the last layer as wide as it."""

    def build(self, vocab_size: int, padded_vocab_size: int, place: Place | None = None) -> Model:
        """The pure functions; a cache holds each layer's state, of the same size whatever was read."""
        readout.require_vocabulary(self, vocab_size, padded_vocab_size)
        head = partial(readout.head, self.tied, vocab_size)
        read = partial(features, self)
        return Model(
            init=partial(init, self, padded_vocab_size),
            apply=lambda params, *args, **kwargs: head(params, read(params, *args, **kwargs)),
            features=read,
            head=head,
            cache=lambda rows, length, dtype: _rest(self, rows),
            extend=partial(extend, self),
            context=self.context,
            vocab_size=vocab_size,
            recurrent=True,
            columns=partial(readout.columns, self.tied),
        )

    def widths(self) -> tuple[int, ...]:
        """Width of each layer's state."""
        last = self.embed_width if self.tied else self.width
        return (*[self.width] * (self.layers - 1), last)

    def parameter_count(self, vocab_size: int) -> int:
        """Number of trained scalars, embeddings included."""
        return readout.parameter_count(partial(init, self, vocab_size))

    def flops_per_token(self, vocab_size: int, tokens: int) -> tuple[float, float]:
        """6 N, with N the parameters that multiply: the embedding does where it is tied."""
        flops = 6.0 * (self.parameter_count(vocab_size) - vocab_size * self.embed_width * (not self.tied))
        return flops, flops


def layer(config: Network, width: int) -> Recurrence:
    """A layer of the network, without its parameters."""
    return Recurrence(config.cell, width, config.forget_bias, config.weight_dropout)


def at_rest(config: Network, width: int, rows: int) -> State:
    """The state of a layer that has read nothing; float32 whatever the parameters are, as what is added up is."""
    return tuple(jnp.zeros((rows, width)) for _ in range(CELLS[config.cell].states))


def _rest(config: Recurrent, rows: int) -> tuple[State, ...]:
    return tuple(at_rest(config, width, rows) for width in config.widths())


@partial(jax.jit, static_argnums=(0, 1))
def init(config: Recurrent, padded_vocab_size: int, key: Key) -> Params:
    """Float32 parameters; see the head of this file for their names and shapes."""
    ends_key, *keys = jax.random.split(key, config.layers + 1)
    untied = None if config.tied else config.width
    params = readout.init(ends_key, padded_vocab_size, config.embed_width, config.init_std, untied)
    inputs = (config.embed_width, *config.widths())
    for number, (width, layer_key) in enumerate(zip(config.widths(), keys, strict=True)):
        params[f"layer_{number}"] = init_layer(config, inputs[number], width, layer_key)
    return params


def init_layer(config: Network, inputs: int, width: int, key: Key) -> Params:
    """Float32 parameters of one layer."""
    x_TBE, keep_TB = jnp.zeros((1, 1, inputs)), jnp.ones((1, 1), bool)
    return layer(config, width).init(key, x_TBE, at_rest(config, width, 1), keep_TB, None)["params"]


def features(
    config: Recurrent,
    params: Params,
    inputs_BT: jax.Array,
    segments_BT: jax.Array | None = None,
    positions_BT: jax.Array | None = None,
    key: jax.Array | None = None,
) -> jax.Array:
    """What the head reads, [B, T, D] in the dtype of the parameters; a key turns dropout on.

    The state is set to 0 where a document begins, which is read from the segments; positions change nothing.
    """
    keep_TB = kept(inputs_BT, segments_BT)
    out_TBD, _ = _read(config, params, inputs_BT, _rest(config, len(inputs_BT)), keep_TB, key)
    return out_TBD.swapaxes(0, 1)


def extend(
    config: Recurrent,
    params: Params,
    inputs_BT: jax.Array,
    cache: tuple[State, ...],
    counts_B: jax.Array | None = None,
    key: jax.Array | None = None,
) -> tuple[jax.Array, tuple[State, ...]]:
    """Read T more tokens of each row, of which the first counts_B are real: (features_BTD, cache)."""
    out_TBD, states = _read(config, params, inputs_BT, cache, kept(inputs_BT, None), key)

    def last(first_BD: jax.Array, after_TBD: jax.Array) -> jax.Array:
        if counts_B is None:
            return after_TBD[-1]
        seen_UBD = jnp.concatenate([first_BD[None], after_TBD])
        return jnp.take_along_axis(seen_UBD, counts_B[None, :, None], axis=0)[0]

    return out_TBD.swapaxes(0, 1), jax.tree.map(last, cache, states)


def kept(inputs_BT: jax.Array, segments_BT: jax.Array | None) -> jax.Array:
    """[T, B] bool: whether a token follows the one before it in its document; what precedes the row always counts."""
    if segments_BT is None:
        return jnp.ones(inputs_BT.shape[::-1], bool)
    same_BT = segments_BT[:, 1:] == segments_BT[:, :-1]
    return jnp.concatenate([jnp.ones((len(inputs_BT), 1), bool), same_BT], axis=1).T


def _read(
    config: Recurrent,
    params: Params,
    inputs_BT: jax.Array,
    start: tuple[State, ...],
    keep_TB: jax.Array,
    key: jax.Array | None,
) -> tuple[jax.Array, tuple[State, ...]]:
    """(what the last layer says, [T, B, D], each layer's states after each token)."""
    x_TBD = embedded(config, params["embed"]["tokens"], inputs_BT, subkey(key, 0))
    states: list[State] = []
    for number, (width, state) in enumerate(zip(config.widths(), start, strict=True)):
        key_here = subkey(key, number + 1)
        own = {"params": params[f"layer_{number}"]}
        after: Any = layer(config, width).apply(own, x_TBD, state, keep_TB, subkey(key_here, 0))
        states.append(after)
        rate = config.output_dropout if number == config.layers - 1 else config.layer_dropout
        x_TBD = locked(states[-1][0].astype(x_TBD.dtype), rate, subkey(key_here, 1))
    return x_TBD, tuple(states)


def embedded(config: Network, table_VE: jax.Array, inputs_BT: jax.Array, key: jax.Array | None) -> jax.Array:
    """The tokens' embeddings, [T, B, E]; a key drops words and coordinates."""
    ids_TB = inputs_BT.T
    x_TBE = look_up(table_VE, ids_TB)
    if config.word_dropout:
        words_V = drop(jnp.ones(len(table_VE), table_VE.dtype), config.word_dropout, subkey(key, 0))
        x_TBE *= words_V[ids_TB][..., None]
    return locked(x_TBE, config.embed_dropout, subkey(key, 1))


def locked(x_TBD: jax.Array, rate: float, key: jax.Array | None) -> jax.Array:
    """Dropout by one mask for all tokens of a row."""
    if key is None or not rate:
        return x_TBD
    return x_TBD * drop(jnp.ones(x_TBD.shape[1:], x_TBD.dtype), rate, key)
