"""The simpler ways to smooth n-gram counts, for comparison with Kneser-Ney: add-k, and back-off.

With c(cw) the occurrences of a token w after a context c and c(c) their sum over w,

    add-k      p_n(w | c) = (c(cw) + k) / (c(c) + k V), whatever the shorter contexts say;
    back-off   p_n(w | c) = (c(cw) - D[c(cw)]) / c(c) where cw was seen, else alpha(c) p_{n-1}(w | c'),

where alpha(c) makes the probabilities sum to 1 and the discounts D are estimated as for Kneser-Ney, from plain counts.
(Lidstone 1920; Katz 1987, "Estimation of probabilities from sparse data", with absolute discounting for Good-Turing.)
"""

import numpy as np

from gptjax.models.ngram import Counts, NGram, Smoothing, countable, discount, discounts_of, rank
from gptjax.models.ngram import fit as kneser_ney


def fit(tokens: np.ndarray, order: int, vocab_size: int, smoothing: Smoothing, add: float = 1.0) -> NGram:
    """An n-gram model of `tokens` [N] in one of the smoothings; `add` is the k of add-k.

    Raises ValueError as `ngram.fit` does, and where add-k adds nothing: an unseen token would have no probability.
    """
    if smoothing == "kneser_ney":
        return kneser_ney(tokens, order, vocab_size)
    if not add > 0:
        raise ValueError(f"add={add} must be positive, or what was not seen could not be said")
    tokens_N = countable(tokens, order, vocab_size)
    tables: list[Counts] = []
    contexts, ranks = 1, np.zeros(len(tokens_N) + 1, np.int64)
    lower_U = np.ones(0)
    for n in range(1, order + 1):
        keys_U, starts_U, longer_ranks = rank(ranks[:-1] * vocab_size + tokens_N[n - 1 :])
        counts_U = np.bincount(longer_ranks)
        if smoothing == "add_k":
            tables.append(_added(keys_U, counts_U, contexts, vocab_size, add))
        else:
            # The last n-1 tokens of each n-gram start one place later; at order 1 nothing is below but 1 / V.
            below_U = np.full(len(keys_U), 1.0 / vocab_size) if n == 1 else lower_U[ranks[starts_U + 1]]
            tables.append(_backed_off(keys_U, counts_U, contexts, vocab_size, below_U))
            lower_U = seen(tables[-1], vocab_size)
        contexts, ranks = len(keys_U), longer_ranks
    return NGram(vocab_size, tuple(tables), smoothing)


def seen(table: Counts, vocab_size: int) -> np.ndarray:
    """p(w | c) of every n-gram of a back-off table, [U]."""
    taken_U = discount(table.counts_U, table.discounts)
    probability_U: np.ndarray = (table.counts_U - taken_U) / table.totals_C[table.keys_U // vocab_size]
    return probability_U


def _added(keys_U: np.ndarray, counts_U: np.ndarray, contexts: int, vocab_size: int, add: float) -> Counts:
    """Counts over their sum and k V; the rest of the probability is uniform."""
    totals_C = np.bincount(keys_U // vocab_size, weights=counts_U, minlength=contexts) + add * vocab_size
    return Counts(keys_U, counts_U, totals_C, add * vocab_size / totals_C, (0.0, 0.0, 0.0), True)


def _backed_off(
    keys_U: np.ndarray, counts_U: np.ndarray, contexts: int, vocab_size: int, below_U: np.ndarray
) -> Counts:
    """`below_U` is the probability that the order below gives to each n-gram's last token."""
    discounts, estimated = discounts_of(counts_U)
    context_U = keys_U // vocab_size
    words_C = np.bincount(context_U, minlength=contexts)
    totals_C = np.bincount(context_U, weights=counts_U, minlength=contexts)
    taken_C = np.bincount(context_U, weights=discount(counts_U, discounts), minlength=contexts)
    unseen_C = 1.0 - np.bincount(context_U, weights=below_U, minlength=contexts)
    # A context that every token followed leaves nothing to the order below: its discounted counts are all there is.
    whole_C = words_C == vocab_size
    totals_C = np.where(whole_C, totals_C - taken_C, totals_C)
    open_C = (totals_C > 0) & ~whole_C
    backoff_C = np.divide(taken_C, totals_C * unseen_C, out=np.where(whole_C, 0.0, 1.0), where=open_C)
    return Counts(keys_U, counts_U, totals_C, backoff_C, discounts, estimated)
