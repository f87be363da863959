"""Negative log-likelihood of tokens in nats, as sums and counts.

A mean of means is not the mean: whoever adds up micro-batches, devices or evaluation batches adds sums and counts, and
divides once.
"""

import jax
import jax.numpy as jnp

from gptjax.types import Array


def token_nats(logits_BTV: Array, targets_BT: Array) -> jax.Array:
    """-log p(target) of every token: nats_BT, float32.

    Any leading axes will do. Logits of vocabulary padding are -inf and get neither probability nor gradient. A target
    that is not in [0, V) is not detected here (JAX clamps it): ids are checked on the host, where they are read.
    """
    logits_BTV = jnp.asarray(logits_BTV, jnp.float32)
    return jax.nn.logsumexp(logits_BTV, axis=-1) - _at(logits_BTV, targets_BT)


def weighted_nats(
    logits_BTV: Array, targets_BT: Array, weights_BT: Array, z_loss: float = 0.0, label_smoothing: float = 0.0
) -> tuple[jax.Array, jax.Array]:
    """Loss over the tokens whose weight is not 0: (sum of weight * loss, sum of weights), float32 scalars.

    With Z = sum of exp(logits) the loss of a token is -sum_v q(v) log p(v) + z_loss * log(Z)^2, where q puts
    1 - label_smoothing on the target and spreads the rest evenly over the vocabulary (padding, at -inf, left out).
    (z-loss: Chowdhery et al. 2022, "PaLM", section 5; smoothing: Szegedy et al. 2016, "Rethinking the Inception
    architecture".) A target without weight adds neither loss nor gradient, even where its own nats are infinite.
    """
    logits_BTV, weights_BT = jnp.asarray(logits_BTV, jnp.float32), jnp.asarray(weights_BT, jnp.float32)
    log_z_BT = jax.nn.logsumexp(logits_BTV, axis=-1)
    loss_BT = log_z_BT - _at(logits_BTV, targets_BT)
    if label_smoothing:
        real_BTV = logits_BTV > -jnp.inf
        mean_BT = jnp.mean(jnp.where(real_BTV, logits_BTV, 0.0), axis=-1, where=real_BTV)
        loss_BT = (1 - label_smoothing) * loss_BT + label_smoothing * (log_z_BT - mean_BT)
    if z_loss:
        loss_BT = loss_BT + z_loss * jnp.square(log_z_BT)
    # Selected before it is multiplied, because 0 * inf is not 0.
    return jnp.sum(weights_BT * jnp.where(weights_BT != 0, loss_BT, 0.0)), jnp.sum(weights_BT)


def _at(logits_BTV: jax.Array, targets_BT: Array) -> jax.Array:
    return jnp.take_along_axis(logits_BTV, jnp.asarray(targets_BT)[..., None], axis=-1)[..., 0]
