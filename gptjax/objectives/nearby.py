"""Rows of thinned text for word2vec: centres, the words around them, and noise, each a function of (seed, epoch, row).

Axes beside the alphabet's: W window; U = T + 2 W, a row's T centres and the W words before and behind them;
K noise words of a row; N words of the text.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from gptjax.data.stream import uniform
from gptjax.types import Array, RowSource

GUIDED = 2**16
"""Parts of a distribution whose first words are kept, so that few draws have to search."""
EPOCHS_KEPT = 2
"""Epochs whose thinned text is held: the one that is read, and the one before it, which the log may describe."""


class Nearby(NamedTuple):
    """Rows of T centres; every leaf has a leading B. Zeros are a row of padding, which counts nothing."""

    centres: Array
    """[B, T] int32 ids."""
    around: Array
    """[B, U] int32; the same words with W more at both ends."""
    sentences: Array
    """[B, U] int32; words of the same number may be pairs; 0 is padding."""
    reach: Array
    """[B, T] int32 in 1 ... W; how far a centre looks to either side (0 in padding)."""
    noise: Array
    """[B, K] int32; words drawn from the noise, for all centres of the row."""


class Text(NamedTuple):
    """The words of a text that are trained on."""

    tokens_N: np.ndarray
    """int32 ids."""
    sentences_N: np.ndarray
    """int32, ascending from 1: no window reaches from one sentence into another."""


def keep_shares(counts_V: np.ndarray, sample: float) -> np.ndarray:
    """Which share of its occurrences each word keeps: min(1, sqrt(s / f) + s / f), f its share of the text.

    (Mikolov et al., arXiv 1310.4546, section 2.3, as their program has it; 1 for words that do not occur.)
    """
    frequency_V = counts_V / max(1, counts_V.sum())
    ratio_V = np.divide(sample, frequency_V, out=np.ones_like(frequency_V), where=frequency_V > 0)
    return np.minimum(1.0, np.sqrt(ratio_V) + ratio_V)


def quotas(tokens_N: np.ndarray, shares_V: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(how often each word occurs, how many of these stay: exactly round(share * n), but one at least), both [V]."""
    counts_V = np.bincount(tokens_N, minlength=len(shares_V))
    return counts_V, np.maximum(np.rint(shares_V * counts_V).astype(np.int64), np.minimum(counts_V, 1))


def kept(tokens_N: np.ndarray, shares_V: np.ndarray, *key: int) -> np.ndarray:
    """Ascending places of the words that stay: of each word as many as its quota, chosen by `key`.

    An exact share rather than a coin for each occurrence: the same expectation, and every epoch has as many words.
    """
    counts_V, quota_V = quotas(tokens_N, shares_V)
    thinned = np.flatnonzero((quota_V < counts_V)[tokens_N])
    words = tokens_N[thinned]
    # Ids and draws of 32 bits fit a float64, so that the order is by id, then by draw.
    draws = words + uniform(thinned, *key)
    order = np.sort(draws)
    ids = np.flatnonzero(quota_V < counts_V)
    ends = np.cumsum(counts_V[ids]) - counts_V[ids] + quota_V[ids]  # behind the last that stays of each
    last_V = np.zeros(len(counts_V))
    last_V[ids] = order[ends - 1]
    stays_N = np.ones(len(tokens_N), bool)
    stays_N[thinned] = draws <= last_V[words]
    for end in ends[order[ends] == order[ends - 1]].tolist():
        # Equal draws on both sides of the border: the first in the text stay.
        equal = thinned[draws == order[end]]
        stays_N[equal[end - np.searchsorted(order, order[end]) :]] = False
    return np.flatnonzero(stays_N)


def noise_cdf(counts_V: np.ndarray, power: float) -> np.ndarray:
    """Cumulative shares of counts^power, for `drawing`."""
    weights_V = np.where(counts_V > 0, counts_V.astype(np.float64) ** power, 0.0)
    return np.cumsum(weights_V) / weights_V.sum()


