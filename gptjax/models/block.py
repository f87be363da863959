"""One transformer layer: attention and MLP, each on a residual branch."""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from gptjax.attention import Visible
from gptjax.attention.dropout import drop
from gptjax.models.layers import CausalConv, Linear, RMSNorm, rotate, subkey
from gptjax.types import Params

Recall = Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array]]
"""From the new tokens' keys and values to all that are attended to: the identity, or a write into a cache."""
JOINED = "qkv"
"""The name of the matrix and bias that `Attention` finds in place of those of queries, keys and values."""


class Memory(NamedTuple):
    """What a layer saw of its tokens, and the keys and values that it attended to."""

    keys_BSKH: jax.Array
    values_BSKH: jax.Array
    attn_inputs_BTD: jax.Array
    """What the attention branch read."""
    mlp_inputs_BTD: jax.Array
    """What the MLP branch read, likewise."""


class Attention(nn.Module):
    """Multi-head attention with optional grouped heads, rotary positions and normalised queries and keys."""

    heads: int
    kv_heads: int
    bias: bool
    qk_norm: bool
    norm_eps: float
    init_std: float
    residual_std: float
    dropout: float
    attend: Callable[..., jax.Array]
    """`gptjax.attention.attend`, with the kernel and the place chosen."""

    @nn.compact
    def __call__(
        self, x_BTD: jax.Array, visible: Visible, angles: Any, recall: Recall | None, key: jax.Array | None
    ) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        """The branch's output and the keys and values that it attended to, each [B, S, K, H]."""
        B, T, D = x_BTD.shape
        H = D // self.heads
        N, K = self.heads, self.kv_heads

        def projected(name: str, heads: int) -> jax.Array:
            return Linear(heads * H, self.bias, self.init_std, name=name)(x_BTD).reshape(B, T, heads, H)

        if self.has_variable("params", JOINED):
            q, k, v = jnp.split(projected(JOINED, N + 2 * K), [N, N + K], axis=2)
        else:
            q, k, v = projected("q", N), projected("k", K), projected("v", K)
        if self.qk_norm:
            q, k = RMSNorm(self.norm_eps, name="q_norm")(q), RMSNorm(self.norm_eps, name="k_norm")(k)
        if angles is not None:
            q, k = rotate(q, angles), rotate(k, angles)
        memory = (k, v) if recall is None else recall(k, v)
        out = self.attend(q, *memory, visible, dropout=self.dropout, key=key)
        return Linear(D, self.bias, self.residual_std, name="o")(out.reshape(B, T, D)), memory


def joined(params: Params) -> Params:
    """Parameters of `Attention` with the three matrices that read its input side by side, as one."""
    rest = dict(params)
    three = [rest.pop(name) for name in ("q", "k", "v")]
    return rest | {JOINED: jax.tree.map(lambda *parts: jnp.concatenate(parts, axis=-1), *three)}


class Block(nn.Module):
    """x + branch(norm(x)) for attention, then for the MLP; or norm(x + branch(x)), as GPT-1 has it."""

    attn: Attention
    mlp: nn.Module
    attn_conv: CausalConv | None
    mlp_conv: CausalConv | None
    attn_norm: nn.Module
    mlp_norm: nn.Module
    norm_first: bool
    dropout: float

    def __call__(
        self,
        x_BTD: jax.Array,
        positions_BT: jax.Array,
        visible: Visible,
        angles: Any,
        recall: Recall | None,
        before: tuple[jax.Array, jax.Array],
        key: jax.Array | None,
    ) -> tuple[jax.Array, Memory]:
        """The next layer's input [B, T, D], and what was seen; `before` is what each branch read before this row."""
        h = self.attn_norm(x_BTD) if self.norm_first else x_BTD
        mixed = h if self.attn_conv is None else self.attn_conv(h, positions_BT, before[0])
        out, (keys, values) = self.attn(mixed, visible, angles, recall, subkey(key, 0))
        x_BTD = self._join(x_BTD, out, self.attn_norm, subkey(key, 1))
        g = self.mlp_norm(x_BTD) if self.norm_first else x_BTD
        out = self.mlp(g if self.mlp_conv is None else self.mlp_conv(g, positions_BT, before[1]))
        return self._join(x_BTD, out, self.mlp_norm, subkey(key, 2)), Memory(keys, values, h, g)

    def _join(self, x_BTD: jax.Array, out_BTD: jax.Array, norm: nn.Module, key: jax.Array | None) -> jax.Array:
        x_BTD = x_BTD + drop(out_BTD, self.dropout, key)
        return x_BTD if self.norm_first else norm(x_BTD)
