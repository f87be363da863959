"""Times of several forms of one thing, taken in turns, so that what else the machine does hits all alike."""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

Clock = Callable[[], float]


def medians(
    forms: Mapping[str, Callable[[], object]], rounds: int, repeats: int = 1, clock: Clock = time.perf_counter
) -> dict[str, float]:
    """Median seconds of one call of each form; a form returns when its work is done. Called once before for warmth."""
    for form in forms.values():
        form()
    seconds: dict[str, list[float]] = {name: [] for name in forms}
    for _ in range(rounds):
        for name, form in forms.items():
            started = clock()
            for _ in range(repeats):
                form()
            seconds[name].append((clock() - started) / repeats)
    return {name: statistics.median(found) for name, found in seconds.items()}


def one_case(
    about: str,
    cases: Iterable[str],
    measure: Callable[[str, int], dict[str, Any]],
    table: Callable[[dict[str, Any]], str],
    rounds: int,
) -> None:
    """The command line of a script that measures one of its cases by `measure(case, rounds)`: writes and prints it."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", choices=cases)
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--json", type=Path, help="also write the results to this file")
    asked = parser.parse_args()
    found = measure(asked.case, asked.rounds)
    if asked.json is not None:
        asked.json.write_text(json.dumps(found, indent=2) + "\n")
    print(table(found))
