"""Requests to score a continuation laid out as rows, so that a context which several of them share is read once.

A group is one context with its continuations, or one request by itself. What a continuation is predicted from are
states: the last token of the context, which predicts the first token of every continuation, and each token of a
continuation but its last. A request by itself is one row, and its states are the last tokens of that row.

Axes: T tokens of a row, C continuations of a group, U tokens of a continuation that are read (all but the last),
S shards of the rows, Q states of a shard, K continuations that one state predicts a token of.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from gptjax.infer.ladder import rung

Pair = tuple[np.ndarray, np.ndarray]
"""Ids of a context and of the continuation behind it."""
CACHED = 2
"""What a token costs that is read behind a copy of a cache, in tokens of whole rows; measured on a CPU."""
SHORTEST = 16
"""Columns of the narrowest rows."""
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
    """B groups as int32 arrays of one shape; a pytree whose leading axes split into S parts."""

    inputs_BT: np.ndarray
    """Padded on the right."""
    lengths_B: np.ndarray
    """Tokens of each row."""
    branches_BCU: np.ndarray
    """What is read behind the context: continuations without their last token. C = 0 for requests by themselves."""
    branch_lengths_BC: np.ndarray
    states_SQ: np.ndarray
    """Where each state is among the shard's T + C U columns of a row (the row itself, then its branches) after row."""
    counts_S: np.ndarray
    """States of each shard; what is behind them is padding."""
    targets_SQK: np.ndarray
    """What each state predicts."""


class Laid(NamedTuple):
    """A group, and where in the batch its states are."""

    group: Group
    shard: int
    first: int
    """Its first state among the shard's."""

    def answers(self, values_SQK: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
        """(request, what there is for each token of its continuation)."""
        for request, (states, slots) in zip(self.group.requests, placed(self.group), strict=True):
            yield request, values_SQK[self.shard, self.first + states, slots]


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
    most = min(int(np.max(np.bincount(x_R))), MOST_SHARING)
    for U in sorted({rung(int(read)) for read in set(read_R.tolist())}):
        short_X = np.bincount(x_R[read_R <= U], minlength=len(length_X))
        long = np.sum((length_X[x_R] + read_R)[read_R > U])
        for C in range(2, most + 1):
            over_X = short_X % C
            shared = np.sum((short_X // C + (over_X > 1)) * (length_X + CACHED * C * U))
            total = float(long + shared + np.sum((over_X == 1) * (length_X + U)))
            if total < least:
                best, least = Branches(C, U), total
    return best


def batches(
    groups: Sequence[Group], room: Branches, tokens: int, context: int, shards: int = 1
) -> Iterator[tuple[list[Laid], Rows]]:
    """(groups, their rows): of about `tokens` tokens at once, the longest first, in few shapes.

    What room the longest groups leave in their last batch is filled with shorter ones, so that no length has a batch
    of its own to fill up. There are as many rows in each of the `shards` parts that they will be split into.
    """
    for shared in (True, False):
        some = sorted((g for g in groups if g.shared == shared), key=lambda g: len(g.row_T), reverse=True)
        most = max(map(_states, some), default=0)
        first = 0
        while first < len(some):
            T, (C, U) = _columns(some[first], context), room if shared else (0, 0)
            rows = 1 << max(tokens // (T + C * U), 1).bit_length() - 1
            rows = min(rows, 1 << (len(some) - first - 1).bit_length())
            each = -(-rows // shards)
            chosen = some[first : first + each * shards]
            yield lay(chosen, T, room if shared else Branches(0, 0), each * rung(most), shards, each)
            first += len(chosen)


def _columns(group: Group, context: int) -> int:
    return min(max(rung(len(group.row_T)), SHORTEST), context)


def _states(group: Group) -> int:
    reads = sum(map(len, group.continuations))
    return reads - len(group.requests) + 1 if group.shared else reads


def placed(group: Group) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """For each request of a group the states (from 0) and slots (of K) that its tokens are predicted at."""
    first = 1 if group.shared else 0
    for slot, continuation in enumerate(group.continuations):
        slots = np.zeros(len(continuation), np.int32)
        states = np.arange(first, first + len(continuation))
        if group.shared:  # one state predicts all first tokens, each in a slot of its own
            states = np.concatenate([[0], states[:-1]])
            slots[0] = slot
        first += len(continuation) - group.shared
        yield states, slots


def lay(
    groups: Sequence[Group], T: int, room: Branches, states: int, shards: int, each: int
) -> tuple[list[Laid], Rows]:
    """The groups in `shards` parts of `each` rows, one part after another; rows that are left are empty."""
    C, U = room
    found = Rows(
        inputs_BT=np.zeros((shards * each, T), np.int32),
        lengths_B=np.zeros(shards * each, np.int32),
        branches_BCU=np.zeros((shards * each, C, U), np.int32),
        branch_lengths_BC=np.zeros((shards * each, C), np.int32),
        states_SQ=np.zeros((shards, states), np.int32),
        counts_S=np.zeros(shards, np.int32),
        targets_SQK=np.zeros((shards, states, max(C, 1)), np.int32),
    )
    laid = []
    for number, group in enumerate(groups):
        # The shards take turns, and have about as many states each.
        row, shard = divmod(number, shards)
        b, length = shard * each + row, len(group.row_T)
        here = Laid(group, shard, int(found.counts_S[shard]))
        laid.append(here)
        found.inputs_BT[b, :length], found.lengths_B[b] = group.row_T, length
        at_Q = np.full(_states(group), length - 1)
        for c, (continuation, (places, slots)) in enumerate(zip(group.continuations, placed(group), strict=True)):
            found.targets_SQK[shard, here.first + places, slots] = continuation
            read = len(continuation) - 1
            if group.shared:
                found.branches_BCU[b, c, :read], found.branch_lengths_BC[b, c] = continuation[:-1], read
                at_Q[places[1:]] = T + c * U + np.arange(read)
            else:
                at_Q[places] = np.arange(length - 1 - read, length)
        found.states_SQ[shard, here.first : here.first + len(at_Q)] = row * (T + C * U) + at_Q
        found.counts_S[shard] += len(at_Q)
    return laid, found