def drawing(cdf_V: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """`draw(uniform_M)`: the words at these places of a distribution, int32.

    Most places are in one of `GUIDED` equal parts that is within one word; only the others are searched for.
    """

    def searched(places_M: np.ndarray) -> np.ndarray:
        return np.minimum(np.searchsorted(cdf_V, places_M, side="right"), len(cdf_V) - 1).astype(np.int32)

    words_G = searched(np.arange(GUIDED + 1) / GUIDED)

    def draw(uniform_M: np.ndarray) -> np.ndarray:
        parts_M = (uniform_M * GUIDED).astype(np.int32)
        words_M = words_G[parts_M]
        open_M = words_M != words_G[parts_M + 1]
        words_M[open_M] = searched(uniform_M[open_M])
        return words_M

    return draw


class Reading(NamedTuple):
    """How a text becomes rows."""

    shares_V: np.ndarray
    """Which share of a word's occurrences stays in an epoch."""
    cdf_V: np.ndarray
    """What noise is drawn from."""
    T: int
    """Centres of a row."""
    window: int
    """Furthest reach."""
    noise: int
    """Noise words of a row."""
    key: tuple[int, ...]
    """All draws are functions of it, of the epoch and of the place."""


def rows(text: Text, how: Reading) -> RowSource:
    """The text as rows of T centres, thinned and reached anew in each epoch; the last row is part padding."""
    _, cdf_V, T, window, noise, key = how
    draw = drawing(cdf_V)
    count = -(-int(quotas(text.tokens_N, how.shares_V)[1].sum()) // T)

    @lru_cache(EPOCHS_KEPT)
    def laid(epoch: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The epoch's words, sentences and reaches, padded, in windows: views of T + 2 W words from every T-th on."""
        places = kept(text.tokens_N, how.shares_V, *key, epoch, 0)
        reach = 1 + (uniform(places, *key, epoch, 1) * window).astype(np.int32)
        padding = (window, window + count * T - len(places))
        padded = [np.pad(leaf, padding) for leaf in (text.tokens_N[places], text.sentences_N[places], reach)]
        windows = [np.lib.stride_tricks.sliding_window_view(leaf, T + 2 * window)[::T] for leaf in padded]
        return windows[0], windows[1], windows[2][:, window : window + T]

    def take(indices_B: np.ndarray, epoch: int) -> Nearby:
        indices_B = np.asarray(indices_B, np.int64)
        around_BU, sentences_BU, reach_BT = (windows[indices_B] for windows in laid(epoch))
        draws_BK = uniform(indices_B[:, None] * noise + np.arange(noise), *key, epoch, 2)
        centres_BT = np.ascontiguousarray(around_BU[:, window : window + T])
        return Nearby(centres_BT, around_BU, sentences_BU, reach_BT, draw(draws_BK))

    return RowSource(count, take)


def parted(tokens_N: np.ndarray, starts_D: np.ndarray, left_out: tuple[int, ...], ends: tuple[int, ...]) -> Text:
    """A split's words without the ids of `left_out`; ids of `ends`, left out as well, and documents part sentences."""
    new_N = np.isin(tokens_N, np.array(ends, np.int64))
    new_N = np.concatenate([[False], new_N[:-1]])  # what follows an end
    new_N[starts_D[:-1][starts_D[:-1] < len(new_N)]] = True
    sentences_N = np.cumsum(new_N) + (not new_N[0])
    words_N = ~np.isin(tokens_N, np.array((*left_out, *ends), np.int64))
    return Text(tokens_N[words_N].astype(np.int32), sentences_N[words_N].astype(np.int32))


def joined(texts: Sequence[Text]) -> Text:
    """Several texts as one, their sentences apart."""
    last = np.cumsum([0] + [text.sentences_N.max(initial=0) for text in texts])
    sentences = [text.sentences_N + before for text, before in zip(texts, last[:-1], strict=True)]
    return Text(np.concatenate([text.tokens_N for text in texts]), np.concatenate(sentences).astype(np.int32))
