"""The language model's head and the loss behind it as one operation, a tile of tokens at a time.

The logits are the largest array of a small model by far: 32,768 tokens of a vocabulary of 50,304 take 3.3 GB in
bfloat16, and their gradient as much again. Here the logits of a tile, the loss, and the gradients by features and head
are computed together, in three products and no recomputation, while the logits are at hand (in a CPU's cache, where
they fit); the backward pass only scales what is there. One tile of all tokens is the plain form: fastest where memory
allows.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from gptjax.objectives.loss import PLAIN, Regular, losses, slopes, weighted
from gptjax.types import Array, Model, Params

TileTokens = Literal["auto", "all"] | int
"""Tokens whose logits exist at once, over all devices; auto is what a CPU's cache holds on a CPU, and all elsewhere."""

CACHED_LOGITS, CACHED_TOKENS = 2**21, 256
"""A tile on a CPU: so many logits (8 MiB of float32), but not fewer tokens, with which the products would be slow."""


class _Tokens(NamedTuple):
    features_BTD: jax.Array
    targets_BT: jax.Array
    weights_BT: jax.Array


_Head = Callable[..., jax.Array]
"""(features_BTD, *arrays that the head reads) -> logits_BTV in the features' dtype."""


def weighted_nats(
    model: Model,
    params: Params,
    features_BTD: jax.Array,
    targets_BT: Array,
    weights_BT: Array,
    tile_tokens: TileTokens = "auto",
    regular: Regular = PLAIN,
) -> tuple[jax.Array, jax.Array]:
    """Sums of weight * loss and of weight * plain nats over all tokens, float32 scalars.

    The first has gradients by `params` (the model's own) and `features_BTD`; the second has none. A target without
    weight adds neither loss nor gradient, even where its own nats are infinite. Logits are in the dtype of the
    features, what is added up over a vocabulary or over tokens in float32.
    """
    tokens = _Tokens(features_BTD, jnp.asarray(targets_BT), jnp.asarray(weights_BT, jnp.float32))
    B, T, _ = features_BTD.shape

    def form(wanted: int) -> tuple[int, _Head]:
        """Columns of a tile, and the head over as many."""
        tiles = -(-T // max(1, wanted // B))
        columns = -(-T // tiles)
        return columns, jax.closure_convert(head, features_BTD[:, :columns])[0]

    def head(part_BTD: jax.Array) -> jax.Array:
        return model.head(params, part_BTD, part_BTD.dtype)

    read = jax.closure_convert(head, features_BTD)[1]
    if tile_tokens == "auto":
        forms = {"cpu": form(max(CACHED_TOKENS, CACHED_LOGITS // model.vocab_size)), "default": form(B * T)}
    else:
        forms = {"default": form(B * T if tile_tokens == "all" else tile_tokens)}
    return _loss(forms, regular, read, tokens)


def _loss(
    forms: dict[str, tuple[int, _Head]], regular: Regular, read: Sequence[jax.Array], tokens: _Tokens
) -> tuple[jax.Array, jax.Array]:
    def by_platform(of_tile: Callable[..., Any], read: Sequence[jax.Array], tokens: _Tokens) -> Any:
        made = {name: partial(_added_up, of_tile, *form, regular) for name, form in forms.items()}
        if len(made) == 1:
            return made["default"](read, tokens)
        return jax.lax.platform_dependent(read, tokens, **made)

    @jax.custom_vjp
    def sums(read: Sequence[jax.Array], tokens: _Tokens) -> tuple[jax.Array, jax.Array]:
        return by_platform(_value, read, tokens)[0]

    def forward(read: Sequence[jax.Array], tokens: _Tokens) -> tuple[Any, Any]:
        values, of_head, of_features_BTD = by_platform(_value_and_slopes, read, tokens)
        return values, ([x.astype(p.dtype) for x, p in zip(of_head, read, strict=True)], of_features_BTD)

    def backward(saved: Any, scales: tuple[jax.Array, jax.Array]) -> tuple[Any, Any]:
        of_head, of_features_BTD = jax.tree.map(lambda x: x * scales[0].astype(x.dtype), saved)
        return of_head, _Tokens(of_features_BTD, None, None)  # type: ignore[arg-type]  # none are asked for

    sums.defvjp(forward, backward)
    total, nats = sums(read, tokens)
    return total, jax.lax.stop_gradient(nats)


def _added_up(
    of_tile: Callable[..., Any], columns: int, head: _Head, regular: Regular, read: Sequence[jax.Array], tokens: _Tokens
) -> tuple[Any, Any, Any]:
    """(sums, gradient by the head, gradient by the features) of all tiles; the first two added up, the last laid out.

    A tile is some columns of every row, so that of a batch split over devices each device has its share of each tile.
    """
    B, T, D = tokens.features_BTD.shape
    tiles = -(-T // columns)
    if tiles == 1:
        return of_tile(head, regular, read, tokens)
    spare = tiles * columns - T

    def split(x: jax.Array) -> jax.Array:
        x = jnp.pad(x, [(0, 0), (0, spare), *[(0, 0)] * (x.ndim - 2)])  # without weight
        return jnp.moveaxis(x.reshape(B, tiles, columns, *x.shape[2:]), 1, 0)

    def add(total: Any, tile: _Tokens) -> tuple[Any, Any]:
        *more, of_features_BTD = of_tile(head, regular, read, tile)
        return jax.tree.map(jnp.add, total, tuple(more)), of_features_BTD

    parts = jax.tree.map(split, tokens)
    shapes = jax.eval_shape(partial(of_tile, head, regular), read, jax.tree.map(lambda x: x[0], parts))
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, jnp.float32), tuple(shapes[:-1]))
    total, of_features = jax.lax.scan(add, zeros, parts)
    if of_features is not None:
        of_features = jnp.moveaxis(of_features, 0, 1).reshape(B, -1, D)[:, :T]
    return *total, of_features


def _value(head: _Head, regular: Regular, read: Sequence[jax.Array], tile: _Tokens) -> tuple[Any, None, None]:
    nats_BT, loss_BT, _ = losses(head(tile.features_BTD, *read), tile.targets_BT, regular)
    return (weighted(tile.weights_BT, loss_BT), weighted(tile.weights_BT, nats_BT)), None, None


def _value_and_slopes(
    head: _Head, regular: Regular, read: Sequence[jax.Array], tile: _Tokens
) -> tuple[Any, Any, jax.Array]:
    logits_BTV, pull = jax.vjp(head, tile.features_BTD, *read)
    nats_BT, loss_BT, log_z_BT = losses(logits_BTV, tile.targets_BT, regular)
    slopes_BTV = tile.weights_BT[..., None] * slopes(logits_BTV, tile.targets_BT, log_z_BT, regular)
    of_features_BTD, *of_head = pull(slopes_BTV.astype(logits_BTV.dtype))
    sums = weighted(tile.weights_BT, loss_BT), weighted(tile.weights_BT, nats_BT)
    return sums, [x.astype(jnp.float32) for x in of_head], of_features_BTD
