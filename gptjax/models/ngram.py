"""Modified Kneser-Ney n-gram models: what counting alone knows, the row to print beside every neural model.

For a context c (the n-1 tokens before w) and c' (the same without its oldest token),

    p_n(w | c) = (a(cw) - D[a(cw)]) / a(c) + (sum of D[a(cv)] over all v seen after c) / a(c) * p_{n-1}(w | c')

where a(cw) is the number of occurrences of cw at the highest order and, below it, of distinct tokens seen before cw;
a(c) is the sum of a(cv) over v; D[0] = 0 and D[1], D[2], D[3 and more] are estimated for each order; p_0 = 1 / V. A
context never followed by anything has p_n = p_{n-1}. (Chen & Goodman, "An empirical study of smoothing techniques for
language modeling", Computer Speech & Language 13, 1999: interpolated modified Kneser-Ney.)

The start of the text: a boundary outside the vocabulary stands before the first token. It counts as one distinct token
before the n-grams that open the text, and is neither predicted nor conditioned on.

No n-gram is ever spelled out. The distinct n-grams of an order are ranked by the integer
key = (rank of the first n-1 tokens) * V + last token, so that a rank is an index into the order's arrays, the n-grams
of one context lie side by side, and a look-up is one binary search an order. Axes: N tokens of a text, V vocabulary, U
distinct n-grams of an order, C distinct contexts of an order (the U of the order below; 1 at order 1).
"""

from collections.abc import Iterator
from typing import Literal, NamedTuple

import numpy as np

MAX_ORDER = 8

Smoothing = Literal["kneser_ney", "backoff", "add_k"]
"""How an order meets the one below: added to it, asking it only where nothing was seen, or never (uniform instead)."""


class Counts(NamedTuple):
    """One order's n-grams, U of them in ascending order of their keys; a context is an index into the C arrays."""

    keys_U: np.ndarray
    """int64."""
    counts_U: np.ndarray
    """int64, at least 1: occurrences at the highest order, distinct tokens before it below."""
    totals_C: np.ndarray
    """float64, exact integers: sum of counts_U over the context."""
    backoff_C: np.ndarray
    """float64; the probability left to the order below: 1 where nothing ever followed the context (its total is 0)."""
    discounts: tuple[float, float, float]
    """Subtracted from a count of 1, of 2, of 3 or more."""
    estimated: bool
    """False where the discounts are the fall-back described at `fit`, for a caller who prints such things."""


class NGram(NamedTuple):
    """A fitted model: `orders[n - 1]` holds the n-grams of length n, and `len(orders)` is the model's order."""

    vocab_size: int
    orders: tuple[Counts, ...]
    smoothing: Smoothing = "kneser_ney"


def fit(tokens: np.ndarray, order: int, vocab_size: int) -> NGram:
    """Counts `tokens` [N] (integers in 0..vocab_size-1) into an interpolated modified Kneser-Ney model of `order` 1..8.

    Documents are concatenated by the caller. Sorting dominates: O(order * N log N), about ten int64 arrays of N at once
    beside the tables. The result depends on the arguments alone.

    Discounts are, for each order, from n_k = the number of n-grams counted k times and Y = n_1 / (n_1 + 2 n_2),
        D_1 = 1 - 2 Y n_2 / n_1,   D_2 = 2 - 3 Y n_3 / n_2,   D_3+ = 3 - 4 Y n_4 / n_3.
    Where any of n_1..n_4 is 0 or any D is not positive (small alphabets at order 1, tiny corpora) that order uses
    0.5, 1.0, 1.5 instead, the default of KenLM's --discount_fallback, and says `estimated=False`.

    Raises ValueError for an order outside 1..8, an empty corpus, one shorter than the order, ids out of range, a corpus
    that is not one row of integers, and a vocab_size whose keys (below N * vocab_size) overflow int64.
    """
    tokens_N = countable(tokens, order, vocab_size)
    tables: list[Counts] = []
    keys_U, contexts = np.zeros(1, np.int64), 0  # order 0: the empty n-gram, which starts at every place
    ranks = np.zeros(len(tokens_N) + 1, np.int64)  # ranks[s]: the n-gram that starts at s
    for n in range(1, order + 1):
        longer_keys_U, starts_U, longer_ranks = rank(ranks[:-1] * vocab_size + tokens_N[n - 1 :])
        if n > 1:
            # An n-gram's last n-1 tokens start one place later, so each distinct n-gram is one more token before them.
            counts_U = np.bincount(ranks[starts_U + 1], minlength=len(keys_U))
            counts_U[ranks[0]] += 1  # the boundary before the text
            tables.append(_table(keys_U, counts_U, contexts, vocab_size))
        contexts, keys_U, ranks = len(keys_U), longer_keys_U, longer_ranks
    tables.append(_table(keys_U, np.bincount(ranks), contexts, vocab_size))
    return NGram(vocab_size, tuple(tables))


