"""Claims about the paired bootstrap."""

import numpy as np
import pytest

from gptjax.evals.paired import LEAST_BLOCKS, blocks, draws, intervals

PART = 4


def one(values_U, block_U, seed=0, resamples=400):
    weights_RG = draws(int(block_U[-1]) + 1, seed, resamples)
    [found] = intervals(values_U, block_U, np.zeros(len(values_U), np.int64), weights_RG)
    return found


def covered(block_of, trials=200):
    """How often the interval holds a planted difference whose noise is shared by the six units of a sentence."""
    random, hits = np.random.default_rng(0), 0
    sentence_U = np.repeat(np.arange(60), 6)
    for trial in range(trials):
        values_U = 0.3 + random.normal(size=60)[sentence_U] + 0.1 * random.normal(size=360)
        found = one(values_U, block_of(sentence_U), seed=trial)
        hits += found.low <= 0.3 <= found.high
    return hits / trials


def test_the_interval_covers_a_planted_difference_as_often_as_it_says():
    assert 0.9 <= covered(lambda sentence_U: sentence_U) <= 0.99


def test_drawing_units_in_place_of_sentences_would_be_too_sure():
    assert covered(lambda sentence_U: np.arange(len(sentence_U))) < 0.75


def test_no_difference_is_exactly_none():
    assert one(np.zeros(50), np.arange(50)) == (0.0, 0.0, 0.0)


def test_the_other_way_round_is_the_same_with_the_other_sign():
    values_U, block_U = np.random.default_rng(1).normal(size=90), np.arange(90) // 3
    forth, back = one(values_U, block_U), one(-values_U, block_U)
    assert (back.mean, back.low, back.high) == pytest.approx((-forth.mean, -forth.high, -forth.low), abs=1e-12)


def test_every_part_has_the_interval_that_it_has_alone():
    random = np.random.default_rng(2)
    values_U, block_U, part_U = random.normal(size=300), np.arange(300) // 5, random.integers(0, PART, 300)
    weights_RG = draws(60, 7, 300)
    for part, found in enumerate(intervals(values_U, block_U, part_U, weights_RG)):
        mine = part_U == part
        means_R = [
            np.average(values_U[mine], weights=w_G[block_U[mine]]) for w_G in weights_RG if w_G[block_U[mine]].any()
        ]
        expected = values_U[mine].mean(), *np.quantile(means_R, [0.025, 0.975])
        assert tuple(found) == pytest.approx(expected, abs=1e-12)


def test_what_few_blocks_hold_has_a_mean_and_no_interval():
    few, enough = (one(np.arange(n, dtype=float), np.arange(n)) for n in (LEAST_BLOCKS - 1, LEAST_BLOCKS))
    assert few == ((LEAST_BLOCKS - 2) / 2, None, None)
    assert enough.low < enough.mean < enough.high


def test_neighbouring_sentences_are_joined_where_there_are_many():
    sentence_U = np.repeat(np.arange(25), 2)
    assert np.array_equal(blocks(sentence_U, 30), sentence_U)
    joined = blocks(sentence_U, 10)
    assert np.array_equal(joined, sentence_U // 3)
    assert joined[-1] < 10


def test_the_same_seed_draws_the_same_blocks_and_as_many_as_there_are():
    first = draws(12, 3, 50)
    assert np.array_equal(first, draws(12, 3, 50))
    assert not np.array_equal(first, draws(12, 4, 50))
    assert np.array_equal(first.sum(1), np.full(50, 12))
