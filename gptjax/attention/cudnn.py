"""NVIDIA's fused attention, through JAX's public function; asked for by name, because its default is not fused.

Documents packed in one row are left to our own kernel. JAX's internal module could pass their offsets to cuDNN on
Hopper, but only up to a number of documents a row that is fixed when the program is compiled: a row with more would be
wrong without a word, and the bound that no row can pass, T, makes a batch of B T sequences. In jax 0.10.2 its offsets
are also wrong for grouped heads.
"""

import jax
import jax.numpy as jnp

from gptjax.attention.call import Call
from gptjax.attention.visible import Visible
from gptjax.config import ConfigError

MAX_HEAD_SIZE = 128
"""Served on every GPU since Ampere; 256 on Hopper alone."""


def refusal(call: Call) -> str | None:
    """Why cuDNN cannot serve this attention, or None where it can."""
    if (dtype := jnp.dtype(call.dtype).name) not in ("bfloat16", "float16"):
        return f"it computes in bfloat16 or float16, not {dtype}"
    if call.head_size % 8 or call.head_size > MAX_HEAD_SIZE:
        return f"its head size is a multiple of 8 up to {MAX_HEAD_SIZE}, not {call.head_size}"
    if call.visible.keys_segments is not None:
        return "it has no segments (documents packed in one row)"
    if call.visible.offsets_B is not None:
        return "its queries start at key 0 (no cache)"
    if call.dropout:
        return f"it has no attention dropout, and dropout={call.dropout}"
    return None


def attend(q_BTNH: jax.Array, k_BSKH: jax.Array, v_BSKH: jax.Array, visible: Visible) -> jax.Array:
    """Fused attention in O(T) memory; raises `ConfigError` where cuDNN is not installed."""
    window = None if visible.window is None else (visible.window - 1, 0)
    try:
        return jax.nn.dot_product_attention(
            q_BTNH, k_BSKH, v_BSKH, is_causal=visible.causal, local_window_size=window, implementation="cudnn"
        )
    except RuntimeError as error:
        if "cuDNN" not in str(error):
            raise
        way_out = "pip install 'gptjax[cuda]', or attention='auto'"
        raise ConfigError(f"attention='cudnn' needs cuDNN, which is not installed here; {way_out}") from None
