"""Feed-forward language models: the last few tokens' embeddings, hidden layers, a softmax.

    h = f(b + W [e(t), e(t-1), ..., e(t-n+1)]),    p(next | ...) = softmax(U h)

(Bengio et al. 2003, "A neural probabilistic language model", JMLR 3.) The embeddings are concatenated, as there, or
pooled to their mean or maximum, which forgets their order. Parameters: embed/{tokens [V, E], nothing [E]}, the vector
of a place before the document begins; layer_0, layer_1, .../{kernel, bias}, and where the head is tied one more kernel
[F, E] without a bias; head/kernel [F, V] where it is not.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp

from gptjax.attention.dropout import drop
from gptjax.config import ModelConfig
from gptjax.models import history, readout
from gptjax.models.embed import look_up
from gptjax.models.layers import Linear, subkey
from gptjax.types import Key, Model, Params, Place

ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "tanh": jnp.tanh,
    "relu": jax.nn.relu,
    "gelu": partial(jax.nn.gelu, approximate=True),
}


@dataclass(frozen=True)
class FeedForward(ModelConfig):
    """Hidden layers over the last tokens' embeddings (Bengio et al. 2003)."""

    window: int = 16
    """Tokens that a prediction sees."""
    embed_width: int = 64
    """Width of a token's embedding."""
    mix: Literal["concatenate", "mean", "max"] = "concatenate"
    """How the embeddings of the window become one vector; mean and max forget their order."""
    layers: int = 1
    """Hidden layers."""
    width: int = 512
    """Width of the hidden layers."""
    activation: Literal["tanh", "relu", "gelu"] = "tanh"
    """Nonlinearity of the hidden layers."""
    dropout: float = 0.0
    """Share dropped of the mixed embeddings and of every hidden layer during training."""
    tied: bool = False
    """The output matrix is the token embedding, behind one more linear layer that brings the width to its own."""
    context: int = 64
    """Length of a training row, in tokens; longer ones are read as well."""
    init_std: float = 0.1
    """Standard deviation of initial embeddings; other matrices start with 1 / sqrt(inputs)."""

    def check(self) -> None:
        for name in ("window", "embed_width", "layers", "width", "context"):
            self.require(getattr(self, name) > 0, f"{name}={getattr(self, name)} must be positive")
        self.require(0 <= self.dropout < 1, f"dropout={self.dropout} is not in [0, 1)")
        self.require(self.init_std > 0, f"init_std={self.init_std} must be positive")

    def build(self, vocab_size: int, padded_vocab_size: int, place: Place | None = None) -> Model:
        """The pure functions; a cache holds the last window - 1 ids of each row."""
        readout.require_vocabulary(self, vocab_size, padded_vocab_size)
        head = partial(readout.head, self.tied, vocab_size)
        read = partial(features, self)
        return Model(
            init=partial(init, self, padded_vocab_size),
            apply=lambda params, *args, **kwargs: head(params, read(params, *args, **kwargs)),
            features=read,
            head=head,
            cache=lambda rows, length, dtype: jnp.full((rows, self.window - 1), history.NOTHING, jnp.int32),
            extend=partial(extend, self),
            context=self.context,
            vocab_size=vocab_size,
            columns=partial(readout.columns, self.tied),
        )

    def parameter_count(self, vocab_size: int) -> int:
        """Number of trained scalars, embeddings included."""
        return readout.parameter_count(partial(init, self, vocab_size))

    def flops_per_token(self, vocab_size: int, tokens: int) -> tuple[float, float]:
        """6 N, with N the parameters that multiply: the embedding does where it is tied."""
        looked_up = self.embed_width * (1 + vocab_size * (not self.tied))
        flops = 6.0 * (self.parameter_count(vocab_size) - looked_up)
        return flops, flops


def _layers(config: FeedForward) -> list[tuple[str, Linear, int]]:
    """(name, layer, inputs) of every linear layer, in order; the last is linear where the head is tied."""
    inputs = config.embed_width * (config.window if config.mix == "concatenate" else 1)
    found = []
    for number in range(config.layers):
        found.append((f"layer_{number}", Linear(config.width, True, inputs**-0.5), inputs))
        inputs = config.width
    if config.tied:
        found.append((f"layer_{config.layers}", Linear(config.embed_width, False, inputs**-0.5), inputs))
    return found


