"""Times of several forms of one thing, taken in turns, so that what else the machine does hits all alike."""

import statistics
import time
from collections.abc import Callable, Mapping

Clock = Callable[[], float]


def medians(
    forms: Mapping[str, Callable[[], object]],
    rounds: int,
    repeats: int = 1,
    clock: Clock = time.perf_counter,
    before: Mapping[str, Callable[[], object]] | None = None,
) -> dict[str, float]:
    """Median seconds of one call of each form; a form returns when its work is done. Called once before for warmth.

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
            for _ in range(repeats):
                form()
            seconds[name].append((clock() - started) / repeats)
    return {name: statistics.median(found) for name, found in seconds.items()}
