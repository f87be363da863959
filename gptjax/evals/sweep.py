"""One pure function over many host batches, and the shape that every evaluator of the training loop has."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import jax
import numpy as np

from gptjax.types import Params

T = TypeVar("T")

Place = Callable[[Any], Any]
"""`place(batch)`: a pytree of host arrays [B, ...], the same whole batch on every process, to device arrays."""
Fetch = Callable[[jax.Array], np.ndarray]
"""`fetch(array)`: a device array as a full host array, on every process."""
Between = Callable[[], None]
"""Called after each batch; may raise, to stop."""


def nothing() -> None:
    """What an evaluation does between batches when nobody wants to stop it."""


def sweep(
    function: Callable[[Params, Any], Any],
    params: Params,
    batches: Iterable[tuple[T, Any]],
    place: Place,
    fetch: Fetch,
    between: Between = nothing,
) -> Iterator[tuple[T, Any]]:
    """Yield (tag, `function(params, batch)` on the host) for every (tag, host batch), in order.

    The next batch is made and started before a result is waited for, so the device does not wait for the host.
    """
    waiting: tuple[T, Any] | None = None
    for tag, batch in batches:
        started = tag, function(params, place(batch))
        if waiting is not None:
            yield waiting[0], jax.tree.map(fetch, waiting[1])
        waiting = started
        between()
    if waiting is not None:
        yield waiting[0], jax.tree.map(fetch, waiting[1])


@dataclass(frozen=True)
class Evaluator:
    """Judges an objective's parameters; what the training loop is given to call."""

    judge: Callable[[Params, Between], dict[str, float]]
    """`judge(params, between)` gives the metrics by name."""
    warm: Callable[[Params], None]
    """Judges one empty batch, which compiles all that `judge` will run (tasks excepted)."""
    names: Callable[[Params], tuple[str, ...]]
    """What `judge` may give the metrics of, by the shapes of the parameters alone: nothing is computed."""

    def compile(self, params: Params) -> None:
        """Compile for parameters of these shapes, dtypes and shardings, so that judging never waits; tasks may."""
        self.warm(params)

    def __call__(self, params: Params, between: Between = nothing) -> dict[str, float]:
        """The metrics of `params`."""
        return self.judge(params, between)
