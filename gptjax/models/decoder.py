"""What a decoder-only transformer computes, as pure functions of a `GPT` config and its parameters."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from gptjax.attention import Visible, attend, dense
from gptjax.attention.dropout import drop
from gptjax.config import ConfigError
from gptjax.models.block import Attention, Block, joined
from gptjax.models.cache import Cache, Remembered, written
from gptjax.models.embed import look_up
from gptjax.models.history import latest
from gptjax.models.layers import (
    TRANSPOSED,
    CausalConv,
    LayerNorm,
    Mlp,
    RMSNorm,
    rotary_angles,
    run,
    soft_capped,
    subkey,
)
from gptjax.models.products import product
from gptjax.models.readout import unpadded
from gptjax.models.stack import Layer, each, through, unstack
from gptjax.types import Array, Inside, Key, Params, Place

if TYPE_CHECKING:
    from gptjax.models.gpt import GPT


def _norm(config: GPT) -> nn.Module:
    return RMSNorm(config.norm_eps) if config.norm == "rms" else LayerNorm(config.norm_eps, config.bias)


def _block(config: GPT, kernel: Callable[..., jax.Array]) -> Block:
    std = config.init_std
    residual_std = {"plain": std, "scaled": std / (2 * config.layers) ** 0.5, "zero": 0.0}[config.residual_init]
    attn = Attention(
        heads=config.heads,
        kv_heads=config.kv_heads or config.heads,
        bias=config.bias,
        qk_norm=config.qk_norm,
        norm_eps=config.norm_eps,
        init_std=std,
        residual_std=residual_std,
        dropout=config.dropout,
        attend=kernel,
    )
    mlp = Mlp(config.mlp_width, config.mlp, config.bias, std, residual_std)
    return Block(
        attn=attn,
        mlp=mlp,
        attn_conv=CausalConv(config.conv_tokens) if config.conv_tokens else None,
        mlp_conv=CausalConv(config.conv_tokens) if config.conv_tokens else None,
        attn_norm=_norm(config),
        mlp_norm=_norm(config),
        norm_first=config.norm_place == "pre",
        dropout=config.dropout,
    )


def _nothing_before(config: GPT, rows: int, dtype: Any) -> tuple[jax.Array, jax.Array]:
    """What the branches have read before the start of a text, as far as their convolutions look back."""
    zeros_BJD = jnp.zeros((rows, max(config.conv_tokens - 1, 0), config.width), dtype)
    return zeros_BJD, zeros_BJD


@partial(jax.jit, static_argnums=(0, 1))
def init(config: GPT, padded_vocab_size: int, key: Key) -> Params:
    """Float32 parameters; see `gptjax.models.gpt` for their names and shapes."""
    tokens_key, positions_key, blocks_key, head_key = jax.random.split(key, 4)
    x_BTD = jnp.zeros((1, 1, config.width))
    embed = {"tokens": config.init_std * jax.random.normal(tokens_key, (padded_vocab_size, config.width))}
    if config.positions == "learned":
        embed["positions"] = config.init_std * jax.random.normal(positions_key, (config.context, config.width))

    def layer(key: Key) -> Params:
        before = _nothing_before(config, 1, x_BTD.dtype)
        positions_BT = jnp.zeros((1, 1), jnp.int32)
        return _block(config, partial(attend, impl="dense")).init(
            key, x_BTD, positions_BT, Visible(), None, None, before, None
        )["params"]

    params = {"embed": embed, "blocks": jax.vmap(layer)(jax.random.split(blocks_key, config.layers))}
    if config.embed_norm:
        params["embed_norm"] = _norm(config).init(head_key, x_BTD)["params"]
    if config.norm_place == "pre":
        params["final_norm"] = _norm(config).init(head_key, x_BTD)["params"]
    if not config.tied:
        # Logits of standard deviation 0.1 at every width, so that the first loss is near ln V.
        kernel_DV = jax.random.normal(head_key, (config.width, padded_vocab_size)) * 0.1 * config.width**-0.5
        params["head"] = {"kernel": kernel_DV}
    return params


def features(
    config: GPT,
    params: Params,
    inputs_BT: jax.Array,
    segments_BT: jax.Array | None = None,
    positions_BT: jax.Array | None = None,
    key: jax.Array | None = None,
    place: Place | None = None,
) -> jax.Array:
    """What the head reads, [B, T, D] in the dtype of the parameters; a key turns dropout on."""
    x_BTD, layer = _begin(config, params, inputs_BT, segments_BT, positions_BT, key, _kernel(config, place))
    x_BTD = through(layer, x_BTD, params["blocks"], config.layers, config.remat, config.scan, place)
    return _final(config, params, x_BTD)


def states(
    config: GPT,
    params: Params,
    inputs_BT: Array,
    segments_BT: Array | None = None,
    positions_BT: Array | None = None,
) -> jax.Array:
    """The residual stream as the first layer reads it and as each layer leaves it, [L + 1, B, T, D]; no final norm."""
    x_BTD, layer = _begin(config, params, inputs_BT, segments_BT, positions_BT, None, _kernel(config))
    return each(layer, x_BTD, params["blocks"], config.layers)


def inside(config: GPT, params: Params, inputs_BT: Array) -> Inside:
    """What the head would read of every layer's stream, and the attention weights that it was computed with."""
    seen: list[jax.Array] = []
    x_BTD, layer = _begin(config, params, inputs_BT, None, None, None, dense.looking(seen))
    return Inside(_final(config, params, each(layer, x_BTD, params["blocks"], config.layers)), jnp.stack(seen))


