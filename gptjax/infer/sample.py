"""Sampling text: pure functions of parameters, prompts and a key; the cache is a value that the loop carries.

Every token is drawn from p(token | the latest tokens of its row), where the latest tokens are at most a context: when a
row has filled the context, it is read again from half a context back, and goes on from there. So a prediction past the
context sees between half a context and a whole one. A recurrent model never fills up: it goes on with its state.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gptjax.config import Config, ConfigError
from gptjax.data.errors import DataError
from gptjax.infer.ladder import rung
from gptjax.types import Cache, Key, Model, Params

CACHE_TOKENS, MOST_CACHES = 64, 2
"""Tokens by which a cache grows at least while a text does, and how many lengths it has at most. The second saves most
of what there is to save, and each adds a fourth to the time that a program takes to compile."""


@dataclass(frozen=True)
class Decoding(Config):
    """How the next token is chosen from the model's logits."""

    temperature: float = 1.0
    """Divides the logits before anything else; 0 is greedy: always the likeliest token."""
    top_k: int | None = None
    """Choose among this many likeliest tokens; None among all."""
    top_p: float | None = None
    """Choose among the fewest likeliest tokens whose probabilities reach this sum; None among all."""

    def check(self) -> None:
        t, k, p = self.temperature, self.top_k, self.top_p
        self.require(t == 0 or 1e-4 <= t < float("inf"), f"temperature={t} is neither 0 (greedy) nor at least 0.0001")
        self.require(k is None or k > 0, f"top_k={k} must be positive")
        self.require(p is None or 0 < p <= 1, f"top_p={p} is not in (0, 1]")


class _Loop(NamedTuple):
    """What one step hands to the next; W is room for the longest prompt and all new tokens."""

    step: jax.Array
    tokens_BW: jax.Array
    counts_B: jax.Array
    """Tokens of a row so far."""
    starts_B: jax.Array
    """What is read of a row starts here."""
    done_B: jax.Array
    finite: jax.Array
    """Whether all logits were numbers."""
    cache: Cache
    """All that is read of a row but its last token."""


def next_token(logits_BV: jax.Array, key: Key, decoding: Decoding) -> jax.Array:
    """One token for each row, int32 tokens_B, by temperature, then top-k, then top-p of what is left.

    A row's draw depends on the key, its index and its logits alone. Of equal logits the lower id counts as likelier.
    (Nucleus sampling: Holtzman et al. 2020, "The curious case of neural text degeneration".)
    """
    if decoding.temperature == 0:
        return likeliest(logits_BV)
    # The largest logit becomes 0 first, so that a low temperature cannot overflow.
    logits_BV = (logits_BV - jnp.max(logits_BV, axis=-1, keepdims=True)) / decoding.temperature
    if decoding.top_k is not None or decoding.top_p is not None:
        logits_BV = jnp.where(_kept(logits_BV, decoding), logits_BV, -jnp.inf)
    keys_B = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(len(logits_BV)))
    return jax.vmap(jax.random.categorical)(keys_B, logits_BV).astype(jnp.int32)


def likeliest(logits: jax.Array) -> jax.Array:
    """The lowest id that has the largest logit [..., V], int32: what argmax gives, which takes a CPU ten times as long.

    V where the largest logit is not a number.
    """
    top, V = jnp.max(logits, axis=-1, keepdims=True), logits.shape[-1]
    return jnp.min(jnp.where(logits == top, jnp.arange(V, dtype=jnp.int32), V), axis=-1)


def _kept(logits_BV: jax.Array, decoding: Decoding) -> jax.Array:
    """Which tokens top-k and top-p leave; always at least the likeliest."""
    order_BV = jnp.argsort(logits_BV, axis=-1, stable=True, descending=True)
    rank_BV = jnp.argsort(order_BV, axis=-1)
    limit = logits_BV.shape[-1] if decoding.top_k is None else decoding.top_k
    kept_BV = rank_BV < limit
    if decoding.top_p is not None:
        p_BV = jax.nn.softmax(jnp.where(kept_BV, logits_BV, -jnp.inf), axis=-1)
        sorted_BV = jnp.take_along_axis(p_BV, order_BV, axis=-1)
        before_BV = jnp.cumsum(sorted_BV, axis=-1) - sorted_BV
        kept_BV &= jnp.take_along_axis(before_BV < decoding.top_p, rank_BV, axis=-1)
    return kept_BV


