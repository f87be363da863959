"""The gated recurrent unit. (Cho et al. 2014, arXiv 1406.1078; the reset gate after the product, as cuDNN has it.)

Axis G holds the three gates side by side, reset, update and candidate: G = 3 D.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from gptjax.models.cells import joined, orthogonal
from gptjax.models.layers import Kernel, Linear


def step(kernel_DG: jax.Array, bias_D: jax.Array, hidden_BD: jax.Array, gates_BG: jax.Array) -> jax.Array:
    """The next hidden state: u h + (1 - u) tanh(n_x + r (h U_n + b)), with r = sigmoid(r_x + h U_r), u likewise.

    `gates_BG` is what the input brings to the three gates, biases included; `bias_D` is the candidate's own, which the
    reset gate takes away too.
    """
    reset_x, update_x, new_x = jnp.split(gates_BG, 3, axis=-1)
    reset_h, update_h, new_h = jnp.split(hidden_BD @ kernel_DG, 3, axis=-1)
    reset, update = jax.nn.sigmoid(reset_x + reset_h), jax.nn.sigmoid(update_x + update_h)
    return update * hidden_BD + (1 - update) * jnp.tanh(new_x + reset * (new_h + bias_D))


class GRU(nn.Module):
    """One layer over whole rows, forward or backward; padding leaves the state as it was."""

    width: int
    reverse: bool

    @nn.compact
    def __call__(self, x_BSD: jax.Array, alive_BS: jax.Array) -> tuple[jax.Array, jax.Array]:
        """(states_BSD after each token, the last state read [B, D]), in the dtype of x.

        The input's products are taken for all tokens at once, outside the scan.
        """
        gates_BSG = Linear(3 * self.width, True, x_BSD.shape[-1] ** -0.5, name="x")(x_BSD)
        kernel_DG, bias_D = recurrence(self, self.width, x_BSD.dtype)

        def read(hidden_BD: jax.Array, now: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
            gates_BG, alive_B = now
            new_BD = jnp.where(alive_B[:, None], step(kernel_DG, bias_D, hidden_BD, gates_BG), hidden_BD)
            return new_BD, new_BD

        start_BD = jnp.zeros((len(x_BSD), self.width), x_BSD.dtype)
        over = gates_BSG.swapaxes(0, 1), alive_BS.T
        last_BD, states_SBD = jax.lax.scan(read, start_BD, over, reverse=self.reverse)
        return states_SBD.swapaxes(0, 1), last_BD


def recurrence(module: nn.Module, width: int, dtype: jnp.dtype) -> tuple[jax.Array, jax.Array]:
    """(kernel_DG, bias_D) of a module's recurrent part, made in its scope; three orthogonal matrices at the start."""

    def thrice(key: jax.Array, shape: tuple[int, ...], dtype: jnp.dtype) -> jax.Array:
        return joined(orthogonal(key, (3, width, width), dtype))

    kernel_DG = Kernel((width, 3 * width), thrice, name="h")()
    bias_D = module.param("bias", nn.initializers.zeros, (width,), jnp.float32)
    return kernel_DG.astype(dtype), bias_D.astype(dtype)
