import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gptjax.objectives.loss import PLAIN, Regular, losses, slopes, token_nats, weighted

RANDOM = np.random.default_rng(0)
LOGITS_BTV = RANDOM.normal(size=(2, 3, 5)).astype(np.float32) * 4
TARGETS_BT = np.array([[0, 4, 2], [1, 1, 3]], np.int32)
WEIGHTS_BT = np.array([[1, 0, 0.5], [0, 2, 1]], np.float32)
EVERYTHING = Regular(z_loss=0.3, label_smoothing=0.2)


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
    nats_BT = token_nats(jnp.zeros((1, 4096, 300), jnp.bfloat16), np.zeros((1, 4096), int))
    total = weighted(np.ones((1, 4096)), nats_BT)
    assert total.dtype == nats_BT.dtype == jnp.float32
    np.testing.assert_allclose(total / 4096, np.log(300), rtol=1e-5)


def test_a_weighted_sum_leaves_out_what_has_no_weight_even_if_it_is_infinite():
    values_BT = np.where(WEIGHTS_BT == 0, np.inf, nats_in_float64())
    expected = (WEIGHTS_BT * nats_in_float64()).sum()
    np.testing.assert_allclose(weighted(WEIGHTS_BT, jnp.asarray(values_BT, jnp.float32)), expected, rtol=1e-6)
    assert weighted(np.zeros((2, 3)), jnp.asarray(values_BT, jnp.float32)) == 0


def test_z_loss_and_label_smoothing_equal_their_formulas():
    nats_BT, loss_BT, log_z_BT = losses(LOGITS_BTV, TARGETS_BT, EVERYTHING)
    log_p_BTV = log_probabilities(LOGITS_BTV)
    q_BTV = 0.8 * np.eye(5)[TARGETS_BT] + 0.2 / 5
    expected_BT = np.log(np.exp(LOGITS_BTV.astype(np.float64)).sum(-1))
    np.testing.assert_allclose(log_z_BT, expected_BT, rtol=1e-6)
    np.testing.assert_allclose(nats_BT, nats_in_float64(), rtol=1e-6)
    np.testing.assert_allclose(loss_BT, -(q_BTV * log_p_BTV).sum(-1) + 0.3 * expected_BT**2, rtol=1e-6)


@pytest.mark.parametrize("regular", [PLAIN, EVERYTHING])
def test_vocabulary_padding_changes_no_loss_and_gets_no_gradient(regular):
    plain, with_padding = (losses(x, TARGETS_BT, regular) for x in (LOGITS_BTV, padded(LOGITS_BTV)))
    np.testing.assert_allclose(with_padding, plain, rtol=1e-6)
    slope_BTV = slopes(LOGITS_BTV, TARGETS_BT, plain[2], regular)
    padded_slope_BTV = slopes(jnp.asarray(padded(LOGITS_BTV)), TARGETS_BT, plain[2], regular)
    np.testing.assert_allclose(padded_slope_BTV[..., :5], slope_BTV, atol=1e-6)
    assert (padded_slope_BTV[..., 5:] == 0).all()


@pytest.mark.parametrize("regular", [PLAIN, Regular(z_loss=0.3), Regular(label_smoothing=0.2), EVERYTHING])
def test_slopes_are_the_derivative_of_the_losses(regular):
    logits_BTV = jnp.asarray(padded(LOGITS_BTV))
    expected = jax.grad(lambda x: losses(x, TARGETS_BT, regular)[1].sum())(logits_BTV)
    found = slopes(logits_BTV, TARGETS_BT, losses(logits_BTV, TARGETS_BT)[2], regular)
    np.testing.assert_allclose(found, expected, atol=2e-6)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_the_gradient_of_a_sure_prediction_does_not_cancel_in_a_narrow_dtype(dtype):
    logits_V = jnp.zeros(64, dtype).at[3].set(12.0)
    wanted = jax.grad(token_nats)(logits_V.astype(jnp.float32), 3)
    found = jax.grad(token_nats)(logits_V, 3)
    assert found.dtype == dtype
    np.testing.assert_allclose(found.astype(jnp.float32), wanted, rtol=2**-7)


def test_logits_that_are_integers_are_taken_for_numbers():
    logits_TV = np.array([[1, 2, 3], [0, 0, 9]])
    targets_T = np.array([2, 0])
    np.testing.assert_array_equal(token_nats(logits_TV, targets_T), token_nats(logits_TV * 1.0, targets_T))
    assert np.isnan(token_nats(logits_TV, np.array([2, 3]))[1])
