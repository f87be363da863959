"""Requests laid out as rows: every one once, shared contexts once, few shapes."""

import numpy as np
import pytest

from gptjax.evals import prefixes
from gptjax.evals.prefixes import Branches

CONTEXT = 64


def requests(seed, contexts=40, longest=60):
    """Random contexts, each with one to six continuations; some do not fit."""
    draws = np.random.default_rng(seed)
    pairs = []
    for _ in range(contexts):
        before = draws.integers(1, 50, draws.integers(1, longest)).astype(np.int32)
        for _ in range(draws.integers(1, 7)):
            pairs.append((before, draws.integers(1, 50, draws.integers(1, 12)).astype(np.int32)))
    order = draws.permutation(len(pairs))  # a context need not be asked about in one run
    return [pairs[i] for i in order]


def predicted(laid, rows):
    """What the batch asks for each of the group's requests: [(request, [(the tokens read, the next token), ...])]."""
    T, (_, C, U) = rows.inputs_BT.shape[1], rows.branches_BCU.shape
    each, found = len(rows.inputs_BT) // len(rows.states_SQ), []
    nothing_SQ1 = np.zeros((*rows.states_SQ.shape, max(C, 1)), np.int32)
    asked_SQK = zip(laid.answers(nothing_SQ1 + rows.states_SQ[..., None]), laid.answers(rows.targets_SQK), strict=True)
    for (request, states), (_, targets) in asked_SQK:
        asked = []
        for state, target in zip(states, targets, strict=True):
            row, at = divmod(int(state), T + C * U)
            row += laid.shard * each
            read = rows.inputs_BT[row, : min(at + 1, rows.lengths_B[row])]
            if at >= T:
                c, u = divmod(at - T, U)
                assert u < rows.branch_lengths_BC[row, c]
                read = np.concatenate([read, rows.branches_BCU[row, c, : u + 1]])
            asked.append((read.tolist(), int(target)))
        found.append((request, asked))
    return found


@pytest.mark.parametrize("shards", [1, 4])
@pytest.mark.parametrize("seed", range(5))
def test_every_token_is_asked_once_behind_all_that_is_before_it(seed, shards):
    pairs = requests(seed)
    groups, room = prefixes.groups(pairs, CONTEXT)
    seen = []
    for laid, rows in prefixes.batches(groups, room, 256, CONTEXT, shards):
        assert rows.states_SQ.shape[0] == shards
        assert len(rows.inputs_BT) % shards == 0
        assert rows.inputs_BT.shape[1] <= CONTEXT
        assert sum(rows.counts_S) == sum(1 + max(s.max() for s, _ in prefixes.placed(one.group)) for one in laid)
        for one in laid:
            for request, asked in predicted(one, rows):
                seen.append(request)
                before, after = pairs[request]
                whole = np.concatenate([before, after])[-(CONTEXT + 1) :].tolist()
                first = len(whole) - len(after)
                assert asked == [(whole[:end], whole[end]) for end in range(first, len(whole))]
        assert np.count_nonzero(rows.lengths_B) == len(laid)
    assert sorted(seen) == list(range(len(pairs)))


def test_four_choices_read_their_question_once():
    before = np.arange(1, 31, dtype=np.int32)
    pairs = [(before, np.array([n, n + 1, n + 2], np.int32)) for n in range(4)]
    (group,), room = prefixes.groups(pairs, CONTEXT)
    assert (group.requests, room) == ((0, 1, 2, 3), Branches(4, 2))
    np.testing.assert_array_equal(group.row_T, before)
    ((_, rows),) = prefixes.batches([group], room, 256, CONTEXT)
    assert rows.inputs_BT.shape == (1, 32)
    assert rows.branches_BCU.shape == (1, 4, 2)
    assert rows.counts_S.tolist() == [1 + 4 * 2]  # the first tokens are predicted by one state


def test_a_long_continuation_makes_no_room_for_all():
    before = [np.full(20, n, np.int32) for n in range(50)]
    pairs = [(b, np.full(2, c, np.int32)) for b in before for c in range(4)] + [(before[0], np.full(30, 7, np.int32))]
    groups, room = prefixes.groups(pairs, CONTEXT)
    assert room == Branches(4, 1)
    assert [g.requests for g in groups if not g.shared] == [(200,)]


def test_a_context_of_one_request_needs_no_cache():
    pairs = [(np.full(20, n, np.int32), np.full(4, n, np.int32)) for n in range(9)]
    groups, _ = prefixes.groups(pairs, CONTEXT)
    assert [g.requests for g in groups] == [(n,) for n in range(9)]


def test_a_context_shorter_than_its_continuations_is_read_again_for_each():
    pairs = [(np.zeros(1, np.int32), np.full(9, n, np.int32)) for n in range(9)]
    groups, _ = prefixes.groups(pairs, CONTEXT)
    assert [g.requests for g in groups] == [(n,) for n in range(9)]


def test_lengths_are_few_and_the_longest_come_first():
    pairs = [(np.ones(length, np.int32), np.ones(1, np.int32)) for length in range(1, 60) for _ in range(20)]
    groups, room = prefixes.groups(pairs, CONTEXT)
    shapes = [rows.inputs_BT.shape for _, rows in prefixes.batches(groups, room, 512, CONTEXT)]
    widths = [T for _, T in shapes]
    assert widths == sorted(widths, reverse=True)
    assert len(set(shapes[:-1])) <= 7
    assert all(B * T <= 512 for B, T in shapes)


@pytest.mark.parametrize(
    ("length", "expected"), [(0, 0), (1, 1), (2, 2), (3, 4), (33, 64), (65, 96), (97, 128), (513, 768), (769, 1024)]
)
def test_a_rung_is_the_next_of_the_ladder(length, expected):
    assert prefixes.rung(length) == expected
