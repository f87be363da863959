"""The GPT family: GPT-1, GPT-2 and today's decoders as one set of pure functions, varied by the fields of a config.

Parameters: embed/{tokens [V, D], positions [T, D]}; blocks/... stacked over layers [L, ...]; final_norm where norms
come first; head/kernel [D, V] where it is not tied to embed/tokens. (Radford et al. 2018, "Improving Language
Understanding by Generative Pre-Training"; Radford et al. 2019, "Language Models are Unsupervised Multitask Learners";
Touvron et al., arXiv 2302.13971.)
"""

from dataclasses import dataclass
from functools import partial
from typing import Literal

import jax
import numpy as np

from gptjax.attention import Call, Implementation, Visible, choose
from gptjax.config import ModelConfig
from gptjax.models import decoder, readout
from gptjax.models.stack import Remat
from gptjax.types import Array, Inside, Model, Params, Place, as_they_are


@dataclass(frozen=True)
class GPT(ModelConfig):
    """A decoder-only transformer."""

    layers: int = 12
    """Transformer layers."""
    width: int = 768
    """Width of the residual stream."""
    heads: int = 12
    """Query heads; each is width / heads wide."""
    kv_heads: int | None = None
    """Key and value heads, each shared by heads / kv_heads query heads; None is as many as heads."""
    mlp_width: int = 3072
    """Hidden width of the MLP."""
    context: int = 1024
    """Longest row, in tokens."""
    dropout: float = 0.0
    """Share dropped of embeddings, attention weights and residual branches during training."""
    positions: Literal["learned", "rotary", "none"] = "learned"
    """How a token knows where it stands: a learned vector, rotated queries and keys, or the causal mask alone."""
    rope_theta: float = 10000.0
    """Base of the rotary wavelengths."""
    norm: Literal["layer", "rms"] = "layer"
    """LayerNorm or RMSNorm."""
    norm_place: Literal["pre", "post"] = "pre"
    """Norms before each branch and once at the end (GPT-2), or after each branch's sum (GPT-1)."""
    norm_eps: float = 1e-5
    """Added to the variance inside a norm."""
    mlp: Literal["gelu_tanh", "gelu", "relu2", "swiglu"] = "gelu_tanh"
    """Nonlinearity of the MLP; swiglu is gated by a third matrix."""
    bias: bool = True
    """Biases in linear layers and LayerNorms."""
    qk_norm: bool = False
    """RMSNorm over each query and key head."""
    embed_norm: bool = False
    """A norm between the embeddings and the first layer."""
    conv_tokens: int = 0
    """Tokens that a causal convolution mixes before each branch, channel by channel; 0: none, 3 suits characters."""
    window: int | None = None
    """A token sees only this many tokens, itself included; None sees the whole row."""
    tied: bool = True
    """The output matrix is the token embedding."""
    logit_softcap: float | None = None
    """Squash logits into (-c, c) by c tanh(logit / c)."""
    init_std: float = 0.02
    """Standard deviation of initial weights."""
    residual_init: Literal["plain", "scaled", "zero"] = "scaled"
    """Initial std of the matrices that write to the residual stream: init_std, init_std / sqrt(2 layers), or 0."""
    attention: Implementation = "auto"
    """Attention kernel for whole rows; auto chooses by machine and shape."""
    remat: Remat = "none"
    """What backward recomputes to save memory: nothing; all but products and attention; an MLP's hidden layer too; or
    whole layers. A CPU then scans."""
    scan: bool = False
    """Compile one layer and loop over it (fast to compile, for deep models) instead of unrolling (fast to run)."""

    def check(self) -> None:
        for name in ("layers", "width", "heads", "mlp_width", "context"):
            self.require(getattr(self, name) > 0, f"{name}={getattr(self, name)} must be positive")
        kv_heads = self.kv_heads
        self.require(self.width % self.heads == 0, f"width={self.width} is not divisible by heads={self.heads}")
        self.require(kv_heads is None or kv_heads > 0, f"kv_heads={kv_heads} must be positive")
        self.require(
            kv_heads is None or self.heads % kv_heads == 0,
            f"heads={self.heads} is not divisible by kv_heads={kv_heads}",
        )
        head_size = self.width // self.heads
        self.require(
            self.positions != "rotary" or head_size % 2 == 0,
            f"positions='rotary' needs an even head size, and width={self.width} / heads={self.heads} is {head_size}",
        )
        self.require(0 <= self.dropout < 1, f"dropout={self.dropout} must be in [0, 1)")
        self.require(self.window is None or self.window > 0, f"window={self.window} must be positive")
        self.require(self.conv_tokens >= 0, f"conv_tokens={self.conv_tokens} must not be negative")
        for name in ("rope_theta", "norm_eps", "init_std"):
            self.require(getattr(self, name) > 0, f"{name}={getattr(self, name)} must be positive")
        self.require(
            self.logit_softcap is None or self.logit_softcap > 0, f"logit_softcap={self.logit_softcap} must be positive"
        )

    def build(self, vocab_size: int, padded_vocab_size: int, place: Place | None = None) -> Model:
        """The pure functions; parameters are float32, stacked over layers."""
        readout.require_vocabulary(self, vocab_size, padded_vocab_size)
        features = partial(decoder.features, self, place=place)
        head = partial(decoder.head, self, vocab_size)
        return Model(
            init=partial(decoder.init, self, padded_vocab_size),
            apply=lambda params, *args, **kwargs: head(params, features(params, *args, **kwargs)),
            features=features,
            head=head,
            cache=partial(decoder.cache, self),
            extend=partial(decoder.extend, self, place=place),
            context=self.context,
            vocab_size=vocab_size,
            # An accelerator reads a layer where it stands in the stack, and has no memory for a second copy.
            prepare=partial(decoder.prepare, self) if place is not None and place.platform == "cpu" else as_they_are,
        )

    def states(
        self, params: Params, inputs_BT: Array, segments_BT: Array | None = None, positions_BT: Array | None = None
    ) -> jax.Array:
        """The residual stream before the first layer and after each, states_LBTD with L + 1 entries; no final norm."""
        return decoder.states(self, params, inputs_BT, segments_BT, positions_BT)

    def inside(self, params: Params, inputs_BT: Array) -> Inside:
        """What the head reads of every layer, behind the final norm where there is one, and the attention weights."""
        return decoder.inside(self, params, inputs_BT)

    def notes(self, tokens: int, packed: bool, dtype: str, place: Place) -> tuple[str, ...]:
        """The attention kernel, and why; raises `ConfigError` where the one asked for by name cannot serve."""
        visible = Visible(window=self.window, segments_BT=np.ones((1, tokens), np.int32) if packed else None)
        heads = self.heads, self.kv_heads or self.heads, self.width // self.heads
        name, reason = choose(self.attention, place, Call(dtype, tokens, tokens, *heads, visible, self.dropout))
        return (f"attention: {name} ({reason})",)

    def parameter_count(self, vocab_size: int) -> int:
        """Number of trained scalars, embeddings included."""
        return readout.parameter_count(partial(decoder.init, self, vocab_size))

    def flops_per_token(self, vocab_size: int, tokens: int) -> tuple[float, float]:
        """6 N + 12 L T D (whole square; with a window, T is at most it), and with only the keys that a query sees.

        N counts the parameters that multiply: neither position embeddings nor, where it is not tied, the embedding.
        """
        N = self.parameter_count(vocab_size)
        N -= self.context * self.width * (self.positions == "learned")
        N -= vocab_size * self.width * (not self.tied)
        span = min(tokens, self.window or tokens)
        seen = span - span**2 / (2 * tokens)
        each = 12.0 * self.layers * self.width
        return 6.0 * N + each * span, 6.0 * N + each * seen
