"""Recurrent encoder and decoder, without attention or with it.

A bidirectional GRU reads the source; a GRU writes the target. Without attention all that the decoder knows of the
source is one vector, the encoder's last states, at every step (Cho et al. 2014, arXiv 1406.1078); with it every step
looks at all source states again, scored by a small network (additive: Bahdanau et al. 2014, arXiv 1409.0473) or by
products (scaled as by Vaswani et al. 2017).

Parameters: embed/tokens [V, D], shared by source, target and output; encoder; decoder.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from gptjax.attention.dropout import drop
from gptjax.config import ModelConfig
from gptjax.models import gru, readout, seq2seq
from gptjax.models.layers import Kernel, Linear, subkey
from gptjax.models.seq2seq import Translator
from gptjax.types import Key, Params, Place

Kind = Literal["none", "additive", "scaled_product"]
MASKED = -1e30


@dataclass(frozen=True)
class RecurrentTranslator(ModelConfig):
    """A GRU that reads and a GRU that writes."""

    width: int = 192
    """Width of the embeddings, of the decoder's state, and of both encoder directions together."""
    attention: Kind = "additive"
    """How each step scores the source's states; none: it has the encoder's last states alone."""
    context: int = 32
    """Longest source row, and target row, in tokens."""
    dropout: float = 0.0
    """Share dropped of the embeddings and of what the head reads during training."""

    def check(self) -> None:
        self.require(self.width > 0, f"width={self.width} must be positive")
        self.require(self.width % 2 == 0, f"width={self.width} does not split into two directions; make it even")
        self.require(self.context > 0, f"context={self.context} must be positive")
        self.require(0 <= self.dropout < 1, f"dropout={self.dropout} must be in [0, 1)")

    def build(self, vocab_size: int, padded_vocab_size: int, place: Place | None = None) -> Translator:  # type: ignore[override]  # not a language model
        """The pure functions; parameters are float32."""
        return Translator(
            init=partial(init, self, padded_vocab_size),
            encode=partial(encode, self),
            decode=partial(decode, self),
            head=partial(readout.head, True, vocab_size),
            start=lambda params, memory, length: memory.first_BD,
            extend=partial(extend, self),
            attention=None if self.attention == "none" else partial(attention, self),
            context=self.context,
            vocab_size=vocab_size,
        )

    def parameter_count(self, vocab_size: int) -> int:
        """Number of trained scalars, embeddings included."""
        return readout.parameter_count(partial(init, self, vocab_size))

    def flops_per_token(self, vocab_size: int, tokens: int) -> tuple[float, float]:
        """6 N a target token with a source token beside it, and the scores; nothing is masked, so both are the same."""
        looks = 0.0 if self.attention == "none" else 12.0 * tokens * self.width
        return (6.0 * self.parameter_count(vocab_size) + looks,) * 2


class Memory(NamedTuple):
    """What was read of the source."""

    states_BSD: jax.Array
    keys_BSD: jax.Array | None
    """What scores are taken of; None without attention."""
    alive_BS: jax.Array
    last_BD: jax.Array
    """The last states of both directions."""
    first_BD: jax.Array
    """The decoder's first state."""


