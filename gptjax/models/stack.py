"""Layers one after another: their parameters stacked over a leading axis L, unrolled or looped over."""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp

from gptjax.types import Params

Remat = Literal["none", "block", "dots"]
REMAT: dict[str, Callable[[Callable[..., Any]], Callable[..., Any]]] = {
    "none": lambda f: f,
    "block": jax.checkpoint,
    "dots": partial(jax.checkpoint, policy=jax.checkpoint_policies.dots_with_no_batch_dims_saveable),
}
"""What backward recomputes: nothing, whole layers, or all but matrix products."""

Layer = Callable[[jax.Array, tuple[Params, Any]], tuple[jax.Array, None]]
"""`layer(x_BTD, (parameters, number)) -> (x_BTD, None)`, the form that `jax.lax.scan` takes."""


def through(layer: Layer, x_BTD: jax.Array, blocks: Params, layers: int, remat: Remat, scan: bool) -> jax.Array:
    """What comes out of the last layer; with `scan` one layer is compiled and looped over."""
    layer = REMAT[remat](layer)
    if scan:
        return jax.lax.scan(layer, x_BTD, (blocks, jnp.arange(layers)))[0]
    for number, block_params in enumerate(unstack(blocks, layers)):
        x_BTD, _ = layer(x_BTD, (block_params, number))
    return x_BTD


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
