"""GPT-1's fine-tuning loss: a linear head on the hidden state at the extract token, beside the language model's own.

The same heads serve a model that reads both ways, which has no left-to-right loss beside them, and other read-outs.

    L3 = L2 + lm_weight * L1    for each example

L2 is the task's loss, L1 the mean nats of the tokens of the example's text (mean over its ways where it has several).
(Radford et al. 2018, equations 3 to 5.) Axes beside the alphabet's: W ways of writing one example.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gptjax.objectives.head import weighted_nats
from gptjax.objectives.loss import token_nats, weighted
from gptjax.objectives.task_text import Specials, TaskBatch, token_types
from gptjax.types import Key, Metrics, Model, Objective, Params

HEAD_STD = 0.02
NO_CHOICE = -1e30
"""Score of a choice that an example does not have: no probability, and yet finite."""

Losses = tuple[jax.Array, dict[str, jax.Array]]
Pool = Literal["last", "first", "mean", "max"]
"""Which of a text's hidden states the head reads: the last (the extract token's), the first, or all."""


class Question(NamedTuple):
    """What a task asks of the hidden states."""

    units: int
    """Outputs of the linear head."""
    dtype: type
    """Of the targets: np.int32 for a class or choice, np.float32 for a number."""
    scores: Callable[[Callable[[jax.Array], jax.Array], jax.Array, jax.Array], jax.Array]
    """`scores(head, hidden_BWD, exists_BW) -> scores_BC`, `head` mapping [..., D] to [..., units]."""
    losses: Callable[[jax.Array, jax.Array], Losses]
    """`losses(scores_BC, targets_B) -> (loss_B, {metric: value_B})`."""


def classes(count: int) -> Question:
    """Which of `count` classes: the ways' hidden states are added before the head; cross-entropy; "accuracy"."""
    return Question(count, np.int32, lambda head, hidden_BWD, exists_BW: head(hidden_BWD.sum(1)), _cross_entropy)


def choices() -> Question:
    """Which of the ways: each is scored by one linear unit, softmax over the ways; cross-entropy; "accuracy"."""

    def scores(head: Callable[[jax.Array], jax.Array], hidden_BWD: jax.Array, exists_BW: jax.Array) -> jax.Array:
        return jnp.where(exists_BW, head(hidden_BWD)[..., 0], NO_CHOICE)

    return Question(1, np.int32, scores, _cross_entropy)


def score(low: float, high: float) -> Question:
    """A number in [low, high], C = 1: squared error in units of half the range.

    The untrained head answers the middle, and its scale does not depend on how the targets are written.
    """
    middle, half = (low + high) / 2, (high - low) / 2

    def scores(head: Callable[[jax.Array], jax.Array], hidden_BWD: jax.Array, exists_BW: jax.Array) -> jax.Array:
        return middle + half * head(hidden_BWD.sum(1))

    def losses(scores_BC: jax.Array, targets_B: jax.Array) -> Losses:
        return jnp.square((scores_BC[:, 0] - targets_B) / half), {}

    return Question(1, np.float32, scores, losses)


def _cross_entropy(scores_BC: jax.Array, targets_B: jax.Array) -> Losses:
    at_target_B = jnp.take_along_axis(scores_BC, targets_B[:, None], axis=1)[:, 0]
    # A tie is an error: a head that says the same of every class knows nothing.
    rivals_B = jnp.sum(scores_BC >= at_target_B[:, None], axis=1)
    return token_nats(scores_BC, targets_B), {"accuracy": (rivals_B == 1).astype(jnp.float32)}


def objective(
    model: Model, question: Question, lm_weight: float, classifier_dropout: float, pool: Pool = "last"
) -> Objective:
    """The objective of `TaskBatch`: the sum of the examples' losses, and their number.

    Params: the model's under "model", kernel [D, units] and bias [units] under "head". Metrics, per example: "task"
    (L2), "lm_nats" (L1; absent where lm_weight is 0 and the language model's head is never computed), "accuracy".
    """

    def init(key: Key) -> Params:
        model_key, head_key = jax.random.split(key)
        params = model.init(model_key)
        token_BT = jax.ShapeDtypeStruct((1, 1), jnp.int32)
        width = jax.eval_shape(model.features, params, token_BT).shape[-1]
        kernel_DC = HEAD_STD * jax.random.normal(head_key, (width, question.units), jnp.float32)
        return {"model": params, "head": {"kernel": kernel_DC, "bias": jnp.zeros(question.units, jnp.float32)}}

    def loss(params: Params, batch: TaskBatch, key: Key | None) -> tuple[jax.Array, jax.Array, Metrics]:
        model_key, head_key = (None, None) if key is None else jax.random.split(key)
        features_RTD = _features(model, params, batch, model_key)
        scores_BC = _scores(question, pool, params, batch, features_RTD, classifier_dropout, head_key)
        task_B, values_B = question.losses(scores_BC, jnp.asarray(batch.targets))
        sums = {name: weighted(batch.weights, value_B) for name, value_B in {"task": task_B, **values_B}.items()}
        total = sums["task"]
        if lm_weight:
            sums["lm_nats"] = _lm_nats(model, params, batch, features_RTD)
            total = total + lm_weight * sums["lm_nats"]
        count = jnp.sum(batch.weights)
        return total, count, {name: (value, count) for name, value in sums.items()}

    return Objective(init, lambda rows: rows, loss)


