"""Claims about the rows of hidden tokens."""

import numpy as np
import pytest

from gptjax.data.errors import DataError
from gptjax.objectives.masked_text import Layout, Marks, row_source
from gptjax.types import TokenSplit

V = 5000
MARKS = Marks(V, V + 1, V + 2, V + 3)
PAIRS = Layout(context=43, fraction=0.15, pairs=True, marks=MARKS, text_ids=V, never=(7,))
ALONE = PAIRS._replace(pairs=False)


def split(lengths=(4000,)):
    """Every token is its own place in the text, so that a row says where it came from."""
    starts = np.cumsum([0, *lengths])
    return TokenSplit(np.arange(starts[-1], dtype=np.uint16), starts, 1)


def whole(batch):
    """The rows as they were before anything was hidden."""
    tokens_BT = batch.inputs.copy()
    np.put_along_axis(tokens_BT, batch.slots, batch.targets, axis=1)
    return tokens_BT


def same(left, right):
    return all((a == b).all() for a, b in zip(left, right, strict=True))


@pytest.mark.parametrize("layout", [PAIRS, ALONE])
def test_a_row_is_a_function_of_seed_epoch_and_its_number(layout):
    source, _ = row_source(split(), layout, False, 5)
    together, one = source.take(np.array([3, 8, 1]), 2), source.take(np.array([8]), 2)
    assert same((leaf[1:2] for leaf in together), one)
    assert not same(source.take(np.array([8]), 3), one)
    assert not same(row_source(split(), layout, False, 6)[0].take(np.array([8]), 2), one)


def test_of_the_chosen_tokens_eighty_percent_are_hidden_ten_replaced_and_ten_left():
    source, _ = row_source(split((V,)), ALONE, False, 0)
    batches = [source.take(np.arange(source.rows), epoch) for epoch in range(8)]
    shown = np.concatenate([np.take_along_axis(b.inputs, b.slots, 1)[b.weights > 0] for b in batches])
    targets = np.concatenate([b.targets[b.weights > 0] for b in batches])
    assert len(targets) / (len(batches) * source.rows * ALONE.room) == pytest.approx(0.15, abs=0.005)
    assert np.mean(shown == MARKS.mask) == pytest.approx(0.8, abs=0.02)
    assert np.mean(shown == targets) == pytest.approx(0.1, abs=0.015)
    other = shown[(shown != MARKS.mask) & (shown != targets)]
    assert len(other) / len(shown) == pytest.approx(0.1, abs=0.015)
    assert other.max() < V  # never a special token
    assert other.mean() == pytest.approx(V / 2, rel=0.06)


@pytest.mark.parametrize("layout", [PAIRS, ALONE])
def test_every_place_of_the_text_is_hidden_alike_and_nothing_else_ever(layout):
    source, _ = row_source(split(), layout, False, 0)
    counts_T = np.zeros(layout.context)
    for epoch in range(40):
        batch = source.take(np.arange(source.rows), epoch)
        used = batch.weights > 0
        np.add.at(counts_T, batch.slots[used], 1)
        assert (batch.targets[used] < V).all()  # no special token
        assert (batch.targets[used] != 7).all()  # no end of a document
        assert len(np.unique(batch.slots + np.arange(source.rows)[:, None] * 100)) == batch.slots.size
    assert counts_T[0] == counts_T[-1] == 0
    if layout is ALONE:
        assert counts_T[1:-1].std() / counts_T[1:-1].mean() < 0.1


def test_rows_of_one_text_are_the_running_text_between_start_and_extract():
    source, notes = row_source(split(), ALONE, False, 0)
    found = whole(source.take(np.arange(source.rows), 0))
    assert (found[:, 0] == MARKS.start).all()
    assert (found[:, -1] == MARKS.extract).all()
    assert (found[:, 1:-1].reshape(-1) == np.arange(source.rows * 41)).all()
    assert "23 tokens fill no row" in notes[0]


def test_a_second_text_follows_the_first_in_half_of_the_rows_and_comes_from_elsewhere_in_the_others():
    source, _ = row_source(split(), PAIRS, False, 0)
    follows, second_starts = [], []
    for epoch in range(10):
        batch = source.take(np.arange(source.rows), epoch)
        for row, n, says in zip(whole(batch), batch.lengths, batch.follows, strict=True):
            cut = int(np.flatnonzero(row == MARKS.delimiter)[0])
            first, second = row[1:cut], row[cut + 1 : n - 1]
            assert min(len(first), len(second)) >= 10
            assert (np.diff(first) == 1).all()
            assert (np.diff(second) == 1).all()
            assert (second[0] == first[-1] + 1) == says
            if not says:
                assert not set(first) & set(second)
            assert (row[0], row[n - 1], (row[n:] == 0).all()) == (MARKS.start, MARKS.extract, True)
            second_starts.append(second[0])
        follows += batch.follows.tolist()
    assert np.mean(follows) == pytest.approx(0.5, abs=0.05)
    starts, says = np.array(second_starts), np.array(follows, bool)
    assert abs(starts[says].mean() - starts[~says].mean()) < 150  # a second text does not tell by itself


def test_documents_are_never_crossed_and_strange_second_texts_are_of_another_document():
    lengths = (100, 5, 60, 1, 90)
    text = split(lengths)
    source, notes = row_source(text, PAIRS, True, 0)
    of = np.repeat(np.arange(5), lengths)
    strange = 0
    for epoch in range(10):
        batch = source.take(np.arange(source.rows), epoch)
        for row, n, says in zip(whole(batch), batch.lengths, batch.follows, strict=True):
            cut = int(np.flatnonzero(row == MARKS.delimiter)[0])
            first, second = of[row[1:cut]], of[row[cut + 1 : n - 1]]
            assert len(set(first)) == len(set(second)) == 1
            assert (first[0] == second[0]) == says
            strange += not says
    assert strange > 10
    assert "1 pieces of documents of fewer than 2" in notes[0]


def test_later_epochs_cut_the_text_at_other_places():
    source, _ = row_source(split(), ALONE, False, 0)
    starts = {int(whole(source.take(np.arange(1), epoch))[0, 1]) for epoch in range(6)}
    assert 0 in starts  # the first epoch, as evaluation reads it
    assert len(starts) > 3


@pytest.mark.parametrize("layout", [PAIRS, ALONE])
def test_a_text_too_short_for_a_row_is_refused(layout):
    with pytest.raises(DataError, match="too short"):
        row_source(split((30,)), layout, False, 0)
