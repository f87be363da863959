"""Static word vectors: each token of the vocabulary has one vector, whatever stands around it.

Parameters: embed/tokens [V, D], the name that other families give their token embedding. (Mikolov et al., arXiv
1301.3781.)
"""

from dataclasses import dataclass
from functools import partial

import jax

from gptjax.config import ModelConfig
from gptjax.models import readout
from gptjax.models.embed import look_up
from gptjax.types import Key, Model, Params, Place


@dataclass(frozen=True)
class Vectors(ModelConfig):
    """A table of vectors, one a token; as a language model, its logits are dot products with the last token's."""

    width: int = 100
    """Numbers of a vector."""
    context: int = 32
    """Tokens of a training row."""

    def check(self) -> None:
        for name in ("width", "context"):
            self.require(getattr(self, name) > 0, f"{name}={getattr(self, name)} must be positive")

    def build(self, vocab_size: int, padded_vocab_size: int, place: Place | None = None) -> Model:
        """The pure functions; the vectors begin small and random, as word2vec's do."""
        readout.require_vocabulary(self, vocab_size, padded_vocab_size)
        head = partial(readout.head, True, vocab_size)
        return Model(
            init=partial(_init, padded_vocab_size, self.width),
            apply=lambda params, *args, **kwargs: head(params, _features(params, *args, **kwargs)),
            features=_features,
            head=head,
            cache=lambda rows, length, dtype: (),
            extend=lambda params, inputs_BT, cache, counts_B=None: (_features(params, inputs_BT), cache),
            context=self.context,
            vocab_size=vocab_size,
        )

    def parameter_count(self, vocab_size: int) -> int:
        """One vector a token; the objective's own table of contexts is beside the model."""
        return vocab_size * self.width

    def flops_per_token(self, vocab_size: int, tokens: int) -> tuple[float, float]:
        """Scores of a token with those of its row, 6 T D; an objective that draws others does more."""
        flops = 6.0 * tokens * self.width
        return flops, flops


def _init(rows: int, width: int, key: Key) -> Params:
    tokens_VD = jax.random.uniform(key, (rows, width), minval=-0.5, maxval=0.5) / width
    return {"embed": {"tokens": tokens_VD}}


def _features(
    params: Params,
    inputs_BT: jax.Array,
    segments_BT: jax.Array | None = None,
    positions_BT: jax.Array | None = None,
    key: jax.Array | None = None,
) -> jax.Array:
    """The tokens' vectors [B, T, D]; neither document nor place changes them, and there is no dropout."""
    return look_up(params["embed"]["tokens"], inputs_BT)
