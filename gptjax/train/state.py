"""What a run is after some number of updates, as one value."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax

from gptjax.config import ConfigError, Run
from gptjax.types import Carried, Key, Objective, Params


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class TrainState:
    """Everything that the next update depends on besides its batch; a pytree, so jit, donation and saving just work."""

    step: jax.Array
    """int32 scalar; batches consumed, skipped ones included, so it names the next batch."""
    params: Params
    """float32 master weights, all that is trained."""
    opt_state: Any
    """The optimizer's own state; its leaves' paths end in the paths of the parameters they belong to."""
    key: Key
    """Root of all dropout; never advanced, update n uses `fold_in(key, n)`."""
    ema: Params | None
    """Moving average of the parameters, or None where the run has none."""
    skipped: jax.Array
    """int32 scalar; updates left out so far because a loss, a gradient or their result was not finite."""
    skipped_in_a_row: jax.Array
    """int32 scalar; how many of them were the latest ones."""
    carry: Any = None
    """What the next update's rows go on from, leading B; None where no row continues another."""
    frozen: Params | None = None
    """Parameters that the loss reads and no update changes, with None in the places of the trained ones, as `params`
    has it in theirs; None where all are trained."""


def path_of(key_path: tuple[Any, ...]) -> str:
    """A leaf's path as text, "params/model/embed/tokens"; roles and sharding rules are read from it."""
    return jax.tree_util.keystr(key_path, simple=True, separator="/")


def parted(params: Params, frozen: Callable[[str], bool]) -> tuple[Params, Params | None]:
    """(trained, frozen): the parameters as two trees that each have None in the places of the other's."""
    still = jax.tree_util.tree_map_with_path(lambda path, _: frozen(path_of(path)), params)
    if not any(jax.tree.leaves(still)):
        return params, None
    own = jax.tree.map(lambda p, stays: None if stays else p, params, still)
    return own, jax.tree.map(lambda p, stays: p if stays else None, params, still)


def joined(trained: Params, frozen: Params | None) -> Params:
    """The parameters that `parted` divided."""
    if frozen is None:
        return trained
    return jax.tree.map(lambda p, other: other if p is None else p, trained, frozen, is_leaf=lambda x: x is None)


def init_state(run: Run, objective: Objective, optimizer: optax.GradientTransformation, key: Key) -> TrainState:
    """The state before the first update, parameters from `objective.init`; to be jitted, with shardings on a mesh.

    A run that starts from given parameters passes `objective._replace(init=lambda key: params)`.
    """
    init_key, dropout_key = jax.random.split(key)
    params, frozen = parted(objective.init(init_key), objective.frozen)
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        opt_state=optimizer.init(params),
        key=dropout_key,
        # A copy: donation would otherwise see one buffer twice.
        ema=None if run.ema_decay is None else jax.tree.map(jnp.copy, params),
        skipped=jnp.zeros((), jnp.int32),
        skipped_in_a_row=jnp.zeros((), jnp.int32),
        carry=_carried(run, objective).start(run.batch_rows) if run.data.order == "running" else None,
        frozen=frozen,
    )


def loss_of(run: Run, objective: Objective) -> Callable[..., Any]:
    """The loss of a run's updates, for `make_step`: `Carried.loss` where rows continue rows, else `Objective.loss`.

    Raises `ConfigError` where they are to continue and nothing can be carried.
    """
    return _carried(run, objective).loss if run.data.order == "running" else objective.loss


def _carried(run: Run, objective: Objective) -> Carried:
    if objective.carried is None:
        raise ConfigError(
            f"data.order='running' needs a state to carry on, and {type(run.objective).__name__} over "
            f"{type(run.model).__name__} has none; take a recurrent model, or data.order='shuffled'"
        )
    return objective.carried
