"""The two ends of a language model that most families share: token embeddings below, logits over a vocabulary above.

Parameters: embed/tokens [V, E]; head/kernel [D, V] where it is not tied to embed/tokens.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from gptjax.config import Config
from gptjax.models.embed import look_up
from gptjax.models.products import product
from gptjax.types import Key, Params


def require_vocabulary(config: Config, vocab_size: int, padded_vocab_size: int) -> None:
    """Raise `ConfigError` where there are no ids, or fewer rows than ids."""
    config.require(
        0 < vocab_size <= padded_vocab_size,
        f"vocab_size={vocab_size} must be positive and at most padded_vocab_size={padded_vocab_size}",
    )


def init(key: Key, padded_vocab_size: int, embed_width: int, init_std: float, head_width: int | None) -> Params:
    """Float32 embed/tokens [V, E] and, unless `head_width` is None (tied), head/kernel [D, V].

    `key` is the first of those that the model's own is split into: then embeddings of one shape are the same draws in
    every family, the GPT's included, and rows of an experiment with one seed differ in what they are to differ in.
    """
    params = {"embed": {"tokens": init_std * jax.random.normal(key, (padded_vocab_size, embed_width))}}
    head_key = jax.random.fold_in(key, 1)
    if head_width is not None:
        # Small logits whatever the width, so that the first loss is near ln V.
        kernel_DV = jax.random.normal(head_key, (head_width, padded_vocab_size)) * 0.1 * head_width**-0.5
        params["head"] = {"kernel": kernel_DV}
    return params


def head(tied: bool, vocab_size: int, params: Params, features: jax.Array, dtype: Any = jnp.float32) -> jax.Array:
    """Logits [..., V] in `dtype` of features [..., D], accumulated in float32; -inf for the vocabulary's padding."""
    kernel_DV = params["embed"]["tokens"].T if tied else params["head"]["kernel"]
    flat = features.reshape(-1, features.shape[-1])
    logits = product(flat, kernel_DV.astype(features.dtype), dtype)
    return unpadded(logits, vocab_size).reshape(*features.shape[:-1], -1)


def columns(tied: bool, params: Params, ids_S: jax.Array) -> jax.Array:
    """What `head` multiplies features by for some ids alone, [S, D] in the dtype of the parameters."""
    return look_up(params["embed"]["tokens"] if tied else params["head"]["kernel"].T, ids_S[None])[0]


def unpadded(logits: jax.Array, vocab_size: int) -> jax.Array:
    """Logits [..., V] with -inf for what lies behind the vocabulary."""
    padded = logits.shape[-1]
    return jnp.where(jnp.arange(padded) < vocab_size, logits, -jnp.inf) if vocab_size < padded else logits


def parameter_count(init: Callable[[Key], Params]) -> int:
    """Trained scalars of what `init(key)` gives."""
    return sum(x.size for x in jax.tree.leaves(jax.eval_shape(init, jax.random.key(0))))
