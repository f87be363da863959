"""How arrays lie on the devices: a mesh, and a table of rules outside the model.

The mesh has three axes. Rows of a batch are split over data and fsdp; parameters and what belongs to them (optimizer
moments, averages) over fsdp and tensor. Values never depend on the layout, only memory and speed do.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import mesh_utils, multihost_utils
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from jax.sharding import Mesh as DeviceMesh

from gptjax import config
from gptjax.train.state import TrainState, joined, path_of
from gptjax.train.step import Layout
from gptjax.types import Params, Place

AXES = ("data", "fsdp", "tensor")

Rule = tuple[str, tuple[str | None, ...]]
RULES: tuple[Rule, ...] = (
    (r"embed/tokens", ("tensor", "fsdp")),
    (r"embed/positions", (None, "fsdp")),
    (r"contexts", ("tensor", "fsdp")),
    (r"(attn|cross)/(q|k|v)/kernel", ("fsdp", "tensor")),
    (r"attn/(q|k|v)/bias", ("tensor",)),
    (r"(attn|cross)/o/kernel", ("tensor", "fsdp")),
    (r"mlp/(up|gate)/kernel", ("fsdp", "tensor")),
    (r"mlp/(up|gate)/bias", ("tensor",)),
    (r"mlp/down/kernel", ("tensor", "fsdp")),
    (r"head/kernel", ("fsdp", "tensor")),
    (r"adapter/.+/kernel", ()),
    (r"(transform|pooler|next_sentence)/kernel", ("fsdp", None)),
    (r"(layer_\d+|encoder|decoder)/(.+/)?kernel", ("fsdp", None)),
)
"""(pattern of the end of a path, mesh axes of the last array axes); axes before those, the stacked layers, stay whole.
What no rule names is copied to every device, and so are low-rank adapters, which are small."""


def make_mesh(mesh: config.Mesh, devices: Sequence[jax.Device]) -> DeviceMesh:
    """All of `devices` as data x fsdp x tensor, with automatic axes; raises `ConfigError` where they do not fit."""
    n, rest = len(devices), mesh.fsdp * mesh.tensor
    data = mesh.data if mesh.data is not None else max(n // rest, 1)
    if data * rest != n:
        shape = f"mesh data={data} x fsdp={mesh.fsdp} x tensor={mesh.tensor}"
        raise config.ConfigError(f"{shape} is {data * rest} devices and there are {n}; make the product {n}")
    grid = mesh_utils.create_device_mesh((data, mesh.fsdp, mesh.tensor), devices, allow_split_physical_axes=True)
    return DeviceMesh(grid, AXES, axis_types=(AxisType.Auto,) * len(AXES))


def place(mesh: DeviceMesh, gather: config.Gather = "update") -> Place:
    """What a model must know of the mesh before it is traced: rows over data and fsdp, attention heads over tensor."""
    found = Place(mesh.devices.flat[0].platform, mesh, rows=("data", "fsdp"), heads=("tensor",))
    return found._replace(gather=partial(_layer, mesh)) if gather == "layer" else found


def row_shards(mesh: DeviceMesh) -> int:
    """Into how many parts the rows of a batch are split."""
    return mesh.shape["data"] * mesh.shape["fsdp"]


def check(run: config.Run, mesh: DeviceMesh) -> None:
    """Raise `ConfigError` where a micro-batch does not split evenly over the mesh, or layers cannot be gathered so."""
    if run.mesh.gather == "layer" and (remat := getattr(run.model, "remat", None)) in (None, "none"):
        what = f"mesh.gather=layer: {type(run.model).__name__} does not compute its layers again in the backward pass"
        ways = "" if remat is None else "model.remat to dots, mlp or block, or "
        raise config.ConfigError(f"{what}; set {ways}mesh.gather to update")
    rows, parts = run.batch_rows, row_shards(mesh)
    if rows % (run.accumulation * parts) != 0:
        what = f"batch_rows={rows} in accumulation={run.accumulation} micro-batches"
        over = f"data={mesh.shape['data']} x fsdp={mesh.shape['fsdp']} devices"
        raise config.ConfigError(
            f"{what} does not split over {over}; use a multiple of {run.accumulation * parts} rows"
        )


# --- parameters and what belongs to them ---


def state_shardings(abstract_state: TrainState, mesh: DeviceMesh) -> tuple[TrainState, tuple[str, ...]]:
    """A `NamedSharding` for every leaf of a state, and notes on parameters that are not split as their rule says.

    Optimizer moments and averages follow their parameters, because their paths end in the parameters' paths. What is
    carried from update to update lies with the rows of the batch.
    """
    shardings = jax.tree_util.tree_map_with_path(
        lambda path, leaf: NamedSharding(mesh, _spec(path_of(path), leaf.shape, mesh)[0]), abstract_state
    )
    shardings = replace(shardings, carry=jax.tree.map(lambda _: batch_sharding(mesh), abstract_state.carry))
    leaves = jax.tree_util.tree_leaves_with_path(joined(abstract_state.params, abstract_state.frozen))
    notes = (note for path, leaf in leaves for note in _spec(path_of(path), leaf.shape, mesh)[1])
    return shardings, tuple(notes)


def abstract_params(abstract: Any, mesh: DeviceMesh) -> Any:
    """Shapes of parameters with their shardings, for reading them from a checkpoint."""

    def laid_out(path: tuple[Any, ...], leaf: Any) -> jax.ShapeDtypeStruct:
        spec = _spec(path_of(path), leaf.shape, mesh)[0]
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=NamedSharding(mesh, spec))

    return jax.tree_util.tree_map_with_path(laid_out, abstract)


def layout(mesh: DeviceMesh, gather: config.Gather = "update") -> Layout:
    """Keeps fsdp what it should be: what is multiplied whole along it, so that each device multiplies its own rows.

    Left alone, the compiler splits every product along the width instead, and moves activations between all devices. An
    update rule's products it splits likewise, or has every device make all of them; they are divided by matrices.
    """

    def together(params: Params) -> Params:
        # As it lies first: else the compiler gathers what the copy was cast from, twice the bytes.
        return _laid(mesh, _laid(mesh, params), ("fsdp",), apart=gather == "layer")

    return Layout(gather=together, scatter=partial(_laid, mesh), spread=partial(_spread, mesh))


def _layer(mesh: DeviceMesh, params: Params) -> Params:
    """One layer's parameters whole along fsdp, and their gradient split again."""

    @jax.custom_vjp
    def gather(params: Params) -> Params:
        return _laid(mesh, params, ("fsdp",))

    gather.defvjp(lambda params: (gather(params), None), lambda _, gradient: (_laid(mesh, gradient),))
    return gather(params)


