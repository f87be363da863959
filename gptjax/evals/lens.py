"""The logit lens: what a model would predict if it ended at one of its layers.

The model's own head (behind its final norm, where it has one) is applied to what each layer leaves. Early layers were
never trained for it: what shows is how soon the prediction is there. (nostalgebraist 2020, "interpreting GPT: the logit
lens".) Axes beside the alphabet's: A layers that are asked; the T are places in one text.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gptjax.evals.likelihood import refuse_non_finite

TOP = 5


class Lens(NamedTuple):
    """Predictions at each place, layer by layer; the last is the model's own."""

    layers: Sequence[str]
    """[A] names."""
    top_ids_ATK: np.ndarray
    """The `TOP` most probable tokens, or as many as there are."""
    top_shares_ATK: np.ndarray
    """Their probabilities."""
    true_shares_AT: np.ndarray
    """The probability of the token that is there in truth; NaN where that is not known."""
    ranks_AT: np.ndarray
    """1 + how many tokens are at least as probable as it; 0 where it is not known."""
    nats_T: np.ndarray
    """-log of the model's own probability of that token; NaN where it is not known."""


def lens(layers: Sequence[str], logits: Callable[[int], np.ndarray | jax.Array], true_T: np.ndarray) -> Lens:
    """The predictions of every layer; `logits(a)` gives [T, V] of one of them, `true_T` the token or -1 (not known).

    Raises `FloatingPointError` for a probability that is not a number.
    """
    found = [_one(jnp.asarray(logits(a), jnp.float32), true_T) for a in range(len(layers))]
    ids, shares, true, ranks, nats = (np.stack(column) for column in zip(*found, strict=True))
    return Lens(layers, ids, shares, true, ranks, nats[-1])


def _one(logits_TV: jax.Array, true_T: np.ndarray) -> tuple[np.ndarray, ...]:
    normalised_TV = jax.nn.log_softmax(logits_TV)
    best_p_TK, best_TK = map(np.asarray, jax.lax.top_k(normalised_TV, min(TOP, logits_TV.shape[1])))
    log_p_TV = np.asarray(normalised_TV)
    known_T, at_T1 = true_T >= 0, np.maximum(true_T, 0)[:, None]
    true_T1 = np.take_along_axis(log_p_TV, at_T1, 1)
    refuse_non_finite("log-probability of place", true_T1[known_T])
    refuse_non_finite("largest log-probability of place", np.asarray(best_p_TK)[:, :1])
    ranks_T = np.where(known_T, np.sum(log_p_TV >= true_T1, axis=1), 0)
    nats_T = np.where(known_T, -true_T1[:, 0], np.nan)
    return best_TK, np.exp(best_p_TK), np.exp(-nats_T), ranks_T, nats_T
