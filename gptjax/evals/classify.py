"""Scores of classification and regression, as GLUE takes them; E examples, C classes."""

import numpy as np

from gptjax.data.errors import DataError
from gptjax.evals.likelihood import refuse_non_finite


def summary(scores_EC: np.ndarray, labels_E: np.ndarray) -> dict[str, float]:
    """What is printed of a task: with one score a row pearson, spearman and mse; else accuracy, matthews, f1 if C = 2.

    Raises `FloatingPointError` for a score that is not finite, `DataError` for none.
    """
    if not len(scores_EC):
        raise DataError("there are no examples to judge")
    if scores_EC.shape[1] == 1:
        x_E = scores_EC[:, 0].astype(np.float64)
        mse = float(np.mean((x_E - labels_E) ** 2))
        return {"pearson": pearson(x_E, labels_E), "spearman": spearman(x_E, labels_E), "mse": mse}
    found_E = predicted(scores_EC)
    result = {"accuracy": accuracy(found_E, labels_E), "matthews": matthews(found_E, labels_E)}
    return result | ({"f1": f1(found_E, labels_E)} if scores_EC.shape[1] == 2 else {})


def predicted(scores_EC: np.ndarray) -> np.ndarray:
    """The class with the highest score, int [E]; -1, which is never right, where two share it.

    A model of constants would otherwise look like one that always answers the first class.
    """
    refuse_non_finite("class score", scores_EC)
    top_E1 = scores_EC.max(axis=1, keepdims=True)
    return np.where((scores_EC == top_E1).sum(axis=1) == 1, scores_EC.argmax(axis=1), -1)


def accuracy(predicted_E: np.ndarray, labels_E: np.ndarray) -> float:
    """Share of the predictions that are right."""
    return float(np.mean(predicted_E == labels_E))


def f1(predicted_E: np.ndarray, labels_E: np.ndarray, positive: int = 1) -> float:
    """2 TP / (2 TP + FP + FN) of the positive class; 0 where it is neither predicted nor there."""
    hit_E, true_E = predicted_E == positive, labels_E == positive
    both = hit_E.sum() + true_E.sum()
    return float(2 * np.sum(hit_E & true_E) / both) if both else 0.0


def matthews(predicted_E: np.ndarray, labels_E: np.ndarray) -> float:
    """Matthews' correlation of predictions and labels, for any number of classes; 0 where either is constant.

    (R_K of Gorodkin, Computational Biology and Chemistry 28, 2004; with two classes the phi coefficient.)
    """
    classes = np.unique(np.concatenate([predicted_E, labels_E]))
    # Columns of one-hot indicators, centred: R_K is their covariance over the product of their deviations.
    x_EC = (predicted_E[:, None] == classes) - np.mean(predicted_E[:, None] == classes, axis=0)
    y_EC = (labels_E[:, None] == classes) - np.mean(labels_E[:, None] == classes, axis=0)
    return _ratio(np.sum(x_EC * y_EC), np.sum(x_EC**2), np.sum(y_EC**2))


def pearson(x_E: np.ndarray, y_E: np.ndarray) -> float:
    """Pearson's correlation; 0 where either side is constant, since a constant tells nothing."""
    refuse_non_finite("prediction", x_E)
    refuse_non_finite("label", y_E)
    x_E, y_E = np.asarray(x_E, np.float64), np.asarray(y_E, np.float64)
    # A constant may differ from its own mean in the last bit.
    x_E = x_E - (x_E[0] if np.all(x_E == x_E[0]) else x_E.mean())
    y_E = y_E - (y_E[0] if np.all(y_E == y_E[0]) else y_E.mean())
    return _ratio(np.sum(x_E * y_E), np.sum(x_E**2), np.sum(y_E**2))


def spearman(x_E: np.ndarray, y_E: np.ndarray) -> float:
    """Spearman's rank correlation: Pearson's of the ranks, equal values sharing their mean rank."""
    refuse_non_finite("prediction", x_E)
    return pearson(_ranks(x_E), _ranks(y_E))


def _ranks(x_E: np.ndarray) -> np.ndarray:
    _, inverse_E, counts = np.unique(x_E, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[inverse_E]


def _ratio(covariance: float, x_variance: float, y_variance: float) -> float:
    return float(covariance / np.sqrt(x_variance * y_variance)) if x_variance > 0 and y_variance > 0 else 0.0
