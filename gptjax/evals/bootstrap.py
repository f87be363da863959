"""How far a measure could be another one had other examples been asked: percentile bootstrap (Efron 1979).

The examples are drawn again with replacement, `RESAMPLES` times with one seed; every measure of them is taken from the
same draws. An interval holds 95% of what came out. It speaks of the examples alone, not of other training seeds; and
where a measure is the same on every example (all right, all wrong) it has no width, though the examples are finite.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from gptjax.data.errors import DataError
from gptjax.evals.statistics import Statistic, once

RESAMPLES = 2000
LEVEL = 0.95
"""Share of the resamples' values that an interval holds."""
CELLS_AT_ONCE = 2**21
"""Counts (resamples x examples) that exist at the same time; 16 MiB of float64."""


class Measured(NamedTuple):
    """A measure of some examples, and its 95% interval."""

    value: float
    low: float | None
    """None, like `high`, for a single example: there is nothing to draw from."""
    high: float | None
    by_seed: tuple[float, ...] = ()
    """Where `value` is a mean over seeds: of each of them."""

    def to_json(self) -> dict[str, Any]:
        """{"value", "low", "high"}, and "by_seed" where there are seeds; null for what is not finite."""
        found: dict[str, Any] = {name: _finite(getattr(self, name)) for name in ("value", "low", "high")}
        return found | ({"by_seed": list(self.by_seed)} if self.by_seed else {})


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def measured(statistics: Mapping[str, Statistic], examples: int, seed: int = 0) -> dict[str, Measured]:
    """Every measure of so many examples with its interval; raises `DataError` for none.

    The same seed gives the same draws, and all measures are of the same ones.
    """
    if examples < 1:
        raise DataError("there are no examples to judge")
    values = {name: once(statistic, examples) for name, statistic in statistics.items()}
    if examples == 1:
        return {name: Measured(value, None, None) for name, value in values.items()}
    drawn: dict[str, list[np.ndarray]] = {name: [] for name in statistics}
    for counts_RE in draws(examples, seed):
        for name, statistic in statistics.items():
            drawn[name].append(statistic(counts_RE))
    percent = 100 * LEVEL
    ends = ((100 - percent) / 2, (100 + percent) / 2)
    found = {}
    for name, value in values.items():
        low, high = np.percentile(np.concatenate(drawn[name]), ends)
        found[name] = Measured(value, float(low), float(high))
    return found


def draws(examples: int, seed: int) -> Iterator[np.ndarray]:
    """How often each example comes up in each of `RESAMPLES` resamples, a few resamples (counts_RE) at a time."""
    generator, together = np.random.default_rng(seed), max(1, CELLS_AT_ONCE // examples)
    for first in range(0, RESAMPLES, together):
        rows = min(together, RESAMPLES - first)
        chosen_RE = generator.integers(0, examples, (rows, examples)) + examples * np.arange(rows)[:, None]
        yield np.bincount(chosen_RE.reshape(-1), minlength=rows * examples).reshape(rows, examples).astype(np.float64)
