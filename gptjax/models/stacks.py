"""What a Transformer encoder-decoder computes, as pure functions of its config and its parameters."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from gptjax.attention import Visible, attend
from gptjax.attention.dropout import drop
from gptjax.models import seq2seq
from gptjax.models.block import Attention, Recall
from gptjax.models.cache import written
from gptjax.models.cross import CrossAttention, KeysValues, of_source
from gptjax.models.layers import LayerNorm, Mlp, run, subkey
from gptjax.types import Key, Params, Place

if TYPE_CHECKING:
    from gptjax.models.encoder_decoder_transformer import TransformerTranslator

EPS = 1e-5


class Memory(NamedTuple):
    """What was read of the source."""

    layers: tuple[KeysValues, ...]
    """Keys and values for each layer of the decoder."""
    alive_BS: jax.Array


class State(NamedTuple):
    """What was read of the target."""

    layers: tuple[KeysValues, ...]
    """Keys and values of each layer, [B, N, S, H] with room for a whole row."""
    lengths_B: jax.Array
    """Tokens read."""


class Parts(NamedTuple):
    """The layers that both stacks are made of; parameters are passed in."""

    norm: nn.Module
    attn: Attention
    cross: CrossAttention
    mlp: Mlp


def parts(config: TransformerTranslator, place: Place | None) -> Parts:
    """The layers of a config, for a place."""
    std, kernel = config.width**-0.5, partial(attend, impl=config.attention, place=place)
    residual_std = std / (3 * config.layers) ** 0.5  # three branches a layer of the decoder
    N = config.heads
    return Parts(
        norm=LayerNorm(EPS, True),
        attn=Attention(N, N, False, False, EPS, std, residual_std, config.dropout, kernel),
        cross=CrossAttention(config.width, N, residual_std, config.dropout, kernel),
        mlp=Mlp(config.mlp_width, "gelu_tanh", True, std, residual_std * (config.width / config.mlp_width) ** 0.5),
    )


@partial(jax.jit, static_argnums=(0, 1))
def init(config: TransformerTranslator, padded_vocab_size: int, key: Key) -> Params:
    """Float32 parameters; see `gptjax.models.encoder_decoder_transformer` for their names."""
    made, x_BTD, visible = parts(config, None), jnp.zeros((1, 1, config.width)), Visible()
    arguments = {"attn": (visible, None, None, None), "cross": (x_BTD, visible)}

    def layer(key: Key, *names: str) -> Params:
        keys = jax.random.split(key, len(names))
        modules = (made.norm if name.endswith("norm") else getattr(made, name) for name in names)
        return {
            name: module.init(key, x_BTD, *arguments.get(name, ()))["params"]
            for name, module, key in zip(names, modules, keys, strict=True)
        }

    def stack(key: Key, *names: str) -> Params:
        return {str(n): layer(jax.random.fold_in(key, n), *names) for n in range(config.layers)}

    embed_key, encoder_key, decoder_key = jax.random.split(key, 3)
    reading = ("attn_norm", "attn", "mlp_norm", "mlp")
    return {
        "embed": seq2seq.new_embedding(embed_key, padded_vocab_size, config.width),
        "encoder": stack(encoder_key, *reading),
        "decoder": stack(decoder_key, *reading, "cross_norm", "cross"),
        **layer(key, "source_norm", "final_norm"),
    }


def encode(
    config: TransformerTranslator,
    parts: Parts,
    params: Params,
    source_BS: jax.Array,
    lengths_B: jax.Array,
    key: Key | None = None,
) -> Memory:
    """The source, read once: keys and values for every layer of the decoder."""
    B, S = source_BS.shape
    seq2seq.require_room(config.context, S, "source")
    alive_BS = seq2seq.alive(lengths_B, S)
    visible = Visible(causal=False, segments_BT=alive_BS.astype(jnp.int32))
    x_BSD = _embed(config, params, source_BS, jnp.zeros(B, jnp.int32), subkey(key, config.layers))
    for number in range(config.layers):
        p, here = params["encoder"][str(number)], subkey(key, number)
        x_BSD = _self(config, parts, p, x_BSD, visible, None, here)[0]
        x_BSD = _mlp(config, parts, p, x_BSD, here)
    x_BSD = run(parts.norm, params["source_norm"], x_BSD)
    layers = (
        run(parts.cross, params["decoder"][str(n)]["cross"], x_BSD, method="remember") for n in range(config.layers)
    )
    return Memory(tuple(layers), alive_BS)


def decode(
    config: TransformerTranslator,
    parts: Parts,
    params: Params,
    memory: Memory,
    inputs_BT: jax.Array,
    key: Key | None = None,
) -> jax.Array:
    """features_BTD of a whole target row, every input given."""
    return _decode(config, parts, params, memory, inputs_BT, key)[0]


def attention(
    config: TransformerTranslator, parts: Parts, params: Params, memory: Memory, inputs_BT: jax.Array
) -> jax.Array:
    """weights_BTS of the last layer, the mean over its heads, with every input given."""
    x_BTD = _decode(config, parts, params, memory, inputs_BT, None)[1]
    cross, visible = params["decoder"][str(config.layers - 1)]["cross"], of_source(memory.alive_BS, inputs_BT.shape[1])
    return run(parts.cross, cross, x_BTD, memory.layers[-1], visible, method="weights")


def start(config: TransformerTranslator, params: Params, memory: Memory, length: int) -> State:
    """No token read, and room for `length`."""
    B, (keys_BNSH, _) = len(memory.alive_BS), memory.layers[0]
    empty = jnp.zeros((B, config.heads, length, config.width // config.heads), keys_BNSH.dtype)
    return State(tuple((empty, empty) for _ in memory.layers), jnp.zeros(B, jnp.int32))


def extend(
    config: TransformerTranslator,
    parts: Parts,
    params: Params,
    memory: Memory,
    inputs_BT: jax.Array,
    state: State,
    key: Key | None = None,
) -> tuple[jax.Array, State]:
    """(features_BTD, state) after T more target tokens; what would pass the state's end is not kept."""
    T = inputs_BT.shape[1]
    slots_BT = state.lengths_B[:, None] + jnp.arange(T)

    def recall(old: KeysValues, *new: jax.Array) -> KeysValues:
        keys, values = (written(*pair, slots_BT).swapaxes(1, 2) for pair in zip(old, new, strict=True))
        return keys, values

    recalls = [partial(recall, old) for old in state.layers]
    features_BTD, _, layers = _decode(config, parts, params, memory, inputs_BT, key, state.lengths_B, recalls)
    kept = tuple((keys.swapaxes(1, 2), values.swapaxes(1, 2)) for keys, values in layers)
    return features_BTD, State(kept, state.lengths_B + T)


