"""Claims about which blocks meet: none that a token may see is left out, and of packed rows no other is let in."""

import numpy as np
import pytest
from attention.reference import sees
from hypothesis import given, settings
from hypothesis import strategies as st

from gptjax.attention import Visible
from gptjax.attention.meetings import Grid, ranges

T = 40


def seen_blocks(grid, visible):
    """[B, I, J]: whether any query of a block sees any key of another."""
    found = np.zeros((2, grid.query_blocks, grid.key_blocks), bool)
    for b in range(2):
        t, s = np.nonzero(sees(visible, b, grid.queries, grid.keys))
        found[b, t // grid.query_block, s // grid.key_block] = True
    return found


def inside(first, last, count):
    return (np.arange(count) >= np.asarray(first)[..., None]) & (np.arange(count) < np.asarray(last)[..., None])


@settings(deadline=None, max_examples=30)
@given(
    segments=st.lists(st.integers(-2, 3), min_size=2 * T, max_size=2 * T),
    window=st.sampled_from([None, 1, 7]),
    causal=st.booleans(),
    blocks=st.sampled_from([(8, 8), (16, 5), (7, 12)]),
)
def test_no_block_that_a_token_may_see_is_left_out_whatever_the_segments(segments, window, causal, blocks):
    segments_BT = np.reshape(segments, (2, T)).astype(np.int32)
    visible = Visible(causal or window is not None, window, segments_BT)
    grid = Grid(T, T, *blocks)
    seen = seen_blocks(grid, visible)
    assert not (seen & ~inside(*ranges(grid, visible), grid.key_blocks)).any()
    assert not (seen.swapaxes(1, 2) & ~inside(*ranges(grid, visible, of_keys=True), grid.query_blocks)).any()


@pytest.mark.parametrize("causal", [True, False])
def test_of_packed_rows_only_blocks_that_a_token_sees_are_visited(causal):
    rng = np.random.default_rng(0)
    for _ in range(20):
        segments_BT = np.sort(rng.integers(1, 6, (2, T)), axis=1).astype(np.int32)
        segments_BT[:, T - rng.integers(1, 9) :] = 0
        visible, grid = Visible(causal, None, segments_BT), Grid(T, T, 8, 8)
        seen = seen_blocks(grid, visible)
        assert np.array_equal(inside(*ranges(grid, visible), grid.key_blocks), seen)
        assert np.array_equal(inside(*ranges(grid, visible, of_keys=True), grid.query_blocks), seen.swapaxes(1, 2))
