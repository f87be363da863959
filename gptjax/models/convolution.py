"""Convolutional language models: causal, dilated, gated convolutions on residual branches.

    x <- x + W_o (f(W * norm(x)) . g(V * norm(x)))    with * a convolution over taps t, t - d, t - 2d, ...

and the dilation d doubling from layer to layer, so that what a prediction sees grows exponentially with depth. (van den
Oord et al. 2016, "WaveNet", arXiv 1609.03499: f = tanh, g = sigmoid; Kalchbrenner et al. 2016, "Neural machine
translation in linear time", arXiv 1610.10099; Dauphin et al. 2017, "Language modeling with gated convolutional
networks", arXiv 1612.08083: f = identity, g = sigmoid.) Parameters: embed/tokens [V, D]; layer_0, layer_1, .../{norm,
conv, out}, conv/kernel being [taps * D, channels], the token itself first; final_norm; head/kernel [D, V] unless tied.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from gptjax.attention.dropout import drop
from gptjax.config import ModelConfig
from gptjax.models import history, readout
from gptjax.models.embed import look_up
from gptjax.models.layers import Linear, RMSNorm, subkey
from gptjax.types import Key, Model, Params, Place

NORM_EPS = 1e-6


@dataclass(frozen=True)
class Convolution(ModelConfig):
    """Causal dilated convolutions (WaveNet, ByteNet, gated convolutional networks)."""

    layers: int = 6
    """Convolutional layers."""
    width: int = 128
    """Width of the residual stream and of the embeddings."""
    channels: int = 128
    """Channels of a convolution, behind its gate."""
    taps: int = 2
    """Tokens that a convolution reads: 2 are the token and the one `dilation` before it."""
    cycle: int = 6
    """Layers after which the dilations 1, 2, 4, ... begin again."""
    gate: Literal["tanh", "linear", "none"] = "tanh"
    """What a sigmoid gates: tanh (WaveNet) or the channels as they are (gated CNN); none is GELU without a gate."""
    dropout: float = 0.0
    """Share dropped of the embeddings and of every residual branch during training."""
    tied: bool = False
    """The output matrix is the token embedding."""
    context: int = 64
    """Length of a training row, in tokens; longer ones are read as well."""
    init_std: float = 0.02
    """Standard deviation of initial embeddings; convolutions start with 1 / sqrt(inputs), branches at 0."""

    def check(self) -> None:
        for name in ("layers", "width", "channels", "cycle", "context"):
            self.require(getattr(self, name) > 0, f"{name}={getattr(self, name)} must be positive")
        self.require(self.taps > 1, f"taps={self.taps} must be at least 2; 1 would see no other token")
        self.require(0 <= self.dropout < 1, f"dropout={self.dropout} is not in [0, 1)")
        self.require(self.init_std > 0, f"init_std={self.init_std} must be positive")

    def dilations(self) -> tuple[int, ...]:
        """The dilation of each layer, in tokens."""
        return tuple(2 ** (number % self.cycle) for number in range(self.layers))

    def reach(self) -> int:
        """Tokens that a prediction sees, the last one included."""
        return 1 + (self.taps - 1) * sum(self.dilations())

    def notes(self, tokens: int, packed: bool, dtype: str, place: Place) -> tuple[str, ...]:
        """How far the convolutions see."""
        return (f"convolution: a prediction sees the last {self.reach()} tokens; rows have {tokens}",)

    def build(self, vocab_size: int, padded_vocab_size: int, place: Place | None = None) -> Model:
        """The pure functions; a cache holds, for each layer, the (taps - 1) * dilation inputs that it still needs."""
        readout.require_vocabulary(self, vocab_size, padded_vocab_size)
        head = partial(readout.head, self.tied, vocab_size)
        read = partial(features, self)
        return Model(
            init=partial(init, self, padded_vocab_size),
            apply=lambda params, *args, **kwargs: head(params, read(params, *args, **kwargs)),
            features=read,
            head=head,
            cache=lambda rows, length, dtype: _nothing(self, rows, dtype),
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
        flops = 6.0 * (self.parameter_count(vocab_size) - vocab_size * self.width * (not self.tied))
        return flops, flops


class _Layer(nn.Module):
    """x + out(gated(conv(norm(x))))."""

    config: Convolution
    dilation: int

    @nn.compact
    def __call__(
        self, x_BTD: jax.Array, before_BJD: jax.Array, segments_BU: jax.Array, key: jax.Array | None
    ) -> tuple[jax.Array, jax.Array]:
        """(The next layer's input, what the convolution read); before_BJD is what it read before this row."""
        config, T = self.config, x_BTD.shape[1]
        h_BTD = RMSNorm(NORM_EPS, name="norm")(x_BTD)
        h_BUD = jnp.concatenate([before_BJD.astype(h_BTD.dtype), h_BTD], axis=1)
        taps = []
        for back in range(0, config.taps * self.dilation, self.dilation):
            start = h_BUD.shape[1] - T - back
            there_BT1 = history.beside(segments_BU, back, T)[..., None]
            taps.append(jnp.where(there_BT1, jax.lax.slice_in_dim(h_BUD, start, start + T, axis=1), 0))
        inputs = config.taps * config.width
        ways = 1 if config.gate == "none" else 2
        out_BTF = Linear(ways * config.channels, True, inputs**-0.5, name="conv")(jnp.concatenate(taps, axis=-1))
        branch_BTD = Linear(config.width, False, 0.0, name="out")(_gated(config.gate, out_BTF))
        return x_BTD + drop(branch_BTD, config.dropout, key), h_BTD


def _gated(gate: str, x_BTF: jax.Array) -> jax.Array:
    if gate == "none":
        return jax.nn.gelu(x_BTF, approximate=True)
    value_BTF, gate_BTF = jnp.split(x_BTF, 2, axis=-1)
    return (jnp.tanh(value_BTF) if gate == "tanh" else value_BTF) * jax.nn.sigmoid(gate_BTF)


def _nothing(config: Convolution, rows: int, dtype: Any) -> tuple[tuple[jax.Array, ...], jax.Array]:
    """The cache of rows that have read nothing: each layer's last inputs, and the segments of the last tokens."""
    past = [(config.taps - 1) * dilation for dilation in config.dilations()]
    inputs = tuple(jnp.zeros((rows, J, config.width), dtype) for J in past)
    return inputs, jnp.full((rows, max(past)), history.NOTHING, jnp.int32)


@partial(jax.jit, static_argnums=(0, 1))
def init(config: Convolution, padded_vocab_size: int, key: Key) -> Params:
    """Float32 parameters; see the head of this file for their names and shapes."""
    ends_key, *keys = jax.random.split(key, config.layers + 1)
    params = readout.init(
        ends_key, padded_vocab_size, config.width, config.init_std, None if config.tied else config.width
    )
    x_BTD = jnp.zeros((1, 1, config.width))
    past, before_BJ = _nothing(config, 1, x_BTD.dtype)
    for number, (dilation, layer_key) in enumerate(zip(config.dilations(), keys, strict=True)):
        segments_BU = history.with_past(before_BJ, jnp.ones((1, 1), jnp.int32))
        made = _Layer(config, dilation).init(layer_key, x_BTD, past[number], segments_BU, None)
        params[f"layer_{number}"] = made["params"]
    return params | {"final_norm": RMSNorm(NORM_EPS).init(ends_key, x_BTD)["params"]}


def features(
    config: Convolution,
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
    past, before_BJ = _nothing(config, len(inputs_BT), params["embed"]["tokens"].dtype)
    return _features(config, params, inputs_BT, segments_BT, past, before_BJ, key)[0]


def extend(
    config: Convolution,
    params: Params,
    inputs_BT: jax.Array,
    cache: tuple[tuple[jax.Array, ...], jax.Array],
    counts_B: jax.Array | None = None,
) -> tuple[jax.Array, tuple[tuple[jax.Array, ...], jax.Array]]:
    """Read T more tokens of each row, of which the first counts_B are real: (features_BTD, cache)."""
    B, T = inputs_BT.shape
    counts_B = jnp.full(B, T) if counts_B is None else counts_B
    past, before_BJ = cache
    segments_BT = jnp.ones_like(inputs_BT)
    out_BTD, read = _features(config, params, inputs_BT, segments_BT, past, before_BJ, None)
    kept = tuple(history.latest(old, new, counts_B) for old, new in zip(past, read, strict=True))
    return out_BTD, (kept, history.latest(before_BJ, segments_BT, counts_B))


def _features(
    config: Convolution,
    params: Params,
    inputs_BT: jax.Array,
    segments_BT: jax.Array,
    past: tuple[jax.Array, ...],
    before_BJ: jax.Array,
    key: jax.Array | None,
) -> tuple[jax.Array, list[jax.Array]]:
    """Features of the row behind what was read, and each layer's own reading of the row."""
    segments_BU = history.with_past(before_BJ, segments_BT)
    read: list[jax.Array] = []
    x_BTD: Any = drop(look_up(params["embed"]["tokens"], inputs_BT), config.dropout, subkey(key, config.layers))
    for number, (dilation, before_BJD) in enumerate(zip(config.dilations(), past, strict=True)):
        layer, own = _Layer(config, dilation), {"params": params[f"layer_{number}"]}
        made: Any = layer.apply(own, x_BTD, before_BJD, segments_BU, subkey(key, number))
        x_BTD, h_BTD = made
        read.append(h_BTD)
    out_BTD: Any = RMSNorm(NORM_EPS).apply({"params": params["final_norm"]}, x_BTD)
    return out_BTD, read
