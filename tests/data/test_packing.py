"""Packing: every token is there, none sees another document, and nothing is left out uncounted."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gptjax.data import packing
from gptjax.data.errors import DataError
from gptjax.types import Batch, Rows, RowSource, TokenSplit

lengths = st.lists(st.integers(0, 40), min_size=1, max_size=60)
few = settings(max_examples=60, deadline=None)


def split_of(document_lengths: list[int]) -> TokenSplit:
    """Documents whose tokens are all different, so that a token tells where it was."""
    starts_D = np.cumsum([0, *document_lengths])
    return TokenSplit(np.arange(1, starts_D[-1] + 1, dtype=np.uint16), starts_D, 0)


def whole(source: RowSource, epoch: int = 0) -> Rows:
    return source.take(np.arange(source.rows), epoch)


def predictions(rows: Rows) -> list[tuple[int, int]]:
    """(input, target) of every target that counts."""
    batch = packing.to_batch(rows)
    counts_BT = batch.weights > 0
    return sorted(zip(batch.inputs[counts_BT].tolist(), batch.targets[counts_BT].tolist(), strict=True))


@few
@given(st.integers(9, 200), st.integers(1, 8))
def test_contiguous_rows_predict_every_token_of_the_text_once(tokens, context):
    source = packing.contiguous(split_of([tokens]), context)
    expected = [(t, t + 1) for t in range(1, source.rows * context + 1)]
    assert predictions(whole(source)) == expected
    assert tokens - 1 - len(expected) < context


@few
@given(st.integers(9, 200), st.integers(1, 8), st.integers(1, 50))
def test_contiguous_rows_of_later_epochs_start_elsewhere_and_stay_in_the_text(tokens, context, epoch):
    rows = whole(packing.contiguous(split_of([tokens]), context), epoch)
    assert (np.diff(rows.tokens, axis=1) == 1).all()
    assert rows.tokens.min() >= 1
    assert rows.tokens.max() <= tokens
    assert tokens - 1 - len(set(predictions(rows))) < context


def test_contiguous_offsets_differ_between_epochs():
    source = packing.contiguous(split_of([1000]), 100)
    first = [int(source.take(np.array([0]), epoch).tokens[0, 0]) for epoch in range(20)]
    assert first[0] == 1
    assert len(set(first)) > 10


def test_text_shorter_than_a_row_is_refused_with_both_numbers():
    with pytest.raises(DataError, match=r"8 tokens.*context \+ 1 = 9"):
        packing.contiguous(split_of([8]), 8)


@few
@given(lengths, st.integers(1, 12))
def test_packed_documents_predict_every_token_but_each_documents_first_once(document_lengths, context):
    split = split_of(document_lengths)
    if max(document_lengths) < 2:
        with pytest.raises(DataError, match="two tokens"):
            packing.documents(split, context)
        return
    source, _ = packing.documents(split, context)
    expected = [(t, t + 1) for s, n in zip(split.starts, document_lengths, strict=False) for t in range(s + 1, s + n)]
    assert predictions(whole(source)) == expected


@few
@given(lengths.filter(lambda n: max(n) >= 2), st.integers(1, 12))
def test_packed_segments_hold_one_run_of_one_document_each(document_lengths, context):
    split = split_of(document_lengths)
    rows = whole(packing.documents(split, context)[0])
    for tokens_U, segments_U in zip(rows.tokens, rows.segments, strict=True):
        used = segments_U[segments_U > 0]
        assert (np.diff(used) >= 0).all()
        assert set(used.tolist()) == set(range(1, used.max() + 1))
        assert (segments_U[len(used) :] == 0).all()
        for segment in range(1, used.max() + 1):
            piece = tokens_U[segments_U == segment]
            assert (np.diff(piece) == 1).all()
            assert len(set(np.searchsorted(split.starts, piece - 1, side="right"))) == 1


def test_rows_read_alone_are_the_rows_read_together():
    source, _ = packing.documents(split_of([5, 9, 2, 30, 7, 7, 3, 12]), 10)
    together = whole(source)
    order = np.arange(source.rows)[::-1]
    assert np.array_equal(source.take(order, 3).tokens, together.tokens[::-1])
    for i in range(source.rows):
        alone = source.take(np.array([i]), 0)
        for one, all_rows in zip(jax.tree.leaves(alone), jax.tree.leaves(together), strict=True):
            assert np.array_equal(one[0], all_rows[i])


@few
@given(st.lists(st.integers(1, 30), min_size=1, max_size=80))
def test_grouped_best_fit_equals_best_fit_piece_by_piece(piece_lengths):
    width = 30
    free: list[int] = []
    for length in sorted(piece_lengths, reverse=True):
        fitting = [space for space in free if space >= length]
        if fitting:
            free.remove(min(fitting))
        free.append((min(fitting) if fitting else width) - length)
    bins_P = packing.best_fit(np.array(piece_lengths), width)
    used = np.bincount(bins_P, weights=piece_lengths)
    assert sorted(width - used) == sorted(free)


def test_a_million_documents_are_packed_in_seconds_and_tightly():
    lengths_P = np.clip(np.random.default_rng(0).lognormal(5, 1.2, 1_000_000).astype(int), 2, 1025)
    bins_P = packing.best_fit(lengths_P, 1025)
    assert lengths_P.sum() / ((bins_P.max() + 1) * 1025) > 0.999


def test_notes_count_cut_and_left_out_documents():
    _, notes = packing.documents(split_of([5, 1, 0, 40, 3]), 9)
    assert notes[0] == "5 documents packed in 6 rows, 86.7% full"
    assert any(note.startswith("1 documents of more than context + 1 = 10") for note in notes)
    assert any(note.startswith("2 documents of fewer than two tokens left out") for note in notes)


def example(length: int, prompt: int, first: int) -> tuple[np.ndarray, np.ndarray]:
    return np.arange(first, first + length), (np.arange(length) >= prompt).astype(np.float32)


def test_masked_prompt_adds_no_target_that_counts():
    pairs = [example(6, 3, 10), example(4, 1, 30), example(5, 4, 50)]
    source, notes = packing.examples([t for t, _ in pairs], [w for _, w in pairs], 9, "refuse")
    assert predictions(whole(source)) == [(12, 13), (13, 14), (14, 15), (30, 31), (31, 32), (32, 33), (53, 54)]
    assert notes == ()


def test_skipped_examples_are_counted():
    pairs = [example(7, 3, 10), example(2, 1, 30), example(4, 4, 50)]
    source, notes = packing.examples([t for t, _ in pairs], [w for _, w in pairs], 3, "skip")
    assert predictions(whole(source)) == [(30, 31)]
    assert notes == (
        "1 of 3 examples left out: more than context + 1 = 4 tokens",
        "1 of 3 examples left out: no token to learn from",
    )


def test_truncated_examples_and_tokens_are_counted():
    pairs = [example(7, 3, 10), example(2, 1, 30), example(9, 5, 50)]
    source, notes = packing.examples([t for t, _ in pairs], [w for _, w in pairs], 3, "truncate")
    assert predictions(whole(source)) == [(12, 13), (30, 31)]
    assert notes == (
        "2 examples cut at their end, 8 tokens dropped",
        "1 of 3 examples left out: no token to learn from",
    )


def test_an_example_too_long_is_refused_by_number():
    pairs = [example(4, 1, 0), example(9, 1, 0)]
    with pytest.raises(DataError, match="example 2 has 9 tokens"):
        packing.examples([t for t, _ in pairs], [w for _, w in pairs], 7, "refuse")


def test_no_example_left_is_refused():
    with pytest.raises(DataError, match="no example is left of 1; 1 of 1 examples left out: more than"):
        packing.examples([np.arange(9)], [np.ones(9)], 7, "skip")


def test_positions_restart_with_each_document():
    segments_BU = np.array([[1, 1, 1, 2, 2, 3, 0, 0], [1, 1, 1, 1, 1, 1, 1, 1]], np.int32)
    tokens_BU = np.arange(16, dtype=np.int32).reshape(2, 8)
    batch = packing.to_batch(Rows(tokens_BU, np.ones((2, 8), np.float32), segments_BU))
    assert batch.positions.tolist() == [[0, 1, 2, 0, 1, 0, 0], [0, 1, 2, 3, 4, 5, 6]]
    assert batch.weights.tolist() == [[1, 1, 0, 1, 0, 0, 0], [1] * 7]
    assert (batch.targets[:, :-1] == batch.inputs[:, 1:]).all()


def test_a_row_of_one_document_gives_the_same_batch_beside_any_other():
    rows = Rows(np.arange(8, dtype=np.int32)[None], np.ones((1, 8), np.float32), np.ones((1, 8), np.int32))
    packed = rows._replace(segments=np.array([[1, 1, 2, 2, 2, 2, 0, 0]], np.int32))
    both = packing.to_batch(jax.tree.map(lambda *pair: np.concatenate(pair), rows, packed))
    for part, alone in zip((Batch(*(leaf[:1] for leaf in both)), both), (packing.to_batch(rows), both), strict=True):
        for leaf, expected in zip(part, alone, strict=True):
            assert np.array_equal(leaf, expected)
            assert leaf.dtype == expected.dtype
