"""A language model whose every probability is known: each token has one, whatever stands before it."""

import math

import jax.numpy as jnp
import numpy as np

from gptjax.data.tokenizer import Tokenizer
from gptjax.data.tokenizers import Bytes
from gptjax.evals.sweep import nothing
from gptjax.evals.task import Judged, Subject
from gptjax.types import Model

CONTEXT = 64


def _features(params, inputs_BT, segments_BT=None, positions_BT=None, key=None):
    return jnp.zeros((*inputs_BT.shape, 1))


def unigram(vocab_size: int) -> Model:
    """Logits are the parameters, everywhere."""

    def head(params, features, dtype=jnp.float32):
        return (features + params["logits"]).astype(dtype)

    return Model(
        init=lambda key: {"logits": jnp.zeros(vocab_size)},
        apply=lambda params, *args, **kwargs: head(params, _features(params, *args, **kwargs)),
        features=_features,
        head=head,
        cache=lambda rows, length, dtype: jnp.zeros((rows, 1), dtype),
        extend=lambda params, inputs_BT, cache, counts_B=None: (_features(params, inputs_BT), cache),
        context=CONTEXT,
        vocab_size=vocab_size,
    )


def successor(vocab_size: int) -> Model:
    """The likeliest next id is the one after the last: abc is followed by def."""

    def features(params, inputs_BT, segments_BT=None, positions_BT=None, key=None):
        return inputs_BT[..., None].astype(jnp.float32)

    return unigram(vocab_size)._replace(
        features=features,
        head=lambda params, features, dtype=jnp.float32: -((jnp.arange(vocab_size) - features - 1.0) ** 2),
        extend=lambda params, inputs_BT, cache, counts_B=None: (features(params, inputs_BT), cache),
    )


BYTES = Bytes(eos=True).build(lambda: iter(()))
SUBJECT = Subject(unigram(BYTES.vocab_size), BYTES, rows=4)


def liking(letters: str, tokenizer: Tokenizer = BYTES) -> dict[str, np.ndarray]:
    """Parameters under which these letters are likely: logits fall by 1 from letter to letter."""
    logits = np.zeros(tokenizer.vocab_size, np.float32)
    for rank, letter in enumerate(letters):
        logits[tokenizer.encode(letter)[0]] = 10.0 - rank
    return {"logits": logits}


def nats(params: dict[str, np.ndarray], text: str) -> float:
    """-log p of a text's bytes, by hand."""
    logits = params["logits"].astype(np.float64)
    return sum(math.log(np.sum(np.exp(logits))) - logits[byte] for byte in text.encode())


def judged(config, params) -> Judged:
    """What a task finds of such a model."""
    return config.build(SUBJECT)(params, nothing)


def values(config, params) -> dict[str, float]:
    """The measures alone."""
    return {name: one.value for name, one in judged(config, params).measures.items()}
