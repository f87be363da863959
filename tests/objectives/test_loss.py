import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gptjax.objectives.loss import token_nats, weighted_nats

RANDOM = np.random.default_rng(0)
LOGITS_BTV = RANDOM.normal(size=(2, 3, 5)).astype(np.float32) * 4
TARGETS_BT = np.array([[0, 4, 2], [1, 1, 3]], np.int32)
WEIGHTS_BT = np.array([[1, 0, 0.5], [0, 2, 1]], np.float32)


def log_probabilities(logits_BTV):
    p_BTV = np.exp(logits_BTV.astype(np.float64))
    return np.log(p_BTV / p_BTV.sum(-1, keepdims=True))


def nats_in_float64():
    return -np.take_along_axis(log_probabilities(LOGITS_BTV), TARGETS_BT[..., None], -1)[..., 0]


def padded(logits_BTV):
    return np.concatenate([logits_BTV, np.full((2, 3, 3), -np.inf, np.float32)], axis=-1)


def test_token_nats_equal_a_float64_computation():
    np.testing.assert_allclose(token_nats(LOGITS_BTV, TARGETS_BT), nats_in_float64(), rtol=1e-6)


def test_huge_logits_neither_overflow_nor_lose_the_loss():
    nats_BT = token_nats(LOGITS_BTV + np.float32(4096), TARGETS_BT)
    np.testing.assert_allclose(nats_BT, nats_in_float64(), atol=2e-3)


def test_half_precision_logits_are_summed_in_float32():
    total, count = weighted_nats(jnp.zeros((1, 4096, 4), jnp.bfloat16), np.zeros((1, 4096), int), np.ones((1, 4096)))
    assert total.dtype == count.dtype == jnp.float32
    np.testing.assert_allclose(total / count, np.log(4), rtol=1e-5)


def test_the_loss_is_a_weighted_sum_and_the_sum_of_weights():
    total, count = weighted_nats(LOGITS_BTV, TARGETS_BT, WEIGHTS_BT)
    np.testing.assert_allclose(total, (WEIGHTS_BT * nats_in_float64()).sum(), rtol=1e-6)
    assert count == 4.5


def test_z_loss_and_label_smoothing_equal_their_formulas():
    total, _ = weighted_nats(LOGITS_BTV, TARGETS_BT, WEIGHTS_BT, z_loss=0.3, label_smoothing=0.2)
    log_p_BTV = log_probabilities(LOGITS_BTV)
    q_BTV = 0.8 * np.eye(5)[TARGETS_BT] + 0.2 / 5
    log_z_BT = np.log(np.exp(LOGITS_BTV.astype(np.float64)).sum(-1))
    expected_BT = -(q_BTV * log_p_BTV).sum(-1) + 0.3 * log_z_BT**2
    np.testing.assert_allclose(total, (WEIGHTS_BT * expected_BT).sum(), rtol=1e-6)


@pytest.mark.parametrize("regularised", [{}, {"z_loss": 0.3, "label_smoothing": 0.2}])
def test_vocabulary_padding_changes_no_loss_and_gets_no_gradient(regularised):
    def total(logits_BTV):
        return weighted_nats(logits_BTV, TARGETS_BT, WEIGHTS_BT, **regularised)[0]

    value, slope_BTV = jax.value_and_grad(total)(LOGITS_BTV)
    with_padding, padded_slope_BTV = jax.value_and_grad(total)(padded(LOGITS_BTV))
    np.testing.assert_allclose(with_padding, value, rtol=1e-6)
    np.testing.assert_allclose(padded_slope_BTV[..., :5], slope_BTV, atol=1e-6)
    assert (padded_slope_BTV[..., 5:] == 0).all()


def test_a_target_without_weight_adds_nothing_even_if_it_is_impossible():
    targets_BT = np.where(WEIGHTS_BT == 0, 7, TARGETS_BT)  # id 7 is padding, so its nats are infinite

    def total(logits_BTV):
        return weighted_nats(logits_BTV, targets_BT, WEIGHTS_BT)[0]

    value, slope_BTV = jax.value_and_grad(total)(padded(LOGITS_BTV))
    np.testing.assert_allclose(value, weighted_nats(LOGITS_BTV, TARGETS_BT, WEIGHTS_BT)[0], rtol=1e-6)
    assert (slope_BTV[WEIGHTS_BT == 0] == 0).all()
    assert np.isfinite(slope_BTV).all()


def test_nothing_counted_is_a_sum_of_zero_over_zero():
    total, count = weighted_nats(LOGITS_BTV, TARGETS_BT, np.zeros((2, 3)))
    assert total == 0
    assert count == 0