def _kernel(config: GPT, place: Place | None = None) -> Callable[..., jax.Array]:
    return partial(attend, impl=config.attention, place=place)


def _begin(
    config: GPT,
    params: Params,
    inputs_BT: Array,
    segments_BT: Array | None,
    positions_BT: Array | None,
    key: jax.Array | None,
    kernel: Callable[..., jax.Array],
) -> tuple[jax.Array, Layer]:
    """What the first layer reads of whole rows, and the layer as a function of its parameters and number."""
    T = inputs_BT.shape[1]
    if config.context < T:
        raise ConfigError(f"a row of {T} tokens is longer than context={config.context}")
    inputs_BT = jnp.asarray(inputs_BT)
    positions_BT = jnp.arange(T)[None] if positions_BT is None else jnp.asarray(positions_BT)
    x_BTD = drop(_embed(config, params, inputs_BT, positions_BT), config.dropout, subkey(key, config.layers))
    visible = Visible(window=config.window, segments_BT=segments_BT)
    angles = _angles(config, positions_BT)
    block = _block(config, kernel)
    before = _nothing_before(config, len(inputs_BT), x_BTD.dtype)

    def layer(x_BTD: jax.Array, block_params_and_number: tuple[Params, Any]) -> tuple[jax.Array, None]:
        block_params, number = block_params_and_number
        key_here = subkey(key, number)
        return run(block, block_params, x_BTD, positions_BT, visible, angles, None, before, key_here)[0], None

    return x_BTD, layer


def head(config: GPT, vocab_size: int, params: Params, features: jax.Array, dtype: Any = jnp.float32) -> jax.Array:
    """Logits [..., V] in `dtype` of features [..., D], accumulated in float32; -inf for the vocabulary's padding."""
    flat = features.reshape(-1, features.shape[-1])
    logits = product(flat, _output_kernel(config, params).astype(features.dtype), dtype)
    if config.logit_softcap is not None:
        logits = soft_capped(logits, config.logit_softcap)
    return unpadded(logits, vocab_size).reshape(*features.shape[:-1], -1)


def _output_kernel(config: GPT, params: Params) -> jax.Array:
    """The head's matrix, [D, V]; a tied model has one of its own only where `prepare` gave it."""
    if config.tied and "head" not in params:
        return params["embed"]["tokens"].T
    kernel_DV: jax.Array = params["head"]["kernel"]
    return kernel_DV


def prepare(config: GPT, params: Params, rows: int) -> Params:
    """Parameters for `extend` and `head`, laid out as a CPU reads them fastest for so many rows.

    Each layer's lie apart: inside a compiled loop a CPU would copy every layer out of the stack again for every token.
    A tied output matrix is transposed. A single row takes as long as it takes to read the matrices, and wide ones are
    read faster: so a layer's queries, keys and values have one, and its tall ones are transposed.
    """
    blocks = unstack(params["blocks"], config.layers)
    if rows == 1:
        blocks = [_tall_transposed(block | {"attn": joined(block["attn"])}) for block in blocks]
    return params | {"blocks": blocks, "head": {"kernel": _output_kernel(config, params)}}


