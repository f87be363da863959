"""One update, as a pure function of the state and a batch."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from gptjax.config import Run
from gptjax.train.state import TrainState, joined
from gptjax.types import Key, Params

Loss = Callable[..., tuple[Any, ...]]
"""`Objective.loss`: (params, batch, key) -> (sum, count, metrics); where the state has a carry `Carried.loss`, which
takes and gives it as well."""
Step = Callable[[TrainState, Any], tuple[TrainState, dict[str, jax.Array]]]
Spread = Callable[[Callable[[jax.Array], jax.Array], jax.Array], jax.Array]
"""`spread(function, items)`: what a function makes of items along the first axis, each of them by itself."""


class Layout(NamedTuple):
    """Where things lie while an update is made, and which device makes what."""

    gather: Callable[[Params], Params] = lambda params: params
    """Brings the compute copy together, once an update, but for what models bring together themselves."""
    scatter: Callable[[Params], Params] = lambda tree: tree
    """Splits a tree by the parameters' paths, such as a micro-batch's gradient, as the master weights are split."""
    spread: Spread = lambda function, items: function(items)
    """Divides among devices what is made of whole matrices."""


ANYWHERE = Layout()
COMPILER = {"cpu": {"xla_cpu_copy_insertion_use_region_analysis": True}}
"""XLA's options for a step, by platform. Without this one a CPU copies the moments of Adam, or the parameters too, in
every update before it writes them; with it the compiler has those who read them come first."""


class LaidOut(optax.GradientTransformationExtraArgs):
    """An update rule that takes the `layout` of the step among its arguments; no other rule is given it."""


class _Sums(NamedTuple):
    """What micro-batches add up: every mean is taken once, at the end, over the whole batch."""

    gradient: Params
    loss: jax.Array
    counted: jax.Array
    metrics: dict[str, tuple[jax.Array, jax.Array]]


def jitted(step: Step, shardings: TrainState) -> jax.stages.Wrapped:
    """The step as training compiles it: the state that it takes is donated, the one that it gives lies as it did."""
    platform = next(iter(jax.tree.leaves(shardings)[0].device_set)).platform
    return jax.jit(step, donate_argnums=0, out_shardings=(shardings, None), compiler_options=COMPILER.get(platform))


def make_step(run: Run, loss: Loss, optimizer: optax.GradientTransformation, layout: Layout = ANYWHERE) -> Step:
    """The update of a run: `step(state, batch) -> (state, metrics)`, to be jitted with the state donated.

    The batch's leaves have `run.batch_rows` rows; micro-batch i of A holds rows i, i + A, ... The gradient is that of
    sum / count over the whole batch, however its weights fall on the micro-batches; nothing counted gives no gradient.
    Where the loss or the square of the gradient's norm is not finite, or the norm of the new parameters under a rule or
    schedule that is not `bounded`, parameters, optimizer state and average stay as they were, and so does the carry;
    the step still advances, to the next batch. Of frozen parameters no gradient is computed. metrics: loss_nats and the
    objective's own means, tokens (counted targets), grad_norm (before clipping), skipped (so far) and skipped_in_a_row,
    all scalars; a mean over nothing is 0.
    """

    if isinstance(optimizer, LaidOut):
        optimizer = optimizer._replace(update=partial(optimizer.update, layout=layout))

    def step(state: TrainState, batch: Any) -> tuple[TrainState, dict[str, jax.Array]]:
        params, frozen = (layout.gather(cast(tree, run.precision)) for tree in (state.params, state.frozen))

        def whole(params: Params, *rest: Any) -> tuple[Any, ...]:
            return loss(joined(params, frozen), *rest)

        key = jax.random.fold_in(state.key, state.step)
        sums, carry = _accumulate(partial(_sums, whole, layout), params, (batch, state.carry), key, run.accumulation)
        total_norm = optax.tree.norm(sums.gradient)
        loss_nats, grad_norm = _mean(sums.loss, sums.counted), _mean(total_norm, sums.counted)
        scale = _mean(1.0, sums.counted) * _clip(grad_norm, run.clip_norm)
        gradient = jax.tree.map(lambda g: g * scale, sums.gradient)
        new = _apply(optimizer, state, gradient, run.ema_decay)
        # The result too, where a finite gradient can still be a wild update: another pass over parameters and moments.
        bounded = run.optimizer.bounded() and run.schedule.bounded()
        result = () if bounded else (optax.tree.norm(new[0]),)
        # The sums too, for a mean over nothing is 0.
        finite = _all_finite(loss_nats, jnp.square(grad_norm), sums.loss, total_norm, *result)
        old = (state.params, state.opt_state, state.ema, state.carry)
        new_params, opt_state, ema, carry = jax.tree.map(lambda n, o: jnp.where(finite, n, o), (*new, carry), old)
        skipped = state.skipped + ~finite
        in_a_row = jnp.where(finite, 0, state.skipped_in_a_row + 1)
        metrics = {name: _mean(total, count) for name, (total, count) in sums.metrics.items()}
        metrics |= {"loss_nats": loss_nats, "tokens": sums.counted, "grad_norm": grad_norm}
        metrics |= {"skipped": skipped, "skipped_in_a_row": in_a_row}
        new_state = TrainState(
            state.step + 1, new_params, opt_state, state.key, ema, skipped, in_a_row, carry, state.frozen
        )
        return new_state, metrics

    return step


def cast(params: Params, dtype: str) -> Params:
    """The compute copy, made once an update: outside the micro-batches, before any gather over devices."""
    return jax.tree.map(lambda p: p.astype(dtype) if jnp.issubdtype(p.dtype, jnp.floating) else p, params)


def _accumulate(
    sums: Callable[..., tuple[_Sums, Any]], params: Params, rows: Any, key: Key, parts: int
) -> tuple[_Sums, Any]:
    """`sums(params, rows, key)` added up over all micro-batches, and their carries put together again."""
    if parts == 1:
        return sums(params, rows, jax.random.fold_in(key, 0))
    # Strided, not contiguous: rows that a device holds then stay with it in every micro-batch.
    micro = jax.tree.map(lambda x: jnp.moveaxis(x.reshape(-1, parts, *x.shape[1:]), 1, 0), rows)

    def add(total: _Sums, part: tuple[jax.Array, Any]) -> tuple[_Sums, Any]:
        index, rows = part
        new, carry = sums(params, rows, jax.random.fold_in(key, index))
        return jax.tree.map(jnp.add, total, new), carry

    shapes, _ = jax.eval_shape(sums, params, jax.tree.map(lambda x: x[0], micro), key)
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    total, carries = jax.lax.scan(add, zeros, (jnp.arange(parts), micro))
    return total, jax.tree.map(lambda x: jnp.moveaxis(x, 0, 1).reshape(-1, *x.shape[2:]), carries)


def _sums(loss: Loss, layout: Layout, params: Params, rows: tuple[Any, Any], key: Key) -> tuple[_Sums, Any]:
    """Of one micro-batch (batch, carry), in float32 whatever the compute dtype; and the carry that follows."""
    batch, carry = rows

    def total(params: Params) -> tuple[jax.Array, tuple[jax.Array, Any, Any]]:
        loss_sum, count, metrics, *new = loss(params, batch, key, *([] if carry is None else [carry]))
        return loss_sum, (count, metrics, new[0] if new else None)

    (loss_sum, (count, metrics, carry_on)), gradient = jax.value_and_grad(total, has_aux=True)(params)
    sums = _Sums(layout.scatter(gradient), loss_sum, count, dict(metrics))
    return jax.tree.map(lambda x: x.astype(jnp.float32), sums), carry_on


def _mean(total: jax.Array | float, count: jax.Array) -> jax.Array:
    return jnp.where(count > 0, total / jnp.where(count > 0, count, 1.0), 0.0)


def _all_finite(*values: jax.Array) -> jax.Array:
    return jnp.isfinite(jnp.stack(values)).all()


def _clip(norm: jax.Array, limit: float | None) -> jax.Array | float:
    return 1.0 if limit is None else jnp.minimum(1.0, limit / jnp.maximum(norm, 1e-30))


def _apply(
    optimizer: optax.GradientTransformation, state: TrainState, gradient: Params, ema_decay: float | None
) -> tuple[Params, Any, Params | None]:
    """The parameters, optimizer state and average that follow, were the gradient finite."""
    updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    if ema_decay is None:
        return params, opt_state, None
    applied = state.step - state.skipped
    # Young averages forget faster, so that the initial parameters do not linger in a short run.
    decay = jnp.minimum(ema_decay, (1.0 + applied) / (10.0 + applied))
    return params, opt_state, jax.tree.map(lambda a, p: decay * a + (1 - decay) * p, state.ema, params)
