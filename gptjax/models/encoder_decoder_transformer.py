"""The Transformer encoder-decoder. (Vaswani et al. 2017, "Attention is all you need", arXiv 1706.03762.)

Fixed sinusoids mark positions and one embedding serves source, target and output, as published; norms stand before
each branch and once at the end of each stack, which needs no warm-up to train (Xiong et al., arXiv 2002.04745).

Parameters: embed/tokens [V, D]; encoder/0/... and decoder/0/..., layer by layer; source_norm; final_norm.
"""

from dataclasses import dataclass, replace
from functools import partial

from gptjax.attention import Call, Implementation, Visible, choose
from gptjax.config import ModelConfig
from gptjax.models import readout, stacks
from gptjax.models.seq2seq import Translator
from gptjax.types import Place


@dataclass(frozen=True)
class TransformerTranslator(ModelConfig):
    """A Transformer that reads and a Transformer that writes."""

    layers: int = 2
    """Layers of the encoder, and of the decoder."""
    width: int = 128
    """Width of the residual streams."""
    heads: int = 4
    """Attention heads; each is width / heads wide."""
    mlp_width: int = 512
    """Hidden width of the MLPs."""
    context: int = 32
    """Longest source row, and target row, in tokens."""
    dropout: float = 0.0
    """Share dropped of embeddings, attention weights and residual branches during training."""
    attention: Implementation = "auto"
    """Attention kernel; auto chooses by machine and shape."""

    def check(self) -> None:
        for name in ("layers", "width", "heads", "mlp_width", "context"):
            self.require(getattr(self, name) > 0, f"{name}={getattr(self, name)} must be positive")
        self.require(self.width % self.heads == 0, f"width={self.width} is not divisible by heads={self.heads}")
        self.require(self.width % 2 == 0, f"width={self.width} must be even: half of it are sines, half cosines")
        self.require(0 <= self.dropout < 1, f"dropout={self.dropout} must be in [0, 1)")

    def build(self, vocab_size: int, padded_vocab_size: int, place: Place | None = None) -> Translator:  # type: ignore[override]  # not a language model
        """The pure functions; parameters are float32."""
        parts = stacks.parts(self, place)
        token_by_token = stacks.parts(replace(self, attention="auto"), place)  # a kernel for rows need not know caches
        return Translator(
            init=partial(stacks.init, self, padded_vocab_size),
            encode=partial(stacks.encode, self, parts),
            decode=partial(stacks.decode, self, parts),
            head=partial(readout.head, True, vocab_size),
            start=partial(stacks.start, self),
            extend=partial(stacks.extend, self, token_by_token),
            attention=partial(stacks.attention, self, parts),
            context=self.context,
            vocab_size=vocab_size,
        )

    def notes(self, tokens: int, packed: bool, dtype: str, place: Place) -> tuple[str, ...]:
        """The attention kernel of the decoder's own rows, and why."""
        call = Call(dtype, tokens, tokens, self.heads, self.heads, self.width // self.heads, Visible(), self.dropout)
        name, reason = choose(self.attention, place, call)
        return (f"attention: {name} ({reason})",)

    def parameter_count(self, vocab_size: int) -> int:
        """Number of trained scalars, embeddings included."""
        return readout.parameter_count(partial(stacks.init, self, vocab_size))

    def flops_per_token(self, vocab_size: int, tokens: int) -> tuple[float, float]:
        """6 N a target token with a source token beside it, and the scores of three attentions, one of them causal."""
        products, square = 6.0 * self.parameter_count(vocab_size), 12.0 * self.layers * self.width * tokens
        return products + 3 * square, products + 2.5 * square
