"""Measures of E judged examples as functions of how often each counts, so that they can be resampled; R resamples.

A `Statistic` takes counts_RE, how often example e came up in resample r (every row adds up to E), and gives one value a
resample. With counts of one it is the measure itself.
"""

from collections.abc import Callable

import numpy as np

Statistic = Callable[[np.ndarray], np.ndarray]
"""`statistic(counts_RE) -> values_R`, float64."""


def once(statistic: Statistic, examples: int) -> float:
    """The measure itself: every example counts once."""
    return float(statistic(np.ones((1, examples)))[0])


def ratio(numerators_E: np.ndarray, denominators_E: np.ndarray) -> Statistic:
    """Sum of the numerators over the sum of the denominators: nats of documents per token of them."""
    above_E, below_E = np.asarray(numerators_E, np.float64), np.asarray(denominators_E, np.float64)
    return lambda counts_RE: (counts_RE @ above_E) / (counts_RE @ below_E)


def mean(values_E: np.ndarray) -> Statistic:
    """The mean of the values."""
    return ratio(values_E, np.ones(len(values_E)))


def exponential(statistic: Statistic) -> Statistic:
    """e to the power of another measure: of nats per token a perplexity. Infinite where no float is so large."""

    def values(counts_RE: np.ndarray) -> np.ndarray:
        with np.errstate(over="ignore"):
            return np.exp(statistic(counts_RE))

    return values


def average(statistics: list[Statistic]) -> Statistic:
    """The mean of several measures of the same examples, resampled together: one measure under several seeds."""
    return lambda counts_RE: np.mean([statistic(counts_RE) for statistic in statistics], axis=0)


def f1(predicted_E: np.ndarray, labels_E: np.ndarray, positive: int = 1) -> Statistic:
    """2 TP / (2 TP + FP + FN) of the positive class; 0 where it is neither predicted nor there."""
    hit_E, true_E = predicted_E == positive, labels_E == positive
    both_E, either_E = 2.0 * (hit_E & true_E), hit_E.astype(np.float64) + true_E
    return lambda counts_RE: _ratio(counts_RE @ both_E, counts_RE @ either_E)


def matthews(predicted_E: np.ndarray, labels_E: np.ndarray) -> Statistic:
    """Matthews' correlation of predictions and labels, for any number of classes; 0 where either is constant.

    (R_K of Gorodkin, Computational Biology and Chemistry 28, 2004; with two classes the phi coefficient.)
    """
    classes = np.unique(np.concatenate([predicted_E, labels_E]))
    # Columns of one-hot indicators: R_K is their covariance over the product of their deviations.
    x_EC, y_EC = ((values_E[:, None] == classes).astype(np.float64) for values_E in (predicted_E, labels_E))

    def values(counts_RE: np.ndarray) -> np.ndarray:
        n_R1 = counts_RE.sum(1, keepdims=True)
        x_RC, y_RC, both_RC = (counts_RE @ columns / n_R1 for columns in (x_EC, y_EC, x_EC * y_EC))
        covariance_R = np.sum(both_RC - x_RC * y_RC, 1)
        # A share of 1 is exactly 1, so that the variance of a constant is exactly 0.
        x_R, y_R = np.sum(x_RC - x_RC**2, 1), np.sum(y_RC - y_RC**2, 1)
        return _ratio(covariance_R, np.sqrt(x_R * y_R))

    return values


def pearson(x_E: np.ndarray, y_E: np.ndarray) -> Statistic:
    """Pearson's correlation; 0 where either side is constant, since a constant tells nothing."""
    x_1E, y_1E = (np.asarray(values_E, np.float64)[None] for values_E in (x_E, y_E))
    return lambda counts_RE: _correlation(counts_RE, x_1E, y_1E)


def spearman(x_E: np.ndarray, y_E: np.ndarray) -> Statistic:
    """Spearman's rank correlation: Pearson's of the ranks, equal values sharing their mean rank."""
    x_ranks, y_ranks = _ranks(x_E), _ranks(y_E)
    return lambda counts_RE: _correlation(counts_RE, x_ranks(counts_RE), y_ranks(counts_RE))


def _ranks(x_E: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """`ranks(counts_RE) -> ranks_RE`: the mean rank of every example among all that came up."""
    _, firsts, inverse_E = np.unique(np.sort(x_E), return_index=True, return_inverse=True)
    order_E = np.argsort(x_E, kind="stable")
    place_E = np.empty(len(order_E), np.int64)
    place_E[order_E] = inverse_E

    def ranks(counts_RE: np.ndarray) -> np.ndarray:
        alike_RU = np.add.reduceat(counts_RE[:, order_E], firsts, axis=1)
        return (np.cumsum(alike_RU, axis=1) - (alike_RU - 1) / 2)[:, place_E]

    return ranks


def _correlation(counts_RE: np.ndarray, x_RE: np.ndarray, y_RE: np.ndarray) -> np.ndarray:
    """Correlation of x and y, each example as often as it counts."""
    x_RE, y_RE = _centred(counts_RE, x_RE), _centred(counts_RE, y_RE)
    covariance_R = np.sum(counts_RE * x_RE * y_RE, 1)
    deviations_R = np.sqrt(np.sum(counts_RE * x_RE**2, 1) * np.sum(counts_RE * y_RE**2, 1))
    return _ratio(covariance_R, deviations_R)


def _centred(counts_RE: np.ndarray, x_RE: np.ndarray) -> np.ndarray:
    mean_R1 = np.sum(counts_RE * x_RE, 1, keepdims=True) / counts_RE.sum(1, keepdims=True)
    there_RE = counts_RE > 0
    low_R1 = np.min(np.where(there_RE, x_RE, np.inf), 1, keepdims=True)
    high_R1 = np.max(np.where(there_RE, x_RE, -np.inf), 1, keepdims=True)
    # A constant may differ from its own mean in the last bit.
    return np.where(low_R1 == high_R1, 0.0, x_RE - mean_R1)


def _ratio(above_R: np.ndarray, below_R: np.ndarray) -> np.ndarray:
    """above / below, and 0 where below is 0."""
    return np.divide(above_R, below_R, out=np.zeros(len(above_R)), where=below_R > 0)