def generate(
    model: Model,
    params: Params,
    prompts: list[np.ndarray],
    max_tokens: int,
    decoding: Decoding,
    key: Key,
    eos_id: int | None = None,
) -> list[np.ndarray]:
    """Continue every prompt by at most `max_tokens` tokens; gives the new ones of each, int32.

    A row ends early at `eos_id`, which is not part of it. Prompts are ids [P_b], of any lengths but 0; of one beyond
    the context the last `context` tokens are read. `params` are the model's own. The same key gives the same tokens;
    those of row b depend on the key, b and its prompt, on no other row. Raises `DataError` for an empty prompt or an id
    beyond the vocabulary, `ConfigError` for max_tokens < 1 and for a model that reads both sides of a token,
    `FloatingPointError` where logits are not numbers.
    """
    if not model.causal:
        raise ConfigError("the model reads both sides of a token and cannot continue a text; sample from a GPT")
    if max_tokens < 1:
        raise ConfigError(f"max_tokens={max_tokens} must be positive")
    if not prompts:
        return []
    for row, prompt in enumerate(prompts):
        _check(row, prompt, model.vocab_size)
    counts_B = np.array([len(prompt) for prompt in prompts], np.int32)
    longest = int(np.max(counts_B))
    # Filled up to few widths, so that few programs are compiled; but not beyond a context that has room for all.
    filled = min(rung(longest), max(longest, model.context - max_tokens))
    tokens_BW = np.zeros((len(prompts), filled + max_tokens), np.int32)
    for row, prompt in enumerate(prompts):
        tokens_BW[row, : len(prompt)] = prompt
    found = _generate(model, max_tokens, decoding, eos_id, params, tokens_BW, counts_B, key)
    out_BW, ends_B, finite = jax.device_get(found)
    if not finite:
        raise FloatingPointError("the model's logits are not numbers; its parameters are damaged or have diverged")
    return [out[start:end] for out, start, end in zip(out_BW, counts_B, ends_B, strict=True)]


