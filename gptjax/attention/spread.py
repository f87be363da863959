"""Attention on a mesh, for kernels that the compiler cannot split: every device runs its own rows and heads."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from gptjax.attention.call import Call
from gptjax.attention.visible import Visible
from gptjax.types import Place

Kernel = Callable[[jax.Array, jax.Array, jax.Array, Visible], jax.Array]
"""`kernel(q_BTNH, k_BSKH, v_BSKH, visible) -> out_BTNH` on one device."""


def refusal(place: Place, call: Call) -> str | None:
    """Why the heads do not split over the mesh, or None where they do."""
    ways = _ways(place, place.heads)
    if call.heads % ways or (call.kv_heads % ways and ways % call.kv_heads):
        return f"heads={call.heads}, kv_heads={call.kv_heads} do not split over {' x '.join(place.heads)}={ways}"
    return None


def knows(place: Place, x: jax.Array) -> bool:
    """Whether the place has the mesh that an array lies on; it need not have one of a single device.

    The part of an array that a device has inside of somebody's `shard_map` lies on no mesh of ours.
    """
    lies_on = jax.typeof(x).sharding.mesh
    return lies_on.size <= 1 or (place.mesh is not None and place.mesh.size > 1 and not lies_on.manual_axes)


def over(
    place: Place, kernel: Kernel, q_BTNH: jax.Array, k_BSKH: jax.Array, v_BSKH: jax.Array, visible: Visible
) -> jax.Array:
    """The kernel on each device's part of rows and heads, which `refusal` must let through.

    Fewer key heads than devices along their axis are repeated, each device's queries beside the one that they read.
    Rows that do not split evenly (the last of an evaluation) are on every device, and so is their attention. Raises
    `ValueError` where the operands lie on a mesh that the place does not know.
    """
    if not knows(place, q_BTNH):
        raise ValueError("the operands lie on several devices: build the model with place=sharding.place(mesh)")
    if place.mesh is None or place.mesh.size == 1:
        return kernel(q_BTNH, k_BSKH, v_BSKH, visible)
    rows = place.rows if len(q_BTNH) % _ways(place, place.rows) == 0 else ()
    if short := _ways(place, place.heads) // k_BSKH.shape[2]:
        k_BSKH, v_BSKH = (jnp.repeat(x, short, axis=2) for x in (k_BSKH, v_BSKH))
    spec = PartitionSpec(rows, None, place.heads)
    specs = spec, spec, spec, jax.tree.map(lambda x: PartitionSpec(rows), visible)
    # check_vma: what a Pallas kernel gives is not known to vary over the mesh.
    spread = jax.shard_map(kernel, mesh=place.mesh, in_specs=specs, out_specs=spec, check_vma=False)
    return spread(q_BTNH, k_BSKH, v_BSKH, visible)


def _ways(place: Place, axes: tuple[str, ...]) -> int:
    return 1 if place.mesh is None else math.prod(place.mesh.shape[axis] for axis in axes)
