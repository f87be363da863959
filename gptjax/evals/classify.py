"""Scores of classification and regression, as GLUE takes them; E examples, C classes."""

import numpy as np

from gptjax.data.errors import DataError
from gptjax.evals import bootstrap, statistics
from gptjax.evals.likelihood import refuse_non_finite
from gptjax.evals.statistics import Statistic

WORDS = {
    "accuracy": "share of the examples whose class is right; a tie of two classes is not",
    "matthews": "Matthews' correlation of predicted and right classes: 1 is perfect, 0 is no better than a constant",
    "f1": "2 TP / (2 TP + FP + FN) of the second class",
}
"""What is measured of classes, in words."""


def summary(scores_EC: np.ndarray, labels_E: np.ndarray) -> dict[str, float]:
    """What is printed of a task: with one score a row pearson, spearman and mse; else accuracy, matthews, f1 if C = 2.

    Raises `FloatingPointError` for a score that is not finite, `DataError` for none.
    """
    return {name: statistics.once(measure, len(labels_E)) for name, measure in _measures(scores_EC, labels_E).items()}


def intervals(scores_EC: np.ndarray, labels_E: np.ndarray) -> dict[str, float]:
    """`summary` with each measure's 95% bootstrap interval over the examples, as NAME_low and NAME_high."""
    found: dict[str, float] = {}
    for name, one in bootstrap.measured(_measures(scores_EC, labels_E), len(labels_E)).items():
        found[name] = one.value
        if one.low is not None and one.high is not None:
            found |= {f"{name}_low": one.low, f"{name}_high": one.high}
    return found


def _measures(scores_EC: np.ndarray, labels_E: np.ndarray) -> dict[str, Statistic]:
    if not len(scores_EC):
        raise DataError("there are no examples to judge")
    if scores_EC.shape[1] == 1:
        x_E = scores_EC[:, 0].astype(np.float64)
        refuse_non_finite("prediction", x_E)
        refuse_non_finite("label", labels_E)
        both = {"pearson": statistics.pearson(x_E, labels_E), "spearman": statistics.spearman(x_E, labels_E)}
        return both | {"mse": statistics.mean((x_E - labels_E) ** 2)}
    return of_classes(predicted(scores_EC), labels_E, scores_EC.shape[1])


def of_classes(found_E: np.ndarray, labels_E: np.ndarray, classes: int) -> dict[str, Statistic]:
    """accuracy and matthews of predicted classes, and f1 of class 1 where there are two."""
    found = {"accuracy": statistics.mean(found_E == labels_E), "matthews": statistics.matthews(found_E, labels_E)}
    return found | ({"f1": statistics.f1(found_E, labels_E)} if classes == 2 else {})


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
    """`statistics.f1` of every example once."""
    return statistics.once(statistics.f1(predicted_E, labels_E, positive), len(labels_E))


def matthews(predicted_E: np.ndarray, labels_E: np.ndarray) -> float:
    """`statistics.matthews` of every example once."""
    return statistics.once(statistics.matthews(predicted_E, labels_E), len(labels_E))


def pearson(x_E: np.ndarray, y_E: np.ndarray) -> float:
    """`statistics.pearson` of every example once; raises `FloatingPointError` for a value that is not finite."""
    return statistics.once(statistics.pearson(*_finite(x_E, y_E)), len(x_E))


def spearman(x_E: np.ndarray, y_E: np.ndarray) -> float:
    """`statistics.spearman` of every example once; raises `FloatingPointError` for a value that is not finite."""
    return statistics.once(statistics.spearman(*_finite(x_E, y_E)), len(x_E))


def _finite(x_E: np.ndarray, y_E: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    refuse_non_finite("prediction", x_E)
    refuse_non_finite("label", y_E)
    return x_E, y_E
