"""Requests to score a continuation laid out as rows, so that a context which several of them share is read once.

A group is one context with its continuations, or one request by itself. What a continuation is predicted from are
states: the last token of the context, which predicts the first token of every continuation, and each token of a
continuation but its last. A request by itself is one row, and its states are the last tokens of that row.

Axes: T tokens of a row, C continuations of a group, U tokens of a continuation that are read (all but the last),
P states of a group, K continuations that one state predicts a token of.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

MOST_SHARING = 16
"""Continuations behind one context at most; more of them are groups of their own."""
LEAST_SHARED = 8
"""Tokens from which a context is worth a cache; continuations of shorter ones are rows by themselves."""


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


class Shape(NamedTuple):
    """What a batch is compiled for."""

    T: int
    C: int
    U: int
    P: int

    def holds(self, other: "Shape") -> bool:
        """Whether a group of the other shape fits; those that share a context and those that do not stay apart."""
        return (self.C > 0) == (other.C > 0) and all(a >= b for a, b in zip(self, other, strict=True))


def groups(pairs: Sequence[tuple[np.ndarray, np.ndarray]], context: int) -> list[Group]:
    """Every (context, continuation) in one group; a context shared by those behind which it fits uncut.

    Too long a pair is cut on the left, so that its last context + 1 tokens stay.
    """
    by_context: dict[bytes, list[int]] = defaultdict(list)
    found = []
    for number, (before, after) in enumerate(pairs):
        if LEAST_SHARED <= len(before) <= context + 1 - len(after):
            by_context[before.astype(np.int32).tobytes()].append(number)
        else:
            found.append(_alone(number, before, after, context))
    for numbers in by_context.values():
        for first in range(0, len(numbers), MOST_SHARING):
            some = tuple(numbers[first : first + MOST_SHARING])
            if len(some) == 1:
                found.append(_alone(some[0], *pairs[some[0]], context))
            else:
                found.append(Group(some, pairs[some[0]][0], tuple(pairs[number][1] for number in some)))
    return found


def _alone(number: int, before: np.ndarray, after: np.ndarray, context: int) -> Group:
    return Group((number,), np.concatenate([before, after])[-(context + 1) : -1], (after,))


def batches(
    groups: Sequence[Group], tokens: int, context: int, multiple: int = 1
) -> Iterator[tuple[list[Group], Rows]]:
    """(groups, their rows): of about `tokens` tokens at once, the longest first, in few shapes.

    The rows of a batch are a multiple of `multiple`, the parts that they will be split into. What room the longest
    groups leave in their last batch is filled with shorter ones, so that no shape has more than one batch to fill up.
    """
    shapes = [_shape(group, context) for group in groups]
    # By states last: the head reads as many of all rows as the row with most of them has.
    states = [_states(group) for group in groups]
    left = sorted(range(len(groups)), key=lambda i: (shapes[i], states[i]), reverse=True)
    while left:
        shape = shapes[left[0]]
        rows = 1 << max(tokens // (shape.T + shape.C * shape.U), 1).bit_length() - 1
        chosen = [i for i in left if shape.holds(shapes[i])][:rows]
        rows = min(rows, 1 << (len(chosen) - 1).bit_length())
        taken = set(chosen)
        left = [i for i in left if i not in taken]
        some = [groups[i] for i in chosen]
        yield some, lay(some, shape, -(-rows // multiple) * multiple)


def _states(group: Group) -> int:
    reads = sum(map(len, group.continuations))
    return reads - len(group.requests) + 1 if group.shared else reads


def _shape(group: Group, context: int) -> Shape:
    T, longest = min(rung(len(group.row_T)), context), max(map(len, group.continuations))
    if not group.shared:
        return Shape(T, 0, 0, rung(longest))
    C, U = len(group.requests), rung(longest - 1)
    return Shape(T, C, U, 1 + C * U)


def rung(length: int) -> int:
    """The next length of a short ladder: powers of two, and from 16 on the middles between them."""
    if length <= 2:
        return length
    power = 1 << (length - 1).bit_length()
    return power * 3 // 4 if power >= 32 and length <= power * 3 // 4 else power


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


def lay(groups: Sequence[Group], shape: Shape, rows: int) -> Rows:
    """The groups as the first of `rows` rows; the others are empty."""
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
