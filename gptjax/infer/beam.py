"""Beam search: the likeliest continuations of a prompt, or translations of a source, that a bounded search finds.

W hypotheses a row are kept at every step: the W best of all ways to lengthen those there are, judged by their total
log-probability over length^a (a = 0: the total itself). One that has ended keeps its place as long as no other has a
better claim to it, so that with one hypothesis the search is greedy, and with room for all of them it is exact.
(Sutskever et al., arXiv 1409.3215; Wu et al., arXiv 1609.08144, equation 14 without its constant.)
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gptjax.config import Config, ConfigError
from gptjax.data.errors import DataError
from gptjax.types import Model, Params

Speak = Callable[[jax.Array, Any], tuple[jax.Array, Any]]
"""`speak(tokens_N, state) -> (logits_NV, state)` reads one more token of each of N rows; every leaf of the state has
a leading N."""


@dataclass(frozen=True)
class Beam(Config):
    """How wide the search is, and how length counts."""

    beams: int = 4
    """Hypotheses kept of each row; 1 is greedy."""
    length_power: float = 0.6
    """The exponent a of the length that total log-probabilities are divided by; 0 favours short ones."""

    def check(self) -> None:
        self.require(self.beams > 0, f"beams={self.beams} must be positive")
        self.require(self.length_power >= 0, f"length_power={self.length_power} must not be negative")


class Hypothesis(NamedTuple):
    """One way to go on."""

    tokens: np.ndarray
    """int32 ids, end-of-text left out."""
    log_probability: float
    """Of all its tokens, end-of-text included where it was reached."""
    ended: bool
    """Whether it reached end-of-text; otherwise it is as long as was allowed."""


class _Found(NamedTuple):
    """What the search hands from step to step; W hypotheses a row, the best first."""

    tokens_BWT: jax.Array
    lengths_BW: jax.Array
    """Tokens of each, end-of-text included."""
    totals_BW: jax.Array
    """Log-probabilities, float32; -inf where there is no hypothesis yet."""
    ended_BW: jax.Array
    finite: jax.Array
    """Whether all logits were numbers."""


def continuations(
    model: Model, params: Params, prompts: list[np.ndarray], max_tokens: int, how: Beam, eos_id: int | None = None
) -> list[list[Hypothesis]]:
    """The best continuations of every prompt by a language model, at most `max_tokens` long, the best first.

    Prompt and continuation together fit into the model's context, unless it is recurrent. `params` are the model's own.
    Raises `DataError` for a prompt that is empty, too long, or has an id beyond the vocabulary, `ConfigError` for
    max_tokens < 1 or without room for a prompt, `FloatingPointError` where logits are not numbers.
    """
    longest = max(map(len, prompts), default=0)
    room = max(1, longest) if model.recurrent else model.context - max_tokens
    if room < 1:
        raise ConfigError(f"max_tokens={max_tokens}: prompt and continuation share a context of {model.context} tokens")
    for row, prompt in enumerate(prompts):
        _check("prompt", row, prompt, room, model.vocab_size)
    return _listed(_continuations, model, params, prompts, longest, max_tokens, how, eos_id)


def translations(
    translator: Any, params: Params, sources: list[np.ndarray], max_tokens: int, how: Beam, bos_id: int, eos_id: int
) -> list[list[Hypothesis]]:
    """The best translations of every source (ids, its end-of-text included), at most `max_tokens` long.

    `params` are the translator's own. Raises what `continuations` does.
    """
    room = translator.context
    if max_tokens > room:
        raise ConfigError(f"max_tokens={max_tokens} is longer than context={room}")
    for row, source in enumerate(sources):
        _check("source", row, source, room, translator.vocab_size)
    speak = functools.partial(_translations, bos_id=bos_id)
    # Sources of every length have one shape, so that a search is compiled once.
    return _listed(speak, translator, params, sources, room, max_tokens, how, eos_id)


def _check(what: str, row: int, ids: np.ndarray, room: int, vocab_size: int) -> None:
    if not 0 < len(ids) <= room:
        raise DataError(f"{what} {row} has {len(ids)} tokens; there is room for 1 to {room}")
    if np.max(ids) >= vocab_size:
        raise DataError(f"{what} {row} has id {np.max(ids)}, not below the model's vocabulary of {vocab_size}")


def _listed(
    find: Callable[..., _Found],
    model: Any,
    params: Params,
    given: list[np.ndarray],
    columns: int,
    max_tokens: int,
    how: Beam,
    eos_id: int | None,
) -> list[list[Hypothesis]]:
    if max_tokens < 1:
        raise ConfigError(f"max_tokens={max_tokens} must be positive")
    if not given:
        return []
    lengths_B = np.array([len(ids) for ids in given], np.int32)
    given_BS = np.zeros((len(given), columns), np.int32)
    for row, ids in enumerate(given):
        given_BS[row, : len(ids)] = ids
    # The power is an argument of the compiled search, so that another one compiles nothing.
    power = np.float32(how.length_power)
    found = jax.device_get(find(model, how.beams, max_tokens, eos_id, params, given_BS, lengths_B, power))
    if not found.finite:
        raise FloatingPointError("the model's logits are not numbers; its parameters are damaged or have diverged")
    return [[_hypothesis(found, b, w) for w in range(found.totals_BW.shape[1])] for b in range(len(given))]


def _hypothesis(found: _Found, b: int, w: int) -> Hypothesis:
    ended = bool(found.ended_BW[b, w])
    tokens = np.asarray(found.tokens_BWT[b, w, : found.lengths_BW[b, w] - ended])
    return Hypothesis(tokens, float(found.totals_BW[b, w]), ended)


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _continuations(
    model: Model,
    beams: int,
    max_tokens: int,
    eos_id: int | None,
    params: Params,
    prompts_BS: Any,
    lengths_B: Any,
    length_power: jax.Array,
) -> _Found:
    """All but the last token of each prompt is read once, and what is remembered of it repeated for W hypotheses."""

    def speak(tokens_N: jax.Array, cache: Any) -> tuple[jax.Array, Any]:
        features_N1D, cache = model.extend(prepared, tokens_N[:, None], cache)
        return model.head(prepared, features_N1D[:, 0]), cache

    rows, longest = prompts_BS.shape
    prepared = model.prepare(params, rows * beams)
    cache = model.cache(rows, longest - 1 + max_tokens, jax.tree.leaves(params)[0].dtype)
    if longest > 1:
        cache = model.extend(params, jnp.asarray(prompts_BS[:, :-1]), cache, lengths_B - 1)[1]
    last_B = jnp.take_along_axis(prompts_BS, lengths_B[:, None] - 1, axis=1)[:, 0]
    return search(speak, last_B, repeated(cache, beams), beams, length_power, max_tokens, eos_id)


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3), static_argnames="bos_id")
def _translations(
    translator: Any,
    beams: int,
    max_tokens: int,
    eos_id: int,
    params: Params,
    sources_BS: jax.Array,
    lengths_B: jax.Array,
    length_power: jax.Array,
    bos_id: int,
) -> _Found:
    """The source is no part of the state: the hypotheses of a row share it, so it never moves."""
    memory = repeated(translator.encode(params, sources_BS, lengths_B), beams)

    def speak(tokens_N: jax.Array, state: Any) -> tuple[jax.Array, Any]:
        features_N1D, state = translator.extend(params, memory, tokens_N[:, None], state)
        return translator.head(params, features_N1D[:, 0]), state

    first_B = jnp.full(len(sources_BS), bos_id, jnp.int32)
    state = translator.start(params, memory, max_tokens)
    return search(speak, first_B, state, beams, length_power, max_tokens, eos_id)


def repeated(tree: Any, beams: int) -> Any:
    """Every leaf [B, ...] as [B W, ...], a row's W copies beside each other."""
    return jax.tree.map(lambda x: jnp.repeat(x, beams, axis=0), tree)


