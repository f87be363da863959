"""Attention from a target to a source: queries of one row, keys and values of another."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from gptjax.attention import Visible
from gptjax.models.layers import Linear

KeysValues = tuple[jax.Array, jax.Array]
"""Keys and values; remembered ones are [B, N, S, H]: what one query reads of a head is one matrix then, as it lies."""


def of_source(alive_BS: jax.Array, targets: int) -> Visible:
    """Every one of so many target tokens sees every source token that is no padding, whatever their order."""
    ones_BT = jnp.ones((len(alive_BS), targets), jnp.int32)
    return Visible(causal=False, segments_BT=ones_BT, key_segments_BS=alive_BS.astype(jnp.int32))


class CrossAttention(nn.Module):
    """Multi-head attention whose keys and values are made once of the source. (Vaswani et al. 2017, section 3.2.3.)"""

    width: int
    heads: int
    residual_std: float
    dropout: float
    attend: Callable[..., jax.Array]
    """`gptjax.attention.attend`, with the kernel and the place chosen."""

    def setup(self) -> None:
        std = self.width**-0.5
        self.q, self.k, self.v = (Linear(self.width, False, std) for _ in range(3))
        self.o = Linear(self.width, False, self.residual_std)

    def __call__(self, x_BTD: jax.Array, source_BSD: jax.Array, visible: Visible) -> jax.Array:
        """Attention to a source that is read here too: what makes all parameters."""
        return self.look(x_BTD, self.remember(source_BSD), visible, None)

    def remember(self, source_BSD: jax.Array) -> KeysValues:
        """The source's keys and values."""
        return self._heads(self.k(source_BSD)).swapaxes(1, 2), self._heads(self.v(source_BSD)).swapaxes(1, 2)

    def look(self, x_BTD: jax.Array, memory: KeysValues, visible: Visible, key: jax.Array | None) -> jax.Array:
        """What each target token finds, [B, T, D]."""
        keys_BSNH, values_BSNH = (x_BNSH.swapaxes(1, 2) for x_BNSH in memory)
        q_BTNH = self._heads(self.q(x_BTD))
        found = self.attend(q_BTNH, keys_BSNH, values_BSNH, visible, dropout=self.dropout, key=key)
        return self.o(found.reshape(x_BTD.shape))

    def weights(self, x_BTD: jax.Array, memory: KeysValues, visible: Visible) -> jax.Array:
        """Where each target token looks: weights_BTS, float32, the mean over heads. For people to look at."""
        q_BTNH, k_BNSH = self._heads(self.q(x_BTD)), memory[0]
        scores_BNTS = jnp.einsum("BTNH,BNSH->BNTS", q_BTNH, k_BNSH, preferred_element_type=jnp.float32)
        mask_BTS = visible.whole_mask(x_BTD.shape[1], k_BNSH.shape[2])
        scores_BNTS = jnp.where(mask_BTS[:, None], scores_BNTS * k_BNSH.shape[-1] ** -0.5, -1e30)
        return jax.nn.softmax(scores_BNTS, axis=-1).mean(1)

    def _heads(self, x_BTD: jax.Array) -> jax.Array:
        return x_BTD.reshape(*x_BTD.shape[:2], self.heads, self.width // self.heads)
