"""An objective's own loss and metrics over all rows of a source, each once."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from gptjax.data.errors import DataError
from gptjax.evals.likelihood import per_token, refuse_non_finite
from gptjax.evals.sweep import Between, Evaluator, Fetch, Place, nothing, sweep
from gptjax.types import Objective, Params, RowSource


def evaluator(
    objective: Objective,
    source: RowSource,
    rows: int,
    place: Place = jax.device_put,
    fetch: Fetch = np.asarray,
) -> Evaluator:
    """Means of the loss ("loss_nats") and of every metric over the rows of epoch 0, judged `rows` at once.

    Sums and counts are added up before they are divided; a metric that never counted is absent, and "nats" of tokens
    are told as tokens, nats_per_token and perplexity. The last batch is filled up with rows of zeros, and `compile`
    raises `ValueError` where the objective counts those. Raises `DataError` where nothing counts, `FloatingPointError`
    for a sum that is not finite.
    """

    @jax.jit
    def sums(params: Params, batch: Any) -> dict[str, tuple[jax.Array, jax.Array]]:
        total, count, metrics = objective.loss(params, batch, None)
        return {**metrics, "loss_nats": (total, count)}

    def judge(params: Params, between: Between) -> dict[str, float]:
        totals: dict[str, np.ndarray] = {}
        todo = _batches(objective.batch, source, rows)
        for _, result in sweep(sums, params, todo, place, fetch, between):
            for name, pair in result.items():
                totals[name] = totals.get(name, np.zeros(2)) + np.array(pair, np.float64)
        for name, pair in totals.items():
            refuse_non_finite(f"(sum, count) of {name}: entry", pair)
        if "loss_nats" not in totals or totals["loss_nats"][1] == 0:
            raise DataError(f"nothing to judge: none of the {source.rows} held-out rows has a target that counts")
        means = {name: float(total / count) for name, (total, count) in totals.items() if count and name != "nats"}
        nats, tokens = totals.get("nats", (0, 0))
        return means | (per_token(float(nats), int(tokens)) if tokens else {})

    def empty() -> Any:
        return _filled(jax.tree.map(lambda leaf: leaf[:0], source.take(np.arange(1), 0)), rows)

    def warm(params: Params) -> None:
        result = jax.tree.map(fetch, sums(params, place(objective.batch(empty()))))
        for name, (total, count) in result.items():
            if total != 0 or count != 0:
                raise ValueError(f"{name} counts rows of zeros (sum {total}, count {count}); padding must add nothing")

    def names(params: Params) -> tuple[str, ...]:
        found = jax.eval_shape(sums, params, objective.batch(empty()))
        means = tuple(name for name in found if name != "nats")
        return means + (("tokens", "nats_per_token", "perplexity") if "nats" in found else ())

    return Evaluator(judge, warm, names)


def predictions(
    predict: Callable[[Params, Any], jax.Array],
    params: Params,
    batch: Callable[[Any], Any],
    source: RowSource,
    rows: int,
    place: Place = jax.device_put,
    fetch: Fetch = np.asarray,
    between: Between = nothing,
) -> np.ndarray:
    """`predict(params, batch(rows))` for every row of epoch 0, in the source's order: an array with a leading E.

    `predict` gives an array with a leading B and is compiled here unless it already is.
    """
    found = [
        values for _, values in sweep(jax.jit(predict), params, _batches(batch, source, rows), place, fetch, between)
    ]
    if not found:
        raise DataError("nothing to predict: the source has no rows")
    return np.concatenate(found)[: source.rows]


def _batches(batch: Callable[[Any], Any], source: RowSource, rows: int) -> Iterator[tuple[None, Any]]:
    for first in range(0, source.rows, rows):
        indices_B = np.arange(first, min(first + rows, source.rows))
        yield None, batch(_filled(source.take(indices_B, 0), rows))


def _filled(host_rows: Any, rows: int) -> Any:
    """The pytree of rows with rows of zeros behind them, `rows` in all."""

    def fill(leaf: np.ndarray) -> np.ndarray:
        return np.concatenate([leaf, np.zeros((rows - len(leaf), *leaf.shape[1:]), leaf.dtype)])

    return jax.tree.map(fill, host_rows)
