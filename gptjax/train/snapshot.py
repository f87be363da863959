"""A training state as the named pytrees of a checkpoint, and back; bit for bit in both directions."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from gptjax.train import checkpoint
from gptjax.train.hosts import agreed
from gptjax.train.state import TrainState, joined
from gptjax.types import Params


def judged(state: TrainState) -> Params:
    """The parameters that are evaluated and sampled: the moving average where there is one, and the frozen ones."""
    return joined(state.params if state.ema is None else state.ema, state.frozen)


def items(state: TrainState, key_bits: Any) -> dict[str, Any]:
    """`params` is what is judged, all that evaluation and fine-tuning need; `training` is the rest.

    Works on arrays, shapes and shardings alike, so the key comes as its raw bits (or their shape, or their sharding).
    """
    training = {
        "step": state.step,
        "opt_state": state.opt_state,
        "key": key_bits,
        "skipped": state.skipped,
        "skipped_in_a_row": state.skipped_in_a_row,
    }
    training |= {} if state.ema is None else {"raw_params": state.params}
    training |= {} if state.carry is None else {"carry": state.carry}
    return {"params": judged(state), "training": training}


def save(writer: checkpoint.Writer, state: TrainState, about: Mapping[str, Any]) -> None:
    """Start saving a state as the checkpoint of its step; `about` goes into `about.json`."""
    writer.save(int(state.step), items(state, jax.random.key_data(state.key)), about)


def newest(checkpoints: Path, say: Callable[[str], None]) -> Path | None:
    """`checkpoint.newest_intact`, found by the first process and agreed on by all."""
    found = agreed(lambda: checkpoint.newest_intact(checkpoints, say) if jax.process_index() == 0 else None)
    if jax.process_count() == 1:
        return found
    step = multihost_utils.broadcast_one_to_all(np.int32(-1 if found is None else int(found.name)))
    return None if step < 0 else checkpoints / str(int(step))


def restore(path: Path, abstract: TrainState, shardings: TrainState) -> TrainState:
    """The state saved at `path`, laid out by `shardings`; `abstract` has its shapes and dtypes.

    Raises `checkpoint.CheckpointError` where the checkpoint holds something else.
    """
    shapes = items(abstract, jax.eval_shape(jax.random.key_data, abstract.key))
    places = items(shardings, shardings.key)
    wanted = jax.tree.map(lambda a, s: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=s), shapes, places)
    found = checkpoint.read(path, wanted)
    training = dict(found["training"])
    training["key"] = jax.random.wrap_key_data(training["key"])
    raw = training.pop("raw_params", None)
    judged, frozen = (_part(found["params"], tree) for tree in (abstract.params, abstract.frozen))
    params, ema = (judged, None) if raw is None else (raw, judged)
    return TrainState(params=params, ema=ema, frozen=frozen, **training)


def _part(params: Params, places: Params | None) -> Params | None:
    """The parameters in those places of a tree of the same form that are not None."""
    if places is None:
        return None
    return jax.tree.map(lambda place, p: None if place is None else p, places, params, is_leaf=lambda x: x is None)
