"""Claims about the attention kernels, held against loops over rows and heads in float64."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from attention.reference import operands, reference, sees, value_and_gradients

from gptjax.attention import Visible, attend, blockwise
from gptjax.attention.dropout import drop
from gptjax.attention.meetings import Grid, by_index
from gptjax.config import Mesh
from gptjax.train import sharding
from gptjax.types import Place

pytestmark = pytest.mark.usefixtures("optimised")

B, N, H = 2, 4, 8
KERNELS = ["dense", "blockwise"]
SEGMENTS = np.stack([np.repeat([1, 2, 3, 0], [5, 14, 15, 3]), np.repeat([1, 2], [30, 7])]).astype(np.int32)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Several blocks, of a size that does not divide the lengths."""
    monkeypatch.setattr(blockwise, "BLOCK", 16)


@pytest.mark.parametrize("impl", KERNELS)
def test_queries_that_stand_at_offsets_equal_the_reference(impl):
    given, visible = operands(B, 5, 37, N, 2, H), Visible(window=9, offsets_B=np.array([0, 31], np.int32))
    for x, y in zip(value_and_gradients(impl, *given, visible), reference(*given, visible), strict=True):
        np.testing.assert_allclose(x, y, rtol=2e-5, atol=5e-6)


def weights_kept(impl, rate, key):
    """What dropout multiplies each causal weight by, read off by attending to unit vectors with equal scores."""
    S = 37
    q, k = jnp.zeros((B, S, N, S)), jnp.zeros((B, S, N, S))
    v = jnp.broadcast_to(jnp.eye(S)[None, :, None], (B, S, N, S))
    dropped = jax.jit(lambda q, k, v: attend(q, k, v, Visible(), impl, rate, key))(q, k, v)
    return np.asarray(dropped).transpose(0, 2, 1, 3) * np.arange(1, S + 1)[:, None]