def _laid(mesh: DeviceMesh, tree: Params, without: tuple[str, ...] = (), apart: bool = False) -> Params:
    """A tree by the parameters' paths, split as they are `without` some axes; `apart`, stacked layers with all."""

    def place(path: tuple[Any, ...], leaf: jax.Array) -> jax.Array:
        name = path_of(path)
        spec, _ = _spec(name, leaf.shape, mesh, () if apart and "blocks" in name.split("/") else without)
        return jax.lax.with_sharding_constraint(leaf, NamedSharding(mesh, spec))

    return jax.tree_util.tree_map_with_path(place, tree)


def _spread(mesh: DeviceMesh, function: Callable[[jax.Array], jax.Array], items: jax.Array) -> jax.Array:
    """Divided over fsdp and tensor, which may hold parts of every item, and over the largest divisor of data that there
    are items for. Where they do not go round some devices work on zeros.
    """
    data, parts = mesh.shape["data"], mesh.shape["fsdp"] * mesh.shape["tensor"]
    ways = max(ways for ways in range(1, data + 1) if data % ways == 0 and ways * parts <= max(len(items), parts))
    if parts * ways == 1:
        return function(items)
    share = -(-len(items) // (parts * ways))

    def here(items: jax.Array) -> jax.Array:
        if ways == 1:
            return function(items)
        mine = function(jax.lax.dynamic_slice_in_dim(items, jax.lax.axis_index("data") % ways * share, share))
        groups = [list(range(first, first + ways)) for first in range(0, data, ways)]
        return jax.lax.all_gather(mine, "data", axis_index_groups=groups, tiled=True)

    def through(items: jax.Array) -> jax.Array:
        # Where two axes hold parts of items, the compiler would bring whole stacks to every device first; with data as
        # a third axis it does so still.
        held = mesh.shape["fsdp"] > 1 and mesh.shape["tensor"] > 1
        return jax.lax.with_sharding_constraint(items, NamedSharding(mesh, PartitionSpec("fsdp"))) if held else items

    padding = [(0, share * parts * ways - len(items))] + [(0, 0)] * (items.ndim - 1)
    spec = PartitionSpec(("fsdp", "tensor"))
    # check_vma: gathered within groups, copies are equal, and JAX knows them so only if they are gathered from all.
    spread = jax.shard_map(here, mesh=mesh, in_specs=spec, out_specs=spec, check_vma=False)
    return through(spread(through(jnp.pad(items, padding))))[: len(items)]


def _spec(
    path: str, shape: tuple[int, ...], mesh: DeviceMesh, without: tuple[str, ...] = ()
) -> tuple[PartitionSpec, tuple[str, ...]]:
    """How the array at a path is split, leaving mesh axes `without` out, and notes on where it cannot be."""
    axes = next((axes for pattern, axes in RULES if re.search(rf"(^|/){pattern}$", path)), None)
    if axes is None:
        unnamed = path.endswith("/kernel") and mesh.shape["fsdp"] * mesh.shape["tensor"] > 1
        return PartitionSpec(), (f"{path} {shape} is copied to every device: no sharding rule names it",) * unnamed
    if len(axes) > len(shape):
        return PartitionSpec(), (f"{path} {shape} is copied to every device: its rule has {len(axes)} axes",)
    spec: list[str | None] = [None] * (len(shape) - len(axes))
    notes = []
    for size, name in zip(shape[len(spec) :], axes, strict=True):
        ways = 1 if name is None or name in without else mesh.shape[name]
        spec.append(name if ways > 1 and size % ways == 0 else None)
        if size % ways != 0:
            notes.append(f"{path} {shape} is not split over {name}: {size} is not divisible by {ways}")
    if axes and not any(spec) and not notes and mesh.shape["tensor"] > 1:
        notes.append(f"{path} {shape} is copied to every device: its rule does not split it over tensor")
    return PartitionSpec(*spec), tuple(notes)


# --- batches ---


def batch_sharding(mesh: DeviceMesh) -> NamedSharding:
    """Rows split over data and fsdp; the other axes of a batch whole."""
    return NamedSharding(mesh, PartitionSpec(("data", "fsdp")))


def process_share(mesh: DeviceMesh) -> tuple[int, int]:
    """(i, n): this process feeds the i-th of n equal parts of every batch, which is what `stream(shard=)` takes.

    (0, 1) is the whole batch: with one process, and where the processes' devices do not hold equal parts in a row.
    """
    parts = row_shards(mesh)
    held: dict[int, set[int]] = {}  # process -> the parts its devices hold; those along tensor hold the same
    for part, devices in enumerate(mesh.devices.reshape(parts, -1)):
        for device in devices:
            held.setdefault(device.process_index, set()).add(part)
    size = len(held[jax.process_index()])
    if any(len(rows) != size or min(rows) % size != 0 or max(rows) - min(rows) >= size for rows in held.values()):
        return 0, 1
    return min(held[jax.process_index()]) // size, parts // size


def placer(mesh: DeviceMesh, whole: bool = False) -> Callable[[Any], Any]:
    """`place(tree)`: host arrays with leading rows, to the devices that need them; they must not be written to later.

    Each process passes its `process_share`, or with `whole` every process the same whole batch, as evaluation does. A
    whole batch whose rows do not split evenly (the last of an evaluation) is copied to every device.
    """
    split, copied, parts = batch_sharding(mesh), NamedSharding(mesh, PartitionSpec()), row_shards(mesh)
    shares = 1 if whole else process_share(mesh)[1]

    def place(array: np.ndarray) -> jax.Array:
        if shares > 1:
            shape = (array.shape[0] * shares, *array.shape[1:])
            return jax.make_array_from_process_local_data(split, array, shape)
        sharding = split if array.shape[0] % parts == 0 else copied
        if sharding.is_fully_addressable:
            return jax.device_put(array, sharding)
        return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])

    return lambda tree: jax.tree.map(place, tree)


def fetch(array: jax.Array) -> np.ndarray:
    """The whole array on every host, wherever its parts lie; in a run of many processes all must call it."""
    if isinstance(array, np.ndarray) or array.is_fully_addressable or array.is_fully_replicated:
        return np.asarray(array)
    return np.asarray(multihost_utils.process_allgather(array, tiled=True))