def countable(tokens: np.ndarray, order: int, vocab_size: int) -> np.ndarray:
    """The tokens as int64 [N], known to be good to count; raises ValueError as `fit` says."""
    if not 1 <= order <= MAX_ORDER:
        raise ValueError(f"order={order} is out of range; n-gram orders are 1..{MAX_ORDER}")
    tokens_N = _checked("tokens", tokens, vocab_size)
    if len(tokens_N) == 0:
        raise ValueError("tokens is empty; an n-gram model needs a corpus to count")
    if len(tokens_N) < order:
        raise ValueError(f"tokens has {len(tokens_N)} tokens, fewer than order={order}; lower the order")
    if len(tokens_N) * vocab_size >= 2**63:
        raise ValueError(f"vocab_size={vocab_size} times {len(tokens_N)} tokens overflows int64; renumber the ids")
    return tokens_N


def log_probability(model: NGram, tokens: np.ndarray) -> np.ndarray:
    """Natural log p(tokens[i] | up to order-1 tokens before i) of every token of a text, [N] float64, in nats.

    The first tokens use what context there is; nothing before `tokens` is assumed. Every value is finite, and an empty
    text gives an empty array. Raises ValueError for ids out of range and for anything but one row of integers.
    """
    tokens_N = _checked("tokens", tokens, model.vocab_size)
    uniform = 1.0 / model.vocab_size
    probability_N = np.full(len(tokens_N), uniform)
    for n, (table, contexts, found) in enumerate(_walk(model, tokens_N), start=1):
        contexts = contexts[:-1]  # the last n-1 tokens have no token after them
        p = probability_N[n - 1 :]  # a view: the first n-1 tokens keep what lower orders gave them
        if model.smoothing == "add_k":
            p[:] = uniform
        p *= np.where(contexts >= 0, table.backoff_C[contexts], 1.0)
        hits = np.flatnonzero(found >= 0)
        counts = table.counts_U[found[hits]]
        if model.smoothing == "backoff":
            p[hits] = 0.0
        p[hits] += (counts - discount(counts, table.discounts)) / table.totals_C[contexts[hits]]
    log_probability_N: np.ndarray = np.log(probability_N, out=probability_N)
    return log_probability_N


def distribution(model: NGram, context: np.ndarray) -> np.ndarray:
    """p(. | the last order-1 tokens of `context`) over the whole vocabulary, [V] float64, all positive, summing to 1.

    `context` [T] may be empty, shorter than order-1 or never seen. Raises ValueError as `log_probability` does.
    """
    context_T = _checked("context", context, model.vocab_size)
    context_T = context_T[max(0, len(context_T) - len(model.orders) + 1) :]
    probability_V = np.full(model.vocab_size, 1.0 / model.vocab_size)
    for table, contexts, _ in _walk(model, context_T):
        if len(contexts) == 0 or contexts[-1] < 0:  # no such context, so no longer one either
            if model.smoothing == "add_k" and len(contexts):
                probability_V[:] = 1.0 / model.vocab_size
            break
        first_key = contexts[-1] * model.vocab_size
        low, high = np.searchsorted(table.keys_U, [first_key, first_key + model.vocab_size])
        words, counts = table.keys_U[low:high] - first_key, table.counts_U[low:high]
        if model.smoothing == "add_k":
            probability_V[:] = 1.0 / model.vocab_size
        probability_V *= table.backoff_C[contexts[-1]]
        if model.smoothing == "backoff":
            probability_V[words] = 0.0
        probability_V[words] += (counts - discount(counts, table.discounts)) / table.totals_C[contexts[-1]]
    return probability_V


