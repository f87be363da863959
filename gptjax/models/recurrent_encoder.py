"""Recurrent networks that read both ways: an encoder for tasks on whole texts, never a language model.

Every layer is two recurrences, one from left to right and one from right to left, side by side. (Schuster & Paliwal
1997, "Bidirectional recurrent neural networks".) Parameters: embed/tokens [V, E]; layer_0, layer_1, .../{forward,
backward}/{input/kernel, recurrent/kernel, bias}.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from gptjax.config import ConfigError
from gptjax.models import readout
from gptjax.models.layers import subkey
from gptjax.models.recurrent import Network, at_rest, embedded, init_layer, kept, layer, locked
from gptjax.types import Key, Model, Params, Place

WAYS = ("forward", "backward")


@dataclass(frozen=True)
class BidirectionalRecurrent(Network):
    """Recurrent layers that read both ways, each `width` wide; for tasks, with lm_weight 0."""

    def build(self, vocab_size: int, padded_vocab_size: int, place: Place | None = None) -> Model:
        """The pure functions; what only a language model can do raises `ConfigError`."""
        readout.require_vocabulary(self, vocab_size, padded_vocab_size)
        return Model(
            init=partial(init, self, padded_vocab_size),
            apply=_refuse,
            features=partial(features, self),
            head=_refuse,
            cache=_refuse,
            extend=_refuse,
            context=self.context,
            vocab_size=vocab_size,
            causal=False,
        )

    def parameter_count(self, vocab_size: int) -> int:
        """Number of trained scalars, embeddings included."""
        return readout.parameter_count(partial(init, self, vocab_size))

    def flops_per_token(self, vocab_size: int, tokens: int) -> tuple[float, float]:
        """6 N, with N the parameters that multiply: all but the embedding."""
        flops = 6.0 * (self.parameter_count(vocab_size) - vocab_size * self.embed_width)
        return flops, flops


def _refuse(*args: Any, **kwargs: Any) -> Any:
    raise ConfigError(
        "BidirectionalRecurrent has seen the tokens it would predict; use Recurrent, or a task, lm_weight=0"
    )


@partial(jax.jit, static_argnums=(0, 1))
def init(config: BidirectionalRecurrent, padded_vocab_size: int, key: Key) -> Params:
    """Float32 parameters; see the head of this file for their names and shapes."""
    ends_key, *keys = jax.random.split(key, config.layers + 1)
    params = readout.init(ends_key, padded_vocab_size, config.embed_width, config.init_std, None)
    for number, layer_key in enumerate(keys):
        inputs = 2 * config.width if number else config.embed_width
        ways = zip(WAYS, jax.random.split(layer_key), strict=True)
        params[f"layer_{number}"] = {way: init_layer(config, inputs, config.width, way_key) for way, way_key in ways}
    return params


def features(
    config: BidirectionalRecurrent,
    params: Params,
    inputs_BT: jax.Array,
    segments_BT: jax.Array | None = None,
    positions_BT: jax.Array | None = None,
    key: jax.Array | None = None,
    types_BT: jax.Array | None = None,
) -> jax.Array:
    """Both states at every token, [B, T, 2 D] in the dtype of the parameters; a key turns dropout on.

    Both ways begin anew at every document, and padding (segment 0) is one of its own, so that the way back does not
    begin in it. Positions and types change nothing.
    """
    T = inputs_BT.shape[1]
    forth = jnp.arange(T)
    orders_KT = (forth, forth[::-1])
    x_TBE = embedded(config, params["embed"]["tokens"], inputs_BT, subkey(key, 0))
    for number in range(config.layers):
        read = []
        for place, (way, order_T) in enumerate(zip(WAYS, orders_KT, strict=True)):
            key_here = subkey(subkey(key, number + 1), place)
            own = {"params": params[f"layer_{number}"][way]}
            keep_TB = kept(inputs_BT, None if segments_BT is None else segments_BT[:, order_T])
            start = at_rest(config, config.width, len(inputs_BT))
            h_TBD = layer(config, config.width).apply(own, x_TBE[order_T], start, keep_TB, subkey(key_here, 0))[0]
            read.append(h_TBD[order_T])
        rate = config.output_dropout if number == config.layers - 1 else config.layer_dropout
        mask_key = subkey(subkey(key, number + 1), len(WAYS))
        x_TBE = locked(jnp.concatenate(read, axis=-1).astype(x_TBE.dtype), rate, mask_key)
    return x_TBE.swapaxes(0, 1)
