"""Static word vectors: each token of the vocabulary has one vector, whatever stands around it.

Parameters: embed/tokens [V, D], the name that other families give their token embedding. (Mikolov et al., arXiv
1301.3781.)
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, NoReturn

import jax

from gptjax.config import ConfigError, ModelConfig
from gptjax.models import readout
from gptjax.models.embed import look_up
from gptjax.types import Key, Model, Params, Place


@dataclass(frozen=True)
class Vectors(ModelConfig):
    """A table of vectors, one a token: what is learnt of words beside each other, or of texts as bags of words."""

    width: int = 100
    """Numbers of a vector."""
    context: int = 32
    """Tokens of a training row."""

    def check(self) -> None:
        for name in ("width", "context"):
            self.require(getattr(self, name) > 0, f"{name}={getattr(self, name)} must be positive")

    def build(self, vocab_size: int, padded_vocab_size: int, place: Place | None = None) -> Model:
        """The pure functions; the vectors begin small and random, as word2vec's do.

        There are no logits of a next token: what would ask for them raises `ConfigError`.
        """
        readout.require_vocabulary(self, vocab_size, padded_vocab_size)
        return Model(
            init=partial(_init, padded_vocab_size, self.width),
            apply=_no_next_token,
            features=_features,
            head=_no_next_token,
            cache=_no_next_token,
            extend=_no_next_token,
            context=self.context,
            vocab_size=vocab_size,
            place=place,
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


def _no_next_token(*args: Any, **kwargs: Any) -> NoReturn:
    raise ConfigError("Vectors say nothing of the next token; a text is continued or scored with a language model")


def _features(
    params: Params,
    inputs_BT: jax.Array,
    segments_BT: jax.Array | None = None,
    positions_BT: jax.Array | None = None,
    key: jax.Array | None = None,
) -> jax.Array:
    """The tokens' vectors [B, T, D]; neither document nor place changes them, and there is no dropout."""
    return look_up(params["embed"]["tokens"], inputs_BT)