def _walk(model: NGram, tokens_N: np.ndarray) -> Iterator[tuple[Counts, np.ndarray, np.ndarray]]:
    """For n = 1..order: the table, and the ranks of a text's (n-1)-grams and n-grams by start, -1 where unseen."""
    ranks = np.zeros(len(tokens_N) + 1, np.int64)
    for n, table in enumerate(model.orders, start=1):
        # A prefix of -1 makes a negative key, which no table holds.
        wanted = ranks[:-1] * model.vocab_size + tokens_N[n - 1 :]
        # In ascending order the binary searches share their cache lines: 3 times faster against 10 million n-grams.
        ascending = np.argsort(wanted)
        at = np.empty_like(wanted)
        at[ascending] = np.searchsorted(table.keys_U, wanted[ascending])
        at = np.minimum(at, len(table.keys_U) - 1)
        found = np.where(table.keys_U[at] == wanted, at, -1)
        yield table, ranks, found
        ranks = found


def rank(keys_N: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Distinct keys in ascending order [U], a position of each [U], and the rank of each position's key [N]."""
    permutation_N = np.argsort(keys_N)
    sorted_N = keys_N[permutation_N]
    is_first_N = np.empty(len(keys_N), bool)
    is_first_N[0] = True
    np.not_equal(sorted_N[1:], sorted_N[:-1], out=is_first_N[1:])
    ranks_N = np.empty(len(keys_N), np.int64)
    ranks_N[permutation_N] = np.cumsum(is_first_N) - 1
    # Which position stands for a key depends on the sort; whatever is read through it (the n-gram's suffix) does not.
    return sorted_N[is_first_N], permutation_N[is_first_N], ranks_N


def _table(keys_U: np.ndarray, counts_U: np.ndarray, contexts: int, vocab_size: int) -> Counts:
    discounts, estimated = discounts_of(counts_U)
    context_U = keys_U // vocab_size
    totals_C = np.bincount(context_U, weights=counts_U, minlength=contexts)
    taken_C = np.bincount(context_U, weights=discount(counts_U, discounts), minlength=contexts)
    backoff_C = np.divide(taken_C, totals_C, out=np.ones(contexts), where=totals_C > 0)
    return Counts(keys_U, counts_U, totals_C, backoff_C, discounts, estimated)


def discounts_of(counts_U: np.ndarray) -> tuple[tuple[float, float, float], bool]:
    """(D_1, D_2, D_3+) of an order, and whether they are estimates or the fall-back described at `fit`."""
    n1, n2, n3, n4 = (int(np.count_nonzero(counts_U == k)) for k in (1, 2, 3, 4))
    if min(n1, n2, n3, n4) > 0:
        y = n1 / (n1 + 2 * n2)
        d1, d2, d3 = 1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3
        if min(d1, d2, d3) > 0:  # else an order could leave nothing to the one below, and an unseen token would get 0
            return (d1, d2, d3), True
    return (0.5, 1.0, 1.5), False


def discount(counts: np.ndarray, discounts: tuple[float, float, float]) -> np.ndarray:
    """What is subtracted from each of these counts, 1 at least."""
    taken: np.ndarray = np.take(discounts, np.minimum(counts, 3) - 1)
    return taken


def _checked(name: str, tokens: np.ndarray, vocab_size: int) -> np.ndarray:
    tokens = np.asarray(tokens)
    if tokens.ndim != 1 or not np.issubdtype(tokens.dtype, np.integer):
        raise ValueError(f"{name} has shape {tokens.shape} and dtype {tokens.dtype}; n-grams need one row of integers")
    if len(tokens) and (tokens.min() < 0 or tokens.max() >= vocab_size):
        ids = f"{tokens.min()}..{tokens.max()}"
        raise ValueError(f"{name} has ids {ids}, outside 0..{vocab_size - 1} (vocab_size={vocab_size})")
    return tokens.astype(np.int64, copy=False)
