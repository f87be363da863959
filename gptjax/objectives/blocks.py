"""A loss of rows of tables, and its gradient, a block of the batch at a time.

Where all arithmetic is between looked-up rows, one pass that writes every array of the whole batch is bound by memory.
Here a block's rows are looked up, scored and their gradients added to the tables' own before the next block is read, so
that on a CPU all but the tables stays in the cache.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from gptjax.models.embed import add_rows, look_up
from gptjax.types import Array, Place

BLOCK_ROWS = 64
"""Rows of a batch in a block: with word2vec's 32 words of 100 numbers a row some 3 MB."""
LANES = 2
"""Parts of a batch that are added to tables of their own, so that two cores can work at once: always as many, for the
order of additions must not depend on a machine's cores. More devices have one each."""

Tables = tuple[jax.Array, ...]
"""Each [V, D]."""
Ids = tuple[tuple[Array, ...], ...]
"""For each table the ids [B, ...] of what is looked up in it."""
Looked = tuple[tuple[jax.Array, ...], ...]
"""The rows [B, ..., D] that stand at these ids, in the same places."""
Block = Callable[[Tables, Any, Any], tuple[Any, None]]
"""`block(tables, total, part) -> (total with the part's added, None)`."""
Nats = Callable[[Looked, Any], tuple[jax.Array, jax.Array]]
"""`nats(looked, rest) -> (sum, count)`, of any number of rows; rows of zeros count nothing, and the count is no
function of what is looked up."""


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def summed(nats: Nats, place: Place | None, tables: Tables, ids: Ids, rest: Any) -> tuple[jax.Array, jax.Array]:
    """(sum, count) of `nats` over a batch: looked-up rows, and `rest`, any pytree with a leading B beside them.

    On a CPU the batch is read by blocks, elsewhere whole, for many small products would leave the device idle. The
    gradient, of the sum and with respect to the tables, is added up in float32 and computed with the sum. Each device
    of `place` takes its part of the rows, and what all have found is added up once; for that each has both tables and
    their gradient whole, however they are kept.
    """

    def block(tables: Tables, total: Any, part: Any) -> tuple[Any, None]:
        return jax.tree.map(jnp.add, total, _in_float32(nats(_looked(tables, part[0]), part[1]))), None

    return _over_devices(block, place, tables, (jnp.zeros(()), jnp.zeros(())), (ids, rest))


def _forward(
    nats: Nats, place: Place | None, tables: Tables, ids: Ids, rest: Any
) -> tuple[tuple[jax.Array, jax.Array], Tables]:
    def block(tables: Tables, carried: Any, part: Any) -> tuple[Any, None]:
        (total, gradient), (ids, rest) = carried, part
        # Apart, or the compiler may repeat a lookup inside every use of its rows.
        looked = jax.lax.optimization_barrier(_looked(tables, ids))
        (sum_nats, count), slopes = jax.value_and_grad(nats, has_aux=True)(looked, rest)
        for number, (of_table, places) in enumerate(zip(slopes, ids, strict=True)):
            for rows, at in zip(of_table, places, strict=True):
                added = add_rows(gradient[number], at, rows)
                gradient = (*gradient[:number], added, *gradient[number + 1 :])
        return (jax.tree.map(jnp.add, total, _in_float32((sum_nats, count))), gradient), None

    zeros = tuple(jnp.zeros(table.shape, jnp.float32) for table in tables)
    total, gradient = _over_devices(block, place, tables, ((jnp.zeros(()), jnp.zeros(())), zeros), (ids, rest))
    return total, tuple(slope.astype(table.dtype) for slope, table in zip(gradient, tables, strict=True))


def _backward(
    nats: Nats, place: Place | None, gradient: Tables, dtotal: tuple[jax.Array, jax.Array]
) -> tuple[Tables, None, None]:
    return tuple(dtotal[0].astype(slope.dtype) * slope for slope in gradient), None, None


summed.defvjp(_forward, _backward)


def _looked(tables: Tables, ids: Ids) -> Looked:
    return tuple(tuple(look_up(table, at) for at in places) for table, places in zip(tables, ids, strict=True))


def _in_float32(total: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
    return total[0].astype(jnp.float32), total[1].astype(jnp.float32)


def _over_devices(block: Block, place: Place | None, tables: Tables, begin: Any, batch: Any) -> Any:
    """What `block` has added to `begin`, which are zeros: every device its part of the rows, then all of them together.

    Left to itself, the compiler would bring the devices together after every block.
    """
    batch = jax.tree.map(jnp.asarray, batch)
    if place is None or place.mesh is None or place.mesh.size == 1:
        return _over_blocks(partial(block, tables), LANES, begin, batch)
    # Along all axes: where devices have the same rows, each takes only its part of them.
    mesh, everywhere, lanes = place.mesh, place.mesh.axis_names, max(1, LANES // place.mesh.size)
    batch = jax.tree.map(lambda leaf: _padded(leaf, mesh.size), batch)

    def share(tables: Tables, batch: Any) -> Any:
        return jax.lax.psum(_over_blocks(partial(block, tables), lanes, begin, batch), everywhere)

    specs = PartitionSpec(), PartitionSpec(everywhere)
    return jax.shard_map(share, mesh=mesh, in_specs=specs, out_specs=PartitionSpec(), check_vma=False)(tables, batch)


def _padded(leaf: jax.Array, multiple: int) -> jax.Array:
    """With rows of zeros behind it, which count nothing, to a multiple of so many."""
    return jnp.pad(leaf, [(0, -len(leaf) % multiple), *[(0, 0)] * (leaf.ndim - 1)])


def _over_blocks(block: Callable[[Any, Any], tuple[Any, None]], lanes: int, begin: Any, batch: Any) -> Any:
    """What `block` has added to `begin`: by blocks on a CPU, in one piece elsewhere."""

    def in_blocks(begin: Any, batch: Any) -> Any:
        # A lane has neighbouring rows, as a device has that takes its place; its blocks take every count-th of them.
        count = -(-len(jax.tree.leaves(batch)[0]) // (lanes * BLOCK_ROWS))

        def parted(leaf: jax.Array) -> jax.Array:
            return jnp.moveaxis(_padded(leaf, lanes * count).reshape(lanes, -1, count, *leaf.shape[1:]), 1, 2)

        parts = jax.tree.map(parted, batch)

        def lane(number: int) -> Any:
            return jax.lax.scan(block, begin, jax.tree.map(lambda leaf: leaf[number], parts))[0]

        return jax.tree.map(lambda *sums: sum(sums[1:], sums[0]), *map(lane, range(lanes)))

    def whole(begin: Any, batch: Any) -> Any:
        return block(begin, batch)[0]

    return jax.lax.platform_dependent(begin, batch, cpu=in_blocks, default=whole)