@partial(jax.jit, static_argnums=(0, 1))
def init(config: FeedForward, padded_vocab_size: int, key: Key) -> Params:
    """Float32 parameters; see the head of this file for their names and shapes."""
    ends_key, *keys = jax.random.split(key, config.layers + 2)
    untied = None if config.tied else config.width
    params = readout.init(ends_key, padded_vocab_size, config.embed_width, config.init_std, untied)
    params["embed"]["nothing"] = jnp.zeros(config.embed_width)
    for (name, layer, inputs), layer_key in zip(_layers(config), keys, strict=False):
        params[name] = layer.init(layer_key, jnp.zeros((1, inputs)))["params"]
    return params


def features(
    config: FeedForward,
    params: Params,
    inputs_BT: jax.Array,
    segments_BT: jax.Array | None = None,
    positions_BT: jax.Array | None = None,
    key: jax.Array | None = None,
) -> jax.Array:
    """What the head reads, [B, T, D] in the dtype of the parameters; a key turns dropout on.

    Positions change nothing: where a document begins is read from the segments.
    """
    segments_BT = jnp.ones_like(inputs_BT) if segments_BT is None else segments_BT
    past_BJ = jnp.full((len(inputs_BT), config.window - 1), history.NOTHING, inputs_BT.dtype)
    return _features(config, params, past_BJ, past_BJ, inputs_BT, segments_BT, key)


def extend(
    config: FeedForward, params: Params, inputs_BT: jax.Array, past_BJ: jax.Array, counts_B: jax.Array | None = None
) -> tuple[jax.Array, jax.Array]:
    """Read T more tokens of each row, of which the first counts_B are real: (features_BTD, the last ids)."""
    B, T = inputs_BT.shape
    before_BJ = jnp.where(past_BJ == history.NOTHING, history.NOTHING, 1)
    out_BTD = _features(config, params, past_BJ, before_BJ, inputs_BT, jnp.ones_like(inputs_BT), None)
    return out_BTD, history.latest(past_BJ, inputs_BT, jnp.full(B, T) if counts_B is None else counts_B)


def _features(
    config: FeedForward,
    params: Params,
    past_BJ: jax.Array,
    before_BJ: jax.Array,
    inputs_BT: jax.Array,
    segments_BT: jax.Array,
    key: jax.Array | None,
) -> jax.Array:
    """Features of the row behind the J ids of the past, whose segments are before_BJ."""
    ids_BU = jnp.concatenate([past_BJ, inputs_BT], axis=1)
    segments_BU = history.with_past(before_BJ, segments_BT)
    x_BUE = look_up(params["embed"]["tokens"], jnp.maximum(ids_BU, 0))
    x: Any = drop(_mixed(config, params["embed"]["nothing"], x_BUE, segments_BU), config.dropout, subkey(key, 0))
    for number, (name, layer, _) in enumerate(_layers(config), 1):
        x = layer.apply({"params": params[name]}, x)
        if number <= config.layers:
            x = drop(ACTIVATIONS[config.activation](x), config.dropout, subkey(key, number))
    return x


def _mixed(config: FeedForward, nothing_E: jax.Array, x_BUE: jax.Array, segments_BU: jax.Array) -> jax.Array:
    """The window of each token as one vector, [B, T, E] or [B, T, window * E] from the token itself backwards."""
    T = x_BUE.shape[1] - config.window + 1
    starts = [config.window - 1 - back for back in range(config.window)]
    seen_BTE = [jax.lax.slice_in_dim(x_BUE, start, start + T, axis=1) for start in starts]
    there_BT1 = [history.beside(segments_BU, back, T)[..., None] for back in range(config.window)]
    if config.mix == "concatenate":
        pairs = zip(there_BT1, seen_BTE, strict=True)
        return jnp.concatenate([jnp.where(there, x, nothing_E.astype(x.dtype)) for there, x in pairs], axis=-1)
    x_WBTE, there_WBT1 = jnp.stack(seen_BTE), jnp.stack(there_BT1)
    if config.mix == "mean":
        total_BTE = jnp.sum(jnp.where(there_WBT1, x_WBTE, 0), axis=0, dtype=jnp.float32)
        return (total_BTE / jnp.sum(there_WBT1, axis=0)).astype(x_BUE.dtype)
    return jnp.max(jnp.where(there_WBT1, x_WBTE, -jnp.inf), axis=0)
