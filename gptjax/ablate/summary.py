"""Statistics of an experiment: means over seeds, and paired differences to the base row with their uncertainty."""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from gptjax.ablate.outcome import Outcome

LEVEL = 0.95
"""Coverage of the confidence intervals."""


class Difference(NamedTuple):
    """A row minus the base, seed by seed."""

    mean: float
    low: float | None
    high: float | None
    """Ends of the `LEVEL` interval of the mean (Student's t over the seeds' differences); None for one seed."""
    pairs: int


def difference(values: Mapping[int, float], base: Mapping[int, float]) -> Difference | None:
    """The mean of row - base over the seeds that both have; None where they share none.

    Pairing takes out what a seed does to both: the order of the data, and initial weights of the same shape.
    """
    found = [values[seed] - base[seed] for seed in sorted(values.keys() & base.keys())]
    if not found:
        return None
    mean = statistics.fmean(found)
    error = standard_error(found)
    if error is None:
        return Difference(mean, None, None, 1)
    # A quarter of a second of import, which only a finished table needs.
    from scipy.special import stdtrit

    reach = float(stdtrit(len(found) - 1, 0.5 + LEVEL / 2)) * error
    return Difference(mean, mean - reach, mean + reach, len(found))


def standard_error(values: Sequence[float]) -> float | None:
    """Of their mean; None for fewer than two."""
    return statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None


def summarise(
    outcomes: Mapping[str, Sequence[Outcome]], base: str, metric: str, seeds: Sequence[int]
) -> list[dict[str, Any]]:
    """One object a row of the table, in order of the rows; those of which nothing is finished are empty."""
    worth = {name: _values(found, metric, seeds) for name, found in outcomes.items()}
    return [_row(name, found, worth[name], worth[base], outcomes[base]) for name, found in outcomes.items()]


def _values(outcomes: Sequence[Outcome], metric: str, seeds: Sequence[int]) -> dict[int, float]:
    """The metric by seed; what was counted is the same for every seed."""
    found: dict[int, float] = {}
    for outcome in outcomes:
        if metric in outcome.metrics:
            found |= dict.fromkeys(seeds if outcome.seed is None else [outcome.seed], outcome.metrics[metric])
    return found


def _row(
    name: str,
    outcomes: Sequence[Outcome],
    values: Mapping[int, float],
    base: Mapping[int, float],
    base_outcomes: Sequence[Outcome],
) -> dict[str, Any]:
    counted = any(outcome.seed is None for outcome in outcomes)
    found = list(values.values())
    apart = difference(values, base)
    names = dict.fromkeys(n for outcome in outcomes for n in outcome.metrics)
    return {
        "name": name,
        "counted": counted,
        "runs": len(outcomes),
        "failures": [outcome.failure for outcome in outcomes if outcome.failure is not None],
        "mean": statistics.fmean(found) if found else None,
        "standard_error": None if counted else standard_error(found),
        "difference": None if apart is None else apart._asdict(),
        "values": {str(seed): value for seed, value in values.items()},
        "metrics": {n: statistics.fmean(o.metrics[n] for o in outcomes if n in o.metrics) for n in names},
        "parameters": _mean([o.parameters for o in outcomes]),
        "tokens": _mean([o.tokens for o in outcomes]),
        "flops": _mean([o.flops for o in outcomes]),
        "seconds": _mean([o.seconds for o in outcomes]),
        "same_batches": None if counted else _same_batches(outcomes, base_outcomes),
    }


def _mean(values: Sequence[float | None]) -> float | None:
    there = [value for value in values if value is not None]
    return statistics.fmean(there) if there else None


def _same_batches(outcomes: Sequence[Outcome], base: Sequence[Outcome]) -> bool | None:
    """Whether a row read the very batches of the base at every step that both logged; None where there is none."""
    theirs = {outcome.seed: outcome.batches for outcome in base}
    pairs = [
        (batch, theirs[outcome.seed][step])
        for outcome in outcomes
        if outcome.seed in theirs
        for step, batch in outcome.batches.items()
        if step in theirs[outcome.seed]
    ]
    return all(one == other for one, other in pairs) if pairs else None
