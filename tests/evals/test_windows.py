"""Windows score every token once, and with enough before it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gptjax.config import ConfigError
from gptjax.evals.windows import read_before, windows

shapes = st.tuples(st.lists(st.integers(0, 40), max_size=8), st.integers(1, 12)).flatmap(
    lambda p: st.tuples(st.just(p[0]), st.just(p[1]), st.integers(1, p[1]))
)


@settings(max_examples=200, deadline=None)
@given(shapes)
def test_every_token_but_the_first_of_a_unit_is_scored_once_with_enough_context(shape):
    lengths, context, stride = shape
    starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    layout = windows(starts, context, stride)
    scored = np.zeros(starts[-1], int)
    scored[layout.firsts_U] += 1
    for start, length, count in zip(layout.starts_W, layout.lengths_W, layout.scored_W, strict=True):
        unit = np.searchsorted(starts, start, side="right") - 1
        assert start + length < starts[unit + 1]
        for target in range(start + length + 1 - count, start + length + 1):
            scored[target] += 1
            assert target - start >= min(target - starts[unit], context - stride + 1)
    assert (scored == 1).all()


@settings(max_examples=100, deadline=None)
@given(shapes)
def test_windows_of_a_row_never_overlap_and_rows_are_in_order(shape):
    lengths, context, stride = shape
    layout = windows(np.concatenate([[0], np.cumsum(lengths)]), context, stride)
    used = np.zeros((layout.rows, context), int)
    for length, row, column in zip(layout.lengths_W, layout.rows_W, layout.columns_W, strict=True):
        assert column + length <= context
        used[row, column : column + length] += 1
    assert used.max(initial=0) <= 1
    assert (np.diff(layout.rows_W) >= 0).all()
    assert len(np.unique(layout.rows_W)) == layout.rows


def test_a_running_text_is_read_in_order_one_window_a_row():
    layout = windows(np.array([0, 30]), 8, 8)
    assert not layout.shared
    assert layout.starts_W.tolist() == [0, 8, 16, 24]
    assert layout.lengths_W.tolist() == [8, 8, 8, 5]


def test_short_documents_share_rows():
    layout = windows(np.arange(0, 101, 5), 8, 8)
    assert layout.rows == 10


@pytest.mark.parametrize("stride", [0, 9])
def test_a_stride_that_would_skip_tokens_is_refused(stride):
    with pytest.raises(ConfigError, match=f"stride={stride} is not in 1..context=8"):
        windows(np.array([0, 30]), 8, stride)


def test_every_token_knows_how_many_it_was_predicted_from():
    starts = np.array([0, 3, 3, 4, 30])
    layout = windows(starts, context=8, stride=5)
    found = read_before(layout, 30)
    expected = np.zeros(30, int)
    for start, length, scored in zip(layout.starts_W, layout.lengths_W, layout.scored_W, strict=True):
        for token in range(start + length + 1 - scored, start + length + 1):
            expected[token] = token - start
    assert found.tolist() == expected.tolist()
    assert found[[0, 3, 4]].tolist() == [0, 0, 0]
    assert found[5:13].tolist() == list(range(1, 9))
    assert found[13:].min() == 8 - 5 + 1
