"""What BERT's encoder computes, as pure functions of a `Bert` config and its parameters."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from gptjax.attention import Visible, attend, dense
from gptjax.attention.dropout import drop
from gptjax.config import ConfigError
from gptjax.models.block import Attention, Block
from gptjax.models.embed import look_up
from gptjax.models.layers import ACTIVATIONS, LayerNorm, Linear, Mlp, run, subkey
from gptjax.models.products import product
from gptjax.models.readout import unpadded
from gptjax.models.stack import Layer, each, through
from gptjax.types import Array, Inside, Key, Params, Place

if TYPE_CHECKING:
    from gptjax.models.bert import Bert

TYPES = 2
"""A row holds one text or two, told apart by an embedding."""


def _norm(config: Bert) -> LayerNorm:
    return LayerNorm(config.norm_eps, bias=True)


def _block(config: Bert, kernel: Any) -> Block:
    std = config.init_std
    attn = Attention(
        heads=config.heads,
        kv_heads=config.heads,
        bias=True,
        qk_norm=False,
        norm_eps=config.norm_eps,
        init_std=std,
        residual_std=std,
        dropout=config.dropout,
        attend=kernel,
    )
    return Block(
        attn=attn,
        mlp=Mlp(config.mlp_width, "gelu", True, std, std),
        attn_conv=None,
        mlp_conv=None,
        attn_norm=_norm(config),
        mlp_norm=_norm(config),
        norm_first=False,
        dropout=config.dropout,
    )


@partial(jax.jit, static_argnums=(0, 1))
def init(config: Bert, padded_vocab_size: int, key: Key) -> Params:
    """Float32 parameters; see `gptjax.models.bert` for their names and shapes."""
    D, keys = config.width, jax.random.split(key, 7)
    x_BTD = jnp.zeros((1, 1, D))
    rows = {"tokens": padded_vocab_size, "positions": config.context, "types": TYPES}
    embed = {
        name: config.init_std * jax.random.normal(k, (count, D))
        for k, (name, count) in zip(keys, rows.items(), strict=False)
    }

    def layer(key: Key) -> Params:
        block, positions_BT = _block(config, partial(attend, impl="dense")), jnp.zeros((1, 1), jnp.int32)
        visible = Visible(causal=False)
        return block.init(key, x_BTD, positions_BT, visible, None, None, (x_BTD, x_BTD), None)["params"]

    def linear(units: int, key: Key) -> Params:
        return Linear(units, True, config.init_std).init(key, x_BTD)["params"]

    def norm() -> Params:
        return _norm(config).init(key, x_BTD)["params"]

    return {
        "embed": embed,
        "embed_norm": norm(),
        "blocks": jax.vmap(layer)(jax.random.split(keys[3], config.layers)),
        "head": {"transform": linear(D, keys[4]), "norm": norm(), "bias": jnp.zeros(padded_vocab_size)},
        "pooler": linear(D, keys[5]),
        "next_sentence": linear(2, keys[6]),
    }


def features(
    config: Bert,
    params: Params,
    inputs_BT: jax.Array,
    segments_BT: jax.Array | None = None,
    positions_BT: jax.Array | None = None,
    key: jax.Array | None = None,
    types_BT: jax.Array | None = None,
    place: Place | None = None,
) -> jax.Array:
    """The last layer's output, [B, T, D] in the dtype of the parameters; a key turns dropout on.

    A token sees every token of its own segment, on both sides: padding is kept out by another segment. `types_BT` is 0
    in the first text of a row and 1 in the second; None is 0 everywhere.
    """
    x_BTD, layer = _begin(config, params, inputs_BT, segments_BT, positions_BT, key, types_BT, _kernel(config, place))
    return through(layer, x_BTD, params["blocks"], config.layers, config.remat, config.scan, place)


def states(
    config: Bert,
    params: Params,
    inputs_BT: Array,
    segments_BT: Array | None = None,
    positions_BT: Array | None = None,
) -> jax.Array:
    """What the first layer reads and what each layer gives, [L + 1, B, T, D]; every row is one text."""
    x_BTD, layer = _begin(config, params, inputs_BT, segments_BT, positions_BT, None, None, _kernel(config))
    return each(layer, x_BTD, params["blocks"], config.layers)


def inside(config: Bert, params: Params, inputs_BT: Array) -> Inside:
    """What the head would read of every layer's stream, and the attention weights that it was computed with."""
    seen: list[jax.Array] = []
    x_BTD, layer = _begin(config, params, inputs_BT, None, None, None, None, dense.looking(seen))
    return Inside(each(layer, x_BTD, params["blocks"], config.layers), jnp.stack(seen))


