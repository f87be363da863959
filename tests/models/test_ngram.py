"""Claims about the n-gram baseline: it is Chen & Goodman's formula, a distribution, and the reference row of nats."""

from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest

from gptjax.models import ngram

SHAKESPEARE = Path(__file__).resolve().parents[2] / ".." / "shared" / "data" / "tinyshakespeare" / "input.txt"
SHAKESPEARE_NATS = (3.347, 2.484, 2.038, 1.719, 1.561, 1.523, 1.5165, 1.519)  # orders 1..8, a character
VOCAB_SIZE = 40


def skewed(tokens: int, seed: int) -> np.ndarray:
    """Random ids, the last of the vocabulary never among them, skewed so that small corpora have every small count."""
    return np.minimum(np.random.default_rng(seed).geometric(0.2, tokens) - 1, VOCAB_SIZE - 3)


class TextbookKneserNey:
    """The formula of Chen & Goodman (1999) word for word, over tuples; None is the boundary before the text."""

    def __init__(self, tokens: list[int], order: int):
        self.order = order
        self.counts: list[dict] = [{}]
        for n in range(1, order + 1):
            before = defaultdict(set)
            for start in range(len(tokens) - n + 1):
                gram = tuple(tokens[start : start + n])
                before[gram].add((start if n == order else tokens[start - 1]) if start else None)
            self.counts.append({gram: len(left) for gram, left in before.items()})
        self.discounts: list[dict] = [{}] + [self.estimate(Counter(counts.values())) for counts in self.counts[1:]]

    @staticmethod
    def estimate(n: Counter) -> dict[int, float]:
        if all(n[k] for k in (1, 2, 3, 4)):
            y = n[1] / (n[1] + 2 * n[2])
            estimates = {k: k - (k + 1) * y * n[k + 1] / n[k] for k in (1, 2, 3)}
            if min(estimates.values()) > 0:
                return estimates
        return {1: 0.5, 2: 1.0, 3: 1.5}

    def probability(self, token: int, context: tuple[int, ...]) -> float:
        if len(context) >= self.order:
            context = context[len(context) - self.order + 1 :]
        lower = self.probability(token, context[1:]) if context else 1 / VOCAB_SIZE
        n = len(context) + 1
        after = {gram[-1]: count for gram, count in self.counts[n].items() if gram[:-1] == context}
        if not after:
            return lower
        discount = {word: self.discounts[n][min(count, 3)] for word, count in after.items()}
        share = after[token] - discount[token] if token in after else 0.0
        return (share + sum(discount.values()) * lower) / sum(after.values())


@pytest.mark.parametrize("order", [1, 2, 3, 5])
@pytest.mark.parametrize("corpus_tokens", [9, 3000])
def test_every_probability_equals_the_textbook_formula(order, corpus_tokens):
    corpus, text = skewed(corpus_tokens, seed=0), skewed(60, seed=1)
    text[[20, 40]] = VOCAB_SIZE - 1  # never seen, so that contexts break and recover
    textbook = TextbookKneserNey(corpus.tolist(), order)
    expected = [textbook.probability(int(text[i]), tuple(text[:i].tolist())) for i in range(len(text))]
    log_probability = ngram.log_probability(ngram.fit(corpus, order, VOCAB_SIZE), text)
    assert log_probability.dtype == np.float64
    np.testing.assert_allclose(log_probability, np.log(expected), rtol=1e-12)


def test_the_formula_is_checked_with_estimated_discounts_and_with_the_fall_back():
    large, small = (ngram.fit(skewed(corpus_tokens, seed=0), 5, VOCAB_SIZE) for corpus_tokens in (3000, 9))
    assert [counts.estimated for counts in large.orders] == [True, True, True, True, False]
    assert not any(counts.estimated for counts in small.orders)
    # Counts 1, 2, 3, 4 all occur, but n_3 so outweighs n_2 that D_2 is negative.
    lopsided = np.repeat(np.arange(8), [1, 1, 2, 3, 3, 3, 3, 4])
    assert ngram.fit(lopsided, 1, VOCAB_SIZE).orders[0].discounts == (0.5, 1.0, 1.5)