def search(
    speak: Speak,
    first_B: jax.Array,
    state: Any,
    beams: int,
    length_power: jax.Array | float,
    max_tokens: int,
    eos_id: int | None,
) -> _Found:
    """The W best hypotheses of each row, the best first; the leaves of the state have N = B W rows already.

    Ends when every hypothesis has, or is `max_tokens` long. To be called inside jit.
    """
    B, W = len(first_B), beams

    def go_on(loop: tuple[Any, ...]) -> jax.Array:
        step, _, _, found = loop
        return (step < max_tokens) & ~jnp.all(found.ended_BW)

    def lengthen(loop: tuple[Any, ...]) -> tuple[Any, ...]:
        step, last_BW, state, found = loop
        logits_NV, state = speak(last_BW.reshape(B * W), state)
        logits_BWV = logits_NV.astype(jnp.float32).reshape(B, W, -1)
        finite = found.finite & jnp.all(found.ended_BW | jnp.isfinite(logits_BWV.max(-1)))
        parent_BW, token_BW, totals_BW, was_BW = _best(found, logits_BWV, length_power)
        rows_B1 = jnp.arange(B)[:, None]
        # A hypothesis that has ended stays as it is; its state and its last token mean nothing from then on.
        tokens_BWT = found.tokens_BWT[rows_B1, parent_BW]
        tokens_BWT = tokens_BWT.at[:, :, step].set(jnp.where(was_BW, 0, token_BW))
        lengths_BW = found.lengths_BW[rows_B1, parent_BW] + ~was_BW
        ended_BW = was_BW if eos_id is None else was_BW | (token_BW == eos_id)
        at_N = (rows_B1 * W + parent_BW).reshape(B * W)
        state = jax.tree.map(lambda x: x[at_N], state)
        return step + 1, token_BW, state, _Found(tokens_BWT, lengths_BW, totals_BW, ended_BW, finite)

    # All W start alike, so only the first counts; the others are there when it has W different continuations.
    totals_BW = jnp.full((B, W), -jnp.inf).at[:, 0].set(0.0)
    zeros_BW = jnp.zeros((B, W), jnp.int32)
    found = _Found(jnp.zeros((B, W, max_tokens), jnp.int32), zeros_BW, totals_BW, zeros_BW > 0, jnp.bool(True))
    first_BW = jnp.broadcast_to(first_B.astype(jnp.int32)[:, None], (B, W))
    return jax.lax.while_loop(go_on, lengthen, (jnp.int32(0), first_BW, state, found))[-1]


