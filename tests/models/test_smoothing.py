import numpy as np
import pytest

from gptjax.models import ngram, smoothing

TEXT = np.array([0, 1, 2, 0, 1, 3, 0, 1, 2, 2, 1, 0, 4, 0, 1, 2, 3, 3, 0, 1], np.int64)
V = 6  # one token is never seen


def fits(kind, order=3, tokens=TEXT, vocab_size=V):
    return smoothing.fit(tokens, order, vocab_size, kind, add=0.5)


@pytest.mark.parametrize("kind", ["kneser_ney", "backoff", "add_k"])
@pytest.mark.parametrize("order", [1, 2, 4])
def test_every_distribution_sums_to_one_and_is_what_tokens_are_judged_by(kind, order):
    model = fits(kind, order)
    judged = np.array([5, 0, 1, 2, 2, 5, 3, 4, 0, 1, 3, 0])
    logp_N = ngram.log_probability(model, judged)
    for i, token in enumerate(judged):
        p_V = ngram.distribution(model, judged[:i])
        assert p_V.sum() == pytest.approx(1, abs=1e-12)
        assert p_V.min() > 0
        assert np.log(p_V[token]) == pytest.approx(logp_N[i], abs=1e-12)


def test_add_k_is_the_textbooks_fraction():
    model = fits("add_k", order=2)
    # 1 follows 0 five times of seven; 0 stands before a token seven times.
    after_0 = sum(TEXT[i] == 0 for i in range(len(TEXT) - 1))
    pairs = sum((TEXT[i], TEXT[i + 1]) == (0, 1) for i in range(len(TEXT) - 1))
    assert ngram.distribution(model, np.array([0]))[1] == pytest.approx((pairs + 0.5) / (after_0 + 0.5 * V))
    assert ngram.distribution(model, np.array([5]))[1] == pytest.approx(1 / V)


def test_back_off_asks_the_shorter_context_only_for_what_was_not_seen():
    bigram, unigram = fits("backoff", order=2), fits("backoff", order=1)
    p_V, q_V = (ngram.distribution(model, np.array([0])) for model in (bigram, unigram))
    unseen = [w for w in range(V) if not any(TEXT[i] == 0 and TEXT[i + 1] == w for i in range(len(TEXT) - 1))]
    ratios = p_V[unseen] / q_V[unseen]
    np.testing.assert_allclose(ratios, ratios[0])
    table = bigram.orders[1]
    hit = int(np.searchsorted(table.keys_U, table.keys_U[table.counts_U.argmax()]))
    assert smoothing.seen(table, V)[hit] == pytest.approx(
        p_V[1]
    )  # (0, 1) is the most frequent pair, and nothing is added to it


def test_a_context_that_every_token_followed_keeps_all_its_probability():
    tokens = np.array([0, 0, 1, 0, 1, 1, 0, 0, 1])
    model = fits("backoff", order=2, tokens=tokens, vocab_size=2)
    assert ngram.distribution(model, np.array([0])).sum() == pytest.approx(1)


def test_kneser_ney_beats_back_off_beats_add_k_on_text():
    rng = np.random.default_rng(0)
    chain_VV = rng.dirichlet(np.full(30, 0.1), size=30)
    tokens = [0]
    for _ in range(6000):
        tokens.append(int(rng.choice(30, p=chain_VV[tokens[-1]])))
    train, held_out = np.array(tokens[:4000]), np.array(tokens[4000:])
    kinds = ("kneser_ney", "backoff", "add_k")
    nats = [-ngram.log_probability(smoothing.fit(train, 3, 30, kind), held_out).mean() for kind in kinds]
    assert nats[0] < nats[1] < nats[2]


def test_adding_nothing_is_refused():
    with pytest.raises(ValueError, match=r"add=0\.0 must be positive"):
        smoothing.fit(TEXT, 2, V, "add_k", add=0.0)