class Encoder(nn.Module):
    """A GRU in each direction, and what the decoder wants to know of them."""

    attention: Kind

    @nn.compact
    def __call__(self, x_BSD: jax.Array, alive_BS: jax.Array) -> Memory:
        """Memory of embeddings [B, S, D]."""
        D = x_BSD.shape[-1]
        ways = [gru.GRU(D // 2, way == "backward", name=way)(x_BSD, alive_BS) for way in ("forward", "backward")]
        states_BSD, last_BD = (jnp.concatenate(parts, axis=-1) for parts in zip(*ways, strict=True))
        first_BD = jnp.tanh(Linear(D, True, D**-0.5, name="first")(last_BD))
        keys_BSD = None if self.attention == "none" else Linear(D, False, D**-0.5, name="keys")(states_BSD)
        return Memory(states_BSD, keys_BSD, alive_BS, last_BD, first_BD)


class Read(NamedTuple):
    """What a decoder makes of some target tokens."""

    hidden_BD: jax.Array
    """The state after them."""
    features_BTD: jax.Array
    weights_BTS: jax.Array | None
    """Where each step looked, float32; None without attention."""


class Decoder(nn.Module):
    """A GRU that is given, beside each target token, what was found in the source."""

    attention: Kind

    @nn.compact
    def __call__(self, hidden_BD: jax.Array, x_BTD: jax.Array, memory: Memory) -> Read:
        """Read embeddings [B, T, D] from a state on; all products but the recurrent ones are outside the scan."""
        D = x_BTD.shape[-1]
        std, dtype = nn.initializers.normal(D**-0.5), x_BTD.dtype
        gates_BTG = Linear(3 * D, True, D**-0.5, name="x")(x_BTD)
        context_DG = Kernel((D, 3 * D), std, name="context")().astype(dtype)
        kernel_DG, bias_D = gru.recurrence(self, D, dtype)
        look = None if memory.keys_BSD is None else self._look(memory)
        if look is None:
            gates_BTG += (memory.last_BD @ context_DG)[:, None]

        def read(hidden_BD: jax.Array, gates_BG: jax.Array) -> tuple[jax.Array, Any]:
            found = None
            if look is not None:
                weights_BS = look(hidden_BD)
                context_BD = jnp.einsum("BS,BSD->BD", weights_BS.astype(dtype), memory.states_BSD)
                gates_BG, found = gates_BG + context_BD @ context_DG, (context_BD, weights_BS)
            hidden_BD = gru.step(kernel_DG, bias_D, hidden_BD, gates_BG)
            return hidden_BD, (hidden_BD, found)

        last_BD, seen = jax.lax.scan(read, hidden_BD, gates_BTG.swapaxes(0, 1))
        hidden_BTD, found = jax.tree.map(lambda x: x.swapaxes(0, 1), seen)
        context_BTD = jnp.broadcast_to(memory.last_BD[:, None], x_BTD.shape) if found is None else found[0]
        together = jnp.concatenate([hidden_BTD, context_BTD, x_BTD], axis=-1)
        out_BTD = jnp.tanh(Linear(D, True, (3 * D) ** -0.5, name="out")(together))
        return Read(last_BD, out_BTD, None if found is None else found[1])

    def _look(self, memory: Memory) -> Any:
        """`look(hidden_BD) -> weights_BS`: softmax over the source of v . tanh(q + k), or of q . k / sqrt(D)."""
        D = memory.states_BSD.shape[-1]
        std, dtype, keys_BSD = nn.initializers.normal(D**-0.5), memory.states_BSD.dtype, memory.keys_BSD
        assert keys_BSD is not None, "there is nothing to score"
        query_DD = Kernel((D, D), std, name="query")().astype(dtype)
        additive = self.attention == "additive"
        score_D = Kernel((D, 1), std, name="score")()[:, 0].astype(dtype) if additive else None

        def look(hidden_BD: jax.Array) -> jax.Array:
            query_BD = hidden_BD @ query_DD
            if score_D is None:
                scores_BS = jnp.einsum("BD,BSD->BS", query_BD, keys_BSD, preferred_element_type=jnp.float32)
                scores_BS *= D**-0.5
            else:
                hidden_BSD = jnp.tanh(query_BD[:, None] + keys_BSD)
                scores_BS = jnp.einsum("BSD,D->BS", hidden_BSD, score_D, preferred_element_type=jnp.float32)
            return jax.nn.softmax(jnp.where(memory.alive_BS, scores_BS, MASKED), axis=-1)

        return look


@partial(jax.jit, static_argnums=(0, 1))
def init(config: RecurrentTranslator, padded_vocab_size: int, key: Key) -> Params:
    """Float32 parameters; see the head of this file for their names."""
    embed_key, encoder_key, decoder_key = jax.random.split(key, 3)
    x_BTD, alive_BT = jnp.zeros((1, 1, config.width)), jnp.ones((1, 1), bool)
    memory, encoder = Encoder(config.attention).init_with_output(encoder_key, x_BTD, alive_BT)
    return {
        "embed": seq2seq.new_embedding(embed_key, padded_vocab_size, config.width),
        "encoder": encoder["params"],
        "decoder": Decoder(config.attention).init(decoder_key, memory.first_BD, x_BTD, memory)["params"],
    }


def encode(
    config: RecurrentTranslator, params: Params, source_BS: jax.Array, lengths_B: jax.Array, key: Key | None = None
) -> Memory:
    """The source, read once; raises `ConfigError` where it is longer than the context."""
    S = source_BS.shape[1]
    seq2seq.require_room(config.context, S, "source")
    x_BSD = drop(seq2seq.embedded(params, source_BS), config.dropout, key)
    memory: Any = Encoder(config.attention).apply({"params": params["encoder"]}, x_BSD, seq2seq.alive(lengths_B, S))
    return memory


def decode(
    config: RecurrentTranslator, params: Params, memory: Memory, inputs_BT: jax.Array, key: Key | None = None
) -> jax.Array:
    """features_BTD of a whole target row, every input given."""
    return extend(config, params, memory, inputs_BT, memory.first_BD, key)[0]


def extend(
    config: RecurrentTranslator,
    params: Params,
    memory: Memory,
    inputs_BT: jax.Array,
    hidden_BD: jax.Array,
    key: Key | None = None,
) -> tuple[jax.Array, jax.Array]:
    """(features_BTD, hidden_BD) after T more target tokens."""
    seq2seq.require_room(config.context, inputs_BT.shape[1], "target")
    read = _read(config, params, memory, inputs_BT, hidden_BD, key)
    return drop(read.features_BTD, config.dropout, subkey(key, 1)), read.hidden_BD


def attention(config: RecurrentTranslator, params: Params, memory: Memory, inputs_BT: jax.Array) -> jax.Array:
    """weights_BTS of a target row with every input given."""
    weights_BTS = _read(config, params, memory, inputs_BT, memory.first_BD, None).weights_BTS
    assert weights_BTS is not None, "attention='none' has no weights"
    return weights_BTS


def _read(
    config: RecurrentTranslator,
    params: Params,
    memory: Memory,
    inputs_BT: jax.Array,
    hidden_BD: jax.Array,
    key: Key | None,
) -> Read:
    x_BTD = drop(seq2seq.embedded(params, inputs_BT), config.dropout, subkey(key, 0))
    read: Any = Decoder(config.attention).apply({"params": params["decoder"]}, hidden_BD, x_BTD, memory)
    return read
