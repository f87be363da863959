"""Claims about the logit lens."""

import numpy as np
import pytest

from gptjax.evals.lens import TOP, lens

V = 7
LOGITS = np.random.default_rng(0).normal(size=(2, 4, V)).astype(np.float32)


def test_predictions_are_the_softmax_of_every_layer_and_the_last_layer_is_the_models_own():
    true_T = np.array([3, 0, 6, 2])
    found = lens(["first", "last"], lambda a: LOGITS[a], true_T)
    p_ATV = np.exp(LOGITS.astype(np.float64)) / np.exp(LOGITS.astype(np.float64)).sum(-1, keepdims=True)
    np.testing.assert_allclose(found.true_shares_AT, p_ATV[:, np.arange(4), true_T], rtol=1e-5)
    np.testing.assert_allclose(found.nats_T, -np.log(p_ATV[1, np.arange(4), true_T]), rtol=1e-4)
    assert np.array_equal(found.top_ids_ATK, np.argsort(-p_ATV, axis=-1)[..., :TOP])
    np.testing.assert_allclose(found.top_shares_ATK, -np.sort(-p_ATV, axis=-1)[..., :TOP], rtol=1e-5)
    for a in range(2):
        for t, true in enumerate(true_T):
            assert found.ranks_AT[a, t] == 1 + np.sum(p_ATV[a, t] > p_ATV[a, t, true])


def test_what_shares_its_probability_with_others_does_not_come_before_them():
    found = lens(["all alike"], lambda a: np.zeros((1, V)), np.array([0]))
    assert found.ranks_AT.tolist() == [[V]]


def test_a_token_that_is_not_known_has_no_rank_and_no_cost():
    found = lens(["one"], lambda a: LOGITS[0], np.array([1, 2, 3, -1]))
    assert np.isnan(found.nats_T).tolist() == [False, False, False, True]
    assert found.ranks_AT[0, 3] == 0
    assert found.ranks_AT[0, :3].min() >= 1


def test_a_prediction_that_is_no_number_is_refused():
    broken = LOGITS[0].copy()
    broken[2, 1] = np.nan
    with pytest.raises(FloatingPointError, match="log-probability of place 2"):
        lens(["one"], lambda a: broken, np.array([0, 0, 0, -1]))