def _best(
    found: _Found, logits_BWV: jax.Array, length_power: jax.Array | float
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """(parents, tokens, totals, whether the parent had ended) of the W best of all W V ways to go on, each [B, W]."""
    B, W, V = logits_BWV.shape
    nats_BWV = jax.nn.log_softmax(logits_BWV, axis=-1)
    # One that has ended has one way to go on: as it is.
    as_it_is_V = jnp.where(jnp.arange(V) == 0, 0.0, -jnp.inf)
    ended_BW1 = found.ended_BW[..., None]
    totals_BWV = found.totals_BW[..., None] + jnp.where(ended_BW1, as_it_is_V, nats_BWV)
    lengths_BW1 = found.lengths_BW[..., None] + ~ended_BW1
    scores_BWV = totals_BWV / lengths_BW1.astype(jnp.float32) ** length_power
    _, best_BW = jax.lax.top_k(scores_BWV.reshape(B, W * V), W)
    parent_BW, token_BW = best_BW // V, best_BW % V
    totals_BW = jnp.take_along_axis(totals_BWV.reshape(B, W * V), best_BW, axis=1)
    was_BW = jnp.take_along_axis(found.ended_BW, parent_BW, axis=1)
    return parent_BW, token_BW.astype(jnp.int32), totals_BW, was_BW