@pytest.mark.parametrize("impl", KERNELS)
def test_dropout_drops_the_same_weights_forward_and_backward(impl):
    q, k, v, dout = operands(B, 37, 37, N, 4, H)
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
            visible, grid = Visible(window=window), Grid(T, S, 16, 12)
            t, s = np.nonzero(sees(visible, 0, T, S))
            assert set(zip((t // 16).tolist(), (s // 12).tolist(), strict=True)) == set(
                map(tuple, np.argwhere(by_index(grid, visible)).tolist())
            )


def test_documents_that_do_not_meet_are_passed_over_in_their_time():
    """Poison: a pair of blocks that were visited would make everything NaN, masked or not."""
    q, k, v, _ = operands(1, 64, 64, 1, 1, H)
    visible = Visible(segments_BT=np.repeat([[1, 2]], 32, axis=1).astype(np.int32))
    v = v.at[:, :32].set(np.nan)
    out = attend(q, k, v, visible, "blockwise")
    assert np.isnan(out[:, :32]).all()
    assert np.isfinite(out[:, 32:]).all()


def scratch_bytes(impl, T):
    def loss(q):
        return jnp.sum(attend(q, q, q, Visible(), impl) ** 2)

    q = jax.ShapeDtypeStruct((1, T, 1, 8), jnp.float32)
    return jax.jit(jax.grad(loss)).lower(q).compile().memory_analysis().temp_size_in_bytes


in_turn = partial(attend, impl="blockwise", place=Place("cpu"))


def both_ways(kernel, q, k, v, dout, visible):
    out, pull = jax.vjp(partial(kernel, visible=visible), q, k, v)
    return out, *pull(dout)


ROW_BYTES = 4 * 50 * 2 * H
"""Of the queries of a row of 50 tokens and two heads."""
IN_TURN = {
    "causal": Visible(),
    "documents": Visible(segments_BT=np.sort(np.random.default_rng(0).integers(1, 5, (6, 50))).astype(np.int32)),
    "behind a cache": Visible(offsets_B=np.arange(6, dtype=np.int32) * 3),
}


@pytest.mark.parametrize("case", IN_TURN)
@pytest.mark.parametrize("cached_rows", [4, 1, 0])
def test_rows_in_turn_equal_the_reference_in_value_and_gradient(case, cached_rows, monkeypatch):
    """Six rows: three at a time where four have room, one where two thirds of one have."""
    monkeypatch.setattr(blockwise, "CACHED_BYTES", cached_rows * ROW_BYTES)
    visible = IN_TURN[case]
    q, k, v, dout = operands(6, 50, 70 if visible.offsets_B is not None else 50, 2, 1, H)
    found = jax.jit(partial(both_ways, in_turn))(q, k, v, dout, visible)
    for x, y in zip(found, reference(q, k, v, dout, visible), strict=True):
        np.testing.assert_allclose(x, y, rtol=2e-4, atol=2e-5)


def test_a_row_in_turn_passes_over_what_its_own_documents_do_not_meet(monkeypatch):
    """Poison, which rows that are visited together share: the second needs the blocks that the first does not."""
    q, k, v, _ = operands(2, 64, 64, 1, 1, H)
    visible = Visible(segments_BT=np.stack([np.repeat([1, 2], 32), np.repeat([1], 64)]).astype(np.int32))
    v = v.at[0, :32].set(np.nan)
    assert np.isnan(in_turn(q, k, v, visible)[0, 32:]).all()
    monkeypatch.setattr(blockwise, "CACHED_BYTES", 4 * 64 * H)
    assert np.isfinite(in_turn(q, k, v, visible)[0, 32:]).all()


def test_rows_in_turn_share_their_scratch(monkeypatch):
    monkeypatch.setattr(blockwise, "CACHED_BYTES", 2 * 4 * 512 * 4 * 64)
    x = jax.ShapeDtypeStruct((32, 512, 4, 64), jnp.float32)
    kernels = partial(blockwise.attend, dropout=0.0, key=None), in_turn
    lowered = (jax.jit(partial(both_ways, kernel)).lower(x, x, x, x, Visible()) for kernel in kernels)
    at_once, by_two = (each.compile().memory_analysis().temp_size_in_bytes for each in lowered)
    assert at_once > 6 * by_two


def test_dropout_draws_its_bits_for_all_rows_whatever_the_cache_holds(monkeypatch):
    q, k, v, _ = operands(4, 50, 50, 2, 2, H)
    place = sharding.place(sharding.make_mesh(Mesh(data=1), jax.devices()[:1]))
    visible = Visible(segments_BT=np.repeat([[1, 2]], 25, axis=1).repeat(4, 0).astype(np.int32))
    expected = blockwise.attend(q, k, v, visible, 0.5, jax.random.key(0))
    monkeypatch.setattr(blockwise, "CACHED_BYTES", 0)
    for where in (Place("cpu"), place):
        found = in_turn(q, k, v, visible, dropout=0.5, key=jax.random.key(0), place=where)
        assert np.array_equal(found, expected)


def test_documents_are_cut_finer_where_rows_come_in_turn():
    """Poison: a whole block holds the end of the first document and queries of the second, a half one does not."""
    q, k, v, _ = operands(1, 64, 64, 1, 1, H)
    visible = Visible(segments_BT=np.repeat([[1, 2]], (24, 40), axis=1).astype(np.int32))
    v = v.at[:, :24].set(np.nan)
    assert np.isfinite(in_turn(q, k, v, visible)[0, 24:]).all()
    assert np.isnan(blockwise.attend(q, k, v, visible, 0.0, None)[0, 24:32]).all()


def test_a_mask_for_all_rows_need_not_be_repeated(monkeypatch):
    monkeypatch.setattr(blockwise, "CACHED_BYTES", 0)
    q, k, v, _ = operands(3, 50, 50, 2, 2, H)
    one = np.repeat([[1, 2]], 25, axis=1).astype(np.int32)
    found = in_turn(q, k, v, Visible(segments_BT=one))
    np.testing.assert_allclose(found, in_turn(q, k, v, Visible(segments_BT=one.repeat(3, 0))), rtol=1e-5, atol=1e-6)


def test_rows_of_up_to_so_many_blocks_are_cut_finer(monkeypatch):
    monkeypatch.setattr(blockwise, "BLOCK", 128)
    expected = {40: [40, 40], 256: [64, 64], 257: [86, 52], 1024: [128, 64], 1025: [114, 114]}
    for length, sizes in expected.items():
        assert [blockwise._block(length, fine) for fine in (2, 8)] == sizes


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
