"""How well a recurrent model predicts a running text that it reads through, its state carried from row to row.

The text is cut into parts that are read side by side, so a part's first prediction sees one token: the total is no
better than that of one reader of the whole text, and is the same with one part. The text's first token has nothing
before it and is charged ln V, or is given where it is the beginning-of-text token, as `gptjax.evals.likelihood` has it.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from gptjax.config import ConfigError, Evaluation
from gptjax.data.errors import DataError
from gptjax.evals.likelihood import SUMMARY, feature_nats, given, head, summary
from gptjax.evals.sweep import Between, Evaluator, Fetch, Place, nothing
from gptjax.evals.windows import require_known
from gptjax.types import Cache, Model, Params, TokenSplit


@functools.partial(jax.jit, static_argnums=0)
def _chunk(
    model: Model, params: Params, cache: Cache, inputs_BT: jax.Array, targets_BT: jax.Array
) -> tuple[jax.Array, Cache]:
    """nats_BT of the next so many tokens of every part, and the states behind them."""
    features_BTD, cache = model.extend(params, inputs_BT, cache)
    return feature_nats(model, params, features_BTD, targets_BT), cache


def token_nats(
    model: Model,
    params: Params,
    tokens: np.ndarray,
    parts: int,
    place: Place = jax.device_put,
    fetch: Fetch = np.asarray,
    between: Between = nothing,
) -> np.ndarray:
    """-log p of every token of a running text, nats_N float32; `parts` of it are read side by side.

    Each step reads `model.context` tokens of every part. The first token is charged ln V. Raises `ConfigError` for a
    model without a state, `DataError` for a text without tokens or with an id beyond the vocabulary.
    """
    tokens_N = _checked(model, tokens)
    length = -(-(len(tokens_N) - 1) // parts)  # predictions of a part
    steps = -(-length // model.context)
    padded = np.zeros(parts * length + 1, np.int32)
    padded[: len(tokens_N)] = tokens_N
    columns_BN = np.zeros((2, parts, steps * model.context), np.int32)
    columns_BN[0, :, :length] = padded[:-1].reshape(parts, length)
    columns_BN[1, :, :length] = padded[1:].reshape(parts, length)
    cache, found = place(model.cache(parts, model.context, jnp.float32)), []
    for step in range(steps):
        now = slice(step * model.context, (step + 1) * model.context)
        nats_BT, cache = _chunk(model, params, cache, *place((columns_BN[0, :, now], columns_BN[1, :, now])))
        found.append(fetch(nats_BT))
        between()
    nats_BN = np.concatenate(found, axis=1)[:, :length] if found else np.zeros((parts, 0), np.float32)
    first = np.full(1, math.log(model.vocab_size), np.float32)
    return np.concatenate([first, nats_BN.reshape(-1)[: len(tokens_N) - 1]])


def _checked(model: Model, tokens: np.ndarray) -> np.ndarray:
    tokens_N = np.asarray(tokens)
    if not model.recurrent:
        raise ConfigError("evaluation.state='carried' needs a recurrent model; judge this one with state='fresh'")
    if not len(tokens_N):
        raise DataError("the split to judge has no tokens; give it some text")
    require_known(tokens_N, model.vocab_size)
    return tokens_N


def evaluator(
    model: Model,
    split: TokenSplit,
    evaluation: Evaluation,
    documents: bool,
    place: Place = jax.device_put,
    fetch: Fetch = np.asarray,
    bos_id: int | None = None,
) -> Evaluator:
    """Judges an objective's params (the model's are under "model") on a running text in `evaluation.rows` parts.

    Raises `ConfigError` where documents are read apart: a state is carried through running text alone.
    """
    if documents:
        raise ConfigError("evaluation.state='carried' reads running text; data.packing='documents' keeps texts apart")
    split = head(split, evaluation.max_tokens)
    _checked(model, split.tokens)
    free = given(split, False, bos_id)

    def judge(params: Params, between: Between) -> dict[str, float]:
        nats_N = token_nats(model, params["model"], split.tokens, evaluation.rows, place, fetch, between)
        nats_N[free] = 0.0
        return {**summary(nats_N, split.bytes, len(free)), "parts": evaluation.rows, "context": model.context}

    def warm(params: Params) -> None:
        empty = np.zeros((evaluation.rows, model.context), np.int32)
        cache = place(model.cache(evaluation.rows, model.context, jnp.float32))
        jax.block_until_ready(_chunk(model, params["model"], cache, *place((empty, empty))))

    return Evaluator(judge, warm, lambda params: (*SUMMARY, "parts", "context"))
