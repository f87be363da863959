"""Negative log-likelihood of tokens in nats, as sums and counts.

A mean of means is not the mean: whoever adds up micro-batches, devices or evaluation batches adds sums and counts, and
divides once.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from gptjax.types import Array


class Regular(NamedTuple):
    """What is added to the plain negative log-likelihood of a token.

    With Z = sum of exp(logits) the loss is -sum_v q(v) log p(v) + z_loss * log(Z)^2, where q puts 1 - label_smoothing
    on the target and spreads the rest evenly over the vocabulary (padding, at -inf, left out). (z-loss: Chowdhery et
    al. 2022, "PaLM", section 5; smoothing: Szegedy et al. 2016, "Rethinking the Inception architecture".)
    """

    z_loss: float = 0.0
    label_smoothing: float = 0.0


PLAIN = Regular()


def token_nats(logits_BTV: Array, targets_BT: Array) -> jax.Array:
    """-log p(target) of every token: nats_BT, float32.

    Any leading axes will do. Logits of vocabulary padding are -inf and get neither probability nor gradient. A target
    that is not in [0, V) is not refused here (from V on it gives nan): ids are checked where they are read.
    """
    return losses(logits_BTV, targets_BT)[0]


def losses(logits_BTV: Array, targets_BT: Array, regular: Regular = PLAIN) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Of every token, in float32: (nats_BT, loss_BT with what is added to it, log_z_BT)."""
    as_they_are, logits_BTV = jnp.asarray(logits_BTV), jnp.asarray(logits_BTV, jnp.float32)
    log_z_BT = jax.nn.logsumexp(logits_BTV, axis=-1)
    nats_BT = loss_BT = log_z_BT - _target(as_they_are, logits_BTV, jnp.asarray(targets_BT))
    if regular.label_smoothing:
        real_BTV = logits_BTV > -jnp.inf
        mean_BT = jnp.mean(jnp.where(real_BTV, logits_BTV, 0.0), axis=-1, where=real_BTV)
        loss_BT = (1 - regular.label_smoothing) * nats_BT + regular.label_smoothing * (log_z_BT - mean_BT)
    if regular.z_loss:
        loss_BT = loss_BT + regular.z_loss * jnp.square(log_z_BT)
    return nats_BT, loss_BT, log_z_BT


@jax.custom_jvp
def _target(as_they_are_BTV: jax.Array, logits_BTV: jax.Array, targets_BT: jax.Array) -> jax.Array:
    """The target's logit, float32, from the logits as they are; its derivative is by those in float32.

    A TPU would write all of the float32 to memory to look up in it. The derivative meets that of log Z, which it nearly
    cancels where a model is sure.
    """
    if not jnp.issubdtype(as_they_are_BTV.dtype, jnp.floating):
        as_they_are_BTV = logits_BTV
    return _at(as_they_are_BTV, targets_BT).astype(jnp.float32)


@_target.defjvp
def _target_jvp(primals: tuple[jax.Array, ...], tangents: tuple[jax.Array, ...]) -> tuple[jax.Array, jax.Array]:
    return _target(*primals), _at(tangents[1], primals[2])


def _at(values_BTV: jax.Array, targets_BT: jax.Array) -> jax.Array:
    return jnp.take_along_axis(values_BTV, targets_BT[..., None], axis=-1)[..., 0]


def slopes(logits_BTV: jax.Array, targets_BT: jax.Array, log_z_BT: jax.Array, regular: Regular = PLAIN) -> jax.Array:
    """The derivative of every token's loss by its logits, float32, in one pass over them.

    p(v) * (1 + 2 z_loss log Z) - q(v), which is 0 for vocabulary padding.
    """
    logits_BTV, log_z_BT1 = jnp.asarray(logits_BTV, jnp.float32), log_z_BT[..., None]
    p_BTV = jnp.exp(logits_BTV - log_z_BT1)
    if regular.z_loss:
        p_BTV = p_BTV * (1 + 2 * regular.z_loss * log_z_BT1)
    hit_BTV = jnp.arange(logits_BTV.shape[-1]) == jnp.asarray(targets_BT)[..., None]
    slopes_BTV = p_BTV - jnp.where(hit_BTV, 1 - regular.label_smoothing, 0.0)
    if regular.label_smoothing:
        real_BTV = logits_BTV > -jnp.inf
        spread_BT1 = regular.label_smoothing / jnp.sum(real_BTV, axis=-1, keepdims=True)
        slopes_BTV = slopes_BTV - jnp.where(real_BTV, spread_BT1, 0.0)
    return slopes_BTV


def weighted(weights_BT: Array, values_BT: jax.Array) -> jax.Array:
    """Sum of weight * value, a float32 scalar; where the weight is 0 the value may be anything, infinite too."""
    weights_BT = jnp.asarray(weights_BT, jnp.float32)
    # Selected before it is multiplied, because 0 * inf is not 0.
    return jnp.sum(weights_BT * jnp.where(weights_BT != 0, values_BT, 0.0))