def predictor(model: Model, question: Question, pool: Pool = "last") -> Callable[[Params, TaskBatch], jax.Array]:
    """`predict(params, batch) -> scores_BC`, float32, finite: of each class, of each choice, or the number itself."""

    def predict(params: Params, batch: TaskBatch) -> jax.Array:
        return _scores(question, pool, params, batch, _features(model, params, batch, None), 0.0, None)

    return predict


def _features(model: Model, params: Params, batch: TaskBatch, key: Key | None) -> jax.Array:
    """Hidden states of every way as a row of its own, R = B * W."""
    tokens_RT = _rows(batch.tokens)
    if model.causal:  # padding stands behind the text, where it does not look
        return model.features(params["model"], tokens_RT, key=key)
    real_RT = jnp.arange(tokens_RT.shape[1]) < _rows(batch.lengths)[:, None]
    marks = Specials(*range(model.vocab_size - len(Specials._fields), model.vocab_size))
    types_RT = token_types(tokens_RT, marks.delimiter)
    return model.features(params["model"], tokens_RT, real_RT.astype(jnp.int32), key=key, types_BT=types_RT)


def _rows(x_BW: jax.Array | np.ndarray) -> jax.Array:
    return jnp.reshape(x_BW, (-1, *x_BW.shape[2:]))


def pooled(pool: Pool, features_RTD: jax.Array, lengths_R: jax.Array) -> jax.Array:
    """One vector a row, [R, D] float32, of its first `lengths_R` tokens; of a row without tokens it means nothing."""
    if pool == "first":
        return features_RTD[:, 0].astype(jnp.float32)
    if pool == "last":
        last_R = jnp.maximum(lengths_R - 1, 0)
        return jnp.take_along_axis(features_RTD, last_R[:, None, None], axis=1)[:, 0].astype(jnp.float32)
    x_RTD, lengths_R11 = features_RTD.astype(jnp.float32), jnp.maximum(lengths_R, 1)[:, None, None]
    real_RT1 = jnp.arange(x_RTD.shape[1])[:, None] < lengths_R11
    if pool == "max":
        return jnp.max(jnp.where(real_RT1, x_RTD, -jnp.inf), axis=1)
    return jnp.sum(jnp.where(real_RT1, x_RTD, 0.0), axis=1) / lengths_R11[:, 0]


def _scores(
    question: Question,
    pool: Pool,
    params: Params,
    batch: TaskBatch,
    features_RTD: jax.Array,
    dropout: float,
    key: Key | None,
) -> jax.Array:
    hidden_RD = pooled(pool, features_RTD, _rows(batch.lengths))
    hidden_BWD = hidden_RD.reshape(*batch.lengths.shape, -1)
    exists_BW = jnp.asarray(batch.lengths) > 0
    hidden_BWD = jnp.where(exists_BW[..., None], hidden_BWD, 0.0)
    if key is not None and dropout:
        # One mask for all ways of an example, as released, so that choices are compared over the same units.
        keep_BWD = jax.random.bernoulli(key, 1 - dropout, (hidden_BWD.shape[0], 1, hidden_BWD.shape[2]))
        hidden_BWD = jnp.where(keep_BWD, hidden_BWD / (1 - dropout), 0.0)
    kernel_DC, bias_C = (params["head"][name].astype(jnp.float32) for name in ("kernel", "bias"))
    return question.scores(lambda x: x @ kernel_DC + bias_C, hidden_BWD, exists_BW)


def _lm_nats(model: Model, params: Params, batch: TaskBatch, features_RTD: jax.Array) -> jax.Array:
    """Weighted sum of the examples' L1: tokens after the start token, delimiter and extract among them, as released.

    A mean over an example's ways of means over their tokens is a sum in which every token has its own weight.
    """
    tokens_RT, lengths_BW = _rows(batch.tokens), jnp.asarray(batch.lengths)
    ways_B, counted_BW = jnp.sum(lengths_BW > 0, axis=1), jnp.maximum(lengths_BW - 1, 1)
    share_BW = (jnp.asarray(batch.weights) / jnp.maximum(ways_B, 1))[:, None] / counted_BW
    real_RT = jnp.arange(1, tokens_RT.shape[1]) < _rows(lengths_BW)[:, None]
    weights_RT = jnp.where(real_RT, _rows(share_BW)[:, None], 0.0)
    return weighted_nats(model, params["model"], features_RTD[:, :-1], tokens_RT[:, 1:], weights_RT)[0]
