"""BERT: an encoder that reads both sides of every token. (Devlin et al., arXiv 1810.04805.)

Parameters: embed/{tokens [V, D], positions [T, D], types [2, D]}; embed_norm; blocks/... stacked over layers [L, ...];
head/{transform, norm, bias [V]}, the decoder being embed/tokens; pooler; next_sentence. Queries, keys and values are
apart, as in the released weights.
"""

from dataclasses import dataclass
from functools import partial
from typing import NoReturn

import jax
import numpy as np

from gptjax.attention import Call, Implementation, Visible, choose
from gptjax.config import ConfigError, ModelConfig
from gptjax.models import bidirectional, readout
from gptjax.models.stack import Remat
from gptjax.types import Array, Inside, Model, Params, Place


@dataclass(frozen=True)
class Bert(ModelConfig):
    """A post-norm encoder with learned positions; the defaults are BERT-base."""

    layers: int = 12
    """Transformer layers."""
    width: int = 768
    """Width of the residual stream."""
    heads: int = 12
    """Heads; each is width / heads wide."""
    mlp_width: int = 3072
    """Hidden width of the MLP."""
    context: int = 512
    """Longest row, in tokens."""
    dropout: float = 0.1
    """Share dropped of embeddings, attention weights and residual branches during training."""
    norm_eps: float = 1e-12
    """Added to the variance inside a norm."""
    init_std: float = 0.02
    """Standard deviation of initial weights."""
    attention: Implementation = "auto"
    """Attention kernel; auto chooses by machine and shape."""
    remat: Remat = "none"
    """What backward recomputes to save memory: nothing; all but products and attention; an MLP's hidden layer too; or
    whole layers. A CPU then scans."""
    scan: bool = False
    """Compile one layer and loop over it (fast to compile, for deep models) instead of unrolling (fast to run)."""

    def check(self) -> None:
        for name in ("layers", "width", "heads", "mlp_width", "context", "norm_eps", "init_std"):
            self.require(getattr(self, name) > 0, f"{name}={getattr(self, name)} must be positive")
        self.require(self.width % self.heads == 0, f"width={self.width} is not divisible by heads={self.heads}")
        self.require(0 <= self.dropout < 1, f"dropout={self.dropout} must be in [0, 1)")

    def build(self, vocab_size: int, padded_vocab_size: int, place: Place | None = None) -> Model:
        """The pure functions; `features` takes `types_BT` too, `cache` and `extend` raise `ConfigError`."""
        readout.require_vocabulary(self, vocab_size, padded_vocab_size)
        features = partial(bidirectional.features, self, place=place)
        head = partial(bidirectional.head, self, vocab_size)
        return Model(
            init=partial(bidirectional.init, self, padded_vocab_size),
            apply=lambda params, *args, **kwargs: head(params, features(params, *args, **kwargs)),
            features=features,
            head=head,
            cache=_no_cache,
            extend=_no_cache,
            context=self.context,
            vocab_size=vocab_size,
            causal=False,
        )

    def states(
        self, params: Params, inputs_BT: Array, segments_BT: Array | None = None, positions_BT: Array | None = None
    ) -> jax.Array:
        """What the first layer reads and what each layer gives, states_LBTD with L + 1 entries."""
        return bidirectional.states(self, params, inputs_BT, segments_BT, positions_BT)

    def inside(self, params: Params, inputs_BT: Array) -> Inside:
        """What the head reads of every layer, and the attention weights."""
        return bidirectional.inside(self, params, inputs_BT)

    def notes(self, tokens: int, packed: bool, dtype: str, place: Place) -> tuple[str, ...]:
        """The attention kernel, and why; rows always have segments, which keep padding apart."""
        visible = Visible(causal=False, segments_BT=np.ones((1, tokens), np.int32))
        heads = self.heads, self.heads, self.width // self.heads
        name, reason = choose(self.attention, place, Call(dtype, tokens, tokens, *heads, visible, self.dropout))
        return (f"attention: {name} ({reason})",)

    def parameter_count(self, vocab_size: int) -> int:
        """Number of trained scalars, embeddings, pooler and both heads included."""
        return readout.parameter_count(partial(bidirectional.init, self, vocab_size))

    def flops_per_token(self, vocab_size: int, tokens: int) -> tuple[float, float]:
        """6 N + 12 L T D, twice: without a causal mask the whole attention square is needed.

        N counts the layers' matrices alone. The heads read few of the tokens (the masked ones, or the first), so their
        work is left out, and utilisation is understated by it.
        """
        N = self.layers * self.width * (4 * self.width + 2 * self.mlp_width)
        flops = 6.0 * N + 12.0 * self.layers * self.width * tokens
        return flops, flops


def _no_cache(*_: object) -> NoReturn:
    raise ConfigError("a model that reads both sides of a token cannot continue a text; use a GPT")