def _tall_transposed(params: Params) -> Params:
    """Every kernel that has more rows than columns transposed, under the name by which `Linear` knows it."""
    found = {}
    for name, value in params.items():
        if isinstance(value, dict):
            found[name] = _tall_transposed(value)
        elif name == "kernel" and value.shape[0] > value.shape[1]:
            found[TRANSPOSED] = value.T
        else:
            found[name] = value
    return found


def cache(config: GPT, rows: int, length: int, dtype: Any) -> Cache:
    """An empty cache; raises `ConfigError` where it is longer than positions were learnt for."""
    if config.positions == "learned" and length > config.context:
        raise ConfigError(
            f"a cache of {length} tokens is longer than context={config.context}, and positions are learnt"
        )
    shape = (rows, config.kv_heads or config.heads, length, config.width // config.heads)
    empty = Remembered(jnp.zeros(shape, dtype), jnp.zeros(shape, dtype), *_nothing_before(config, rows, dtype))
    layers = tuple(jax.tree.map(jnp.copy, empty) for _ in range(config.layers))
    return Cache(layers, jnp.zeros(rows, jnp.int32))


def extend(
    config: GPT,
    params: Params,
    inputs_BT: jax.Array,
    cache: Cache,
    counts_B: jax.Array | None = None,
    place: Place | None = None,
) -> tuple[jax.Array, Cache]:
    """Read T more tokens of each row, of which the first counts_B are real: (features_BTD, cache).

    Attention is auto whatever the config names: a kernel for whole rows need not know caches. Layers are always
    unrolled, so that each layer's cache is updated in place inside a compiled loop. What would pass the cache's end is
    not kept: the caller sees to the length.
    """
    B, T = inputs_BT.shape
    counts_B = jnp.full(B, T, jnp.int32) if counts_B is None else counts_B
    positions_BT = cache.lengths_B[:, None] + jnp.arange(T)
    length = cache.layers[0].keys_BKSH.shape[2]
    slots_BT = jnp.where(jnp.arange(T) < counts_B[:, None], positions_BT, length)

    def recall(memory: Remembered, *new: jax.Array) -> tuple[jax.Array, ...]:
        return tuple(written(old, x_BTKH, slots_BT).swapaxes(1, 2) for old, x_BTKH in zip(memory[:2], new, strict=True))

    visible = Visible(window=config.window, offsets_B=cache.lengths_B)
    angles, block = _angles(config, positions_BT), _block(config, partial(attend, place=place))
    x_BTD = _embed(config, params, inputs_BT, positions_BT)
    layers = []
    for block_params, memory in zip(unstack(params["blocks"], config.layers), cache.layers, strict=True):
        before, keep = memory[2:], partial(recall, memory)
        x_BTD, new = run(block, block_params, x_BTD, positions_BT, visible, angles, keep, before, None)
        kept = (latest(*pair, counts_B) for pair in zip(before, new[2:], strict=True))
        layers.append(Remembered(*(x_BSKH.swapaxes(1, 2) for x_BSKH in new[:2]), *kept))
    return _final(config, params, x_BTD), Cache(tuple(layers), cache.lengths_B + counts_B)


def _embed(config: GPT, params: Params, inputs_BT: jax.Array, positions_BT: jax.Array) -> jax.Array:
    x_BTD = look_up(params["embed"]["tokens"], inputs_BT)
    if config.positions == "learned":
        x_BTD = x_BTD + look_up(params["embed"]["positions"], positions_BT)
    return run(_norm(config), params["embed_norm"], x_BTD) if config.embed_norm else x_BTD


def _angles(config: GPT, positions_BT: jax.Array) -> tuple[jax.Array, jax.Array] | None:
    if config.positions != "rotary":
        return None
    return rotary_angles(positions_BT, config.width // config.heads, config.rope_theta)


def _final(config: GPT, params: Params, x_BTD: jax.Array) -> jax.Array:
    if config.norm_place == "post":
        return x_BTD
    return run(_norm(config), params["final_norm"], x_BTD)