def _kernel(config: Bert, place: Place | None = None) -> Callable[..., jax.Array]:
    return partial(attend, impl=config.attention, place=place)


def _begin(
    config: Bert,
    params: Params,
    inputs_BT: Array,
    segments_BT: Array | None,
    positions_BT: Array | None,
    key: jax.Array | None,
    types_BT: Array | None,
    kernel: Callable[..., jax.Array],
) -> tuple[jax.Array, Layer]:
    """What the first layer reads of whole rows, and the layer as a function of its parameters and number."""
    T = inputs_BT.shape[1]
    if config.context < T:
        raise ConfigError(f"a row of {T} tokens is longer than context={config.context}")
    inputs_BT = jnp.asarray(inputs_BT)
    positions_BT = jnp.arange(T)[None] if positions_BT is None else jnp.asarray(positions_BT)
    embed = params["embed"]
    x_BTD = look_up(embed["tokens"], inputs_BT) + look_up(embed["positions"], positions_BT)
    # Of a table of two rows the gradient need be no scatter.
    first_D, second_D = embed["types"]
    x_BTD += first_D if types_BT is None else jnp.where(jnp.asarray(types_BT)[..., None] == 0, first_D, second_D)
    x_BTD = run(_norm(config), params["embed_norm"], x_BTD)
    x_BTD = drop(x_BTD, config.dropout, subkey(key, config.layers))
    visible = Visible(causal=False, segments_BT=segments_BT)
    block = _block(config, kernel)

    def layer(x_BTD: jax.Array, block_params_and_number: tuple[Params, Any]) -> tuple[jax.Array, None]:
        block_params, number = block_params_and_number
        out = run(block, block_params, x_BTD, positions_BT, visible, None, None, (x_BTD, x_BTD), subkey(key, number))
        return out[0], None

    return x_BTD, layer


def head(config: Bert, vocab_size: int, params: Params, features: jax.Array, dtype: Any = jnp.float32) -> jax.Array:
    """Logits [..., V] in `dtype` of what stands at a place, from features [..., D]; -inf for the vocabulary's padding.

    norm(gelu(features W + b)) times the token embedding, with a bias of its own.
    """
    h = ACTIVATIONS["gelu"](run(Linear(config.width, True, config.init_std), params["head"]["transform"], features))
    h = run(_norm(config), params["head"]["norm"], h)
    kernel_DV = params["embed"]["tokens"].T.astype(h.dtype)
    logits = product(h.reshape(-1, config.width), kernel_DV, dtype) + params["head"]["bias"].astype(dtype)
    return unpadded(logits, vocab_size).reshape(*features.shape[:-1], -1)


def next_sentence(params: Params, features_BTD: jax.Array) -> jax.Array:
    """logits_B2, float32: whether a row's second text follows the first (0, as released) or is any other (1).

    A linear unit for each on the pooled row, tanh of a linear layer over the first token's features.
    """
    pooler, unit = params["pooler"], params["next_sentence"]
    first_BD = features_BTD[:, 0]
    pooled_BD = jnp.tanh(first_BD @ pooler["kernel"].astype(first_BD.dtype) + pooler["bias"].astype(first_BD.dtype))
    return (pooled_BD @ unit["kernel"].astype(first_BD.dtype) + unit["bias"].astype(first_BD.dtype)).astype(jnp.float32)
