"""Claims about the attention kernels, held against loops over rows and heads in float64."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gptjax.attention import Visible, attend, blockwise
from gptjax.attention.dropout import drop

B, N, H = 2, 4, 8
KERNELS = ["dense", "blockwise"]
SEGMENTS = np.stack([np.repeat([1, 2, 3, 0], [5, 14, 15, 3]), np.repeat([1, 2], [30, 7])]).astype(np.int32)
CASES = {
    "causal": (37, 37, 4, Visible()),
    "everything, one key head": (20, 37, 1, Visible(causal=False)),
    "window": (37, 37, 2, Visible(window=6)),
    "segments": (37, 37, 2, Visible(segments_BT=SEGMENTS)),
    "segments and window": (37, 37, 4, Visible(window=4, segments_BT=SEGMENTS)),
    "offsets": (5, 37, 2, Visible(window=9, offsets_B=np.array([0, 31], np.int32))),
    "queries that see nothing": (
        9,
        37,
        2,
        Visible(causal=False, segments_BT=np.full((B, 9), 3, np.int32), key_segments_BS=SEGMENTS),
    ),
}


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Several blocks, of a size that does not divide the lengths."""
    monkeypatch.setattr(blockwise, "BLOCK", 16)


def operands(T, S, K, dtype=jnp.float32):
    keys = jax.random.split(jax.random.key(T * S * K), 4)
    shapes = [(B, T, N, H), (B, S, K, H), (B, S, K, H), (B, T, N, H)]
    return [jax.random.normal(key, shape).astype(dtype) for key, shape in zip(keys, shapes, strict=True)]


def sees(visible, b, t, s):
    """Whether query t of row b sees key s, in the words of the description."""
    at = t + (0 if visible.offsets_B is None else visible.offsets_B[b])
    key_segments = visible.segments_BT if visible.key_segments_BS is None else visible.key_segments_BS
    return (
        (not visible.causal or s <= at)
        and (visible.window is None or s > at - visible.window)
        and (visible.segments_BT is None or visible.segments_BT[b, t] == key_segments[b, s])
    )


