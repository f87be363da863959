"""Attention in the words of its description, in float64, and the kernels that are held against it."""

import jax
import jax.numpy as jnp
import numpy as np

from gptjax.attention import attend
from gptjax.types import Place

HERE = jax.default_backend()
PLACES = {
    "dense": Place(HERE),
    "blockwise": Place(HERE),
    "pallas": Place("gpu", interpret=HERE != "gpu"),
    "splash": Place("tpu", interpret=HERE != "tpu"),
}
KERNELS = list(PLACES)


def operands(B, T, S, N, K, H, dtype=jnp.float32):
    """q, k, v and a gradient of the output."""
    keys = jax.random.split(jax.random.key(T * S * K + H), 4)
    shapes = [(B, T, N, H), (B, S, K, H), (B, S, K, H), (B, T, N, H)]
    return [jax.random.normal(key, shape).astype(dtype) for key, shape in zip(keys, shapes, strict=True)]


def sees(visible, b, T, S):
    """[T, S]: whether query t of row b sees key s."""
    t, s = np.arange(T)[:, None], np.arange(S)[None]
    at = t if visible.offsets_B is None else t + visible.offsets_B[b]
    seen = np.ones((T, S), bool)
    if visible.causal:
        seen &= s <= at
    if visible.window is not None:
        seen &= s > at - visible.window
    if visible.segments_BT is not None:
        key_segments = visible.segments_BT if visible.key_segments_BS is None else visible.key_segments_BS
        seen &= visible.segments_BT[b][:, None] == key_segments[b][None]
    return seen


def reference(q, k, v, dout, visible, kept=None):
    """Output and gradients in float64, by loops over rows and heads; kept_BNTS multiplies the weights."""
    q, k, v, dout = (np.asarray(x, np.float64) for x in (q, k, v, dout))
    (B, T, N, H), (S, K) = q.shape, k.shape[1:3]
    out, dq, dk, dv = (np.zeros_like(x) for x in (q, q, k, v))
    for b in range(B):
        mask = sees(visible, b, T, S)
        for n in range(N):
            of = n // (N // K)
            scores = np.where(mask, q[b, :, n] @ k[b, :, of].T / np.sqrt(H), -np.inf)
            top = np.where(mask.any(1), scores.max(1), 0)
            weights = np.exp(scores - top[:, None])
            weights /= np.maximum(weights.sum(1, keepdims=True), 1e-300)
            keep = 1 if kept is None else kept[b, n]
            out[b, :, n] = (weights * keep) @ v[b, :, of]
            dweights = dout[b, :, n] @ v[b, :, of].T * keep
            dscores = weights * (dweights - (weights * dweights).sum(1, keepdims=True)) / np.sqrt(H)
            dq[b, :, n] = dscores @ k[b, :, of]
            dk[b, :, of] += dscores.T @ q[b, :, n]
            dv[b, :, of] += (weights * keep).T @ dout[b, :, n]
    return out, dq, dk, dv


def value_and_gradients(impl, q, k, v, dout, visible, dropout=0.0, key=None):
    """(out, dq, dk, dv) of a kernel; little optimisation, for these programs run for less time than they compile."""
    return compiled_here(impl, q, k, v, dout, visible, dropout, key)(q, k, v, dout, visible, key)


def compiled_here(impl, q, k, v, dout, visible, dropout=0.0, key=None):
    @jax.jit
    def run(q, k, v, dout, visible, key):
        out, pull = jax.vjp(lambda q, k, v: attend(q, k, v, visible, impl, dropout, key, PLACES[impl]), q, k, v)
        return out, *pull(dout)

    with jax.default_matmul_precision("float32"):
        lowered = run.lower(q, k, v, dout, visible, key)
    return lowered.compile(compiler_options={"xla_backend_optimization_level": 0} if HERE == "cpu" else None)
