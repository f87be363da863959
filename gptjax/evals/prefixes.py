"""Requests to score a continuation laid out as rows, so that a context which several of them share is read once.

A group is one context with its continuations, or one request by itself. What a continuation is predicted from are
states: the last token of the context, which predicts the first token of every continuation, and each token of a
continuation but its last. A request by itself is one row, and its states are the last tokens of that row.

Axes: T tokens of a row, C continuations of a group, U tokens of a continuation that are read (all but the last),
P states of a group, K continuations that one state predicts a token of.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

Pair = tuple[np.ndarray, np.ndarray]
"""Ids of a context and of the continuation behind it."""
MOST_SHARING = 16
"""Continuations that read on from one cache at most; where there are more, the context is read again."""


class Group(NamedTuple):
    """What one row of a batch answers."""

    requests: tuple[int, ...]
    """Indices of the requests."""
    row_T: np.ndarray
    """The context, or the whole of a request by itself but its last token."""
    continuations: tuple[np.ndarray, ...]
    """The tokens to predict of each request."""

    @property
    def shared(self) -> bool:
        """Whether the continuations are read behind a cache of the context."""
        return len(self.requests) > 1


class Rows(NamedTuple):
    """B groups as arrays of one shape; a pytree of int32 arrays with a leading B."""

    inputs_BT: np.ndarray
    """Padded on the right."""
    lengths_B: np.ndarray
    """Tokens of each row."""
    branches_BCU: np.ndarray
    """What is read behind the context: continuations without their last token. C = 0 for requests by themselves."""
    branch_lengths_BC: np.ndarray
    states_BP: np.ndarray
    """Where each state is: columns of the row, then those of the branches, one after another."""
    counts_B: np.ndarray
    """States of each row."""
    targets_BPK: np.ndarray
    """What each state predicts."""


class Branches(NamedTuple):
    """Room behind every shared context: one for all, since each shape has to be compiled."""

    C: int
    U: int


def groups(pairs: Sequence[Pair], context: int) -> tuple[list[Group], Branches]:
    """Every request in one group, and the room for branches with which fewest tokens are read, padding included.

    Too long a pair is cut on the left, so that its last context + 1 tokens stay, and shares nothing.
    """
    by_context: dict[bytes, list[int]] = {}
    found = []
    for number, (before, after) in enumerate(pairs):
        if len(before) + len(after) <= context + 1:
            by_context.setdefault(before.tobytes(), []).append(number)
        else:
            found.append(_alone(number, pairs[number], context))
    room = _room(pairs, list(by_context.values()))
    for numbers in by_context.values():
        short = [number for number in numbers if len(pairs[number][1]) <= room.U + 1]
        long = [number for number in numbers if len(pairs[number][1]) > room.U + 1]
        parts = [short[first : first + room.C] for first in range(0, len(short), room.C)]
        for part in (*parts, *([number] for number in long)):
            if len(part) > 1:
                continuations = tuple(pairs[number][1] for number in part)
                found.append(Group(tuple(part), pairs[part[0]][0], continuations))
            else:
                found.append(_alone(part[0], pairs[part[0]], context))
    return found, room


def _alone(number: int, pair: Pair, context: int) -> Group:
    return Group((number,), np.concatenate(pair)[-(context + 1) : -1], (pair[1],))


def _room(pairs: Sequence[Pair], by_context: Sequence[list[int]]) -> Branches:
    """C and U that cost the fewest tokens; C = 1 is to share nothing. X are contexts, R their requests."""
    if not by_context:
        return Branches(1, 0)
    x_R = np.repeat(np.arange(len(by_context)), [len(numbers) for numbers in by_context])
    read_R = np.array([len(pairs[number][1]) - 1 for numbers in by_context for number in numbers])
    length_X = np.array([len(pairs[numbers[0]][0]) for numbers in by_context])
    best, least = Branches(1, 0), float(np.sum(length_X[x_R] + read_R))
    most = min(int(np.bincount(x_R).max()), MOST_SHARING)
    for U in sorted({rung(int(read)) for read in set(read_R.tolist())}):
        short_X = np.bincount(x_R[read_R <= U], minlength=len(length_X))
        long = np.sum((length_X[x_R] + read_R)[read_R > U])
        for C in range(2, most + 1):
            over_X = short_X % C
            shared = np.sum((short_X // C + (over_X > 1)) * (length_X + C * U))
            total = float(long + shared + np.sum((over_X == 1) * (length_X + U)))
            if total < least:
                best, least = Branches(C, U), total
    return best


def batches(
    groups: Sequence[Group], room: Branches, tokens: int, context: int, multiple: int = 1
) -> Iterator[tuple[list[Group], Rows]]:
    """(groups, their rows): of about `tokens` tokens at once, the longest first, in few shapes.

    The rows of a batch are a multiple of `multiple`, the parts that they will be split into. What room the longest
    groups leave in their last batch is filled with shorter ones, so that no length has a batch of its own to fill up.
    """
    for shared in (True, False):
        # Those with most states first: of every row the head reads as many as the row with most of them has.
        some = sorted((g for g in groups if g.shared == shared), key=lambda g: _key(g, context), reverse=True)
        C, U = room if shared else (0, 0)
        P = 1 + C * U if shared else rung(max((len(g.continuations[0]) for g in some), default=0))
        first = 0
        while first < len(some):
            T = min(rung(len(some[first].row_T)), context)
            rows = 1 << max(tokens // (T + C * U), 1).bit_length() - 1
            rows = min(rows, 1 << (len(some) - first - 1).bit_length())
            chosen = some[first : first + rows]
            yield chosen, lay(chosen, (T, C, U, P), -(-rows // multiple) * multiple)
            first += rows


def _key(group: Group, context: int) -> tuple[int, int]:
    return min(rung(len(group.row_T)), context), _states(group)


def _states(group: Group) -> int:
    reads = sum(map(len, group.continuations))
    return reads - len(group.requests) + 1 if group.shared else reads


def rung(length: int) -> int:
    """The next length of a short ladder: 0, 1, 2, 4, ... 64, and from there on the middles between powers of two."""
    power = 1 << max(length - 1, 0).bit_length() if length else 0
    return power * 3 // 4 if power > 64 and length <= power * 3 // 4 else power


def placed(group: Group) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """For each request of a group the states and slots (of P and K) that its tokens are predicted at."""
    first = 1 if group.shared else 0
    for slot, continuation in enumerate(group.continuations):
        slots = np.zeros(len(continuation), np.int32)
        states = np.arange(first, first + len(continuation))
        if group.shared:  # one state predicts all first tokens, each in a slot of its own
            states = np.concatenate([[0], states[:-1]])
            slots[0] = slot
        first += len(continuation) - group.shared
        yield states, slots


def lay(groups: Sequence[Group], shape: tuple[int, int, int, int], rows: int) -> Rows:
    """The groups as the first of `rows` rows of shape (T, C, U, P); the others are empty."""
    T, C, U, P = shape
    found = Rows(
        inputs_BT=np.zeros((rows, T), np.int32),
        lengths_B=np.zeros(rows, np.int32),
        branches_BCU=np.zeros((rows, C, U), np.int32),
        branch_lengths_BC=np.zeros((rows, C), np.int32),
        states_BP=np.zeros((rows, P), np.int32),
        counts_B=np.zeros(rows, np.int32),
        targets_BPK=np.zeros((rows, P, max(C, 1)), np.int32),
    )
    for b, group in enumerate(groups):
        length = len(group.row_T)
        found.inputs_BT[b, :length], found.lengths_B[b], found.counts_B[b] = group.row_T, length, _states(group)
        if group.shared:
            found.states_BP[b, 0] = length - 1
        for c, (continuation, (states, slots)) in enumerate(zip(group.continuations, placed(group), strict=True)):
            found.targets_BPK[b, states, slots] = continuation
            if not group.shared:
                found.states_BP[b, states] = np.arange(length - len(states), length)
                continue
            read = len(continuation) - 1
            found.branches_BCU[b, c, :read], found.branch_lengths_BC[b, c] = continuation[:-1], read
            found.states_BP[b, states[1:]] = T + c * U + np.arange(read)
    return found