@pytest.mark.parametrize("order", [1, 2, 4, 8])
def test_a_distribution_sums_to_one_and_leaves_nothing_impossible(order):
    corpus = skewed(2000, seed=2)
    model = ngram.fit(corpus, order, VOCAB_SIZE)
    unseen = np.full(9, VOCAB_SIZE - 1)
    last = corpus[-8:]  # as a long context it ends the text: nothing ever followed it
    for context in (corpus[:0], corpus[5:6], corpus[100:120], last, unseen, np.append(unseen, corpus[:3])):
        p_V = ngram.distribution(model, context)
        assert p_V.shape == (VOCAB_SIZE,)
        assert p_V.min() > 0
        assert abs(p_V.sum() - 1) < 1e-12


@pytest.mark.parametrize("order", [1, 3, 6])
def test_log_probability_is_the_log_of_the_distribution(order):
    corpus, text = skewed(2000, seed=3), skewed(300, seed=4)
    model = ngram.fit(corpus, order, VOCAB_SIZE)
    log_probability = ngram.log_probability(model, text)
    for i in [0, 1, 2, *np.random.default_rng(5).integers(3, len(text), 40)]:
        assert log_probability[i] == pytest.approx(np.log(ngram.distribution(model, text[:i])[text[i]]), rel=1e-12)


def test_future_tokens_cannot_change_past_log_probabilities():
    model = ngram.fit(skewed(2000, seed=6), 4, VOCAB_SIZE)
    text = skewed(50, seed=7)
    whole = ngram.log_probability(model, text)
    for length in (0, 1, 2, 3, 49):
        np.testing.assert_array_equal(ngram.log_probability(model, text[:length]), whole[:length])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint64])
def test_every_integer_dtype_counts_the_same(dtype):
    corpus = skewed(2000, seed=8)
    expected = ngram.log_probability(ngram.fit(corpus, 3, VOCAB_SIZE), corpus)
    other = corpus.astype(dtype)  # int64 + uint64 is float64 in numpy
    np.testing.assert_array_equal(ngram.log_probability(ngram.fit(other, 3, VOCAB_SIZE), other), expected)


@pytest.mark.parametrize(
    ("tokens", "order", "vocab_size", "message"),
    [
        ([], 3, 5, "tokens is empty"),
        ([1, 2, 3], 0, 5, "order=0 is out of range; n-gram orders are 1..8"),
        ([1, 2, 3], 9, 5, "order=9 is out of range; n-gram orders are 1..8"),
        ([1, 2, 5], 2, 5, "tokens has ids 1..5, outside 0..4"),
        ([-1, 2, 3], 2, 5, "tokens has ids -1..3, outside 0..4"),
        ([1, 2, 3], 4, 5, "tokens has 3 tokens, fewer than order=4"),
        ([1, 2], 2, 2**62, "overflows int64"),
        ([[1, 2], [3, 4]], 2, 5, r"tokens has shape \(2, 2\) and dtype int64"),
    ],
)
def test_fit_refuses_what_it_cannot_count_in_one_line(tokens, order, vocab_size, message):
    with pytest.raises(ValueError, match=message) as refusal:
        ngram.fit(np.array(tokens, np.int64), order, vocab_size)
    assert "\n" not in str(refusal.value)


def test_scoring_refuses_ids_out_of_range_and_fractions():
    model = ngram.fit(skewed(100, seed=9), 2, VOCAB_SIZE)
    with pytest.raises(ValueError, match=r"tokens has ids 0..40, outside 0..39"):
        ngram.log_probability(model, np.array([0, 40]))
    with pytest.raises(ValueError, match=r"context has ids -1..0, outside 0..39"):
        ngram.distribution(model, np.array([0, -1]))
    with pytest.raises(ValueError, match="dtype float64"):
        ngram.log_probability(model, np.array([0.0, 1.0]))


def test_tiny_shakespeare_costs_the_reference_nats_at_every_order():
    if not SHAKESPEARE.exists():
        pytest.skip(f"{SHAKESPEARE} is absent: the reference row needs tiny Shakespeare")
    alphabet, ids = np.unique(np.frombuffer(SHAKESPEARE.read_bytes(), np.uint8), return_inverse=True)
    train, validation = ids[:1_003_854], ids[-111_540:]
    assert len(alphabet) == 65
    assert len(train) + len(validation) == len(ids)
    nats = [-ngram.log_probability(ngram.fit(train, order, 65), validation).mean() for order in range(1, 9)]
    np.testing.assert_allclose(nats, SHAKESPEARE_NATS, rtol=0, atol=0.005)