def _decode(
    config: TransformerTranslator,
    parts: Parts,
    params: Params,
    memory: Memory,
    inputs_BT: jax.Array,
    key: Key | None,
    offsets_B: jax.Array | None = None,
    recalls: list[Any] | None = None,
) -> tuple[jax.Array, jax.Array, tuple[KeysValues, ...]]:
    """(features_BTD, what the last cross-attention read, each layer's keys and values)."""
    B, T = inputs_BT.shape
    seq2seq.require_room(config.context, T, "target")
    first_B = jnp.zeros(B, jnp.int32) if offsets_B is None else offsets_B
    x_BTD = looked_BTD = _embed(config, params, inputs_BT, first_B, subkey(key, config.layers))
    own, source, kept = Visible(offsets_B=offsets_B), of_source(memory.alive_BS, T), []
    for number, seen in enumerate(memory.layers):
        p, here = params["decoder"][str(number)], subkey(key, number)
        x_BTD, pair = _self(config, parts, p, x_BTD, own, None if recalls is None else recalls[number], here)
        looked_BTD = run(parts.norm, p["cross_norm"], x_BTD)
        found_BTD = run(parts.cross, p["cross"], looked_BTD, seen, source, subkey(here, 2), method="look")
        x_BTD += drop(found_BTD, config.dropout, subkey(here, 3))
        x_BTD = _mlp(config, parts, p, x_BTD, here)
        kept.append(pair)
    return run(parts.norm, params["final_norm"], x_BTD), looked_BTD, tuple(kept)


def _self(
    config: TransformerTranslator,
    parts: Parts,
    p: Params,
    x_BTD: jax.Array,
    visible: Visible,
    recall: Recall | None,
    key: Key | None,
) -> tuple[jax.Array, KeysValues]:
    h_BTD = run(parts.norm, p["attn_norm"], x_BTD)
    out_BTD, pair = run(parts.attn, p["attn"], h_BTD, visible, None, recall, subkey(key, 0))
    return x_BTD + drop(out_BTD, config.dropout, subkey(key, 1)), pair


def _mlp(config: TransformerTranslator, parts: Parts, p: Params, x_BTD: jax.Array, key: Key | None) -> jax.Array:
    out_BTD = run(parts.mlp, p["mlp"], run(parts.norm, p["mlp_norm"], x_BTD))
    return x_BTD + drop(out_BTD, config.dropout, subkey(key, 4))


def _embed(
    config: TransformerTranslator, params: Params, ids_BT: jax.Array, first_B: jax.Array, key: Key | None
) -> jax.Array:
    """Embeddings plus sinusoids: sin and cos of position / 10000^(i / (D/2)) (Vaswani et al. 2017, section 3.5)."""
    x_BTD, half = seq2seq.embedded(params, ids_BT), config.width // 2
    positions_BT = first_B[:, None] + jnp.arange(ids_BT.shape[1])
    frequencies_H = 10000.0 ** (-jnp.arange(half) / half)
    angles_BTH = positions_BT[..., None].astype(jnp.float32) * frequencies_H
    waves_BTD = jnp.concatenate([jnp.sin(angles_BTH), jnp.cos(angles_BTH)], axis=-1)
    return drop(x_BTD + waves_BTD.astype(x_BTD.dtype), config.dropout, key)
