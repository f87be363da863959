"""A run's training step, compiled for devices that need not be here: no data, no parameters, only shapes."""

import math
import time
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from gptjax import trained
from gptjax.config import Run
from gptjax.data.tokenizer import Tokenizer
from gptjax.plan.devices import overheard
from gptjax.train import sharding, virtual
from gptjax.train.state import TrainState, init_state, loss_of
from gptjax.train.step import jitted, make_step

LOWERED_AS = {"gpu": "cuda"}
"""Names of platforms in JAX's lowering, where they are others than a device's own."""
QUICK = {"tpu": {"optimization_level": 9}}
"""Compiler options that leave out the search for the fastest form of every fusion (XLA's effort level O0): four to
seven times less time.

Collectives are the same but for all-reduces that are not yet joined. Temporaries come out as large or a little smaller
(0.4% of a GPT-2 of 12 layers on 16 v5e, 4% of a Llama of two layers on 512 v5p)."""


class Compiled(NamedTuple):
    """What the compiler made of a run's update, or why it made nothing."""

    mesh: jax.sharding.Mesh
    state: TrainState
    """Shapes, with shardings."""
    batch: Any
    """Shapes, with shardings."""
    tokens: int
    """Tokens of one update as training counts them: all ways of a task's examples, of a translation the target's."""
    row_tokens: int
    """T, tokens of a row."""
    causal: bool
    """No query sees a key behind its own."""
    notes: tuple[str, ...]
    """What a person must know: how wide rows are, the attention kernel, what is not split."""
    jaxpr: Any
    """The update before any compiler, for all devices together."""
    lowered_as: str
    """The platform, as JAX's lowering names it."""
    executable: jax.stages.Compiled | None
    """None where the compiler ran out of the device's memory."""
    refusal: str | None
    """What it said then."""
    seconds: float
    """Time to trace, lower and compile."""


def update(run: Run, tokenizer: Tokenizer, devices: Sequence[Any], quick: bool = True) -> Compiled:
    """The update that `loop.train` would compile on these devices, with `QUICK` if `quick`.

    Raises `ConfigError` where the run and the mesh do not fit each other.
    """
    started = time.perf_counter()
    mesh = sharding.make_mesh(run.mesh, devices)
    sharding.check(run, mesh)
    place = sharding.place(mesh, run.mesh.gather)
    platform = LOWERED_AS.get(place.platform, place.platform)
    model, objective = trained.build(run, tokenizer, place)
    optimizer = run.optimizer.build(run.schedule.build(run.steps))
    abstract = jax.eval_shape(lambda key: init_state(run, objective, optimizer, key), jax.random.key(run.seed))
    shardings, notes = sharding.state_shardings(abstract, mesh)
    state = jax.tree.map(_laid_out, abstract, shardings)
    widest = run.objective.widest(run.data, tokenizer, model.context)
    batch = batch_of(objective.batch(widest.rows), run.batch_rows, sharding.batch_sharding(mesh))
    # The tokens are the first leaf of every kind of batch, as training counts them: [B, T], or [B, W, T] for a task.
    shape, packed = jax.tree.leaves(batch)[0].shape, getattr(batch, "segments", None) is not None
    if place.platform == "cpu" and virtual.wanted(run):
        notes = (*notes, "training itself makes two devices of a CPU for this objective")
    notes = (*widest.notes, *run.model.notes(shape[-1], packed, run.precision, place), *notes)
    step = make_step(run, loss_of(run, objective), optimizer, sharding.layout(mesh, run.mesh.gather))
    # Since JAX 0.12 a Pallas kernel asks the mesh around it which GPU it is made for, and this machine otherwise.
    with warnings.catch_warnings(), jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
        warnings.simplefilter("ignore", RuntimeWarning)  # a slower kernel is in the notes
        traced = jitted(step, shardings).trace(state, batch)
        lowered = traced.lower(lowering_platforms=(platform,))
    with overheard() as warned:
        executable, refusal = _compiled(lowered, QUICK.get(place.platform) if quick else None)
    notes = (*notes, *(f"the compiler warns: {line}" for line in warned))
    seconds = time.perf_counter() - started
    return Compiled(
        mesh=mesh,
        state=state,
        batch=batch,
        tokens=math.prod(shape),
        row_tokens=shape[-1],
        causal=getattr(model, "causal", False),  # a translator has none, and two of its three attentions are not
        notes=notes,
        jaxpr=traced.jaxpr,
        lowered_as=platform,
        executable=executable,
        refusal=refusal,
        seconds=seconds,
    )


def _compiled(
    lowered: jax.stages.Lowered, options: dict[str, Any] | None
) -> tuple[jax.stages.Compiled | None, str | None]:
    """(the program, None), or (None, what the compiler said) where the memory does not suffice."""
    try:
        return lowered.compile(compiler_options=options), None
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return None, str(error).splitlines()[0]


def batch_of(row: Any, rows: int, split: jax.sharding.NamedSharding) -> Any:
    """Shapes of a batch of so many rows, all as wide as this one."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct((rows, *x.shape[1:]), x.dtype, sharding=split), row)


def _laid_out(leaf: Any, where: jax.sharding.NamedSharding) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where)


def bytes_on_device(tree: Any) -> int:
    """Bytes that one device holds of a tree of laid-out shapes."""
    return sum(_bytes(leaf) for leaf in jax.tree.leaves(tree))


def _bytes(leaf: jax.ShapeDtypeStruct) -> int:
    if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.eval_shape(jax.random.key_data, jax.ShapeDtypeStruct(leaf.shape, leaf.dtype))
        return int(np.prod(leaf.shape)) * leaf.dtype.itemsize
    shape = leaf.shape if leaf.sharding is None else leaf.sharding.shard_shape(leaf.shape)
    return int(np.prod(shape)) * np.dtype(leaf.dtype).itemsize