def reference(q, k, v, dout, visible, kept=None):
    """Output and gradients in float64; kept_BNTS multiplies the weights."""
    q, k, v, dout = (np.asarray(x, np.float64) for x in (q, k, v, dout))
    (T, S), group = (q.shape[1], k.shape[1]), N // k.shape[2]
    out, dq, dk, dv = (np.zeros_like(x) for x in (q, q, k, v))
    for b in range(B):
        mask = np.array([[sees(visible, b, t, s) for s in range(S)] for t in range(T)])
        for n in range(N):
            scores = np.where(mask, q[b, :, n] @ k[b, :, n // group].T / np.sqrt(H), -np.inf)
            top = np.where(mask.any(1), scores.max(1), 0)
            weights = np.exp(scores - top[:, None])
            weights /= np.maximum(weights.sum(1, keepdims=True), 1e-300)
            keep = 1 if kept is None else kept[b, n]
            out[b, :, n] = (weights * keep) @ v[b, :, n // group]
            dweights = dout[b, :, n] @ v[b, :, n // group].T * keep
            dscores = weights * (dweights - (weights * dweights).sum(1, keepdims=True)) / np.sqrt(H)
            dq[b, :, n] = dscores @ k[b, :, n // group]
            dk[b, :, n // group] += dscores.T @ q[b, :, n]
            dv[b, :, n // group] += (weights * keep).T @ dout[b, :, n]
    return out, dq, dk, dv


def value_and_gradients(impl, q, k, v, dout, visible, dropout=0.0, key=None):
    @jax.jit
    def run(q, k, v, dout, visible, key):
        out, pull = jax.vjp(lambda q, k, v: attend(q, k, v, visible, impl, dropout, key), q, k, v)
        return out, *pull(dout)

    return run(q, k, v, dout, visible, key)


@pytest.mark.parametrize("impl", KERNELS)
@pytest.mark.parametrize("case", CASES)
def test_every_kernel_equals_the_reference_in_value_and_gradient(impl, case):
    *shape, visible = CASES[case]
    q, k, v, dout = operands(*shape)
    found = partial(value_and_gradients, impl)(q, k, v, dout, visible)
    for name, x, y in zip(("out", "dq", "dk", "dv"), found, reference(q, k, v, dout, visible), strict=True):
        np.testing.assert_allclose(x, y, rtol=2e-5, atol=5e-6, err_msg=name)


@pytest.mark.parametrize("impl", KERNELS)
def test_bfloat16_stays_bfloat16_and_near_the_reference(impl):
    q, k, v, dout = operands(37, 37, 2, jnp.bfloat16)
    found = partial(value_and_gradients, impl)(q, k, v, dout, Visible())
    for x, y in zip(found, reference(q, k, v, dout, Visible()), strict=True):
        assert x.dtype == jnp.bfloat16
        np.testing.assert_allclose(np.asarray(x, np.float64), y, rtol=0.05, atol=0.05)


@pytest.mark.parametrize("impl", KERNELS)
def test_nothing_leaks_between_segments_bit_for_bit(impl):
    q, k, v, dout = operands(37, 37, 2)
    inside = SEGMENTS == 2
    other = operands(37, 37, 4)  # other values everywhere but in segment 2
    changed = [
        jnp.where(inside[..., None, None], x, y[:, :, : x.shape[2]]) for x, y in zip((q, k, v), other, strict=False)
    ]
    visible = Visible(segments_BT=SEGMENTS)
    dout = jnp.where(inside[..., None, None], dout, 0)
    before = value_and_gradients(impl, q, k, v, dout, visible)
    after = value_and_gradients(impl, *changed, dout, visible)
    for x, y in zip(before, after, strict=True):
        assert np.array_equal(np.asarray(x)[inside], np.asarray(y)[inside])
    for gradient in before[1:]:
        assert not np.asarray(gradient)[~inside].any()
        assert np.asarray(gradient)[inside].any()


def weights_kept(impl, rate, key):
    """What dropout multiplies each causal weight by, read off by attending to unit vectors with equal scores."""
    S = 37
    q, k = jnp.zeros((B, S, N, S)), jnp.zeros((B, S, N, S))
    v = jnp.broadcast_to(jnp.eye(S)[None, :, None], (B, S, N, S))
    dropped = jax.jit(lambda q, k, v: attend(q, k, v, Visible(), impl, rate, key))(q, k, v)
    return np.asarray(dropped).transpose(0, 2, 1, 3) * np.arange(1, S + 1)[:, None]


@pytest.mark.parametrize("impl", KERNELS)
def test_dropout_drops_the_same_weights_forward_and_backward(impl):
    q, k, v, dout = operands(37, 37, 4)
    visible, rate, key = Visible(), 0.25, jax.random.key(5)
    kept_BNTS = weights_kept(impl, rate, key)
    shares = (kept_BNTS > 0)[:, :, np.tril(np.ones((37, 37), bool))]
    assert abs(shares.mean() - (1 - rate)) < 0.02
    draws = [shares[0, 0], shares[1, 0], shares[0, 1]]  # of rows and heads
    blocks = [kept_BNTS[0, 0, start : start + 11, :13] > 0 for start in (13, 26)]  # of blocks
    for one, other in (draws[:2], draws[1:], blocks):
        assert not np.array_equal(one, other)
    found = value_and_gradients(impl, q, k, v, dout, visible, rate, key)
    for x, y in zip(found, reference(q, k, v, dout, visible, kept_BNTS), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5)


def test_blocks_that_no_query_sees_are_never_visited():
    for window in (None, 1, 5, 16, 17, 40):
        for T, S in ((37, 37), (64, 64), (100, 23), (23, 100)):
            visible = Visible(window=window)
            (_, query_block), (_, key_block) = blockwise._count(T), blockwise._count(S)
            seen = {(t // query_block, s // key_block) for t in range(T) for s in range(S) if sees(visible, 0, t, s)}
            visited = set(zip(*(x.tolist() for x in blockwise._pairs(T, S, visible)), strict=True))
            assert seen <= visited
            assert all((j * key_block <= (i + 1) * query_block - 1) for i, j in visited)
            assert len(visited - seen) <= 2  # blocks of which only the padding would be seen


def scratch_bytes(impl, T):
    def loss(q):
        return jnp.sum(attend(q, q, q, Visible(), impl) ** 2)

    q = jax.ShapeDtypeStruct((1, T, 1, 8), jnp.float32)
    return jax.jit(jax.grad(loss)).lower(q).compile().memory_analysis().temp_size_in_bytes


def test_blockwise_memory_grows_with_the_length_and_dense_with_its_square():
    assert scratch_bytes("blockwise", 4096) < 6 * scratch_bytes("blockwise", 1024)
    assert scratch_bytes("dense", 4096) > 4096**2


def test_a_window_is_causal_and_positive():
    for fields in ({"window": 0}, {"window": 3, "causal": False}):
        with pytest.raises(ValueError, match="window="):
            Visible(**fields)


def test_dropout_keeps_the_mean_and_repeats_with_its_key():
    x, key = jnp.ones((300, 33)), jax.random.key(0)
    for rate in (0.1, 0.5):
        y = drop(x, rate, key)
        assert abs(float((y == 0).mean()) - rate) < 0.01
        assert abs(float(y.mean()) - 1) < 0.02
        assert np.array_equal(y, drop(x, rate, key))
        assert not np.array_equal(y, drop(x, rate, jax.random.key(1)))
    assert drop(x, 0.5, None) is x
    assert drop(x, 0.0, key) is x
    assert drop(x.astype(jnp.bfloat16), 0.5, key).dtype == jnp.bfloat16
