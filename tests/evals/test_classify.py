"""Scores of GLUE against worked examples of textbooks, and against scipy."""

import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from gptjax.data.errors import DataError
from gptjax.evals.classify import accuracy, f1, matthews, pearson, predicted, spearman, summary


def from_table(tp, fp, fn, tn):
    """(predictions, labels) with this confusion matrix."""
    return np.array([1] * (tp + fp) + [0] * (fn + tn)), np.array([1] * tp + [0] * fp + [1] * fn + [0] * tn)


def test_binary_scores_of_a_worked_confusion_matrix():
    """TP 90, FP 4, FN 5, TN 1 (Chicco & Jurman 2020, BMC Genomics 21:6, use case A1 has TP 90, FN 1, TN 0, FP 9)."""
    found, labels = from_table(90, 4, 5, 1)
    assert accuracy(found, labels) == pytest.approx(0.91)
    assert f1(found, labels) == pytest.approx(180 / 189)
    assert matthews(found, labels) == pytest.approx((90 - 20) / math.sqrt(94 * 95 * 5 * 6))
    found, labels = from_table(90, 9, 1, 0)
    assert f1(found, labels) == pytest.approx(0.95, abs=0.005)
    assert matthews(found, labels) == pytest.approx(-0.03, abs=0.005)


def test_matthews_of_three_classes_is_gorodkins():
    """sum of cov(x_k, y_k) over the root of sum cov(x_k, x_k) times sum cov(y_k, y_k), by counts."""
    found, labels = np.array([0, 2, 1, 0, 0, 1]), np.array([0, 1, 2, 0, 1, 1])
    s, c = 6, 3
    p, t = np.array([3, 2, 1]), np.array([2, 3, 1])
    expected = (c * s - p @ t) / math.sqrt((s**2 - p @ p) * (s**2 - t @ t))
    assert matthews(found, labels) == pytest.approx(expected)


def test_degenerate_predictions_score_nothing():
    labels = np.array([0, 1, 1, 0])
    assert matthews(np.ones(4, int), labels) == 0.0
    assert f1(np.zeros(4, int), labels) == 0.0
    assert f1(np.zeros(4, int), np.zeros(4, int)) == 0.0
    assert pearson(np.full(4, 0.1), labels) == spearman(np.full(4, 0.1), labels) == 0.0


def test_correlations_of_a_worked_example():
    """IQ and hours of television a week: rho = -29/165 (the example of Wikipedia's article on Spearman's rho)."""
    iq = np.array([106, 100, 86, 101, 99, 103, 97, 113, 112, 110])
    hours = np.array([7, 27, 2, 50, 28, 29, 20, 12, 6, 17])
    assert spearman(iq, hours) == pytest.approx(-29 / 165)
    assert pearson(np.array([1.0, 2, 3, 4, 5]), np.array([2.0, 4, 5, 4, 5])) == pytest.approx(6 / math.sqrt(60))


values = st.lists(st.tuples(st.integers(-5, 5), st.integers(-5, 5)), min_size=3, max_size=30)


@settings(max_examples=50, deadline=None)
@given(values)
def test_correlations_with_ties_equal_scipys(pairs):
    x, y = np.array(pairs, float).T
    if np.ptp(x) and np.ptp(y):
        assert pearson(x, y) == pytest.approx(scipy.stats.pearsonr(x, y).statistic, abs=1e-9)
        assert spearman(x, y) == pytest.approx(scipy.stats.spearmanr(x, y).statistic, abs=1e-9)


def test_a_model_of_constants_predicts_nothing():
    scores = np.zeros((4, 2), np.float32)
    assert predicted(scores).tolist() == [-1] * 4
    found = summary(scores, np.zeros(4, int))
    assert found == {"accuracy": 0.0, "matthews": 0.0, "f1": 0.0}


def test_the_summary_of_classes_and_of_a_regression():
    scores = np.array([[2.0, 1.0], [0.0, 3.0], [1.0, 0.5]])
    assert summary(scores, np.array([0, 1, 1]))["accuracy"] == pytest.approx(2 / 3)
    assert "f1" not in summary(np.eye(3), np.arange(3))
    found = summary(np.array([[1.0], [2.0], [5.0]]), np.array([1.0, 2.0, 3.0]))
    assert found["spearman"] == pytest.approx(1.0)
    assert found["mse"] == pytest.approx(4 / 3)


def test_scores_that_are_not_finite_are_refused():
    with pytest.raises(FloatingPointError, match="class score 1 is nan"):
        predicted(np.array([[0.0, np.nan]]))
    with pytest.raises(FloatingPointError, match="prediction 0 is inf"):
        pearson(np.array([np.inf, 1.0]), np.array([0.0, 1.0]))
    with pytest.raises(DataError, match="no examples"):
        summary(np.zeros((0, 2)), np.zeros(0, int))
