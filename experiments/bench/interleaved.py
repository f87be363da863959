"""Times of several forms of one thing, taken in turns, so that what else the machine does hits all alike."""

import statistics
import time
from collections.abc import Callable, Mapping

Clock = Callable[[], float]


def times(
    forms: Mapping[str, Callable[[], object]],
    rounds: int,
    clock: Clock = time.perf_counter,
    before: Mapping[str, Callable[[], object]] | None = None,
) -> dict[str, list[float]]:
    """Seconds of a call of each form, one a round; a form returns when its work is done. Called once before for warmth.

    `before` is called ahead of each form's turn and is not timed.
    """
    for form in forms.values():
        form()
    seconds: dict[str, list[float]] = {name: [] for name in forms}
    for _ in range(rounds):
        for name, form in forms.items():
            if before is not None:
                before[name]()
            started = clock()
            form()
            seconds[name].append(clock() - started)
    return seconds


def medians(
    forms: Mapping[str, Callable[[], object]], rounds: int, clock: Clock = time.perf_counter
) -> dict[str, float]:
    """Median of the `times` of each form."""
    return {name: statistics.median(found) for name, found in times(forms, rounds, clock).items()}
