"""A trained run, read back from its folder: what evaluation, sampling and fine-tuning start from."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from gptjax import config
from gptjax.config import ConfigError, Run
from gptjax.data import tokenizers
from gptjax.data.tokenizer import Tokenizer
from gptjax.models import vocabulary
from gptjax.train import checkpoint, sharding
from gptjax.train.state import path_of
from gptjax.types import Model, Objective, Params, Place


class Trained(NamedTuple):
    """A checkpoint and all that is needed to use it."""

    run: Run
    tokenizer: Tokenizer
    model: Model
    objective: Objective
    params: Params
    """As the objective has them: the model's own under "model". The moving average where the run keeps one."""
    step: int
    folder: Path
    """The run folder."""


def build(run: Run, tokenizer: Tokenizer, place: Place) -> tuple[Model, Objective]:
    """The pure functions of a run: its model over the tokenizer's vocabulary and the objective's special tokens."""
    vocab_size = tokenizer.vocab_size + len(run.objective.specials())
    model = run.model.build(vocab_size, tokenizer.padded(vocab_size), place)
    return model, run.objective.build(model, tokenizer)


def scalars(run: Run, tokenizer: Tokenizer) -> tuple[int, int]:
    """(trained, frozen): how many numbers, heads and the vocabulary's padding included; nothing is computed."""
    _, objective = build(run, tokenizer, Place("cpu"))
    counts = [0, 0]
    for path, leaf in jax.tree_util.tree_leaves_with_path(jax.eval_shape(objective.init, jax.random.key(0))):
        counts[objective.frozen(path_of(path))] += leaf.size
    return counts[0], counts[1]


def recall(folder: Path, flag: str = "RUN") -> tuple[Run, Tokenizer, Path]:
    """(configuration, tokenizer, folder) of a run folder, or of the run that a checkpoint folder lies in.

    Raises `ConfigError` where there is none; `flag` names the argument that the folder came from.
    """
    home = folder.parent.parent if folder.parent.name == "checkpoints" else folder
    if not (home / "config.json").is_file():
        raise ConfigError(f"{flag} {folder}: holds no config.json; name a run folder or one of its checkpoints")
    return config.load(home / "config.json"), tokenizers.load(home / "tokenizer"), home


def load(folder: Path, say: Callable[[str], None], mesh: Mesh | None = None, flag: str = "RUN") -> Trained:
    """A run from its newest intact checkpoint (or from the checkpoint that is named), parameters in float32.

    What was learnt by adapters is given as if all of it had been trained: the objective without them, and their changes
    in the model's own parameters. Raises `ConfigError` where the folder holds no run or no checkpoint yet,
    `CheckpointError` where it is damaged.
    """
    found = stored(folder, say, mesh, flag)
    run = replace(found.run, objective=found.run.objective.plain())
    if run == found.run:
        return found
    params = found.run.objective.merged(found.params)
    return found._replace(run=run, objective=run.objective.build(found.model, found.tokenizer), params=params)


def stored(folder: Path, say: Callable[[str], None], mesh: Mesh | None = None, flag: str = "RUN") -> Trained:
    """A run as its checkpoint has it, adapters apart; see `load`."""
    run, tokenizer, home = recall(folder, flag)
    if home == folder:
        path = checkpoint.newest_intact(home / "checkpoints", say, set_aside=False)
    else:
        found = [str(step) for step in checkpoint.steps(folder.parent)]
        if folder.name not in found:
            raise ConfigError(f"{flag} {folder}: there is no such checkpoint; there are {', '.join(found) or 'none'}")
        path, problem = folder, checkpoint.damage(folder)
        if problem:
            raise checkpoint.CheckpointError(f"{flag} {folder}: is damaged ({problem}); name another checkpoint")
    if path is None:
        raise ConfigError(f"{flag} {folder}: has no checkpoint yet; train it further first")
    mesh = mesh or sharding.make_mesh(config.Mesh(data=1), jax.local_devices()[:1])
    model, objective = build(run, tokenizer, sharding.place(mesh))
    abstract = jax.eval_shape(objective.init, jax.random.key(0))
    params = checkpoint.read(path, {"params": sharding.abstract_params(abstract, mesh)})["params"]
    return Trained(run, tokenizer, model, objective, params, int(path.name), home)


def _without(shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
    return shape[:axis] + shape[axis + 1 :]


def grafting(
    source: Trained, what: Literal["all", "embeddings"], specials: tuple[str, ...] = ()
) -> Callable[[Params], Params]:
    """`graft(params) -> params`: pretrained values put into freshly initialised parameters, for `loop.Work.transfer`.

    Of the vocabulary those ids are taken that both know: the tokenizer's, and of `specials`, the new objective's own,
    the ones whose names the source's objective had too. Other ids, and heads that the pretraining did not have, keep
    their fresh values; position embeddings beyond a shorter context are left behind, and where embeddings alone are
    taken they may be missing there. Raises `ConfigError` where shapes differ in any other way.
    """
    leaves = jax.tree_util.tree_leaves_with_path(source.params["model"])
    pretrained = {path_of(path): np.asarray(value) for path, value in leaves}
    words, theirs = source.tokenizer.vocab_size, source.run.objective.specials()
    known = [(words + specials.index(name), words + theirs.index(name)) for name in specials if name in theirs]
    here, there = (np.array([*range(words), *(pair[i] for pair in known)]) for i in (0, 1))

    def pick(old: dict[str, jax.Array], key_path: tuple[Any, ...], fresh: jax.Array) -> jax.Array:
        path = path_of(key_path)
        if what == "embeddings" and not path.startswith("embed/"):
            return fresh
        if path not in old:
            if what == "embeddings" and path not in vocabulary.AXIS:
                return fresh
            raise ConfigError(f"--init {source.folder}: has no {path}; its model is of another kind")
        value, axis = old[path], vocabulary.AXIS.get(path)
        if axis is not None and _without(value.shape, axis) == _without(fresh.shape, axis):
            before = (slice(None),) * axis
            return fresh.at[(*before, here)].set(value[(*before, there)])
        if axis is None and path == "embed/positions" and len(value) >= len(fresh):
            value = value[: len(fresh)]
        if value.shape != fresh.shape:
            own = "; the model is this run's own, so give it the size of theirs" if what == "embeddings" else ""
            raise ConfigError(f"--init {source.folder}: {path} is {value.shape} there and {fresh.shape} here{own}")
        return value

    @jax.jit
    def graft(params: Params, old: dict[str, jax.Array]) -> Params:
        return {**params, "model": jax.tree_util.tree_map_with_path(partial(pick, old), params["model"])}

    # The pretrained values are an argument: captured, they would be constants of the compiled program.
    return lambda params: graft(params, pretrained)
