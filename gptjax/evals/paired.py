"""How sure a difference between two models on one text is: the paired bootstrap over blocks of the text.

Both models are judged on the same units (tokens or words), so what is drawn with replacement are parts of the text with
both models' costs on them: what makes a part hard for both cancels. Neighbouring units are not independent; sentences
stay whole, and many sentences are joined to blocks of neighbours. (Efron & Tibshirani 1993, "An Introduction to the
Bootstrap"; Koehn 2004, "Statistical significance tests for machine translation evaluation".) Axes beside the
alphabet's: U units of the text, G blocks, P parts of a breakdown, R resamples.
"""

from typing import NamedTuple

import numpy as np

from gptjax.evals.bootstrap import LEVEL, RESAMPLES

MOST_BLOCKS = 100
"""Longer texts have longer blocks, not more of them: what is near is alike, over more than a sentence. On Tiny
Shakespeare's 3,849 held-out lines two GPTs' difference has a half-width of 0.0058 nats drawn by lines, 0.0094 so."""
LEAST_BLOCKS = 10
"""What fewer blocks hold has no interval: so few draws cannot tell how it varies."""


class Interval(NamedTuple):
    """A mean and where it lies with probability `LEVEL`."""

    mean: float
    low: float | None
    """None where too few blocks of the text hold what is averaged."""
    high: float | None


def blocks(sentence_U: np.ndarray, most: int = MOST_BLOCKS) -> np.ndarray:
    """Sentences (numbered from 0, ascending) joined to at most `most` blocks of equally many neighbours: block_U."""
    sentences = int(sentence_U[-1]) + 1
    return sentence_U // -(-sentences // most)


def draws(blocks: int, seed: int, resamples: int = RESAMPLES) -> np.ndarray:
    """How often each block is drawn in each resample, weights_RG float64; the same for the same seed."""
    random = np.random.default_rng(seed)
    return random.multinomial(blocks, np.full(blocks, 1 / blocks), size=resamples).astype(np.float64)


def intervals(values_U: np.ndarray, block_U: np.ndarray, part_U: np.ndarray, weights_RG: np.ndarray) -> list[Interval]:
    """The mean of the values in each part, 0 ... max(part_U), with its percentile interval over the resamples.

    A mean is a sum over a count, and both are drawn together. Every part has a unit at least.
    """
    G, P = weights_RG.shape[1], int(part_U.max()) + 1
    cell_U = block_U * P + part_U
    sums_GP = np.bincount(cell_U, weights=values_U, minlength=G * P).reshape(G, P)
    counts_GP = np.bincount(cell_U, minlength=G * P).reshape(G, P).astype(np.float64)
    counts_RP = weights_RG @ counts_GP
    means_RP = np.divide(weights_RG @ sums_GP, counts_RP, out=np.full_like(counts_RP, np.nan), where=counts_RP > 0)
    means_P = sums_GP.sum(0) / counts_GP.sum(0)
    held_P = np.sum(counts_GP > 0, axis=0)
    return [_interval(float(means_P[p]), means_RP[:, p], int(held_P[p])) for p in range(P)]


def _interval(mean: float, means_R: np.ndarray, held: int) -> Interval:
    if held < LEAST_BLOCKS:
        return Interval(mean, None, None)
    low, high = np.nanquantile(means_R, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(mean, float(low), float(high))
