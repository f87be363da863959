"""Next-token prediction with a sampled softmax: for vocabularies whose logits cost more than all the rest of a model.

    -log( exp(z_t) / (exp(z_t) + sum of exp(z_w) / (S P(w)) over the sampled w other than t) )

where one sample of S words serves all tokens of a micro-batch, and dividing by how often a word is expected in it makes
the sum an unbiased estimate of the whole softmax's. Words are drawn from Zipf's law by rank, with replacement, so ids
must be ranks by falling frequency, as `Words` and most subword vocabularies have them. (Jean et al. 2015, "On using
very large target vocabulary for neural machine translation", arXiv 1412.2007; Bengio & Senécal 2008.) Evaluation
computes the whole softmax.
"""

import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from gptjax.config import ConfigError
from gptjax.models.products import product
from gptjax.objectives.causal import Causal, over_features
from gptjax.objectives.head import weighted_nats
from gptjax.types import Batch, Key, Model, Objective, Params

HIT = -1e30
"""Logit of a sampled word that is the target itself: no probability, and yet finite."""


@dataclass(frozen=True, kw_only=True)
class SampledCausal(Causal):
    """Predict every token from those before it, against a sample of the vocabulary."""

    samples: int = 2048
    """Words drawn for each micro-batch, against which its targets are told apart."""

    def check(self) -> None:
        super().check()
        self.require(self.samples > 0, f"samples={self.samples} must be positive")
        plain = self.z_loss == 0 and self.label_smoothing == 0
        self.require(
            plain, "z_loss and label_smoothing regularise the whole softmax, which SampledCausal never computes"
        )

    def build(self, model: Model, tokenizer: Any) -> Objective:
        """The objective; its loss is an estimate in training, and exact nats without a key."""
        if model.columns is None:
            raise ConfigError("SampledCausal needs a model whose head is one product; take Causal for this one")
        read = model.columns

        def nats(own: Params, features_BTD: jax.Array, batch: Batch, key: Key | None) -> tuple[jax.Array, jax.Array]:
            if key is None:
                return weighted_nats(model, own, features_BTD, batch.targets, batch.weights, self.tile_tokens)
            targets_M, weights_M = jnp.ravel(batch.targets), jnp.ravel(jnp.asarray(batch.weights, jnp.float32))
            ids_S = zipf(jax.random.fold_in(key, 2**31), self.samples, model.vocab_size)
            kernel_SD, target_MD = jnp.split(read(own, jnp.concatenate([ids_S, targets_M])), [self.samples])
            losses_M = sampled_nats(
                features_BTD.reshape(len(targets_M), -1), kernel_SD, target_MD, ids_S, targets_M, model.vocab_size
            )
            total = jnp.sum(jnp.where(weights_M > 0, weights_M * losses_M, 0.0))
            return total, jax.lax.stop_gradient(total)

        return over_features(model, nats)


def sampled_nats(
    features_MD: jax.Array,
    kernel_SD: jax.Array,
    target_MD: jax.Array,
    ids_S: jax.Array,
    targets_M: jax.Array,
    vocab_size: int,
) -> jax.Array:
    """The sampled loss of M tokens, float32 nats; rows of the head for the S samples and for each token's target."""
    S = len(ids_S)
    logits_MS = product(features_MD, kernel_SD.T.astype(features_MD.dtype), jnp.float32)
    logits_MS = logits_MS - jnp.log(S * zipf_probability(ids_S, vocab_size))
    logits_MS = jnp.where(ids_S == targets_M[:, None], HIT, logits_MS)
    target_M = jnp.sum(features_MD.astype(jnp.float32) * target_MD.astype(jnp.float32), axis=-1)
    return jnp.logaddexp(jax.nn.logsumexp(logits_MS, axis=-1), target_M) - target_M


def zipf(key: Key, samples: int, vocab_size: int) -> jax.Array:
    """int32 ids [S] drawn with replacement, P(id) = log((id + 2) / (id + 1)) / log(V + 1)."""
    uniform_S = jax.random.uniform(key, (samples,))
    ids_S = jnp.exp(uniform_S * math.log(vocab_size + 1)).astype(jnp.int32) - 1
    return jnp.clip(ids_S, 0, vocab_size - 1)


def zipf_probability(ids: jax.Array, vocab_size: int) -> jax.Array:
    """P(id) of `zipf`, float32."""
    return jnp.log1p(1.0 / (ids + 1.0)) / math.log(vocab_size + 1)
