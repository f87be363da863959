"""Which attention kernel serves a call: the one asked for by name, or the best that this machine has."""

import warnings
from typing import Any, Literal, get_args

import jax

from gptjax.attention import blockwise, cudnn, dense
from gptjax.attention.visible import Visible
from gptjax.config import ConfigError

Implementation = Literal["auto", "dense", "blockwise", "cudnn"]
IMPLEMENTATIONS = get_args(Implementation)
SMALL_SQUARE = 128 * 128
"""Queries times keys up to which all scores at once are the faster form on a CPU: at 256 x 256 blocks take half their
time, at 1024 x 1024 a third."""


def choose(
    impl: Implementation, platform: str, dtype: Any, shape: tuple[int, int, int], visible: Visible, dropout: float
) -> tuple[str, str]:
    """The kernel for `shape` = (T queries, S keys, head size), and the reason in words.

    `auto` takes the fused kernel on a GPU wherever it serves, all scores at once where they are few, and blocks
    otherwise; never T x S memory for long rows. Raises `ConfigError` where a kernel asked for by name cannot serve.
    """
    queries, keys, head_size = shape
    if impl not in IMPLEMENTATIONS:
        raise ConfigError(f"attention={impl!r} is not one of {', '.join(IMPLEMENTATIONS)}")
    refusal = cudnn.refusal(dtype, head_size, visible, dropout)
    if impl == "cudnn" and refusal:
        raise ConfigError(f"attention='cudnn' cannot serve here: {refusal}; attention='auto' chooses one that can")
    if impl != "auto":
        return impl, "asked for by name"
    if platform in ("gpu", "cuda") and refusal is None:
        return "cudnn", "fused on this GPU"
    if queries == 1 or (platform == "cpu" and queries * keys <= SMALL_SQUARE):
        return "dense", f"{queries} x {keys} scores are few"
    return "blockwise", f"no fused kernel on a GPU: {refusal}" if platform in ("gpu", "cuda") else "O(T) memory"


def attend(
    q_BTNH: jax.Array,
    k_BSKH: jax.Array,
    v_BSKH: jax.Array,
    visible: Visible,
    impl: Implementation = "auto",
    dropout: float = 0.0,
    key: jax.Array | None = None,
) -> jax.Array:
    """softmax(q k^T / sqrt(H)) v over the keys that each query sees, out_BTNH in the dtype of v.

    K divides N: query head n reads key head n // (N / K). The softmax is float32. `dropout` drops weights and needs
    `key`; without a key there is none. Where `auto` has no fused kernel on a GPU it says so once, as a warning. It asks
    JAX's default backend for the platform: a computation meant for another machine names its kernel.
    """
    N, K, H = q_BTNH.shape[2], k_BSKH.shape[2], q_BTNH.shape[3]
    if N % K:
        raise ConfigError(f"heads={N} is not divisible by kv_heads={K}")
    dropout = dropout if key is not None else 0.0
    platform = jax.default_backend()
    shape = (q_BTNH.shape[1], k_BSKH.shape[1], H)
    name, reason = choose(impl, platform, q_BTNH.dtype, shape, visible, dropout)
    if impl == "auto" and platform == "gpu" and name == "blockwise":
        warnings.warn(f"attention is blockwise, {reason}", RuntimeWarning, stacklevel=2)
    if name == "cudnn":
        return cudnn.attend(q_BTNH, k_BSKH, v_BSKH, visible)
    kernel = dense.attend if name == "dense" else blockwise.attend
    return kernel(q_BTNH, k_BSKH, v_BSKH, visible, dropout, key)
