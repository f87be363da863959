"""NVIDIA's fused attention, through JAX's public function; asked for by name, because its default is not fused."""

from typing import Any

import jax
import jax.numpy as jnp

from gptjax.attention.visible import Visible
from gptjax.config import ConfigError

MAX_HEAD_SIZE = 128
"""Served on every GPU since Ampere; 256 on Hopper alone."""


def refusal(dtype: Any, head_size: int, visible: Visible, dropout: float) -> str | None:
    """Why cuDNN cannot serve this attention, or None where it can."""
    if jnp.dtype(dtype) not in (jnp.dtype(jnp.bfloat16), jnp.dtype(jnp.float16)):
        return f"it computes in bfloat16 or float16, not {jnp.dtype(dtype).name}"
    if head_size % 8 or head_size > MAX_HEAD_SIZE:
        return f"its head size is a multiple of 8 up to {MAX_HEAD_SIZE}, not {head_size}"
    if visible.keys_segments is not None:
        return "it has no segments (documents packed in one row)"
    if visible.offsets_B is not None:
        return "its queries start at key 0 (no cache)"
    if dropout:
        return f"it has no attention dropout, and dropout={dropout}"
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