def _check(row: int, prompt: np.ndarray, vocab_size: int) -> None:
    if not len(prompt):
        raise DataError(f"prompt {row} has no tokens; give it at least one (a beginning- or end-of-text token will do)")
    if np.max(prompt) >= vocab_size:
        raise DataError(f"prompt {row} has id {np.max(prompt)}, not below the model's vocabulary of {vocab_size}")


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _generate(
    model: Model,
    max_tokens: int,
    decoding: Decoding,
    eos_id: int | None,
    params: Params,
    tokens_BW: jax.Array,
    counts_B: jax.Array,
    key: Key,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """(tokens_BW, where each row ends, whether all logits were numbers).

    Loop in loop: between two times that rows are read afresh, the inner ones only read on, each to the end of its
    cache. What a conditional in a single loop chose between would be whole caches, which a CPU copies at every step.
    """
    width, prepared = tokens_BW.shape[1], model.prepare(params, len(tokens_BW))
    room = width if model.recurrent else model.context
    draw = functools.partial(_drawn, model, decoding, eos_id, prepared, key)

    def empty(length: int) -> Cache:
        return model.cache(len(tokens_BW), length, jax.tree.leaves(params)[0].dtype)

    def going_on(loop: _Loop) -> jax.Array:
        return (loop.step < max_tokens) & ~jnp.all(loop.done_B)

    def read_on(loop: _Loop) -> _Loop:
        return draw(*_read_on(model, prepared, loop))

    def until_full(columns: int, lengths: list[int], loop: _Loop) -> _Loop:
        length, *longer = lengths
        loop = draw(*_read(model, params, room, columns, loop._replace(cache=empty(length))))
        loop = _filled(length, going_on, read_on, loop)
        for length in longer:
            loop = _filled(length, going_on, read_on, loop._replace(cache=_moved(loop.cache, empty(length))))
        return loop

    starts_B, done_B = jnp.maximum(0, counts_B - model.context), jnp.zeros(len(counts_B), bool)
    cache = empty(min(room, width))  # for its type: rows are read into an empty one first
    first = _Loop(jnp.int32(0), tokens_BW, counts_B, starts_B, done_B, jnp.bool(True), cache)
    if width <= room:
        columns = min(model.context, width - max_tokens)
        last = until_full(columns, _lengths(empty, columns, width), first)
    else:
        last = jax.lax.while_loop(going_on, functools.partial(until_full, room, [room]), first)
    return last.tokens_BW, last.counts_B, last.finite


def _filled(length: int, going_on: Callable[[_Loop], jax.Array], step: Callable[[_Loop], _Loop], loop: _Loop) -> _Loop:
    """Step after step, for as long as a cache of this length has room for all that is to be read of every row."""

    def fits(loop: _Loop) -> jax.Array:
        return going_on(loop) & jnp.all(loop.counts_B - loop.starts_B <= length)

    return jax.lax.while_loop(fits, step, loop)


def _lengths(empty: Callable[[int], Cache], columns: int, width: int) -> list[int]:
    """Lengths of one cache after the other, the first with room for `columns` tokens and more, the last for `width`.

    All of a cache is read for every token, the empty part too, and every length is one more loop to compile. A cache
    that is no longer for more tokens needs one loop.
    """
    short, long = (jax.eval_shape(functools.partial(empty, length)) for length in (columns, width))
    parts = 1 if short == long else min(MOST_CACHES, max(1, (width - columns) // CACHE_TOKENS))
    return [columns + (width - columns) * part // parts for part in range(1, parts + 1)]


def _moved(cache: Cache, longer: Cache) -> Cache:
    """A cache in the place of a longer one that is empty."""
    return jax.tree.map(lambda old, new: jax.lax.dynamic_update_slice(new, old, [0] * new.ndim), cache, longer)


def _read(model: Model, params: Params, room: int, columns: int, loop: _Loop) -> tuple[_Loop, jax.Array]:
    """Every row read afresh, into an empty cache, a full one from half a context back; and features_B1D of the last."""
    full_B = loop.counts_B - loop.starts_B > room
    starts_B = jnp.where(full_B, loop.counts_B - max(1, model.context // 2), loop.starts_B)
    lengths_B = loop.counts_B - starts_B
    index_BT = starts_B[:, None] + jnp.arange(columns)
    inputs_BT = jnp.take_along_axis(loop.tokens_BW, index_BT, axis=1, mode="clip")
    features_BTD, cache = model.extend(params, inputs_BT, loop.cache, lengths_B)
    last_B1D = jnp.take_along_axis(features_BTD, lengths_B[:, None, None] - 1, axis=1)
    return loop._replace(starts_B=starts_B, cache=cache), last_B1D


def _read_on(model: Model, params: Params, loop: _Loop) -> tuple[_Loop, jax.Array]:
    """Every row that is not done with its last token read; and features_B1D of those."""
    last_B1 = jnp.take_along_axis(loop.tokens_BW, loop.counts_B[:, None] - 1, axis=1)
    features_B1D, cache = model.extend(params, last_B1, loop.cache, (~loop.done_B).astype(jnp.int32))
    return loop._replace(cache=cache), features_B1D


def _drawn(
    model: Model, decoding: Decoding, eos_id: int | None, params: Params, key: Key, loop: _Loop, features_B1D: jax.Array
) -> _Loop:
    """The next token of every row that is not done, by what the model makes of its last."""
    rows, width = loop.tokens_BW.shape
    logits_BV = model.head(params, features_B1D[:, 0])
    # What a row that is done has for features means nothing.
    finite = loop.finite & jnp.all(loop.done_B | jnp.isfinite(jnp.max(logits_BV, axis=-1)))
    new_B = next_token(logits_BV, jax.random.fold_in(key, loop.step), decoding)
    done_B = loop.done_B if eos_id is None else loop.done_B | (new_B == eos_id)
    at_B = jnp.where(done_B, width, loop.counts_B)
    tokens_BW = loop.tokens_BW.at[jnp.arange(rows), at_B].set(new_B, mode="drop")
    return _Loop(loop.step + 1, tokens_BW, loop.counts_B + ~done_B, loop.starts_B, done_B, finite, loop.cache)
