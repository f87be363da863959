"""Layers one after another: their parameters stacked over a leading axis L, unrolled or looped over."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp

from gptjax.attention.call import KEPT
from gptjax.types import Params, Place

Remat = Literal["none", "dots", "mlp", "block"]
"""What backward recomputes: nothing; all but products and attention; an MLP's hidden layer too; whole layers.

Attention's dense form, which is for few scores, makes them again under each.
"""
REMAT: tuple[Remat, ...] = get_args(Remat)
"""From nothing to all."""
NARROW = ("q", "k", "v", "o", "down", KEPT)
"""Names of what is no wider than the residual stream: results of `Linear`, and what attention keeps."""
WIDE = ("up", "gate")
"""And of the MLP's hidden layer before its nonlinearity."""
CUDNN = "dot_product_attention_fwd_wrapper"
"""JAX's own cuDNN attention, which has no name inside."""

Layer = Callable[[jax.Array, tuple[Params, Any]], tuple[jax.Array, None]]
"""`layer(x_BTD, (parameters, number)) -> (x_BTD, None)`, the form that `jax.lax.scan` takes."""


def through(
    layer: Layer, x_BTD: jax.Array, blocks: Params, layers: int, remat: Remat, scan: bool, place: Place | None = None
) -> jax.Array:
    """What comes out of the last layer; with `scan` one layer is compiled and looped over.

    So it always is on a CPU where backward recomputes: unrolled, the compiler there would find that a computation is
    done twice, do it once, and keep the result after all.
    """
    place = Place(jax.default_backend()) if place is None else place
    platform, layer = place.platform, partial(_gathered, place, layer)
    scan = scan or (platform == "cpu" and remat != "none")
    if remat != "none":
        kept = {"dots": (*NARROW, *WIDE), "mlp": NARROW, "block": ()}[remat]
        # Forward and backward of a loop are programs of their own already, which no compiler merges.
        layer = jax.checkpoint(layer, policy=partial(_keeps, kept), prevent_cse=not scan)
    if scan:
        return jax.lax.scan(layer, x_BTD, (blocks, jnp.arange(layers)))[0]
    for number, block_params in enumerate(unstack(blocks, layers)):
        x_BTD, _ = layer(x_BTD, (block_params, number))
    return x_BTD


def _gathered(
    place: Place, layer: Layer, x_BTD: jax.Array, block_params_and_number: tuple[Params, Any]
) -> tuple[jax.Array, None]:
    block_params, number = block_params_and_number
    return layer(x_BTD, (place.gather(block_params), number))


def _keeps(names: Sequence[str], primitive: Any, *_: Any, **params: Any) -> bool:
    """Whether a result is kept for the backward pass, as `jax.checkpoint` asks it."""
    if primitive.name == CUDNN:
        return KEPT in names
    return primitive.name == "name" and params["name"] in names


def each(layer: Layer, x_BTD: jax.Array, blocks: Params, layers: int) -> jax.Array:
    """What goes into the first layer and what comes out of each, [L + 1, B, T, D]."""
    found = [x_BTD]
    for number, block_params in enumerate(unstack(blocks, layers)):
        found.append(layer(found[-1], (block_params, number))[0])
    return jnp.stack(found)


def unstack(blocks: Params, layers: int) -> list[Params]:
    """One tree a layer. A split, whose gradient is one concatenation: indexing would add up L arrays of zeros.

    Layers that have been taken apart before are given back as they are.
    """
    if isinstance(blocks, list):
        return blocks
    leaves, tree = jax.tree.flatten(blocks)
    parts = zip(*(jax.lax.split(x, [1] * layers) for x in leaves), strict=True)
    return [jax.tree.unflatten(tree, [x[0] for x in part]) for part in parts]
